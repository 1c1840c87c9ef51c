//! Times as a person types them.

use std::str::FromStr;

use jiff::Timestamp;

/// A time on one of the two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nanoseconds since 1970, by the clocks that each segment has noted.
    Wall(i64),
    /// Nanoseconds of the clock that events have themselves.
    Ktime(i64),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(ktime) = text.parse() {
            return Ok(Self::Ktime(ktime));
        }
        let now = || ns(Timestamp::now());
        if text == "now" {
            return Ok(Self::Wall(now()?));
        }
        let since = text.strip_prefix('-').or_else(|| text.strip_suffix("ago").map(str::trim_end));
        if let Some(since) = since {
            return Ok(Self::Wall(now()?.saturating_sub(duration_ns(since)?)));
        }
        let time = text.parse::<Timestamp>().map_err(|error| {
            format!(
                "a time is -5m, \"2h ago\", now, 2026-11-23T14:00:00Z as in RFC 3339, or a number, which is nanoseconds \
                 of the monotonic clock, as ktime_ns ({error})"
            )
        })?;
        Ok(Self::Wall(ns(time)?))
    }
}

fn ns(time: Timestamp) -> Result<i64, String> {
    i64::try_from(time.as_nanosecond()).map_err(|_| "a time that no journal can hold".to_owned())
}

/// `5m`, `1h30m`, `90 s`, `2d`.
pub(crate) fn duration_ns(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?}: a duration is a number and ms, s, m, h, d or w, such as 5m or 1h30m");
    let mut rest = text.trim();
    let mut total: i64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let behind = behind.trim_start();
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let factor: i64 = match unit {
            "ms" => 1_000_000,
            "s" | "sec" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return Err(wrong()),
        };
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(factor).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = behind.trim_start();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_relative_or_raw() {
        assert_eq!("1700000000".parse(), Ok(Moment::Ktime(1_700_000_000)));
        assert_eq!("-5".parse(), Ok(Moment::Ktime(-5)));
        assert_eq!("2023-11-14T22:13:20Z".parse(), Ok(Moment::Wall(1_700_000_000_000_000_000)));
        assert_eq!("2023-11-14T23:13:20.5+01:00".parse(), Ok(Moment::Wall(1_700_000_000_500_000_000)));
        let now = ns(Timestamp::now()).unwrap();
        for (text, seconds) in
            [("-5m", 300), ("2h ago", 7200), ("-1h30m", 5400), ("1 d ago", 86_400), ("now", 0)]
        {
            let Ok(Moment::Wall(time)) = text.parse() else { unreachable!("{text}") };
            let since = now - time;
            assert!((since - seconds * 1_000_000_000).abs() < 10_000_000_000, "{text} is {since} ns ago");
        }
        for wrong in ["", "-", "yesterday", "-m", "5m", "-99999999999999999999w", "ago"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
        let error = "yesterday".parse::<Moment>().unwrap_err();
        assert!(error.starts_with("a time is -5m, ") && error.contains("monotonic clock"), "{error}");
    }
}
