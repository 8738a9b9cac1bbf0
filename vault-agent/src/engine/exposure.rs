//! What a machine could read: everything that the log says was encrypted to it, which re-encryption
//! does not undo; and which keys of that hold other values since.

pub(super) mod blast;
mod elsewhere;
mod keys;
mod lives;
pub(super) mod past;
mod reached;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use host::store::checkpoint;
use shared::error::Code;
use shared::grant::Grants;
use shared::log::{Entry, Number, Op, State};
use shared::path::SecretPath;
use shared::signed::parse_strict;
use shared::time::Time;

use self::keys::{Judged, Opened, judge};
use self::lives::{Life, Lives};
use super::parts::Parts;
use super::read::{self, Reach};
use super::rights::may_read;
use super::types::ReadError;
use crate::state;
use machine::local::{Borne, Exposed, Exposure};

/// Walks the log from its beginning, whose entries were verified when they came, and opens what
/// this machine reads of what the other one could: named by a name that it bore, or by its number.
pub(super) async fn of(parts: &Arc<Parts>, asked: String) -> Result<Exposure> {
    let missing = format!("machine `{asked}`");
    let walked = parts.store.read(move |conn| Ok(walk(conn, &asked)));
    let Some((life, namesakes, seen)) = walked.await?? else {
        return Err(Code::Missing.because(missing).into());
    };
    let mut secrets = Vec::with_capacity(seen.len());
    for (path, versions) in seen {
        secrets.push(exposed(parts, path, &versions).await?);
    }
    let all = secrets.iter_mut().map(|(secret, keys)| (&secret.path, keys)).collect();
    let unsearched = elsewhere::find(parts, all).await?;
    let told = secrets.into_iter().map(|(secret, keys)| Exposed {
        keys: keys.into_iter().map(|judged| judged.key).collect(),
        ..secret
    });
    let (secrets, number) = (told.collect(), life.number());
    let Life { names, removed, .. } = life;
    let begins = parts.ledger.read().begins();
    Ok(Exposure { number, names, removed, namesakes, secrets, unsearched, begins })
}

/// Returns each name that a machine bore, which is named by one of them, or by its number.
pub(super) async fn names(parts: &Parts, asked: String) -> Result<Vec<Borne>> {
    let missing = format!("machine `{asked}`");
    let walked = parts.store.read(|conn| {
        let begin = checkpoint::start(conn);
        Ok(begin.and_then(|begin| lives(conn, begin.as_ref())))
    });
    let lives = walked.await??;
    let life = lives.find(&asked).ok_or_else(|| Code::Missing.because(missing))?;
    Ok(life.names.clone())
}

/// Walks what owners have signed, as machines sign no entry that changes who is who.
fn lives(conn: &rusqlite::Connection, begin: Option<&State>) -> Result<Lives> {
    let mut lives = begin.map(Lives::of).unwrap_or_default();
    let upto = state::log::head(conn)?.map_or(0, |(seq, _)| seq);
    state::log::by_owners(conn, begin.map_or(0, State::seq), upto, |_, envelope| {
        lives.step(&parse_strict(&envelope.body)?);
        Ok(())
    })?;
    Ok(lives)
}

type Seen = BTreeMap<SecretPath, BTreeSet<u64>>;

fn walk(conn: &rusqlite::Connection, asked: &str) -> Result<Option<(Life, Vec<Number>, Seen)>> {
    let begin = checkpoint::start(conn)?;
    let lives = lives(conn, begin.as_ref())?;
    let Some(life) = lives.find(asked) else { return Ok(None) };
    let mut walk = Walk { numbers: life.numbers.clone(), read: None, seen: Seen::new() };
    begin.iter().for_each(|state| walk.begin(state));
    state::log::replay(conn, begin.as_ref().map_or(0, State::seq), |_, envelope| {
        walk.step(parse_strict(&envelope.body)?);
        Ok(())
    })?;
    Ok(Some((life.clone(), lives.namesakes(asked, life), walk.seen)))
}

/// Tells what has become of a secret that was encrypted to the machine, and of its keys.
async fn exposed(
    parts: &Arc<Parts>,
    path: SecretPath,
    versions: &BTreeSet<u64>,
) -> Result<(Exposed, Vec<Judged>)> {
    let Found { may_read, issuer, newest, kept } = find(parts, &path, versions);
    let is_deleted = newest.is_none();
    let (mut opened, mut unread) = (Vec::new(), None);
    if !is_deleted && !may_read {
        unread = Some("this machine may not read it".to_owned());
    }
    for (ver, time) in kept.into_iter().filter(|_| may_read) {
        match read::content(parts, &path, Some(ver), Reach::Server).await {
            Ok(content) => opened.push(Opened::new(&content, time)),
            Err(ReadError::Local(fault)) => return Err(fault).context("reading the own database"),
            // The newest says what holds today; the others have one that speaks for them.
            Err(fault) if newest == Some(ver) => unread = Some(fault.to_string()),
            Err(_) => {}
        }
    }
    let keys = match &unread {
        None => judge(&opened, versions, is_deleted),
        Some(_) => Vec::new(),
    };
    let empty = keys.is_empty() && unread.is_none() && !is_deleted;
    let versions = versions.iter().copied().collect();
    Ok((Exposed { path, versions, issuer, unread, keys: Vec::new(), empty }, keys))
}

