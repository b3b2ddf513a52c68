//! A part of a value, where a client asks for one: RFC 9110, section 14.

use std::ops::Range;

/// What of a value a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: nothing else was said, or nothing that this server does.
    Whole,
    /// These bytes.
    Of(Range<u64>),
    /// Bytes that it does not have.
    Beyond,
}

/// Reads a header `Range`. Of several parts, and of other units, nothing is done, as is allowed.
pub(super) fn part(header: Option<&str>, length: u64) -> Part {
    let Some((unit, spec)) = header.and_then(|header| header.trim().split_once('=')) else { return Part::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Part::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What is larger than any number is beyond every end.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => Part::Whole,
        (Some(first), _) if (last.is_empty() || number(last).is_some()) && first >= length => Part::Beyond,
        (Some(first), Some(last)) => Part::Of(first..last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() => Part::Of(first..length),
        (None, Some(0)) if first.is_empty() => Part::Beyond,
        (None, Some(_)) if first.is_empty() && length == 0 => Part::Beyond,
        (None, Some(tail)) if first.is_empty() => Part::Of(length.saturating_sub(tail)..length),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let of = |header, length| part(Some(header), length);
        assert_eq!(part(None, 10), Part::Whole);
        assert_eq!(of("bytes=0-0", 10), Part::Of(0..1));
        assert_eq!(of("Bytes=0-0", 10), Part::Of(0..1));
        assert_eq!(of("bytes=2-", 10), Part::Of(2..10));
        assert_eq!(of("bytes=-3", 10), Part::Of(7..10));
        assert_eq!(of("bytes=-30", 10), Part::Of(0..10));
        assert_eq!(of("bytes=5-99999999999999999999", 10), Part::Of(5..10));
        for beyond in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(of(beyond, 10), Part::Beyond, "{beyond}");
        }
        assert_eq!(of("bytes=-1", 0), Part::Beyond);
        for other in ["bytes=3-2", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,3-4", "bytes=+1-2", "0-1"]
        {
            assert_eq!(of(other, 10), Part::Whole, "{other}");
        }
    }
}
