//! Values of options: each parser says what it takes.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
