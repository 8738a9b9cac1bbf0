//! What is counted instead of recorded one by one: refusals like one that is on record already,
//! requests by keys of no machine, and what a screen asks over and over. One record a minute tells
//! how many there were, so that a flood of them fills no disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::audit::{Agent, Fact, Op, Outcome, Who};
use shared::name::Name;
use shared::path::SecretPath;
use shared::text::Text;

/// Kinds of one machine that are told apart by path; further ones are by operation and result.
const PATHS: usize = 64;
/// Kinds of one machine in all; further refusals have a record each.
const KINDS: usize = 256;
/// Machines told apart; the refusals of further ones have a record each.
const MACHINES: usize = 1024;
/// Addresses of strangers told apart; what comes from others is counted together.
const ADDRESSES: usize = 32;

/// What was counted since the last records, by machine; `None` are strangers.
#[derive(Debug, Default)]
pub struct Folded(Mutex<HashMap<Option<Name>, HashMap<Kind, Seen>>>);

/// What is alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// Of strangers alone.
    addr: Option<Text<64>>,
    op: Op,
    path: Option<SecretPath>,
    /// The process of what an agent tells.
    who: Option<Who>,
    /// The AI agent that it works for.
    agent: Option<Agent>,
    result: Outcome,
}

#[derive(Debug)]
struct Seen {
    /// What all of them have in common.
    fact: Fact,
    /// How many no record tells of yet.
    count: u64,
}

/// Tells whether a record is folded with those like it: what the server did not do as it was asked,
/// and how all machines stand, which a screen that is left open asks all day. What an agent tells
/// of is counted there.
pub fn is_folded(fact: &Fact) -> bool {
    (!fact.result.is_done() && !fact.op.is_local()) || fact.op == Op::Targets
}

/// Tells whether it is enough to count a fact: a refusal, a request for what every machine may
/// have, or what a machine tells of itself. What was written or handed out has a record of its own.
pub fn may_be_counted(fact: &Fact) -> bool {
    let plain = [Op::Log, Op::Follow, Op::Report, Op::AuditRead, Op::AuditLeaves, Op::Heal];
    !fact.result.is_done() || fact.op.is_local() || plain.contains(&fact.op)
}

impl Folded {
    /// Counts a refusal if one like it is on record; otherwise it needs a record of its own.
    pub fn repeats(&self, fact: &Fact) -> bool {
        let mut all = self.lock();
        let Some(kinds) = all.get_mut(&fact.machine) else { return false };
        let exact = Kind::of(fact);
        let is_exact = kinds.len() < PATHS || kinds.contains_key(&exact);
        let kind = if is_exact { exact } else { exact.without_path() };
        let Some(seen) = kinds.get_mut(&kind) else { return false };
        seen.add(fact);
        true
    }

    /// Notes that a refusal has its record: those like it are counted from now on.
    pub fn is_on_record(&self, fact: Fact) {
        let mut all = self.lock();
        if all.len() >= MACHINES && !all.contains_key(&fact.machine) {
            return;
        }
        let kinds = all.entry(fact.machine.clone()).or_default();
        let exact = Kind::of(&fact);
        let kind = if kinds.len() < PATHS { exact } else { exact.without_path() };
        if kinds.len() < KINDS {
            kinds.entry(kind).or_insert(Seen { fact, count: 0 });
        }
    }

    /// Counts what has no record of its own. Kinds past the bound are counted together.
    pub fn count(&self, fact: &Fact) {
        let most = if fact.machine.is_some() { PATHS } else { ADDRESSES };
        let mut all = self.lock();
        let kinds = all.entry(fact.machine.clone()).or_default();
        let exact = Kind::of(fact);
        let fits = kinds.len() < most || kinds.contains_key(&exact);
        let kind = if fits { exact } else { exact.any() };
        let (op, result) = (kind.op.clone(), kind.result.clone());
        let first = Fact { op, result, at: None, count: None, ..fact.clone() };
        kinds.entry(kind).or_insert(Seen { fact: first, count: 0 }).add(fact);
    }

