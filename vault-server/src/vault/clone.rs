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
pub struct Clones {
    turns: BTreeMap<Number, VecDeque<Turn>>,
    /// Of the machines whose processes alternate.
    notices: BTreeMap<Number, CloneNotice>,
    /// When the turns of all machines were last looked through for those that count no longer.
    looked: Duration,
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
        let turns = self.turns.entry(machine).or_default();
        drop_old(turns, now);
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
        if let Some(notice) = self.notices.get_mut(&machine) {
            notice.addresses = addresses;
            return None;
        }
        let notice = CloneNotice { machine, addresses, at: time };
        self.notices.insert(machine, notice.clone());
        Some(notice)
    }

    /// Tells whether nobody is told of anything now.
    pub fn is_empty(&mut self, now: Duration) -> bool {
        self.forget(now);
        self.notices.is_empty()
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
        let is_due = |notice: &&CloneNotice| {
            (may_audit || notice.machine == reader) && is_active(notice.machine)
        };
        self.notices.values().filter(is_due).take(TOLD).cloned().collect()
    }

    /// Forgets what is too long ago; a machine whose processes no longer alternate is sound again.
    /// Every report asks: it looks at machines with a notice only, and at all of them once in a
    /// while.
    fn forget(&mut self, now: Duration) {
        let Self { turns, notices, looked } = self;
        notices.retain(|machine, _| {
            turns.get_mut(machine).is_some_and(|turns| {
                drop_old(turns, now);
                turns.iter().any(|turn| turn.is_return)
            })
        });
        if now.saturating_sub(*looked) > WINDOW {
            *looked = now;
            turns.retain(|_, turns| {
                drop_old(turns, now);
                !turns.is_empty()
            });
        }
    }
}

fn drop_old(turns: &mut VecDeque<Turn>, now: Duration) {
    turns.retain(|turn| now.saturating_sub(turn.at) <= WINDOW);
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
        let notice = clones.notices[&7].clone();
        let addresses = notice.addresses.each_ref().map(Text::as_str);
        assert_eq!((addresses, notice.at), (["10.8.0.2", "10.8.0.9"], Time::from_micros(5)));
    }

    #[test]
    fn a_notice_ends_with_what_it_is_of_and_memory_is_bounded() {
        let mut clones = Clones::default();
        judge(&mut clones, &"a1 b2 ".repeat(500).trim_end().replace("  ", " "), SECOND);
        assert_eq!(clones.turns[&7].len(), TURNS);
        let last = Duration::from_secs(1_001_000);
        assert!(!clones.is_empty(last + WINDOW));
        assert!(clones.is_empty(last + WINDOW + SECOND));
        // Of those without a notice, too, once some time has passed.
        clones.forget(last + 2 * WINDOW + SECOND);
        assert!(clones.turns.is_empty());
    }
}
