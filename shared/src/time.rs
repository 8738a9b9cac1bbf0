//! Points in time, as signed records carry them. Reading a clock does not live here.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

const MICROS_PER_SECOND: u64 = 1_000_000;

/// Microseconds since the Unix epoch, UTC; in JSON a plain integer below 2^53 until the year 2255.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// Wraps microseconds since the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / MICROS_PER_SECOND
    }

    /// Returns the time `micros` later, at most the end of time.
    #[must_use]
    pub const fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Returns how far apart the two times are, in microseconds.
    pub const fn apart(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }

    /// Returns the whole seconds from `earlier` to this time, 0 if it is not earlier.
    pub const fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / MICROS_PER_SECOND
    }
}

/// Shows RFC 3339 in UTC with Go's `RFC3339Nano` trimming: no trailing zeros in the fraction. What
/// lies past the calendar, at the end of the year 9999, is shown as its last moment.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX).fmt(f)
    }
}

/// Reads RFC 3339, or a day, whose first moment in UTC is meant; finer parts are cut off.
///
/// # Errors
/// Other texts, and moments before 1970.
impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let day = || TimeZone::UTC.to_timestamp(text.parse::<Date>().ok()?.at(0, 0, 0, 0)).ok();
        let moment = text.parse::<Timestamp>().ok().or_else(day);
        let micros = moment.and_then(|moment| u64::try_from(moment.as_microsecond()).ok());
        micros.map(Self).ok_or("expected a day such as 2026-11-01, or RFC 3339")
    }
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
            (u64::MAX, "9999-12-30T22:00:00.999999999Z"),
        ] {
            assert_eq!(Time::from_micros(micros).to_string(), text);
        }
    }

    #[test]
    fn times_and_days_are_read() {
        for (text, micros) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(951_782_400_000_000)),
            ("2000-02-29T00:00:00.5Z", Some(951_782_400_500_000)),
            ("2000-02-29T01:00:00.123456789+01:00", Some(951_782_400_123_456)),
            ("1969-12-31", None),
            ("2000-02-30", None),
            ("24h", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), micros.map(Time::from_micros), "{text}");
        }
    }
}
