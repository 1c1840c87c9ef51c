//! Sizes and spans of time as a person types them.

use std::time::Duration;

use crate::moment;

/// `10GB`, `512 MiB`, `4096`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?}: a size is a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 10GB");
    let text = text.trim();
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "k" | "K" | "kB" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    // 1.5GB: a part of a byte does not matter.
    let bytes = number * factor as f64;
    if bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(format!("{text:?}: more bytes than there can be"))
    }
}

/// `30d`, `12h`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let ns = moment::duration_ns(text)?;
    u64::try_from(ns)
        .map(Duration::from_nanos)
        .map_err(|_| format!("{text:?}: a span of time is not negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("10GB", 10_000_000_000),
            ("1.5 MB", 1_500_000),
            ("64k", 64_000),
            ("64K", 64_000),
            ("64MiB", 64 << 20),
            ("2 TiB", 2 << 40),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for wrong in ["99999999999999999999", "", "GB", "-1", "1XB", "1..5GB", "99999999999TB", "10 ü"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("soon").is_err());
    }
}
