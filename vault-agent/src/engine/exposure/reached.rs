//! Which machines some versions of a secret have reached: those that they were encrypted to when
//! they were written or re-encrypted, and those that wrote them. What the signed log says, nothing
//! else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use host::store::checkpoint;
use rusqlite::Connection;
use shared::grant::Grants;
use shared::log::{Entry, Number, Op, Put, Rekey, Secret, State, Version};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::signed::parse_strict;
use shared::time::Time;

use super::lives::Lives;
use crate::state::log;
use machine::local::ReachedHost;

/// Walks the log from its beginning, whose entries were verified when they came.
pub(super) fn by(
    conn: &Connection,
    path: SecretPath,
    versions: BTreeSet<u64>,
) -> Result<Vec<ReachedHost>> {
    let mut walk = Walk { path, versions, active: BTreeMap::new(), found: BTreeMap::new() };
    let begin = checkpoint::start(conn)?;
    let mut lives = begin.as_ref().map(Lives::of).unwrap_or_default();
    begin.iter().for_each(|state| walk.begin(state, &lives));
    log::replay(conn, begin.as_ref().map_or(0, State::seq), |_, envelope| {
        let entry = parse_strict(&envelope.body)?;
        lives.step(&entry);
        walk.step(entry);
        Ok(())
    })?;
    Ok(walk.told(&lives))
}

struct Walk {
    path: SecretPath,
    versions: BTreeSet<u64>,
    /// The active machines: what each is called and reads.
    active: BTreeMap<Number, (Name, Grants)>,
    found: BTreeMap<Number, (Time, BTreeSet<u64>)>,
}

impl Walk {
    /// Begins with a state: who was granted the secret when a version was there, and who wrote one.
    fn begin(&mut self, state: &State, lives: &Lives) {
        for (number, machine) in state.machines().iter().filter(|(_, machine)| machine.active) {
            self.active.insert(*number, (machine.name.clone(), machine.read.clone()));
        }
        let path = self.path.clone();
        let versions = state.secret(&path).into_iter().flat_map(Secret::versions);
        for (ver, Version { by, created, entry, .. }) in versions {
            if !self.versions.contains(&ver) {
                continue;
            }
            for life in lives.all() {
                let mut machines =
                    life.numbers.iter().filter_map(|number| state.machines().get(number));
                let wrote = matches!(by, Actor::Machine(by) if life.bore_at(by, *created));
                if wrote || machines.any(|machine| machine.might_read(&path, *entry)) {
                    self.found(life.number(), ver, *created);
                }
            }
        }
    }

    fn step(&mut self, Entry { by, time, ops, .. }: Entry) {
        for op in ops {
            match op {
                Op::MachineAdd(new) => {
                    self.active.insert(new.number, (new.name, new.read));
                }
                Op::MachineRename { number, to } => {
                    if let Some((name, _)) = self.active.get_mut(&number) {
                        *name = to;
                    }
                }
                Op::MachineRekey(Rekey { number, new_number, .. }) => {
                    if let Some(known) = self.active.remove(&number) {
                        self.active.insert(new_number, known);
                    }
                }
                Op::AccessSet(access) => {
                    if let Some((_, read)) = self.active.get_mut(&access.number) {
                        *read = access.read;
                    }
                }
                Op::MachineRemove { number, .. } => {
                    self.active.remove(&number);
                }
                Op::Put(put) => self.note(&put, Some(&by), time),
                Op::Rewrap(put) => self.note(&put, None, time),
                _ => {}
            }
        }
    }

    fn note(&mut self, put: &Put, writer: Option<&Actor>, time: Time) {
        if put.path != self.path || !self.versions.contains(&put.ver) {
            return;
        }
        let reads = |(_, (name, read)): &(&Number, &(Name, Grants))| {
            let wrote = matches!(writer, Some(Actor::Machine(writer)) if writer == name);
            wrote || read.cover(&self.path)
        };
        let reading = self.active.iter().filter(reads).map(|(number, _)| *number);
        for number in reading.collect::<Vec<_>>() {
            self.found(number, put.ver, time);
        }
    }

