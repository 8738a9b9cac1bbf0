//! The only reader of time; everything else is handed a [`Time`].

use std::time::{SystemTime, UNIX_EPOCH};

use shared::time::Time;

/// Returns the current time; a clock before 1970 counts as 1970.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
