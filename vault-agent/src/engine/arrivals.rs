//! Which entries have just come: nobody is late for what they hold yet. By this machine's own
//! steady clock, whatever the writer's says. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use shared::time::Time;
use tokio::time::Instant;

/// Nobody is late for a version that came this recently.
const GRACE: Duration = Duration::from_secs(5);
/// Entries that are remembered at most: of more within the grace the oldest are forgotten.
const MOST: usize = 4_096;

/// The times that entries of the last seconds bear, and when they came.
#[derive(Debug, Default)]
pub(super) struct Arrivals(VecDeque<(Time, Instant)>);

impl Arrivals {
    /// Takes up that an entry has come.
    pub(super) fn note(&mut self, entry: Time, now: Instant) {
        while self.0.front().is_some_and(|(_, came)| now.duration_since(*came) >= GRACE) {
            self.0.pop_front();
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((entry, now));
    }

    /// Tells whether what bears this time has just come.
    pub(super) fn is_fresh(&self, entry: Time, now: Instant) -> bool {
        let recent = self.0.iter().filter(|(_, came)| now.duration_since(*came) < GRACE);
        recent.into_iter().any(|(time, _)| *time == entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_fresh_for_five_seconds_whatever_its_clock_says() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let entry = Time::from_micros;
        let mut arrivals = Arrivals::default();
        arrivals.note(entry(7), at(0));
        arrivals.note(entry(9), at(3));
        assert!(arrivals.is_fresh(entry(7), at(4)) && arrivals.is_fresh(entry(9), at(4)));
        assert!(!arrivals.is_fresh(entry(8), at(4)), "no entry bears that time");
        assert!(!arrivals.is_fresh(entry(7), at(5)) && arrivals.is_fresh(entry(9), at(5)));
        arrivals.note(entry(11), at(60));
        assert_eq!(arrivals.0.len(), 1, "what is over is forgotten");
        (0..5_000).for_each(|n| arrivals.note(entry(n), at(61)));
        assert_eq!(arrivals.0.len(), MOST);
    }
}
