//! The check before signing: what the agent prepared must be exactly what the admin asked for,
//! plus re-encryptions. The admin key may live on a machine whose agent is not to be trusted with
//! more than its own rights, so nothing of a body is taken on faith.

use std::collections::HashSet;

use shared::hash::Hash;
use shared::limits;
use shared::log::{Entry, Op};
use shared::name::Actor;
use shared::signed::{Purpose, VaultId, pae, parse_strict};
use shared::time::Time;

/// How far a body's time may be from this process's clock: preparing a thousand re-encryptions
/// takes a while, misdating a record must not be possible.
const CLOCK_MICROS: u64 = 3_600_000_000;

/// What the admin asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The vault, from the admin key file.
    pub vault: VaultId,
    /// The signer.
    pub by: &'a Actor,
    /// The operations, in order.
    pub ops: &'a [Op],
    /// The current time.
    pub now: Time,
}

/// Why a prepared body is not signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unasked {
    #[error("the agent returned no entry to sign")]
    Nothing,
    #[error("entry {0} is not a well-formed entry: {1}")]
    Malformed(usize, String),
    #[error("entry {0} is to be signed by `{1}`")]
    Signer(usize, Actor),
    #[error("the entry lacks the operation asked for: {0}")]
    Lacks(&'static str),
    #[error("the entry has an operation that nobody asked for: {0}")]
    Extra(&'static str),
    #[error("`{0}` version {1} is to be re-encrypted twice")]
    Twice(String, u64),
    #[error("entry {0} does not follow the one before it")]
    Chain(usize),
    #[error("entry {0} is dated {1}")]
    Time(usize, Time),
    #[error("entry {0} has {1} operations")]
    Limits(usize, usize),
}

impl Unasked {
    /// Returns the way out, as one sentence without a full stop.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Time(..) => "nothing was signed; set the clock of this machine",
            Self::Nothing
            | Self::Malformed(..)
            | Self::Signer(..)
            | Self::Lacks(_)
            | Self::Extra(_)
            | Self::Twice(..)
            | Self::Chain(_)
            | Self::Limits(..) => {
                "nothing was signed; this agent does not do what it is told: check its program file"
            }
        }
    }
}

/// A body that says what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it says.
    pub entry: Entry,
    /// The very bytes.
    pub body: Vec<u8>,
}

impl Checked {
    /// Returns the re-encryptions.
    pub fn rewraps(&self) -> impl Iterator<Item = &shared::log::Put> {
        self.entry.ops.iter().filter_map(|op| match op {
            Op::Rewrap(put) => Some(put),
            _ => None,
        })
    }
}

/// Checks the bodies of one act: the operations asked for, in order, at the start of the first;
/// after them re-encryptions only, each version once; each body on the one before.
///
/// # Errors
/// The first thing that nobody asked for.
pub fn check(asked: &Asked<'_>, bodies: Vec<Vec<u8>>) -> Result<Vec<Checked>, Unasked> {
    let mut due = asked.ops.iter();
    let mut rewrapped = HashSet::new();
    let mut last: Option<(u64, Hash)> = None;
    let mut checked = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.into_iter().enumerate() {
        let at = index + 1;
        let entry = parse(asked, at, &body)?;
        if last.is_some_and(|(seq, head)| entry.seq != seq + 1 || entry.prev != head) {
            return Err(Unasked::Chain(at));
        }
        let wanted = due.len().min(entry.ops.len());
        for op in &entry.ops[..wanted] {
            match due.next() {
                Some(wanted) if wanted == op => {}
                Some(wanted) => return Err(Unasked::Lacks(wanted.name())),
                None => return Err(Unasked::Extra(op.name())),
            }
        }
        for op in &entry.ops[wanted..] {
            let Op::Rewrap(put) = op else { return Err(Unasked::Extra(op.name())) };
            if !rewrapped.insert((put.path.clone(), put.ver)) {
                return Err(Unasked::Twice(put.path.to_string(), put.ver));
            }
        }
        let head = Hash::of(&[&pae(Purpose::Entry(asked.vault), &body)]);
        last = Some((entry.seq, head));
        checked.push(Checked { entry, body });
    }
    match due.next() {
        Some(op) => Err(Unasked::Lacks(op.name())),
        None if checked.is_empty() => Err(Unasked::Nothing),
        None => Ok(checked),
    }
}

