//! A share that comes back evenly: what was taken of it, and when it is whole again. Pure: the
//! time is passed in.

use std::time::Duration;

use shared::wire::v1::health::LOW;
use tokio::time::Instant;

/// A share of `capacity` per `window`. Taking may go into debt by what one request costs, as that
/// is known only afterwards; the next one then waits for longer.
#[derive(Debug)]
pub struct Bucket {
    capacity: u64,
    window: Duration,
    /// When nothing of it will be missing any more.
    whole_at: Option<Instant>,
}

impl Bucket {
    /// Makes a whole share.
    pub const fn new(capacity: u64, window: Duration) -> Self {
        Self { capacity, window, whole_at: None }
    }

    /// Returns how long it is used up for, if it is.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let missing = self.whole_at?.saturating_duration_since(now);
        (missing >= self.window).then(|| missing - self.window)
    }

    /// Returns how many percent of it are taken, and when it is less than [`LOW`] again; `None` if
    /// it is less now.
    pub fn low(&self, now: Instant) -> Option<(u64, Duration)> {
        let missing = self.whole_at?.saturating_duration_since(now).as_nanos();
        let window = self.window.as_nanos();
        let percent = u64::try_from(missing * 100 / window.max(1)).unwrap_or(u64::MAX);
        let wait = missing.checked_sub(window * u128::from(LOW) / 100)?;
        Some((percent, Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))))
    }

    /// Takes an amount.
    pub fn take(&mut self, amount: u64, now: Instant) {
        let cost = self.cost(amount);
        let from = self.whole_at.filter(|at| *at > now).unwrap_or(now);
        // No debt is larger than one more share.
        let latest = now + 2 * self.window;
        self.whole_at = Some(from.checked_add(cost).map_or(latest, |at| at.min(latest)));
    }

    /// Gives back what was taken for nothing.
    pub fn give_back(&mut self, amount: u64) {
        let cost = self.cost(amount);
        self.whole_at = self.whole_at.and_then(|at| at.checked_sub(cost));
    }

    /// Returns how long an amount takes to come back.
    fn cost(&self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * self.window.as_nanos() / u128::from(self.capacity.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_share_is_used_up_and_comes_back_evenly() {
        let (mut bucket, now) = (Bucket::new(1000, DAY), Instant::now());
        assert_eq!(bucket.wait(now), None);
        bucket.take(999, now);
        assert_eq!(bucket.wait(now), None);
        bucket.take(1, now);
        assert_eq!(bucket.wait(now), Some(Duration::ZERO));
        bucket.take(500, now);
        bucket.take(300, now);
        bucket.give_back(300);
        assert_eq!(bucket.wait(now), Some(DAY / 2));
        assert!(bucket.wait(now + DAY / 2).is_some());
        assert_eq!(bucket.wait(now + DAY / 2 + Duration::from_nanos(1)), None);
        bucket.take(1000, now + 9 * DAY);
        assert_eq!(bucket.wait(now + 9 * DAY), Some(Duration::ZERO), "it never holds two shares");
    }

    #[test]
    fn from_80_percent_on_it_says_so_until_it_has_come_back() {
        let (mut bucket, now) = (Bucket::new(1000, DAY), Instant::now());
        bucket.take(799, now);
        assert_eq!(bucket.low(now), None);
        bucket.take(1, now);
        assert_eq!(bucket.low(now), Some((80, Duration::ZERO)));
        bucket.take(150, now);
        let below = DAY * 15 / 100;
        assert_eq!(bucket.low(now), Some((95, below)));
        assert_eq!(bucket.low(now + below + Duration::from_secs(1)), None);
        bucket.take(550, now);
        assert_eq!(bucket.low(now), Some((150, DAY * 7 / 10)), "a debt is more than a share");
    }

    #[test]
    fn a_debt_is_never_longer_than_a_share() {
        let (mut bucket, now) = (Bucket::new(1, DAY), Instant::now());
        bucket.take(u64::MAX, now);
        bucket.take(u64::MAX, now);
        assert_eq!(bucket.wait(now), Some(DAY));
        assert_eq!(bucket.wait(now + DAY + Duration::from_nanos(1)), None);
    }
}
