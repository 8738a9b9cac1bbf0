//! Durations as Go reads and prints them (package `time`, and Vault's `ParseDurationSecond`): the
//! one place that knows the format. Ages for people do not live here.

use std::fmt;

const MICROS_PER_SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

/// Parses `90m`, `1h30m`, `1.5s` or `7d` into microseconds; finer parts are cut off.
///
/// Days are whole and stand alone, as in Vault.
pub fn parse(text: &str) -> Option<i64> {
    if let Some(days) = text.strip_suffix('d') {
        return days.parse::<i64>().ok()?.checked_mul(DAY)?.checked_mul(MICROS_PER_SECOND);
    }
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let nanos = match rest {
        "0" => 0,
        "" => return None,
        parts => parse_parts(parts)?,
    };
    let micros = i64::try_from(nanos / 1_000).ok()?;
    Some(if negative { -micros } else { micros })
}

/// Parses as [`parse`] does; a bare number counts seconds, and nothing at all is 0.
pub fn parse_or_seconds(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(seconds) => seconds.checked_mul(MICROS_PER_SECOND),
        Err(_) if text.is_empty() => Some(0),
        Err(_) => parse(text),
    }
}

/// Adds up `1h30m0.5s` in nanoseconds, at most what Go's `Duration` holds.
fn parse_parts(mut rest: &str) -> Option<u64> {
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let unit = unit(&after[..end])?;
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(part(fraction, unit)?)?;
        rest = &after[end..];
    }
    (total <= i64::MAX.unsigned_abs()).then_some(total)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Returns `0.fraction × unit`; digits past the fifteenth are below a nanosecond.
fn part(fraction: &str, unit: u64) -> Option<u64> {
    let kept = &fraction[..fraction.len().min(15)];
    if kept.is_empty() {
        return Some(0);
    }
    let scale = 10_u128.pow(u32::try_from(kept.len()).ok()?);
    let value = u128::from(kept.parse::<u64>().ok()?) * u128::from(unit) / scale;
    u64::try_from(value).ok()
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Prints seconds as HashiCorp's tables do: `1h`, `1h30m`, `0s`.
pub fn short(seconds: i64) -> String {
    let (sign, seconds) = (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs());
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let shown: String =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if shown.is_empty() { "0s".to_owned() } else { sign.to_owned() + &shown }
}

/// Shows microseconds as Go's `Duration.String` does; a negative setting, which means never, as
/// `-1s`.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub i64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(micros) = u64::try_from(self.0) else { return f.write_str("-1s") };
        let (seconds, below) = (micros / 1_000_000, micros % 1_000_000);
        match micros {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{micros}µs"),
            1_000..1_000_000 => write!(f, "{}ms", Decimal(micros / 1_000, micros % 1_000, 3)),
            _ => {
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{}s", Decimal(seconds % 60, below, 6))
            }
        }
    }
}

/// `whole.fraction` without trailing zeros, the fraction being of so many digits.
struct Decimal(u64, u64, usize);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(whole, fraction, width) = *self;
        let fraction = format!("{fraction:0width$}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            fraction => write!(f, "{whole}.{fraction}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, micros: i64, shown: &str) {
        assert_eq!(parse(text), Some(micros), "{text}");
        assert_eq!(parse_or_seconds(text), Some(micros), "{text}");
        assert_eq!(Shown(micros).to_string(), shown, "{text}");
    }

    #[test]
    fn durations_read_and_print_as_in_go() {
        check("0", 0, "0s");
        check("0s", 0, "0s");
        check("90m", 5_400_000_000, "1h30m0s");
        check("+5s", 5_000_000, "5s");
        check("1h15m30.918s", 4_530_918_000, "1h15m30.918s");
        check("2d", 172_800_000_000, "48h0m0s");
        check("1.5h", 5_400_000_000, "1h30m0s");
        check(".5s", 500_000, "500ms");
        check("1.5ms", 1_500, "1.5ms");
        check("10us", 10, "10µs");
        check("1h1s", 3_601_000_000, "1h0m1s");
        check("-1s", -1_000_000, "-1s");
        check("-2h", -7_200_000_000, "-1s");
    }

    #[test]
    fn bare_numbers_are_seconds_only_where_asked_for() {
        for (text, micros) in [("", 0), ("3600", 3_600_000_000), ("-5", -5_000_000)] {
            assert_eq!((parse(text), parse_or_seconds(text)), (None, Some(micros)), "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for bad in [
            "x",
            "-",
            "1x",
            "h",
            "1.5",
            "1.2.3s",
            ".",
            "s",
            ".s",
            "1 h",
            "--1s",
            "9223372036854775807h",
            "99999999999999999999h",
            "99999999999999d",
            "1ss",
            "d",
            "1.5d",
        ] {
            assert_eq!((parse(bad), parse_or_seconds(bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn short_forms_leave_zeros_out() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3600, "1h"),
            (3661, "1h1m1s"),
            (5400, "1h30m"),
            (3601, "1h1s"),
            (-60, "-1m"),
        ] {
            assert_eq!(short(seconds), expected);
        }
    }
}
