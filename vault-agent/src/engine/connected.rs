//! How long this machine has been connected, in sum: what others owe it is measured in this time.
//! Monotonic, without the time that the host was suspended; kept over restarts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The sum; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Connected(Arc<Mutex<Sum>>);

#[derive(Debug)]
struct Sum {
    /// Of connections that have ended.
    before: Duration,
    /// Since when there is one now.
    since: Option<Instant>,
}

/// A connection; it ends when this is dropped.
pub(super) struct Connection {
    connected: Connected,
    since: Instant,
}

impl Connected {
    /// Goes on from an earlier process.
    pub(super) fn new(before: Duration) -> Self {
        Self(Arc::new(Mutex::new(Sum { before, since: None })))
    }

    /// Begins to count.
    pub(super) fn begin(&self) -> Connection {
        let since = Instant::now();
        self.lock().begin(since);
        Connection { connected: self.clone(), since }
    }

    /// Returns the sum up to now.
    pub(super) fn so_far(&self) -> Duration {
        self.lock().so_far(Instant::now())
    }

    /// Has `time` pass, as if it had been spent connected.
    #[cfg(test)]
    pub(super) fn pass(&self, time: Duration) {
        self.lock().before += time;
    }

    fn lock(&self) -> MutexGuard<'_, Sum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connected.lock().end(self.since, Instant::now());
    }
}

impl Sum {
    fn so_far(&self, now: Instant) -> Duration {
        let current = self.since.map(|since| now.saturating_duration_since(since));
        self.before + current.unwrap_or_default()
    }

    fn begin(&mut self, now: Instant) {
        self.before = self.so_far(now);
        self.since = Some(now);
    }

    /// Ends the connection that began at `since`: the next one may have begun before this one's
    /// task was dropped.
    fn end(&mut self, since: Instant, now: Instant) {
        if self.since == Some(since) {
            self.before = self.so_far(now);
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connected_time_is_counted_and_none_of_it_twice() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sum = Sum { before: Duration::from_secs(10), since: None };
        let check = |sum: &Sum, now, expected| {
            assert_eq!(sum.so_far(at(now)), Duration::from_secs(expected));
        };
        check(&sum, 5, 10);
        sum.begin(at(5));
        check(&sum, 7, 12);
        sum.begin(at(8));
        sum.end(at(5), at(9));
        check(&sum, 10, 15);
        sum.end(at(8), at(11));
        check(&sum, 99, 16);
    }
}