fn parse(asked: &Asked<'_>, at: usize, body: &[u8]) -> Result<Entry, Unasked> {
    if body.len() > limits::BODY {
        return Err(Unasked::Malformed(at, format!("{} bytes", body.len())));
    }
    let entry: Entry =
        parse_strict(body).map_err(|fault| Unasked::Malformed(at, fault.to_string()))?;
    if entry.by != *asked.by {
        return Err(Unasked::Signer(at, entry.by));
    }
    if entry.ops.is_empty() || entry.ops.len() > limits::OPS {
        return Err(Unasked::Limits(at, entry.ops.len()));
    }
    if entry.time.as_micros().abs_diff(asked.now.as_micros()) > CLOCK_MICROS {
        return Err(Unasked::Time(at, entry.time));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::log::{Access, Put};

    use super::*;

    const NOW: Time = Time::from_micros(1_700_000_000_000_000);

    fn access(read: &str) -> Op {
        let read = Grants::parse(&[read]).unwrap();
        Op::AccessSet(Access { name: "vps".parse().unwrap(), read, write: Grants::default() })
    }

    fn rewrap(path: &str, ver: u64) -> Op {
        let hash = Hash::of(&[path.as_bytes()]);
        let path = path.parse().unwrap();
        Op::Rewrap(Put { path, ver, blob: hash, size: 1, commit: hash, readers: hash })
    }

    fn entry(seq: u64, prev: Hash, ops: &[Op]) -> Entry {
        Entry { seq, prev, time: NOW, by: "admin:jonas".parse().unwrap(), ops: ops.to_vec() }
    }

    fn body(entry: &Entry) -> Vec<u8> {
        serde_json::to_vec(entry).unwrap()
    }

    fn vault() -> VaultId {
        Hash::of(&[b"vault"])
    }

    fn run(ops: &[Op], bodies: Vec<Vec<u8>>) -> Result<Vec<Checked>, Unasked> {
        let by = "admin:jonas".parse().unwrap();
        check(&Asked { vault: vault(), by: &by, ops, now: NOW }, bodies)
    }

    fn one(asked: &[Op], returned: &[Op]) -> Result<Vec<Checked>, Unasked> {
        run(asked, vec![body(&entry(5, Hash::ZERO, returned))])
    }

    #[test]
    fn the_operations_asked_for_and_rewraps_pass() {
        let asked = [access("secret/a/")];
        assert!(one(&asked, &asked).is_ok());
        let with = [access("secret/a/"), rewrap("secret/a/x", 3), rewrap("secret/a/y", 1)];
        let checked = one(&asked, &with).unwrap();
        assert_eq!(checked[0].rewraps().count(), 2);
    }

    #[test]
    fn anything_else_is_refused() {
        let asked = [access("secret/a/")];
        let more = Op::MachineRemove { name: "x".parse().unwrap(), reason: String::new() };
        let forget = Op::Forget { path: "secret/a/x".parse().unwrap() };
        let again = rewrap("secret/a/x", 3);
        for (returned, expected) in [
            (vec![access("*")], Unasked::Lacks("access_set")),
            (vec![rewrap("secret/a/x", 3)], Unasked::Lacks("access_set")),
            (vec![rewrap("secret/a/x", 3), access("secret/a/")], Unasked::Lacks("access_set")),
            (vec![access("secret/a/"), more], Unasked::Extra("machine_remove")),
            (vec![access("secret/a/"), access("*")], Unasked::Extra("access_set")),
            (vec![access("secret/a/"), forget], Unasked::Extra("forget")),
            (
                vec![access("secret/a/"), again.clone(), again],
                Unasked::Twice("secret/a/x".into(), 3),
            ),
            (vec![], Unasked::Limits(1, 0)),
        ] {
            assert_eq!(one(&asked, &returned).unwrap_err(), expected);
        }
        assert_eq!(run(&asked, vec![]).unwrap_err(), Unasked::Lacks("access_set"));
        assert_eq!(run(&[], vec![]).unwrap_err(), Unasked::Nothing);
    }

    #[test]
    fn another_signer_time_or_spelling_is_refused() {
        let asked = [access("*")];
        let mut other = entry(1, vault(), &asked);
        other.by = Actor::Root;
        assert_eq!(run(&asked, vec![body(&other)]).unwrap_err(), Unasked::Signer(1, Actor::Root));
        for time in [NOW.plus(CLOCK_MICROS + 1), Time::default()] {
            let mut other = entry(1, vault(), &asked);
            other.time = time;
            assert_eq!(run(&asked, vec![body(&other)]).unwrap_err(), Unasked::Time(1, time));
        }
        let mut spaced = body(&entry(1, vault(), &asked));
        spaced.push(b' ');
        assert!(matches!(run(&asked, vec![spaced]).unwrap_err(), Unasked::Malformed(1, _)));
    }

    #[test]
    fn later_entries_follow_and_hold_rewraps_only() {
        let asked = [access("*")];
        let first = body(&entry(5, Hash::ZERO, &asked));
        let head = Hash::of(&[&pae(Purpose::Entry(vault()), &first)]);
        let second = |seq, prev, op| body(&entry(seq, prev, &[op]));
        let good = second(6, head, rewrap("secret/a/x", 1));
        assert_eq!(run(&asked, vec![first.clone(), good]).unwrap().len(), 2);
        for (bad, expected) in [
            (second(7, head, rewrap("secret/a/x", 1)), Unasked::Chain(2)),
            (second(6, Hash::ZERO, rewrap("secret/a/x", 1)), Unasked::Chain(2)),
            (second(6, head, access("*")), Unasked::Extra("access_set")),
        ] {
            assert_eq!(run(&asked, vec![first.clone(), bad]).unwrap_err(), expected);
        }
    }
}