    /// Returns the records of what was counted, and starts anew.
    pub fn take(&self) -> Vec<Fact> {
        let all = std::mem::take(&mut *self.lock());
        let counted =
            all.into_values().flat_map(HashMap::into_values).filter(|seen| seen.count > 0);
        counted
            .map(|Seen { fact, count }| Fact { count: Some(count).filter(|n| *n > 1), ..fact })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<Name>, HashMap<Kind, Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    fn of(fact: &Fact) -> Self {
        let Fact { op, path, result, addr, who, agent, machine, .. } = fact.clone();
        let (addr, who) = (addr.filter(|_| machine.is_none()), who.filter(|_| op.is_local()));
        let agent = agent.filter(|_| op.is_local());
        Self { addr, op, path, who, agent, result }
    }

    fn without_path(self) -> Self {
        Self { path: None, ..self }
    }

    /// What all of a machine, or all strangers, have in common. Words that an agent has made up do
    /// not count as kinds.
    fn any(self) -> Self {
        let Self { op, result, .. } = self;
        let (op, result) = match (op.is_local(), result.is_done()) {
            (true, false) => (Op::Access, Outcome::Limited),
            (true, true) => (Op::Access, Outcome::Ok),
            (false, _) => (op, result),
        };
        Self { addr: None, op, path: None, who: None, agent: None, result }
    }
}

impl Seen {
    /// Counts one more, and forgets what it has not in common with those before.
    fn add(&mut self, fact: &Fact) {
        fn agree<T: PartialEq>(all: &mut Option<T>, one: &Option<T>) {
            all.take_if(|all| Some(&*all) != one.as_ref());
        }
        self.count = self.count.saturating_add(fact.count.unwrap_or(1));
        agree(&mut self.fact.key, &fact.key);
        agree(&mut self.fact.who, &fact.who);
        agree(&mut self.fact.agent, &fact.agent);
        agree(&mut self.fact.reason, &fact.reason);
        agree(&mut self.fact.addr, &fact.addr);
        agree(&mut self.fact.path, &fact.path);
        agree(&mut self.fact.ver, &fact.ver);
        agree(&mut self.fact.seq, &fact.seq);
    }
}

#[cfg(test)]
mod tests {
    use shared::error::Code;

    use super::*;

    fn stranger(high: u64, low: u64, key: &str) -> Fact {
        let addr = format!("10.0.{high}.{low}");
        Fact {
            addr: Some(addr.parse().unwrap()),
            key: Some(key.parse().unwrap()),
            result: Outcome::Forbidden,
            ..Fact::new(Op::Stranger)
        }
    }

    #[test]
    fn a_flood_from_many_addresses_stays_bounded() {
        let folded = Folded::default();
        for n in 0..1000_u64 {
            folded.count(&stranger(n / 250, n % 250, "1"));
        }
        folded.count(&stranger(0, 0, "2"));
        let facts = folded.take();
        assert_eq!(facts.len(), ADDRESSES + 1);
        assert_eq!(facts.iter().map(|fact| fact.count.unwrap_or(1)).sum::<u64>(), 1001);
        let twice = facts.iter().find(|fact| fact.count == Some(2)).unwrap();
        assert_eq!((twice.addr.clone(), twice.key.clone()), (stranger(0, 0, "1").addr, None));
        assert!(folded.take().is_empty());
    }

    fn refusal(machine: u64, path: u64, code: Code) -> Fact {
        Fact {
            machine: Some(format!("m{machine}").parse().unwrap()),
            path: Some(format!("secret/{path}").parse().unwrap()),
            ver: Some(path),
            result: Outcome::Refused(code),
            ..Fact::new(Op::Put)
        }
    }

    /// Does what the writer does; tells whether the refusal has its own record.
    fn refuse(folded: &Folded, fact: Fact) -> bool {
        let repeats = folded.repeats(&fact);
        if !repeats {
            folded.is_on_record(fact);
        }
        !repeats
    }

    #[test]
    fn like_refusals_are_told_apart_by_machine_path_and_result() {
        let folded = Folded::default();
        let kinds = [(1, 1, Code::Denied), (2, 1, Code::Denied), (1, 2, Code::Denied)];
        for (machine, path, code) in kinds.into_iter().chain([(1, 1, Code::Version)]) {
            assert!(refuse(&folded, refusal(machine, path, code)));
            assert!(!refuse(&folded, refusal(machine, path, code)));
        }
        assert!(!refuse(&folded, Fact { ver: Some(9), ..refusal(1, 1, Code::Denied) }));
        let mut counts: Vec<_> =
            folded.take().into_iter().map(|fact| (fact.count, fact.ver)).collect();
        counts.sort();
        assert_eq!(counts, [(None, Some(1)), (None, Some(1)), (None, Some(2)), (Some(2), None)]);
        assert!(refuse(&folded, refusal(1, 1, Code::Denied)), "the next minute");
        assert!(folded.take().is_empty(), "it is on record");
    }

