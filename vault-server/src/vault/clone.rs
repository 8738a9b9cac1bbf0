//! Copied hosts: one machine's keys used by two processes in turn. Pure: judges what it is told,
//! with the time passed in. Putting it on record is `follow`'s, telling it `report`'s.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shared::hash::Hash;
use shared::log::Number;
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::clone::CloneNotice;

/// How long what was seen counts.
const WINDOW: Duration = Duration::from_mins(10);
/// Turns remembered of one machine.
const TURNS: usize = 8;
/// Returns to an earlier process from which on there are two: a, b, a, b is three changes, two of
/// them back. A restart never goes back; a single return may be a request that was late.
const RETURNS: usize = 2;
/// Notices in one answer.
const TOLD: usize = 64;

/// Which processes came with the keys of each machine, of late.
#[derive(Debug, Default)]
pub struct Clones(BTreeMap<Number, Seen>);

#[derive(Debug, Default)]
struct Seen {
    turns: VecDeque<Turn>,
    notice: Option<CloneNotice>,
}

/// One process, until another came.
#[derive(Debug)]
struct Turn {
    run: Hash,
    addr: Text<64>,
    /// When it last came.
    at: Duration,
    /// Whether it had come before, and another in between.
    is_return: bool,
}

impl Clones {
    /// Notes that a process of `machine` follows the log, `now` on a clock that nobody sets and at
    /// `time` by the calendar; returns what is to be put on record, once for as long as it goes on.
    pub fn follows(
        &mut self,
        machine: Number,
        run: Hash,
        addr: &Text<64>,
        now: Duration,
        time: Time,
    ) -> Option<CloneNotice> {
        self.forget(now);
        let Seen { turns, notice } = self.0.entry(machine).or_default();
        let before = match turns.back_mut() {
            // The same one again, perhaps from another network.
            Some(last) if last.run == run => {
                (last.addr, last.at) = (addr.clone(), now);
                return None;
            }
            before => before.map(|turn| turn.addr.clone()),
        };
        let is_return = turns.iter().any(|turn| turn.run == run);
        turns.push_back(Turn { run, addr: addr.clone(), at: now, is_return });
        if turns.len() > TURNS {
            turns.pop_front();
        }
        let returns = turns.iter().filter(|turn| turn.is_return).count();
        if !is_return || returns < RETURNS {
            return None;
        }
        let addresses = [before.unwrap_or_default(), addr.clone()];
        if let Some(notice) = notice {
            notice.addresses = addresses;
            return None;
        }
        notice.replace(CloneNotice { machine, addresses, at: time });
        notice.clone()
    }

    /// Tells whether nobody is told of anything now.
    pub fn is_empty(&mut self, now: Duration) -> bool {
        self.forget(now);
        self.0.values().all(|seen| seen.notice.is_none())
    }

    /// Returns what `reader` is told now: of itself and, if it `may_audit`, of all machines.
    pub fn told(
        &mut self,
        reader: Number,
        may_audit: bool,
        is_active: impl Fn(Number) -> bool,
        now: Duration,
    ) -> Vec<CloneNotice> {
        self.forget(now);
        let notices = self.0.values().filter_map(|seen| seen.notice.as_ref());
        let is_due = |notice: &&CloneNotice| {
            (may_audit || notice.machine == reader) && is_active(notice.machine)
        };
        notices.filter(is_due).take(TOLD).cloned().collect()
    }

    /// Forgets what is too long ago; a machine whose processes no longer alternate is sound again.
    fn forget(&mut self, now: Duration) {
        self.0.retain(|_, Seen { turns, notice }| {
            turns.retain(|turn| now.saturating_sub(turn.at) <= WINDOW);
            if !turns.iter().any(|turn| turn.is_return) {
                *notice = None;
            }
            !turns.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns what becomes of processes, each a letter with the last number of its address, that
    /// come `apart` from each other: `!` where it is to be put on record.
    fn judge(clones: &mut Clones, processes: &str, apart: Duration) -> String {
        let mut now = Duration::from_secs(1_000_000);
        let one = |process: &str| {
            now += apart;
            let (run, host) = process.split_at(1);
            let (run, addr) = (Hash::of(&[run.as_bytes()]), Text::lossy(&format!("10.8.0.{host}")));
            let found = clones.follows(7, run, &addr, now, Time::from_micros(5));
            found.map_or(".", |_| "!")
        };
        processes.split(' ').map(one).collect()
    }

    fn check(processes: &str, apart: Duration, expected: &str) {
        let judged = judge(&mut Clones::default(), processes, apart);
        assert_eq!(judged, expected, "{processes}, {apart:?} apart");
    }

    #[test]
    fn two_processes_that_alternate_three_times_are_noticed_once() {
        check("a1 b2 a1 b2", SECOND, "...!");
        check("a1 b2 a1 b2 a1 b2 a1 b2 a1 b2", SECOND, "...!......");
        check("a1 b2 a1 b2", 3 * Duration::from_mins(1), "...!");
        check("a1 a1 b2 b2 a1 a1 b2", SECOND, "......!");
        // Three copies, and two behind one router.
        check("a1 b2 c3 a1 b2 c3", SECOND, "....!.");
        check("a1 b1 a1 b1", SECOND, "...!");
    }

    #[test]
    fn restarts_networks_and_slow_changes_are_no_clones() {
        // Restarts: new ids, never an old one.
        check("a1 b1 c1 d1 e1 f1 g1 h1 i1 j1", SECOND, "..........");
        // A laptop between two networks, and restarted on the way.
        check("a1 a2 a1 a2 a1 a2", SECOND, "......");
        check("a1 a2 b2 b1 b2 c1", SECOND, "......");
        // A request of the old process that came late.
        check("b1 a1 b1", SECOND, "...");
        check("a1 b2 a1 b2", Duration::from_mins(6), "....");
    }

    #[test]
    fn both_addresses_are_named_and_the_newest_hold() {
        let mut clones = Clones::default();
        judge(&mut clones, "a1 b2 a1 b2 a9", SECOND);
        let notice = clones.0[&7].notice.clone().unwrap();
        let addresses = notice.addresses.each_ref().map(Text::as_str);
        assert_eq!((addresses, notice.at), (["10.8.0.2", "10.8.0.9"], Time::from_micros(5)));
    }

    #[test]
    fn a_notice_ends_with_what_it_is_of_and_memory_is_bounded() {
        let mut clones = Clones::default();
        judge(&mut clones, &"a1 b2 ".repeat(500).trim_end().replace("  ", " "), SECOND);
        assert_eq!(clones.0[&7].turns.len(), TURNS);
        clones.forget(Duration::from_secs(1_001_000) + WINDOW);
        assert!(clones.0[&7].notice.is_some());
        clones.forget(Duration::from_secs(1_001_001) + WINDOW);
        assert!(clones.0.is_empty());
    }
}
