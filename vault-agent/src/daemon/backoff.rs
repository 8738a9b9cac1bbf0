//! How long to wait before a failure is tried again.

use std::time::Duration;

/// The wait after the first failure; it doubles each time.
pub(super) const FIRST: Duration = Duration::from_secs(1);

/// Returns the wait after one more failure than `failures`, `longest` at most.
pub(super) fn backoff(failures: u32, longest: Duration) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest() {
        let minute = Duration::from_secs(60);
        let waits: Vec<u64> = (0..8).map(|n| backoff(n, minute).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(u32::MAX, minute), minute);
    }
}
