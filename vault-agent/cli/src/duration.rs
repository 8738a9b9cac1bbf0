//! Durations as Go writes them (`90m`, `1h30m`, `1.5s`).

pub use host::clock::age;

/// Reads a Go duration; days (`7d`) are understood as well. Returns microseconds.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i64;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| !c.is_ascii_digit() && c != '.');
        total = total.checked_add(micros(number, unit)?)?;
        rest = after;
    }
    Some(sign * total)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn micros(number: &str, unit: &str) -> Option<i64> {
    let nanos: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 12 || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    i64::try_from(digits.checked_mul(nanos)? / scale / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_durations_are_read() {
        for (text, seconds) in [
            ("0", Some(0.0)),
            ("90m", Some(5400.0)),
            ("1h30m", Some(5400.0)),
            ("-1s", Some(-1.0)),
            ("1.5s", Some(1.5)),
            ("250ms", Some(0.25)),
            (".5h", Some(1800.0)),
            ("7d", Some(604_800.0)),
            ("24h", Some(86_400.0)),
            ("", None),
            ("-", None),
            ("5", None),
            ("h", None),
            (".s", None),
            ("1.2.3s", None),
            ("1x", None),
            ("1 h", None),
            ("99999999999999999999h", None),
        ] {
            let expected = seconds.map(|s: f64| s * 1e6);
            assert_eq!(
                parse(text).map(|n| f64::from(i32::try_from(n / 1000).unwrap()) * 1e3),
                expected,
                "{text}"
            );
        }
    }
}
