//! What is counted instead of being recorded each time, since its machine is over its share of the
//! audit log, and becomes one record a minute.

use std::collections::{BTreeMap, HashMap};

use shared::audit::{Fact, Op, Outcome};
use shared::log::Number;

/// Kinds told apart of one machine and minute; all others are counted together.
const KINDS: usize = 32;

/// Facts since the last record, by machine.
#[derive(Debug, Default)]
pub struct Folds(BTreeMap<Number, HashMap<Fact, u64>>);

impl Folds {
    /// Tells whether a fact may be folded: a refusal, a request for what every machine may have, or
    /// what a machine tells of itself. What was written or handed out has a record of its own.
    pub fn may_hold(fact: &Fact) -> bool {
        let plain = [Op::Log, Op::Follow, Op::Report, Op::AuditRead, Op::AuditLeaves, Op::Heal];
        fact.result.is_refusal() || fact.op.is_local() || plain.contains(&fact.op)
    }

    /// Counts a fact: alike are those of one operation, path, process, and outcome.
    pub fn add(&mut self, machine: Number, fact: Fact) {
        let times = fact.count.unwrap_or(1);
        let alike = Fact { at: None, ver: None, seq: None, count: None, ..fact };
        let known = self.0.entry(machine).or_default();
        let kind = if known.len() < KINDS || known.contains_key(&alike) {
            alike
        } else {
            let op = if alike.op.is_local() { Op::Access } else { Op::Request };
            let result = if alike.result.is_refusal() { Outcome::Limited } else { Outcome::Ok };
            Fact { result, machine: alike.machine, ..Fact::new(op) }
        };
        let count = known.entry(kind).or_default();
        *count = count.saturating_add(times);
    }

    /// Returns one record for each kind, and starts anew.
    pub fn take(&mut self) -> Vec<Fact> {
        let folded = std::mem::take(&mut self.0).into_values().flatten();
        let record = |(fact, count)| Fact { count: Some(count).filter(|count| *count > 1), ..fact };
        folded.map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use shared::error::Code;

    use super::*;

    fn read(path: &str, process: &str) -> Fact {
        let (path, who) = (Some(path.parse().unwrap()), Some(process.parse().unwrap()));
        Fact { path, who, ver: Some(1), count: Some(2), ..Fact::new(Op::LocalRead) }
    }

    #[test]
    fn alike_are_one_and_kinds_are_few() {
        let mut folds = Folds::default();
        for n in 0..1000 {
            folds.add(1, Fact { ver: Some(n), ..read("secret/a", "python3[1]") });
            folds.add(1, read(&format!("secret/{n}"), "python3[1]"));
            folds.add(1, Fact { result: Outcome::Forbidden, ..read("secret/b", &format!("p{n}")) });
        }
        folds.add(2, read("secret/a", "python3[1]"));
        let facts = folds.take();
        assert!(facts.len() <= KINDS + 3, "{}", facts.len());
        let all: u64 = facts.iter().map(|fact| fact.count.unwrap_or(1)).sum();
        assert_eq!(all, 6002, "none is lost");
        let same = read("secret/a", "python3[1]");
        let same = facts.iter().find(|fact| fact.path == same.path && fact.count == Some(2000));
        assert!(same.is_some());
        assert!(folds.take().is_empty());
    }

    #[test]
    fn what_was_handed_out_or_written_is_never_folded() {
        for op in [Op::Read, Op::Deliver, Op::Put, Op::MachineRemove, Op::BlobPut, Op::Genesis] {
            assert!(!Folds::may_hold(&Fact::new(op)));
        }
        let result = Outcome::Refused(Code::Denied);
        assert!(Folds::may_hold(&Fact { result, ..Fact::new(Op::Read) }));
        assert!(Folds::may_hold(&Fact::new(Op::from("local_of_tomorrow"))));
    }
}
