//! The only reader of time.

use std::time::{SystemTime, UNIX_EPOCH};

use shared::time::Time;

/// Returns the time now; the epoch itself on a clock set before it.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
