//! Values of options: each parser says what it takes.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use kademlia_dht::Id;

/// A number between bounds.
pub(super) fn within<T>(bounds: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| format!("not a number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// A number of percent between bounds, with or without the sign behind it.
pub(super) fn percent<T>(
    bounds: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end().parse().ok();
        let percent = number.filter(|percent| bounds.contains(percent));
        percent.ok_or_else(|| format!("not a number of percent from {} to {}", bounds.start(), bounds.end()))
    }
}

/// A time with its unit, such as 500ms, 2s, 15m, 24h or 7d.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time with its unit, such as 500ms, 2s, 15m, 24h or 7d".to_owned();
    let (number, unit) = split_unit(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// A time between bounds.
pub(super) fn duration_within(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let time = duration(text)?;
        let wrong = || format!("not a time from {:?} to {:?}", bounds.start(), bounds.end());
        if bounds.contains(&time) { Ok(time) } else { Err(wrong()) }
    }
}

/// A number of bytes, with or without a unit: 4096, 64KiB, 32MiB, 1GiB, or kB, MB and GB of a thousand.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "not a number of bytes, such as 4096, 64KiB or 32MiB".to_owned();
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// The digits at the front, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// An info hash: 40 hexadecimal digits.
pub(super) fn info_hash(text: &str) -> Result<String, String> {
    let is_sound = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_sound { Ok(text.to_ascii_lowercase()) } else { Err("not 40 hexadecimal digits".to_owned()) }
}

/// An address and port, where `localhost` or nothing stands for the loopback address.
pub(super) fn http_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "not an address and port, such as 127.0.0.1:8080, [::1]:8080 or localhost:0".to_owned();
    if let Some(port) = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')) {
        return port.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(|_| wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// The name of a host, without scheme and port.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || ['-', '_'].contains(&letter);
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_letter);
    if text.split('.').all(is_part) {
        return Ok(text.to_owned());
    }
    Err("not the name of a host alone, such as dht.example.org".to_owned())
}

/// An id in hexadecimal.
pub(super) fn id(text: &str) -> Result<Id, String> {
    text.parse().map_err(|error: kademlia_dht::gateway::ParseIdError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        for name in ["dht.example.org", "dht", "a-b_c", "192.0.2.1", "xn--bcher-kva.example"] {
            assert_eq!(host_name(name).as_deref(), Ok(name));
        }
        for wrong in ["", ".", "a.", "dht.example.org:80", "http://dht", "a b", "*", "bücher.example"] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn percents() {
        let whole = percent(0_u8..=99);
        assert_eq!((whole("30"), whole("0"), whole("99%"), whole("5 %")), (Ok(30), Ok(0), Ok(99), Ok(5)));
        for wrong in ["100", "-1", "%", "", "1.5", "a"] {
            assert_eq!(whole(wrong), Err("not a number of percent from 0 to 99".to_owned()), "{wrong}");
        }
        assert_eq!(percent(0.0..=30.0)("0.5%"), Ok(0.5));
        for wrong in ["30.1", "NaN", "inf", "-0.1"] {
            assert!(percent(0.0..=30.0)(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(within(2..=10)("10"), Ok(10));
        assert_eq!(within(2..=10)("11"), Err("not a number from 2 to 10".to_owned()));
        assert_eq!(within(0.01..=10.0)("0.25"), Ok(0.25));
        assert!(within(0.01..=10.0)("0").is_err());
    }

    #[test]
    fn times() {
        let times =
            [("500ms", 500), ("2s", 2000), ("1.5s", 1500), ("15m", 900_000), ("1 h", 3_600_000), ("1d", 86_400_000)];
        for (text, milliseconds) in times {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "2", "s", "-1s", "1e3s", "2 weeks", "1.2.3s", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_of_bytes() {
        for (text, number) in [("0", 0), ("4096", 4096), ("64KiB", 65_536), ("1k", 1024), ("2MB", 2_000_000)] {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for wrong in ["", "KiB", "-1", "1.5MiB", "1 TiB", "99999999999999999999"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_of_http() {
        assert_eq!(http_address("localhost:80"), Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(http_address(":0"), Ok("127.0.0.1:0".parse().unwrap()));
        assert_eq!(http_address("[::]:8080"), Ok("[::]:8080".parse().unwrap()));
        for wrong in ["", "8080", "127.0.0.1", "example.org:80", "localhost:65536"] {
            assert!(http_address(wrong).is_err(), "{wrong}");
        }
    }
}
