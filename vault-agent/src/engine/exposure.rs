//! What a machine could read: everything that the log says was encrypted to it. Re-encryption does
//! not undo that.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use shared::grant::Grants;
use shared::log::{Entry, Number, Op, Rekey};
use shared::path::SecretPath;
use shared::signed::parse_strict;

use super::parts::Parts;
use crate::state;
use machine::local::{Exposed, Exposure};

/// Walks the log from its beginning; its entries were verified when they came.
pub(super) async fn of(parts: &Parts, number: Number) -> Result<Exposure> {
    let walked = parts.store.read(move |conn| {
        let mut keys = Keys::default();
        let replayed = state::log::replay(conn, 0, |_, envelope| {
            keys.step(&parse_strict(&envelope.body)?);
            Ok(())
        });
        let mut walk = Walk { numbers: keys.of(number), read: None, seen: BTreeMap::new() };
        let replayed = replayed.and_then(|()| {
            state::log::replay(conn, 0, |_, envelope| {
                walk.step(parse_strict(&envelope.body)?);
                Ok(())
            })
        });
        Ok(replayed.map(|()| walk.seen))
    });
    let seen = walked.await??;
    let folded = parts.ledger.read();
    let exposed = |(path, versions): (SecretPath, BTreeSet<u64>)| {
        let newest = folded.state.secret(&path).and_then(|secret| secret.current());
        let current = newest.is_some_and(|(ver, _)| versions.contains(&ver));
        Exposed { path, versions: versions.into_iter().collect(), current }
    };
    Ok(Exposure { secrets: seen.into_iter().map(exposed).collect() })
}

/// Which number a machine bore before it got other keys, by the number since.
#[derive(Default)]
struct Keys(BTreeMap<Number, Number>);

impl Keys {
    fn step(&mut self, entry: &Entry) {
        for op in &entry.ops {
            if let Op::MachineRekey(Rekey { number, new_number, .. }) = op {
                self.0.insert(*new_number, *number);
            }
        }
    }

    /// Returns all numbers that the machine has borne.
    fn of(&self, number: Number) -> BTreeSet<Number> {
        std::iter::successors(Some(number), |number| self.0.get(number).copied()).collect()
    }
}

struct Walk {
    numbers: BTreeSet<Number>,
    /// What it reads, while it is active.
    read: Option<Grants>,
    seen: BTreeMap<SecretPath, BTreeSet<u64>>,
}

impl Walk {
    fn step(&mut self, entry: Entry) {
        for op in entry.ops {
            match op {
                Op::MachineAdd(new) if self.numbers.contains(&new.number) => {
                    self.read = Some(new.read);
                }
                Op::AccessSet(access) if self.numbers.contains(&access.number) => {
                    self.read = Some(access.read);
                }
                Op::MachineRemove { number, .. } if self.numbers.contains(&number) => {
                    self.read = None;
                }
                Op::Put(put) | Op::Rewrap(put)
                    if self.read.as_ref().is_some_and(|read| read.cover(&put.path)) =>
                {
                    self.seen.entry(put.path).or_default().insert(put.ver);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;
    use shared::keys::{Identity, SignKey};
    use shared::log::{Access, NewMachine, Put};
    use shared::text::Text;
    use shared::time::Time;
    use shared::token::MachineLine;

    use super::*;

    fn put(path: &str, ver: u64) -> Put {
        let (path, hash) = (path.parse().unwrap(), Hash::ZERO);
        Put { path, ver, blob: hash, size: 1, commit: hash, readers: hash }
    }

    fn grants(read: &str) -> Grants {
        Grants::parse(&[read]).unwrap()
    }

    fn line() -> MachineLine {
        let recipient = Identity::generate().recipient();
        MachineLine::new("vps".parse().unwrap(), recipient, &SignKey::generate()).unwrap()
    }

    fn add(number: Number, read: &str) -> Op {
        let (MachineLine { name, recipient, sign, proof }, read) = (line(), grants(read));
        let write = Grants::default();
        Op::MachineAdd(NewMachine { name, number, recipient, sign, proof, read, write })
    }

    fn rekey(number: Number, new_number: Number) -> Op {
        let MachineLine { recipient, sign, proof, .. } = line();
        Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof })
    }

    fn set(number: Number, read: &str) -> Op {
        let (was, read) = (Hash::ZERO, grants(read));
        Op::AccessSet(Access { number, was, read, write: Grants::default() })
    }

    /// Returns what the machine that bears `number` at last could read.
    fn seen_by(number: Number, ops: Vec<Op>) -> String {
        let (prev, time) = (Hash::ZERO, Time::default());
        let entry = Entry { seq: 1, prev, time, by: "admin:me".parse().unwrap(), ops };
        let mut keys = Keys::default();
        keys.step(&entry);
        let mut walk = Walk { numbers: keys.of(number), read: None, seen: BTreeMap::new() };
        walk.step(entry);
        let shown = walk.seen.iter().map(|(path, versions)| format!("{path} {versions:?}"));
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_was_encrypted_to_the_machine_while_it_was_granted_counts() {
        let remove = Op::MachineRemove { number: 1, reason: Text::default() };
        let before = Op::Put(put("secret/a/x", 1));
        for (ops, expected) in [
            (vec![before.clone(), add(1, "secret/a/")], ""),
            (
                vec![before.clone(), add(1, "secret/a/"), Op::Rewrap(put("secret/a/x", 1))],
                "secret/a/x {1}",
            ),
            (
                vec![
                    add(1, "secret/a/"),
                    Op::Put(put("secret/a/x", 2)),
                    Op::Put(put("secret/b/y", 1)),
                    set(1, "secret/b/"),
                    Op::Put(put("secret/a/x", 3)),
                    Op::Put(put("secret/b/y", 2)),
                    set(2, "*"),
                ],
                "secret/a/x {2}, secret/b/y {2}",
            ),
            (vec![add(1, "*"), before.clone(), remove], "secret/a/x {1}"),
        ] {
            assert_eq!(seen_by(1, ops), expected);
        }
    }

    #[test]
    fn a_machine_is_followed_through_new_names_and_keys_and_another_of_its_name_is_not() {
        let to = "web".parse().unwrap();
        let rename = Op::MachineRename { number: 1, to };
        let remove = Op::MachineRemove { number: 2, reason: Text::default() };
        let (first, second) = (Op::Put(put("secret/a/x", 1)), Op::Put(put("secret/a/x", 2)));
        let third = Op::Put(put("secret/a/x", 3));
        let ops = [add(1, "*"), first, rename, rekey(1, 2), second, remove, add(3, "*"), third];
        assert_eq!(seen_by(2, ops.to_vec()), "secret/a/x {1, 2}");
        assert_eq!(seen_by(3, ops.to_vec()), "secret/a/x {3}");
    }
}
