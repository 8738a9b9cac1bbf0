//! The next place for an owner whose entry lost the race for the head: a machine that writes
//! without pause cannot keep its own removal out. Pure: the time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use shared::hash::Hash;
use shared::log::Number;
use tokio::time::Instant;

/// How long the place is kept.
const KEPT: Duration = Duration::from_secs(5);
/// Entries that are remembered to have had it.
const REMEMBERED: usize = 256;

/// Who has the next place.
#[derive(Debug, Default)]
pub struct Hold {
    held: Option<(Number, Instant)>,
    /// Each entry gets it once: sent again and again, it cannot keep others out.
    given: VecDeque<Hash>,
}

impl Hold {
    /// Keeps the next place for the machine that carried the owner's entry `id`.
    pub fn keep(&mut self, id: Hash, machine: Number, now: Instant) {
        if self.until(now).is_some() || self.given.contains(&id) {
            return;
        }
        self.given.truncate(REMEMBERED - 1);
        self.given.push_front(id);
        self.held = Some((machine, now + KEPT));
    }

    /// Returns until when an entry has to wait, if it has to; the one that the place was kept for
    /// takes it.
    pub fn pass(&mut self, machine: Number, by_owner: bool, now: Instant) -> Option<Instant> {
        let until = self.until(now)?;
        if by_owner && self.held.is_some_and(|(holder, _)| holder == machine) {
            self.held = None;
            return None;
        }
        Some(until)
    }

    /// Returns until when the place is kept, if it is.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.held.map(|(_, until)| until).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_wait_until_the_owner_came_or_five_seconds_are_over() {
        let (mut hold, now) = (Hold::default(), Instant::now());
        assert_eq!(hold.pass(2, false, now), None);
        hold.keep(Hash::of(&[b"1"]), 1, now);
        let until = Some(now + KEPT);
        assert_eq!(hold.pass(2, false, now), until);
        assert_eq!(hold.pass(2, true, now), until, "another one's entry");
        assert_eq!(hold.pass(1, false, now), until, "not the owner's");
        assert_eq!(hold.pass(1, true, now), None);
        assert_eq!(hold.pass(2, false, now), None, "it is the next place, not more");
        hold.keep(Hash::of(&[b"2"]), 1, now);
        assert_eq!(hold.pass(2, false, now + KEPT), None);
    }

    #[test]
    fn an_entry_sent_again_keeps_nobody_out() {
        let (mut hold, now) = (Hold::default(), Instant::now());
        let id = |n: usize| Hash::of(&[&n.to_le_bytes()]);
        hold.keep(id(0), 1, now);
        hold.keep(id(1), 3, now);
        assert_eq!(hold.pass(3, true, now), Some(now + KEPT), "the first one is still kept");
        let later = now + KEPT;
        hold.keep(id(0), 1, later);
        assert_eq!(hold.pass(2, false, later), None);
        for n in 1..2 * REMEMBERED {
            hold.keep(id(n), 1, later);
            assert_eq!(hold.pass(1, true, later), None);
        }
        assert_eq!(hold.given.len(), REMEMBERED);
    }
}
