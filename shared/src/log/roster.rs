//! The machines of a vault, active and removed, by number, and the ways to find them. Every
//! change goes through `Roster::set`, which keeps the indices right.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};

use crate::grant::{Grant, Grants};
use crate::keys::{Recipient, VerifyKey};
use crate::limits;
use crate::name::{Actor, Name};
use crate::path::SecretPath;
use crate::text::Text;
use crate::time::Time;

/// A machine's number: given once, never used again.
pub type Number = u64;

/// A machine, active or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What it is called now; a removed machine keeps its last name.
    pub name: Name,
    /// Whether it may do anything.
    pub active: bool,
    /// Its encryption key.
    pub recipient: Recipient,
    /// Its signing and TLS key.
    pub sign: VerifyKey,
    /// What it may read.
    pub read: Grants,
    /// What it may write.
    pub write: Grants,
    /// Whether its silence is normal.
    pub sleeps: bool,
    /// When it was added, or got its present keys.
    pub added: Time,
    /// Its last names before this one, each with when it bore it no longer, the newest last.
    pub former: Vec<(Name, Time)>,
    /// What it might read once and may no more, each with the entry that ended it.
    pub once: BTreeMap<Grant, u64>,
    /// How it went, if it did.
    pub gone: Option<Gone>,
}

/// How a machine went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The entry.
    pub entry: u64,
    /// When, by the signer's clock.
    pub time: Time,
    /// Who signed that.
    pub by: Actor,
    /// Why; empty where it goes on with new keys.
    pub reason: Text<{ limits::REASON }>,
    /// The number under which it goes on with new keys, if it does.
    pub next: Option<Number>,
}

impl Machine {
    /// Tells whether a version of `path` that an entry wrote may have been encrypted to it. By the
    /// order of the log: times are what their signers claim.
    pub fn might_read(&self, path: &SecretPath, entry: u64) -> bool {
        let until = self.gone.as_ref().map(|gone| gone.entry);
        let reads = self.read.cover(path) && until.is_none_or(|until| entry <= until);
        reads || self.once.iter().any(|(grant, until)| grant.covers(path) && entry <= *until)
    }

    /// Returns it under another name since `time`.
    pub(super) fn renamed(mut self, to: Name, time: Time) -> Self {
        self.former.push((std::mem::replace(&mut self.name, to), time));
        let beyond = self.former.len().saturating_sub(limits::FORMER);
        self.former.drain(..beyond);
        self
    }

    /// Returns it with other lists since an entry.
    pub(super) fn granted(mut self, read: Grants, write: Grants, entry: u64) -> Self {
        self.once.extend(self.read.as_slice().iter().map(|grant| (grant.clone(), entry)));
        self.once.retain(|grant, _| !read.as_slice().contains(grant));
        if self.once.len() > limits::FORMER {
            // Rather too much than too little: nobody may take what it had for safe.
            let all = "*".parse().expect("`*` is a prefix");
            self.once = BTreeMap::from([(all, entry)]);
        }
        Self { read, write, ..self }
    }
}

/// All machines that ever were, and indices of the active ones.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "BTreeMap<Number, Machine>")]
pub(super) struct Roster {
    all: BTreeMap<Number, Machine>,
    by_name: BTreeMap<Name, Number>,
    by_key: BTreeMap<[u8; 32], Number>,
    by_read: BTreeMap<Grant, BTreeSet<Number>>,
}

impl Serialize for Roster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl From<BTreeMap<Number, Machine>> for Roster {
    fn from(all: BTreeMap<Number, Machine>) -> Self {
        let mut roster = Self::default();
        for (number, machine) in all {
            roster.set(number, Some(machine));
        }
        roster
    }
}

impl Roster {
    pub(super) const fn all(&self) -> &BTreeMap<Number, Machine> {
        &self.all
    }

    /// Returns the number that the next machine must bear.
    pub(super) fn due(&self) -> Number {
        self.all.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    pub(super) fn active(&self, number: Number) -> Option<&Machine> {
        self.all.get(&number).filter(|machine| machine.active)
    }

    pub(super) fn named(&self, name: &Name) -> Option<(Number, &Machine)> {
        self.found(self.by_name.get(name))
    }

    pub(super) fn signing(&self, key: &[u8; 32]) -> Option<(Number, &Machine)> {
        self.found(self.by_key.get(key))
    }

    fn found(&self, number: Option<&Number>) -> Option<(Number, &Machine)> {
        Some((*number?, self.all.get(number?)?))
    }

    /// Returns the active machines that may read `path`, by number.
    pub(super) fn reading(&self, path: &SecretPath) -> impl Iterator<Item = (Number, &Machine)> {
        let path = path.as_str();
        let subtrees = path.match_indices('/').filter_map(|(at, _)| path.get(..=at));
        let mut numbers: Vec<Number> = ["*", path]
            .into_iter()
            .chain(subtrees)
            .filter_map(|grant| self.by_read.get(grant))
            .flatten()
            .copied()
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| self.found(Some(&number)))
    }

    /// Puts `machine` under `number`, or takes the one there away; returns what was there.
    pub(super) fn set(&mut self, number: Number, machine: Option<Machine>) -> Option<Machine> {
        let old = self.all.remove(&number);
        let grants = |machine: &Option<Machine>| {
            machine.as_ref().filter(|it| it.active).map(|it| it.read.clone()).unwrap_or_default()
        };
        let (had, has) = (grants(&old), grants(&machine));
        if had != has {
            for grant in had.as_slice() {
                if let Some(numbers) = self.by_read.get_mut(grant) {
                    numbers.remove(&number);
                    if numbers.is_empty() {
                        self.by_read.remove(grant);
                    }
                }
            }
            for grant in has.as_slice() {
                self.by_read.entry(grant.clone()).or_default().insert(number);
            }
        }
        if let Some(old) = old.as_ref().filter(|old| old.active) {
            self.by_name.remove(&old.name);
            self.by_key.remove(old.sign.as_bytes());
        }
        if let Some(machine) = machine {
            if machine.active {
                self.by_name.insert(machine.name.clone(), number);
                self.by_key.insert(*machine.sign.as_bytes(), number);
            }
            self.all.insert(number, machine);
        }
        old
    }
}
