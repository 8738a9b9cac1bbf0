//! What is owed to one who is told, kept over restarts: findings that stand, messages that wait,
//! and how far the audit log was told. Bounded; the oldest messages go first, and are counted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use shared::time::Time;

use super::event::{Event, Message};
use super::track::Tracker;

/// Messages that wait at a time: as many as findings are followed, so that none is lost where all
/// begin at once.
pub const MOST: usize = super::track::MOST;

/// What is owed.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Backlog {
    /// Findings.
    pub tracker: Tracker,
    /// Messages that wait, the oldest first.
    pub queue: VecDeque<Message>,
    /// Messages that were dropped, ever.
    pub dropped: u64,
    /// Those of them that nobody was told of yet.
    pub untold: u64,
    /// The last audit record that was told; `None` before the log was first looked at.
    pub cursor: Option<u64>,
}

impl Backlog {
    /// Adds a message.
    pub fn push(&mut self, message: Message) {
        while self.queue.len() >= MOST {
            let oldest = self.queue.pop_front();
            self.dropped(oldest.as_ref());
        }
        self.queue.push_back(message);
    }

    /// Drops the message of this id, which is given up.
    pub fn give_up(&mut self, id: &str) {
        let at = self.queue.iter().position(|message| message.id == id);
        let message = at.and_then(|at| self.queue.remove(at));
        self.dropped(message.as_ref());
    }

    /// Counts a message that is dropped.
    pub fn dropped(&mut self, message: Option<&Message>) {
        match message.map(|message| &message.event) {
            // What it would have told is told anew.
            Some(Event::Dropped(count)) => self.untold += count,
            Some(_) | None => {
                self.dropped += 1;
                self.untold += 1;
            }
        }
    }

    /// Notes that the message of this id was taken.
    pub fn taken(&mut self, id: &str) {
        self.queue.retain(|message| message.id != id);
    }

    /// Puts a word about dropped messages before all that waits, once messages are taken again.
    pub fn tell_dropped(&mut self, now: Time) {
        if self.untold > 0 {
            let count = std::mem::take(&mut self.untold);
            self.queue.push_front(Message::new(now, Event::Dropped(count)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_are_counted_over_restarts() {
        let mut backlog = Backlog::default();
        for n in 0..MOST as u64 + 3 {
            backlog.push(Message::new(Time::from_micros(n), Event::Test));
        }
        assert_eq!((backlog.queue.len(), backlog.dropped), (MOST, 3));
        assert_eq!(backlog.queue[0].time, Time::from_micros(3));
        let kept = serde_json::to_string(&backlog).unwrap();
        let mut backlog: Backlog = serde_json::from_str(&kept).unwrap();
        let first = backlog.queue[0].id.clone();
        backlog.taken(&first);
        backlog.tell_dropped(Time::from_micros(9));
        assert_eq!(backlog.queue[0].event, Event::Dropped(3));
        backlog.tell_dropped(Time::from_micros(9));
        assert_eq!((backlog.queue.len(), backlog.dropped, backlog.untold), (MOST, 3, 0));
        // The word about them is dropped itself: they are still to be told of, and counted once.
        backlog.push(Message::new(Time::from_micros(10), Event::Test));
        assert_eq!((backlog.queue.len(), backlog.dropped, backlog.untold), (MOST, 3, 3));
        backlog.tell_dropped(Time::from_micros(11));
        for expected in [(MOST, 3, 3), (MOST - 1, 4, 4)] {
            let first = backlog.queue[0].id.clone();
            backlog.give_up(&first);
            assert_eq!((backlog.queue.len(), backlog.dropped, backlog.untold), expected);
        }
    }
}
