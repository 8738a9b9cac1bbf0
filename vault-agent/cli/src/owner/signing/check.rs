//! The check before signing: what the agent prepared must be exactly what the admin asked for,
//! plus re-encryptions. The admin key may live on a machine whose agent is not to be trusted with
//! more than its own rights, so nothing of a body is taken on faith.

use std::collections::HashSet;
use std::fmt::Display;

use shared::hash::Hash;
use shared::limits;
use shared::log::{Entry, Op};
use shared::name::Actor;
use shared::signed::{Purpose, VaultId, pae, parse_strict};
use shared::time::Time;

use host::hint::Failure;

/// How far a body's time may be from this process's clock: preparing a thousand re-encryptions
/// takes a while, misdating a record must not be possible.
const CLOCK_MICROS: u64 = 3_600_000_000;

/// A body that says what was asked for, and its very bytes.
#[derive(Debug)]
pub struct Checked {
    pub entry: Entry,
    pub body: Vec<u8>,
}

/// Checks the bodies of one act: the operations asked for, in order, at the start of the first;
/// after them re-encryptions only, each version once; each body on the one before.
///
/// # Errors
/// The first thing that nobody asked for.
pub fn check(
    vault: VaultId,
    by: &Actor,
    ops: &[Op],
    now: Time,
    bodies: Vec<Vec<u8>>,
) -> Result<Vec<Checked>, Failure> {
    let mut due = ops.iter();
    let mut rewrapped = HashSet::new();
    let mut last: Option<(u64, Hash)> = None;
    let mut checked = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.into_iter().enumerate() {
        let at = index + 1;
        let entry = parse(by, now, at, &body)?;
        if last.is_some_and(|(seq, head)| entry.seq != seq + 1 || entry.prev != head) {
            return Err(unasked(format!("entry {at} does not follow the one before it")));
        }
        let wanted = due.len().min(entry.ops.len());
        for op in &entry.ops[..wanted] {
            match due.next() {
                Some(wanted) if wanted == op => {}
                Some(wanted) => return Err(lacks(wanted)),
                None => return Err(extra(op)),
            }
        }
        for op in &entry.ops[wanted..] {
            let Op::Rewrap(put) = op else { return Err(extra(op)) };
            if !rewrapped.insert((put.path.clone(), put.ver)) {
                let (path, ver) = (&put.path, put.ver);
                return Err(unasked(format!("`{path}` version {ver} is to be re-encrypted twice")));
            }
        }
        let head = Hash::of(&[&pae(Purpose::Entry(vault), &body)]);
        last = Some((entry.seq, head));
        checked.push(Checked { entry, body });
    }
    match due.next() {
        Some(op) => Err(lacks(op)),
        None if checked.is_empty() => Err(unasked("the agent returned no entry to sign")),
        None => Ok(checked),
    }
}

fn parse(by: &Actor, now: Time, at: usize, body: &[u8]) -> Result<Entry, Failure> {
    let malformed = |why| unasked(format!("entry {at} is not a well-formed entry: {why}"));
    if body.len() > limits::BODY {
        return Err(malformed(format!("{} bytes", body.len())));
    }
    let entry: Entry = parse_strict(body).map_err(|fault| malformed(fault.to_string()))?;
    if entry.by != *by {
        return Err(unasked(format!("entry {at} is to be signed by `{}`", entry.by)));
    }
    if entry.ops.is_empty() || entry.ops.len() > limits::OPS {
        return Err(unasked(format!("entry {at} has {} operations", entry.ops.len())));
    }
    if entry.time.as_micros().abs_diff(now.as_micros()) > CLOCK_MICROS {
        return Err(unasked(format!("entry {at} is dated {}", entry.time))
            .hint("nothing was signed; set the clock of this machine"));
    }
    Ok(entry)
}

fn lacks(op: &Op) -> Failure {
    unasked(format!("the entry lacks the operation asked for: {}", op.name()))
}

fn extra(op: &Op) -> Failure {
    unasked(format!("the entry has an operation that nobody asked for: {}", op.name()))
}

fn unasked(why: impl Display) -> Failure {
    Failure::local(format!("the agent did not prepare what was asked for: {why}"))
        .hint("nothing was signed; this agent does not do what it is told: check its program file")
}

#[cfg(test)]
mod tests {
    use shared::grant::Grants;
    use shared::log::{Access, Put};
    use shared::text::Text;

    use super::*;

    const NOW: Time = Time::from_micros(1_700_000_000_000_000);

