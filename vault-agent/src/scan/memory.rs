//! What is to be known of scans after a restart: what the last one has found, when it began, and
//! which wishes are fulfilled. And when the next one is due. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::log::Number;
use shared::scan::{Findings, Wish};
use shared::time::Time;

/// Least time between two scans that are asked for.
pub(super) const APART: Duration = Duration::from_mins(10);

/// How long after the agent's start the first scan begins.
const SETTLES: Duration = Duration::from_secs(2);

/// What is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// When the last scan began.
    pub(super) begun: Option<Time>,
    /// What the last one that ended has found.
    pub(super) findings: Option<Findings>,
    /// The wish of each reviewer that was fulfilled last.
    pub(super) fulfilled: BTreeMap<Number, Time>,
}

impl Memory {
    /// Takes up that a scan begins, for all who wish for one.
    pub(super) fn begins(&mut self, now: Time, wishes: &BTreeMap<Number, Wish>) {
        self.begun = Some(now);
        // Who does not review any more is forgotten; who does stays known.
        self.fulfilled = wishes.iter().map(|(number, wish)| (*number, wish.at)).collect();
    }

    /// Returns how long until the next scan is to begin, by an agent that has been up for so long;
    /// `None` while nobody wants one.
    pub(super) fn due(
        &self,
        every: Option<Duration>,
        wishes: &BTreeMap<Number, Wish>,
        now: Time,
        up: Duration,
    ) -> Option<Duration> {
        // A clock that was set back must not keep scans away.
        let begun = self.begun.filter(|begun| *begun <= now);
        let since = begun.map(|begun| Duration::from_micros(now.apart(begun)));
        let regular = every.map(|every| {
            since.map_or(SETTLES.saturating_sub(up), |since| every.saturating_sub(since))
        });
        let is_open =
            |(number, wish): (&Number, &Wish)| self.fulfilled.get(number) != Some(&wish.at);
        let wished = wishes.iter().any(is_open);
        let wished =
            wished.then(|| since.map_or(Duration::ZERO, |since| APART.saturating_sub(since)));
        [regular, wished].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn wish(at: u64) -> BTreeMap<Number, Wish> {
        BTreeMap::from([(1, Wish { at: Time::from_micros(at), machines: Vec::new() })])
    }

    fn due(
        memory: &Memory,
        every: Option<Duration>,
        wishes: &BTreeMap<Number, Wish>,
        now: Time,
    ) -> Option<Duration> {
        memory.due(every, wishes, now, Duration::ZERO)
    }

    fn at(minutes: u64) -> Time {
        Time::from_micros(1_000_000_000_000 + minutes * 60_000_000)
    }

    #[test]
    fn scans_come_when_it_is_time_and_when_they_are_wished_for_ten_minutes_apart() {
        let (mut memory, none) = (Memory::default(), BTreeMap::new());
        assert_eq!(due(&memory, None, &none, at(0)), None);
        assert_eq!(due(&memory, Some(DAY), &none, at(0)), Some(SETTLES));
        assert_eq!(due(&memory, None, &wish(5), at(0)), Some(Duration::ZERO));
        assert_eq!(memory.due(Some(DAY), &none, at(0), SETTLES), Some(Duration::ZERO));
        memory.begins(at(0), &wish(5));
        assert_eq!(due(&memory, None, &wish(5), at(30)), None, "it is fulfilled");
        assert_eq!(due(&memory, Some(DAY), &wish(5), at(60)), Some(Duration::from_hours(23)));
        assert_eq!(due(&memory, None, &wish(6), at(3)), Some(Duration::from_mins(7)));
        assert_eq!(due(&memory, None, &wish(6), at(11)), Some(Duration::ZERO));
        // Another member's wish is one of its own, and as far apart.
        let other = BTreeMap::from([(2, Wish { at: at(1), machines: Vec::new() })]);
        assert_eq!(due(&memory, None, &other, at(1)), Some(Duration::from_mins(9)));
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_no_scan_away() {
        let memory = Memory { begun: Some(at(60)), ..Memory::default() };
        assert_eq!(due(&memory, Some(DAY), &BTreeMap::new(), at(0)), Some(SETTLES));
    }
}
