//! Times as a person types them.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

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
        match text.parse() {
            // A unit that was forgotten, much rather than a time before the clock began.
            Ok(ktime) if ktime < 0 => {
                return Err(format!(
                    "{text}: a unit is missing, such as in {text}m, which is so many minutes ago"
                ));
            }
            Ok(ktime) => return Ok(Self::Ktime(ktime)),
            Err(_) => {}
        }
        let now = || ns(Timestamp::now());
        let midnight = || now().map(|now| now - now.rem_euclid(DAY_NS));
        match text {
            "now" => return Ok(Self::Wall(now()?)),
            "today" => return Ok(Self::Wall(midnight()?)),
            "yesterday" => return Ok(Self::Wall(midnight()? - DAY_NS)),
            _ => {}
        }
        if let Some(seconds) = text.strip_prefix('@') {
            return Ok(Self::Wall(seconds_ns(seconds)?));
        }
        let since = text.strip_prefix('-').or_else(|| text.strip_suffix("ago").map(str::trim_end));
        if let Some(since) = since {
            return Ok(Self::Wall(now()?.saturating_sub(duration_ns(since)?)));
        }
        if duration_ns(text).is_ok() {
            return Err(format!("{text}: from when on? -{text}, or \"{text} ago\", is a time"));
        }
        let time = text.parse::<Timestamp>().or_else(|error| in_utc(text).ok_or(error)).map_err(|error| {
            format!(
                "a time is -5m, \"2h ago\", now, today, yesterday, 2026-11-23T14:00:00Z as in RFC 3339, 2026-11-23 or \
                 \"2026-11-23 14:00\" in UTC, @SECONDS since 1970, or a number, which is nanoseconds of the monotonic \
                 clock, as ktime_ns ({error})"
            )
        })?;
        Ok(Self::Wall(ns(time)?))
    }
}

const DAY_NS: i64 = 86_400_000_000_000;

/// A date without an offset: in UTC, as dates are shown. Without a time the day's beginning.
fn in_utc(text: &str) -> Option<Timestamp> {
    // An offset or a zone that stands there would be passed over.
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, ""));
    let has_only = |text: &str, marks: &[u8]| text.bytes().all(|b| b.is_ascii_digit() || marks.contains(&b));
    if !has_only(date, b"-") || !has_only(time, b":.") {
        return None;
    }
    Offset::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()
}

/// Seconds since 1970, with a fraction or without.
fn seconds_ns(text: &str) -> Result<i64, String> {
    let wrong = || format!("@{text}: it is seconds since 1970, such as @1700000000 or @1700000000.25");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let seconds: i64 = seconds.parse().map_err(|_| wrong())?;
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(fraction)).ok_or_else(wrong)
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
            "s" | "sec" | "second" | "seconds" => 1_000_000_000,
            "m" | "min" | "minute" | "minutes" => 60_000_000_000,
            "h" | "hour" | "hours" => 3_600_000_000_000,
            "d" | "day" | "days" => 86_400_000_000_000,
            "w" | "week" | "weeks" => 604_800_000_000_000,
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
        // A unit was forgotten, or a sign.
        for (wrong, hint) in [("-5", "-5m"), ("2h", "-2h")] {
            let error = wrong.parse::<Moment>().unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
        assert_eq!("2023-11-14T22:13:20Z".parse(), Ok(Moment::Wall(1_700_000_000_000_000_000)));
        assert_eq!("2023-11-14T23:13:20.5+01:00".parse(), Ok(Moment::Wall(1_700_000_000_500_000_000)));
        let now = ns(Timestamp::now()).unwrap();
        for (text, seconds) in [
            ("-5m", 300),
            ("2h ago", 7200),
            ("-1h30m", 5400),
            ("1 day ago", 86_400),
            ("2 weeks ago", 1_209_600),
            ("now", 0),
        ] {
            let Ok(Moment::Wall(time)) = text.parse() else { unreachable!("{text}") };
            let since = now - time;
            assert!((since - seconds * 1_000_000_000).abs() < 10_000_000_000, "{text} is {since} ns ago");
        }
        for wrong in ["", "-", "tomorrow", "-m", "5m", "-99999999999999999999w", "ago"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
        let error = "soon".parse::<Moment>().unwrap_err();
        assert!(error.starts_with("a time is -5m, ") && error.contains("monotonic clock"), "{error}");
    }

    #[test]
    fn dates_are_in_utc_where_they_say_nothing_else() {
        let day = 1_699_920_000;
        for (text, seconds) in [
            ("2023-11-14", day),
            ("2023-11-14 22", day + 79_200),
            ("2023-11-14 22:13", day + 79_980),
            ("2023-11-14 22:13:20", 1_700_000_000),
            ("2023-11-14T22:13", day + 79_980),
            ("2023-11-14T22:13:20", 1_700_000_000),
            ("2023-11-14 22:13:20Z", 1_700_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000),
            ("@1700000000", 1_700_000_000),
            ("@0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Moment::Wall(seconds * 1_000_000_000)), "{text}");
        }
        assert_eq!("2023-11-14 22:13:20.5".parse(), Ok(Moment::Wall(1_700_000_000_500_000_000)));
        assert_eq!("@1700000000.000000001".parse(), Ok(Moment::Wall(1_700_000_000_000_000_001)));
        // Unless the day ends in between.
        let is_right = (0..2).any(|_| {
            let [now, today, yesterday] = ["now", "today", "yesterday"].map(|text| match text.parse() {
                Ok(Moment::Wall(ns)) => ns,
                other => unreachable!("{text}: {other:?}"),
            });
            today == now - now % DAY_NS && yesterday == today - DAY_NS
        });
        assert!(is_right);
        for wrong in [
            "2023-11-14T22:13[Europe/Berlin]",
            "2023-11-14T22:13+99:00",
            "2023-11",
            "2023-02-30",
            "2023-11-14 25:00",
            "@",
            "@-1",
            "@1.",
            "@.5",
            "@1.0000000001",
            "@99999999999",
            "@+1",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}: {:?}", wrong.parse::<Moment>());
        }
    }
}
