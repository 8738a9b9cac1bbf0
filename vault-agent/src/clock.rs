//! The only reader of calendars; everything else is handed a [`Time`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::time::Time;

/// Returns the time since the machine started, also while it was suspended; nobody can set it.
#[must_use]
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), nanos)
}

/// Returns the current time; a clock before 1970 counts as 1970.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