    fn found(&mut self, number: Number, ver: u64, time: Time) {
        let (_, versions) = self.found.entry(number).or_insert_with(|| (time, BTreeSet::new()));
        versions.insert(ver);
    }

    /// Tells each machine once, under all the numbers that it has borne.
    fn told(&self, lives: &Lives) -> Vec<ReachedHost> {
        let hosts = lives.all().iter().filter_map(|life| {
            let found = life.numbers.iter().filter_map(|number| self.found.get(number));
            let found: Vec<_> = found.collect();
            let since = found.iter().map(|(since, _)| *since).min()?;
            let versions: BTreeSet<u64> = found.iter().flat_map(|(_, it)| it).copied().collect();
            Some(ReachedHost {
                number: life.number(),
                names: life.names.clone(),
                removed: life.removed.clone(),
                since,
                versions: versions.into_iter().collect(),
            })
        });
        hosts.collect()
    }
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::{Identity, SignKey};
    use shared::log::{Access, NewMachine};
    use shared::text::Text;
    use shared::token::MachineLine;

    use super::*;

    fn put(ver: u64) -> Put {
        let (path, hash) = ("secret/a".parse().unwrap(), Hash::ZERO);
        Put { path, ver, blob: hash, size: 1, commit: hash, readers: hash }
    }

    fn line(name: &str) -> MachineLine {
        let recipient = Identity::generate().recipient();
        MachineLine::new(name.parse().unwrap(), recipient, &SignKey::generate()).unwrap()
    }

    fn grants(read: &str) -> Grants {
        if read.is_empty() { Grants::default() } else { Grants::parse(&[read]).unwrap() }
    }

    fn add(name: &str, number: Number, read: &str) -> Op {
        let (MachineLine { name, recipient, sign, proof }, read) = (line(name), grants(read));
        let write = Grants::default();
        Op::MachineAdd(NewMachine { name, number, recipient, sign, proof, read, write })
    }

    fn set(number: Number, read: &str) -> Op {
        Op::AccessSet(Access { number, was: Hash::ZERO, read: grants(read), write: <_>::default() })
    }

    fn rekey(number: Number, new_number: Number) -> Op {
        let MachineLine { recipient, sign, proof, .. } = line("x");
        Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof })
    }

    /// Returns whom versions 2 and 3 have reached, and since when; each step is an entry.
    fn reached(steps: Vec<(&str, Vec<Op>)>) -> Vec<String> {
        let (path, versions) = ("secret/a".parse().unwrap(), [2, 3].into());
        let mut walk = Walk { path, versions, active: BTreeMap::new(), found: BTreeMap::new() };
        let mut lives = Lives::default();
        for (seq, (by, ops)) in (1..).zip(steps) {
            let (prev, time) = (Hash::ZERO, Time::from_micros(seq));
            let entry = Entry { seq, prev, time, by: by.parse().unwrap(), ops };
            lives.step(&entry);
            walk.step(entry);
        }
        let told = walk.told(&lives).into_iter().map(|host| {
            let name = &host.names.last().unwrap().name;
            format!("{name} {} {:?}", host.since.as_micros(), host.versions)
        });
        told.collect()
    }

    #[test]
    fn whom_a_version_was_encrypted_to_and_who_wrote_it_counts() {
        let admin = "admin:jonas";
        let removed = Op::MachineRemove { number: 2, reason: Text::default() };
        let told = reached(vec![
            (admin, vec![add("one", 1, "secret/"), add("two", 2, "*"), add("blind", 3, "")]),
            ("machine:one", vec![Op::Put(put(1))]),
            ("machine:blind", vec![Op::Put(put(2))]),
            (admin, vec![removed, add("late", 4, ""), rekey(1, 5)]),
            ("machine:one", vec![Op::Put(put(3))]),
            (admin, vec![set(4, "secret/a"), Op::Rewrap(put(3))]),
            (admin, vec![add("later", 6, "*"), Op::Rewrap(put(4))]),
        ]);
        assert_eq!(told, ["one 3 [2, 3]", "two 3 [2]", "blind 3 [2]", "late 6 [3]"]);
    }
}
