//! The machines of a vault, active and removed, by number, and the ways to find them. Every
//! change goes through `Roster::set`, which keeps the indices right.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};

use crate::grant::{Grant, Grants};
use crate::keys::{Recipient, VerifyKey};
use crate::name::Name;
use crate::path::SecretPath;
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
