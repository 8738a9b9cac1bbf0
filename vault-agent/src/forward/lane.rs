//! How it goes with messages of one kind, alarms or audit records: when the next is tried, and when
//! one is given up. Each kind has its own, so that no record holds up an alarm. Pure.

use std::time::Duration;

use shared::time::Time;
use tokio::time::Instant;

use super::fault::{About, Fault};

/// The longest wait before a message is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often a message is tried while others are taken.
const TRIES: u32 = 10;

/// How sending goes.
#[derive(Debug)]
pub struct Lane {
    /// Before this nothing is sent.
    due: Instant,
    failures: u32,
    failing: Option<(Time, String)>,
    /// Whether the other side has taken a message of another kind since this one was refused.
    takes_others: bool,
}

impl Lane {
    /// Has failed at nothing yet.
    pub fn new(now: Instant) -> Self {
        Self { due: now, failures: 0, failing: None, takes_others: false }
    }

    /// Returns when the next message is to be sent.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Returns since when nothing is taken, and why, if that is so.
    pub const fn failing(&self) -> Option<&(Time, String)> {
        self.failing.as_ref()
    }

    /// Has the next message tried at once.
    pub const fn hasten(&mut self, now: Instant) {
        self.due = now;
    }

    /// Notes that the other side takes messages of another kind.
    pub const fn others_taken(&mut self) {
        self.takes_others = true;
    }

    /// Notes that all that was sent was taken; tells whether it was not before.
    pub fn taken(&mut self, now: Instant) -> bool {
        let was_failing = self.failing.is_some();
        *self = Self::new(now);
        was_failing
    }

    /// Notes that a message was not taken, behind `taken` others; tells whether it is given up.
    pub fn failed(&mut self, fault: &Fault, taken: usize, (now, at): (Instant, Time)) -> bool {
        if taken > 0 {
            self.taken(now);
        }
        let since = self.failing.take().map_or(at, |(since, _)| since);
        self.failing = Some((since, fault.text.clone()));
        self.failures += 1;
        if fault.about == About::Message || self.failures >= TRIES && self.takes_others {
            (self.failures, self.takes_others, self.due) = (0, false, now);
            return true;
        }
        let wait = Duration::from_secs(1 << (self.failures - 1).min(6)).min(LONGEST_WAIT);
        self.due = now + fault.after.unwrap_or_default().max(wait);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(about: About) -> Fault {
        Fault { about, ..Fault::new("it answered 4xx") }
    }

    #[test]
    fn what_is_refused_as_such_is_given_up_and_the_next_is_tried_at_once() {
        let (now, at) = (Instant::now(), Time::from_micros(1));
        let mut lane = Lane::new(now);
        assert!(lane.failed(&fault(About::Message), 0, (now, at)));
        assert_eq!(lane.due(), now);
        assert_eq!(lane.failing(), Some(&(at, "it answered 4xx".to_owned())));
        assert!(lane.taken(now) && lane.failing().is_none());
    }

    #[test]
    fn what_is_refused_as_all_others_is_kept_and_tried_less_and_less() {
        for about in [About::Sender, About::Way] {
            let (now, at) = (Instant::now(), Time::from_micros(1));
            let mut lane = Lane::new(now);
            let mut waits = Vec::new();
            for _ in 0..2 * TRIES {
                assert!(!lane.failed(&fault(about), 0, (now, at)));
                waits.push((lane.due() - now).as_secs());
            }
            assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
            // Once others are known to be taken, it is this message.
            lane.others_taken();
            assert!(lane.failed(&fault(about), 0, (now, at)));
            assert!(!lane.failed(&fault(about), 0, (now, at)), "the next has its own tries");
        }
    }

    #[test]
    fn a_lane_that_moves_starts_its_tries_anew() {
        let (now, at) = (Instant::now(), Time::from_micros(1));
        let mut lane = Lane::new(now);
        lane.others_taken();
        for taken in [0, 0, 1] {
            assert!(!lane.failed(&fault(About::Way), taken, (now, at)));
        }
        assert_eq!(lane.due() - now, Duration::from_secs(1));
        let busy = Fault { after: Some(Duration::from_secs(90)), ..fault(About::Way) };
        lane.failed(&busy, 0, (now, at));
        assert_eq!(lane.due() - now, Duration::from_secs(90));
        lane.hasten(now);
        assert_eq!(lane.due(), now);
    }
}
