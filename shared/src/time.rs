//! Points in time, as signed records carry them. Reading a clock does not live here.

use std::fmt;

use serde::{Deserialize, Serialize};

const MICROS_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// Microseconds since the Unix epoch, UTC; in JSON a plain integer below 2^53 until the year 2255.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// Wraps microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns whole seconds since the epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / MICROS_PER_SECOND
    }

    /// Returns the time `micros` later, at most the end of time.
    #[must_use]
    pub const fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Returns the whole seconds from `earlier` to this time, 0 if it is not earlier.
    #[must_use]
    pub const fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / MICROS_PER_SECOND
    }
}

/// Shows RFC 3339 in UTC with Go's `RFC3339Nano` trimming: no trailing zeros in the fraction.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_secs();
        let (year, month, day) = civil(seconds / SECONDS_PER_DAY);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let begin = if year > 9999 {
            write!(f, "{year}")?;
            4
        } else {
            digits(&mut text[..4], year);
            0
        };
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], seconds / 3600 % 24);
        digits(&mut text[14..16], seconds / 60 % 60);
        digits(&mut text[17..19], seconds % 60);
        let fraction = self.0 % MICROS_PER_SECOND;
        digits(&mut text[20..26], fraction);
        let mut end = if fraction == 0 { 19 } else { 26 };
        while text[end - 1] == b'0' && end > 20 {
            end -= 1;
        }
        text[end] = b'Z';
        f.write_str(str::from_utf8(&text[begin..=end]).map_err(|_| fmt::Error)?)
    }
}

/// Writes a number with as many digits as there is room for.
fn digits(room: &mut [u8], mut number: u64) {
    for place in room.iter_mut().rev() {
        *place = b"0123456789"[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
    }
}

/// Turns days since 1970-01-01 into (year, month, day), after Howard Hinnant's `civil_from_days`.
const fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_000_001, "2000-02-28T23:59:59.000001Z"),
            (951_782_400_500_000, "2000-02-29T00:00:00.5Z"),
            (1_798_761_599_999_999, "2026-12-31T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00Z"),
            (4_107_542_410_120_000, "2100-03-01T00:00:10.12Z"),
            (253_402_300_800_000_000, "10000-01-01T00:00:00Z"),
            (u64::MAX, "586524-01-19T08:01:49.551615Z"),
        ] {
            assert_eq!(Time::from_micros(micros).to_string(), text);
        }
    }
}
