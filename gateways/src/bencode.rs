//! Whether bytes are bencoded ([BEP 3](https://www.bittorrent.org/beps/bep_0003.html)).

/// Lists and dictionaries within each other.
const MAX_DEPTH: usize = 32;

/// Whether `bytes` are exactly one value in the one right form: numbers without needless digits, the keys of dictionaries in
/// order and each once, and no more than 32 lists and dictionaries within each other.
///
/// ```
/// use kademlia_gateways::bencode::is_one_value;
/// assert!(is_one_value(b"d1:ai1e1:bli2eee"));
/// assert!(!is_one_value(b"d1:bi1e1:ai2ee"));
/// ```
pub fn is_one_value(bytes: &[u8]) -> bool {
    value(bytes, Keys::InOrder, 0).is_some_and(<[u8]>::is_empty)
}

/// The same, with the keys of dictionaries in any order, as careless programs write them.
#[cfg(feature = "mainline")]
pub(crate) fn is_flat(bytes: &[u8]) -> bool {
    value(bytes, Keys::InAnyOrder, 0).is_some_and(<[u8]>::is_empty)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    InOrder,
    #[cfg(feature = "mainline")]
    InAnyOrder,
}

/// What follows the value that `bytes` begin with; `None` if they begin with none.
fn value(bytes: &[u8], keys: Keys, depth: usize) -> Option<&[u8]> {
    if depth > MAX_DEPTH {
        return None;
    }
    match bytes {
        [b'i', rest @ ..] => {
            let (digits, rest) = until(rest, b'e')?;
            is_integer(digits).then_some(rest)
        }
        [b'l', rest @ ..] => {
            let mut rest = rest;
            loop {
                match rest {
                    [b'e', rest @ ..] => return Some(rest),
                    _ => rest = value(rest, keys, depth + 1)?,
                }
            }
        }
        [b'd', rest @ ..] => {
            let (mut rest, mut last) = (rest, None);
            loop {
                if let [b'e', rest @ ..] = rest {
                    return Some(rest);
                }
                let (key, behind) = string(rest)?;
                if keys == Keys::InOrder && last.is_some_and(|last| last >= key) {
                    return None;
                }
                last = Some(key);
                rest = value(behind, keys, depth + 1)?;
            }
        }
        _ => string(bytes).map(|(_, rest)| rest),
    }
}

/// The string that `bytes` begin with, and what follows.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digits, rest) = until(bytes, b':')?;
    let length = std::str::from_utf8(digits).ok().filter(|_| is_integer(digits))?.parse().ok()?;
    rest.split_at_checked(length)
}

fn until(bytes: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == end)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

fn is_integer(digits: &[u8]) -> bool {
    match digits {
        [b'0'] => true,
        [b'-', first @ b'1'..=b'9', rest @ ..] | [first @ b'1'..=b'9', rest @ ..] => {
            first.is_ascii_digit() && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn right_and_wrong_forms() {
        let right = ["0:", "12:Hello World!", "i0e", "i-7e", "le", "de", "li1e3:abcd1:ai2eee", "d1:ai1e1:bdee"];
        for bytes in right {
            assert!(is_one_value(bytes.as_bytes()), "{bytes}");
        }
        let deep = "l".repeat(40) + &"e".repeat(40);
        let wrong = [
            "",
            "1:",
            "01:a",
            "-1:a",
            "+1:a",
            "2:a",
            "1:ab",
            "i1",
            "ie",
            "i01e",
            "i-0e",
            "i1.5e",
            "l",
            "lei1e",
            "d1:ae",
            "d1:bi1e1:ai2ee",
            "d1:ai1e1:ai2ee",
            "di1ei2ee",
            "99999999999999999999:a",
            &deep,
        ];
        for bytes in wrong {
            assert!(!is_one_value(bytes.as_bytes()), "{bytes}");
        }
    }

    #[test]
    #[cfg(feature = "mainline")]
    fn careless_programs_are_read_and_deep_ones_are_not() {
        for bytes in ["d1:bi1e1:ai2ee", "d1:ai1e1:bdee"] {
            assert!(is_flat(bytes.as_bytes()), "{bytes}");
        }
        let deep = |levels: usize| "l".repeat(levels) + &"e".repeat(levels);
        assert!(is_flat(deep(32).as_bytes()) && !is_flat(deep(40).as_bytes()) && !is_flat(b"d1:ae"));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(prop::sample::select(b"ilde0123456789:-a".to_vec()), 0..40)) {
            is_one_value(&bytes);
        }

        #[test]
        fn any_string_is_a_value_once_its_length_is_said(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let whole = [bytes.len().to_string().as_bytes(), b":", &bytes].concat();
            prop_assert!(is_one_value(&whole));
            prop_assert!(!is_one_value(&whole[..whole.len() - 1]));
        }
    }
}