/// What the state says of a secret.
struct Found {
    may_read: bool,
    issuer: Option<String>,
    /// The newest version, unless it is deleted.
    newest: Option<u64>,
    /// The live versions from the first on that the machine could read, and when each was written.
    kept: Vec<(u64, Time)>,
}

fn find(parts: &Parts, path: &SecretPath, versions: &BTreeSet<u64>) -> Found {
    let (folded, now) = (parts.ledger.read(), parts.time_for_ages());
    let may_read = may_read(&folded.state, &parts.own, path);
    let Some(secret) = folded.state.secret(path) else {
        return Found { may_read, issuer: None, newest: None, kept: Vec::new() };
    };
    let first = versions.first().copied().unwrap_or_default();
    let live = secret.versions().filter(|(ver, one)| *ver >= first && one.is_live(now));
    let newest = secret.current().filter(|(_, one)| one.is_live(now)).map(|(ver, _)| ver);
    Found {
        may_read,
        issuer: secret.custom.texts().remove("issuer"),
        newest,
        kept: live.map(|(ver, one)| (ver, one.created)).collect(),
    }
}

struct Walk {
    numbers: Vec<Number>,
    /// What it reads, while it is active.
    read: Option<Grants>,
    seen: Seen,
}

impl Walk {
    /// Begins with a state: what is kept there, is as old, and it was granted counts as encrypted
    /// to it.
    fn begin(&mut self, state: &State) {
        for number in &self.numbers {
            let Some(machine) = state.machines().get(number) else { continue };
            if machine.active {
                self.read = Some(machine.read.clone());
            }
            for (path, secret) in state.secrets() {
                let kept = secret.versions().map(|(ver, version)| (ver, version.entry));
                // Its first version stands for those that are not kept: a key may be as old.
                let first = (secret.base + 1, secret.entry);
                let dropped = secret.first().is_some_and(|oldest| oldest > first.0);
                let all = kept.chain(dropped.then_some(first));
                let had = all.filter(|(_, entry)| machine.might_read(path, *entry));
                let had: BTreeSet<u64> = had.map(|(ver, _)| ver).collect();
                if !had.is_empty() {
                    self.seen.entry(path.clone()).or_default().extend(had);
                }
            }
        }
    }

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
    use shared::log::{Access, NewMachine, Put, Rekey};
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
        let mut lives = Lives::default();
        lives.step(&entry);
        let numbers = lives.find(&number.to_string()).map(|life| life.numbers.clone());
        let numbers = numbers.unwrap_or_default();
        let mut walk = Walk { numbers, read: None, seen: Seen::new() };
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
        for number in [1, 2] {
            assert_eq!(seen_by(number, ops.to_vec()), "secret/a/x {1, 2}");
        }
        assert_eq!(seen_by(3, ops.to_vec()), "secret/a/x {3}");
    }

    #[test]
    fn a_machine_is_found_by_every_name_that_it_bore() {
        let rename = |number, to: &str| Op::MachineRename { number, to: to.parse().unwrap() };
        let remove = |number| Op::MachineRemove { number, reason: Text::lossy("stolen") };
        let (add, prev) = (|number| add(number, "*"), Hash::ZERO);
        // One host that became `web`, one that was removed as `vps`, one that is `vps` now.
        let ops = [add(1), rename(1, "web"), add(2), remove(2), add(3), rekey(3, 4)].to_vec();
        let (by, time) = ("admin:me".parse().unwrap(), Time::from_micros(7));
        let entry = Entry { seq: 9, prev, time, by, ops };
        let mut lives = Lives::default();
        lives.step(&entry);
        let number = |asked: &str| lives.find(asked).map(Life::number);
        for (asked, expected) in
            [("web", Some(1)), ("vps", Some(4)), ("3", Some(4)), ("2", Some(2)), ("nas", None)]
        {
            assert_eq!(number(asked), expected, "{asked}");
        }
        let (vps, lost) = (lives.find("vps").unwrap(), lives.find("2").unwrap());
        assert_eq!(lives.namesakes("vps", vps), [1, 2]);
        assert_eq!(vps.removed, None);
        let removed = lost.removed.clone().unwrap();
        assert_eq!((removed.entry, removed.reason.as_str()), (9, "stolen"));
        lives.step(&Entry { ops: vec![rename(4, "pi"), remove(1)], ..entry });
        for (asked, expected) in [("vps", Some(2)), ("web", Some(1)), ("pi", Some(4))] {
            assert_eq!(lives.find(asked).map(Life::number), expected, "{asked}");
        }
    }
}