    fn access(read: &str) -> Op {
        let read = Grants::parse(&[read]).unwrap();
        Op::AccessSet(Access { number: 1, was: Hash::ZERO, read, write: Grants::default() })
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

    /// Checks bodies; a refusal is told without what all of them begin with.
    fn run(ops: &[Op], bodies: Vec<Vec<u8>>) -> Result<Vec<Checked>, String> {
        let checked = check(vault(), &"admin:jonas".parse().unwrap(), ops, NOW, bodies);
        let start = "the agent did not prepare what was asked for: ";
        checked.map_err(|fault| fault.text.strip_prefix(start).unwrap().to_owned())
    }

    fn one(asked: &[Op], returned: &[Op]) -> Result<Vec<Checked>, String> {
        run(asked, vec![body(&entry(5, Hash::ZERO, returned))])
    }

    #[test]
    fn the_operations_asked_for_and_rewraps_pass() {
        let asked = [access("secret/a/")];
        assert!(one(&asked, &asked).is_ok());
        let with = [access("secret/a/"), rewrap("secret/a/x", 3), rewrap("secret/a/y", 1)];
        assert_eq!(one(&asked, &with).unwrap()[0].entry.ops, with);
    }

    #[test]
    fn anything_else_is_refused() {
        let asked = [access("secret/a/")];
        let more = Op::MachineRemove { number: 1, reason: Text::default() };
        let forget = Op::Forget { path: "secret/a/x".parse().unwrap() };
        let again = rewrap("secret/a/x", 3);
        let (lacks, extra) = (
            "the entry lacks the operation asked for: access_set",
            "the entry has an operation that nobody asked for: ",
        );
        for (returned, expected) in [
            (vec![access("*")], lacks.to_owned()),
            (vec![rewrap("secret/a/x", 3)], lacks.to_owned()),
            (vec![rewrap("secret/a/x", 3), access("secret/a/")], lacks.to_owned()),
            (vec![access("secret/a/"), more], format!("{extra}machine_remove")),
            (vec![access("secret/a/"), access("*")], format!("{extra}access_set")),
            (vec![access("secret/a/"), forget], format!("{extra}forget")),
            (
                vec![access("secret/a/"), again.clone(), again],
                "`secret/a/x` version 3 is to be re-encrypted twice".to_owned(),
            ),
            (vec![], "entry 1 has 0 operations".to_owned()),
        ] {
            assert_eq!(one(&asked, &returned).unwrap_err(), expected);
        }
        assert_eq!(run(&asked, vec![]).unwrap_err(), lacks);
        assert_eq!(run(&[], vec![]).unwrap_err(), "the agent returned no entry to sign");
    }

    #[test]
    fn another_signer_time_or_spelling_is_refused() {
        let asked = [access("*")];
        let mut other = entry(1, vault(), &asked);
        other.by = Actor::Root;
        let signed = run(&asked, vec![body(&other)]).unwrap_err();
        assert_eq!(signed, "entry 1 is to be signed by `root`");
        for time in [NOW.plus(CLOCK_MICROS + 1), Time::default()] {
            let mut other = entry(1, vault(), &asked);
            other.time = time;
            let dated = run(&asked, vec![body(&other)]).unwrap_err();
            assert_eq!(dated, format!("entry 1 is dated {time}"));
        }
        let mut spaced = body(&entry(1, vault(), &asked));
        spaced.push(b' ');
        let malformed = run(&asked, vec![spaced]).unwrap_err();
        assert!(malformed.starts_with("entry 1 is not a well-formed entry: "), "{malformed}");
    }

    #[test]
    fn later_entries_follow_and_hold_rewraps_only() {
        let asked = [access("*")];
        let first = body(&entry(5, Hash::ZERO, &asked));
        let head = Hash::of(&[&pae(Purpose::Entry(vault()), &first)]);
        let second = |seq, prev, op| body(&entry(seq, prev, &[op]));
        let good = second(6, head, rewrap("secret/a/x", 1));
        assert_eq!(run(&asked, vec![first.clone(), good]).unwrap().len(), 2);
        let chain = "entry 2 does not follow the one before it";
        for (bad, expected) in [
            (second(7, head, rewrap("secret/a/x", 1)), chain),
            (second(6, Hash::ZERO, rewrap("secret/a/x", 1)), chain),
            (
                second(6, head, access("*")),
                "the entry has an operation that nobody asked for: access_set",
            ),
        ] {
            assert_eq!(run(&asked, vec![first.clone(), bad]).unwrap_err(), expected);
        }
    }
}