    #[test]
    fn a_refusal_of_a_path_is_not_folded_with_one_of_none() {
        let folded = Folded::default();
        assert!(refuse(&folded, Fact { path: None, ..refusal(1, 1, Code::Denied) }));
        assert!(refuse(&folded, refusal(1, 1, Code::Denied)));
    }

    #[test]
    fn a_machine_that_invents_paths_makes_few_records() {
        let folded = Folded::default();
        let own = (0..10_000).filter(|n| refuse(&folded, refusal(1, *n, Code::Denied))).count();
        assert_eq!(own, PATHS + 1);
        assert!(refuse(&folded, refusal(2, 1, Code::Denied)), "another is not its victim");
        let counted = folded.take();
        assert_eq!(counted.len(), 1);
        assert_eq!((counted[0].count, &counted[0].path), (Some(10_000 - own as u64), &None));
    }

    #[test]
    fn what_agents_tell_is_not_folded() {
        let denied = Fact { result: Outcome::Denied, ..Fact::new(Op::LocalRead) };
        assert!(!is_folded(&denied));
        assert!(!is_folded(&Fact::new(Op::Put)));
        assert!(is_folded(&Fact::new(Op::Targets)), "a screen that is left open");
        assert!(is_folded(&Fact { result: Outcome::Conflict, ..Fact::new(Op::Put) }));
    }

    fn read(path: &str, process: &str) -> Fact {
        let (path, who) = (Some(path.parse().unwrap()), Some(process.parse().unwrap()));
        let machine = Some("vps".parse().unwrap());
        Fact { machine, path, who, ver: Some(1), count: Some(2), ..Fact::new(Op::LocalRead) }
    }

    #[test]
    fn local_reads_are_told_apart_by_path_and_process_and_none_is_lost() {
        let folded = Folded::default();
        for n in 0..1000 {
            folded.count(&Fact { ver: Some(n), ..read("secret/a", "python3[1]") });
            folded.count(&read(&format!("secret/{n}"), "python3[1]"));
            let result = Outcome::Forbidden;
            folded.count(&Fact { result, ..read("secret/b", &format!("p{n}")) });
        }
        let facts = folded.take();
        assert_eq!(facts.len(), PATHS + 2);
        assert_eq!(facts.iter().map(|fact| fact.count.unwrap_or(1)).sum::<u64>(), 6000);
        let path = read("secret/a", "python3[1]").path;
        let same = facts.iter().find(|fact| fact.path == path && fact.count == Some(2000));
        assert_eq!(same.unwrap().ver, None, "they have no version in common");
        assert!(folded.take().is_empty());
    }

    #[test]
    fn a_mark_outlasts_counting_and_reasons_that_differ_do_not() {
        let folded = Folded::default();
        let by = |agent: Option<&str>, reason: &str| Fact {
            agent: agent.map(Text::lossy),
            reason: Some(Text::lossy(reason)),
            ..read("secret/a", "vault[1]")
        };
        for reason in ["one", "two"] {
            folded.count(&by(Some("codex"), reason));
            folded.count(&by(None, "always"));
        }
        let mut facts = folded.take();
        facts.sort_by_key(|fact| fact.agent.is_some());
        let told = |fact: &Fact| {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let agent = text(fact.agent.as_ref().map(Text::as_str));
            (agent, text(fact.reason.as_ref().map(Text::as_str)), fact.count)
        };
        assert_eq!(
            facts.iter().map(told).collect::<Vec<_>>(),
            [
                (String::new(), "always".to_owned(), Some(4)),
                ("codex".to_owned(), String::new(), Some(4)),
            ]
        );
    }

    #[test]
    fn what_was_handed_out_or_written_has_its_own_record() {
        for op in [Op::Read, Op::Deliver, Op::Put, Op::MachineRemove, Op::BlobPut, Op::Genesis] {
            assert!(!may_be_counted(&Fact::new(op)));
        }
        let result = Outcome::Refused(Code::Denied);
        assert!(may_be_counted(&Fact { result, ..Fact::new(Op::Read) }));
        assert!(may_be_counted(&Fact::new(Op::from("local_of_tomorrow"))));
    }
}
