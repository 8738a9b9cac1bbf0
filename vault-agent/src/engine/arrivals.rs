//! Which entries have just come: nobody is late for what they hold yet. By this machine's own
//! steady clock, whatever the writer's says. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use shared::log::{Entry, Op};
use shared::time::Time;
use tokio::time::Instant;

/// Nobody is late for a version that came this recently.
const GRACE: Duration = Duration::from_secs(5);
/// An owner's act that changes readers is at its re-encryptions for so long after one of them.
const AT_WORK: Duration = Duration::from_secs(30);
/// Entries that are remembered at most: of more within the grace the oldest are forgotten.
const MOST: usize = 4_096;

/// The times that entries of the last seconds bear, and when they came.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    recent: VecDeque<(Time, Instant)>,
    /// When the newest came that changes who reads, or re-encrypts.
    act: Option<Instant>,
}

impl Arrivals {
    /// Takes up that an entry has come.
    pub(super) fn note(&mut self, entry: &Entry, now: Instant) {
        let recent = &mut self.recent;
        while recent.front().is_some_and(|(_, came)| now.duration_since(*came) >= GRACE) {
            recent.pop_front();
        }
        if recent.len() == MOST {
            recent.pop_front();
        }
        recent.push_back((entry.time, now));
        let is_act = |op: &Op| op.path().is_none() || matches!(op, Op::Rewrap(_));
        if entry.ops.iter().any(is_act) {
            self.act = Some(now);
        }
    }

    /// Tells whether whoever has changed readers may still be re-encrypting to them.
    pub(super) fn is_at_work(&self, now: Instant) -> bool {
        self.act.is_some_and(|act| now.duration_since(act) < AT_WORK)
    }

    /// Tells whether what bears this time has just come.
    pub(super) fn is_fresh(&self, entry: Time, now: Instant) -> bool {
        let recent = self.recent.iter().filter(|(_, came)| now.duration_since(*came) < GRACE);
        recent.into_iter().any(|(time, _)| *time == entry)
    }
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::log::Put;
    use shared::name::Actor;
    use shared::text::Text;

    use super::*;

    #[test]
    fn an_entry_is_fresh_for_five_seconds_whatever_its_clock_says() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let entry = Time::from_micros;
        let note = |arrivals: &mut Arrivals, n, now| arrivals.note(&of(n, Vec::new()), now);
        let mut arrivals = Arrivals::default();
        note(&mut arrivals, 7, at(0));
        note(&mut arrivals, 9, at(3));
        assert!(arrivals.is_fresh(entry(7), at(4)) && arrivals.is_fresh(entry(9), at(4)));
        assert!(!arrivals.is_fresh(entry(8), at(4)), "no entry bears that time");
        assert!(!arrivals.is_fresh(entry(7), at(5)) && arrivals.is_fresh(entry(9), at(5)));
        note(&mut arrivals, 11, at(60));
        assert_eq!(arrivals.recent.len(), 1, "what is over is forgotten");
        (0..5_000).for_each(|n| note(&mut arrivals, n, at(61)));
        assert_eq!(arrivals.recent.len(), MOST);
    }

    #[test]
    fn an_owner_is_at_work_until_re_encryptions_come_no_more() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let put = Put {
            path: "secret/a".parse().unwrap(),
            ver: 1,
            blob: Hash::ZERO,
            size: 0,
            commit: Hash::ZERO,
            readers: Hash::ZERO,
        };
        let mut arrivals = Arrivals::default();
        arrivals.note(&of(1, vec![Op::Put(put.clone())]), at(0));
        assert!(!arrivals.is_at_work(at(0)), "a write changes no readers");
        let remove = Op::MachineRemove { number: 2, reason: Text::default() };
        arrivals.note(&of(2, vec![remove]), at(1));
        assert!(arrivals.is_at_work(at(30)) && !arrivals.is_at_work(at(31)));
        arrivals.note(&of(3, vec![Op::Rewrap(put.clone())]), at(29));
        assert!(arrivals.is_at_work(at(58)), "many take longer");
        arrivals.note(&of(4, vec![Op::Put(put)]), at(58));
        assert!(!arrivals.is_at_work(at(59)), "others write meanwhile");
    }

    fn of(micros: u64, ops: Vec<Op>) -> Entry {
        let (by, time) = (Actor::Root, Time::from_micros(micros));
        Entry { seq: 1, prev: Hash::ZERO, time, by, ops }
    }
}
