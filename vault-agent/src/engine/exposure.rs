//! What a machine could read: everything that the log says was encrypted to it. Re-encryption does
//! not undo that.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use shared::grant::Grants;
use shared::log::{Entry, Op};
use shared::name::Name;
use shared::path::SecretPath;
use shared::signed::parse_strict;

use super::parts::Parts;
use crate::state;
use machine::local::{Exposed, Exposure};

/// Walks the log from its beginning; its entries were verified when they came.
pub(super) async fn of(parts: &Parts, name: Name) -> Result<Exposure> {
    let walked = parts.store.read(move |conn| {
        let mut walk = Walk { name, read: None, seen: BTreeMap::new() };
        let replayed = state::log::replay(conn, 0, |_, envelope| {
            walk.step(parse_strict(&envelope.body)?);
            Ok(())
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

struct Walk {
    name: Name,
    /// What it reads, while it is active.
    read: Option<Grants>,
    seen: BTreeMap<SecretPath, BTreeSet<u64>>,
}

impl Walk {
    fn step(&mut self, entry: Entry) {
        for op in entry.ops {
            match op {
                Op::MachineAdd(new) if new.name == self.name => {
                    // Another machine that had the name before had other keys.
                    (self.read, self.seen) = (Some(new.read), BTreeMap::new());
                }
                Op::AccessSet(access) if access.name == self.name => self.read = Some(access.read),
                Op::MachineRemove { name, .. } if name == self.name => self.read = None,
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
    use shared::time::Time;

    use super::*;

    fn put(path: &str, ver: u64) -> Put {
        let (path, hash) = (path.parse().unwrap(), Hash::ZERO);
        Put { path, ver, blob: hash, size: 1, commit: hash, readers: hash }
    }

    fn grants(read: &str) -> Grants {
        Grants::parse(&[read]).unwrap()
    }

    fn add(name: &str, read: &str) -> Op {
        Op::MachineAdd(NewMachine {
            name: name.parse().unwrap(),
            recipient: Identity::generate().recipient(),
            sign: SignKey::generate().verify_key(),
            read: grants(read),
            write: Grants::default(),
        })
    }

    fn set(name: &str, read: &str) -> Op {
        let (name, read) = (name.parse().unwrap(), grants(read));
        Op::AccessSet(Access { name, read, write: Grants::default() })
    }

    fn seen(ops: Vec<Op>) -> String {
        let mut walk = Walk { name: "vps".parse().unwrap(), read: None, seen: BTreeMap::new() };
        let (prev, time) = (Hash::ZERO, Time::default());
        walk.step(Entry { seq: 1, prev, time, by: "admin:me".parse().unwrap(), ops });
        let shown = walk.seen.iter().map(|(path, versions)| format!("{path} {versions:?}"));
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_was_encrypted_to_the_machine_while_it_was_granted_counts() {
        let remove = Op::MachineRemove { name: "vps".parse().unwrap(), reason: String::new() };
        let before = Op::Put(put("secret/a/x", 1));
        for (ops, expected) in [
            (vec![before.clone(), add("vps", "secret/a/")], ""),
            (
                vec![before.clone(), add("vps", "secret/a/"), Op::Rewrap(put("secret/a/x", 1))],
                "secret/a/x {1}",
            ),
            (
                vec![
                    add("vps", "secret/a/"),
                    Op::Put(put("secret/a/x", 2)),
                    Op::Put(put("secret/b/y", 1)),
                    set("vps", "secret/b/"),
                    Op::Put(put("secret/a/x", 3)),
                    Op::Put(put("secret/b/y", 2)),
                    set("nas", "*"),
                ],
                "secret/a/x {2}, secret/b/y {2}",
            ),
            (vec![add("vps", "*"), before.clone(), remove.clone()], "secret/a/x {1}"),
            (vec![add("vps", "*"), before.clone(), remove, add("vps", "*")], ""),
        ] {
            assert_eq!(seen(ops), expected);
        }
    }
}
