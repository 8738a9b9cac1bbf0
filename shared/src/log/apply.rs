//! `apply`: the same pure function on server and clients. No clock, network or disk; `time` never
//! decides acceptance; on an error the state is as before (design/trust, *apply*).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use crate::error::{Code, Error, Result};
use crate::hash::Hash;
use crate::limits;
use crate::name::Actor;
use crate::signed::{Envelope, Purpose};
use crate::time::Time;

use super::entry::{Entry, Op};
use super::genesis::Genesis;
use super::ops::Change;
use super::roster::Roster;
use super::state::{MountConfig, Resumed, State};
use super::undo::Undo;

/// What an accepted entry was and did.
#[derive(Debug)]
pub struct Applied {
    /// The entry.
    pub entry: Entry,
    /// Blobs that no version refers to any more.
    pub dropped: Vec<Hash>,
    /// Takes the entry back with [`State::revert`].
    pub undo: Undo,
}

/// Why an entry was refused, and at which of its operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the operation that no rule allows; `None` if it is the entry as a whole.
    pub op: Option<usize>,
    /// The rule.
    pub error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { op: None, error }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// Makes the state of a new vault from its genesis.
///
/// # Errors
/// `E_ACTOR` unless signed by `root`, `E_BADSIG`, `E_PARSE`, `E_LIMITS`, `E_KEY`.
pub fn start(envelope: &Envelope) -> Result<State> {
    envelope.check_size(limits::BODY, "body")?;
    if envelope.by != Actor::Root {
        return Err(Code::Actor.because(format!("genesis by `{}`", envelope.by)));
    }
    // The genesis brings its own key: whoever pins the vault id has pinned this very body.
    let genesis: Genesis = envelope.parse()?;
    envelope.verify(&genesis.root, Purpose::Genesis)?;
    genesis.check()?;
    let vault = envelope.hash(Purpose::Genesis);
    let mut used_keys = BTreeSet::from([*genesis.root.as_bytes(), *genesis.recovery.as_bytes()]);
    used_keys.extend(genesis.admins.values().map(|key| *key.as_bytes()));
    used_keys.extend(genesis.server.iter().map(|key| *key.as_bytes()));
    Ok(State {
        vault,
        name: genesis.name,
        created: genesis.time,
        seq: 0,
        head: vault,
        time: genesis.time,
        root: genesis.root,
        recovery: genesis.recovery,
        recovery_number: 1,
        admins: genesis.admins,
        server: genesis.server,
        mounts: genesis.mounts.into_iter().map(|mount| (mount, MountConfig::default())).collect(),
        addresses: Vec::new(),
        format: limits::FIRST_FORMAT,
        resumed: Vec::new(),
        machines: Roster::default(),
        secrets: BTreeMap::new(),
        checkpoint: None,
        forgotten: BTreeMap::new(),
        floors: BTreeMap::new(),
        used_keys,
        used_blobs: HashSet::new(),
    })
}

/// Applies one entry, or refuses it and leaves the state as it was.
///
/// # Errors
/// The first rule broken, in this order: `E_LIMITS`, `E_UNKNOWN_ACTOR`, `E_BADSIG`, `E_PARSE`,
/// `E_ACTOR`, `E_SEQ`, `E_PREV`, then per operation `E_DENIED`, `E_UPGRADE` and the
/// table's checks.
pub fn apply(state: &mut State, envelope: &Envelope) -> std::result::Result<Applied, Refused> {
    let entry = checked(state, envelope)?;
    let (mut undo, dropped) = run(state, &entry.by, entry.time, &entry.ops)?;
    let before = (state.seq, state.head, state.time);
    undo.push(move |state| (state.seq, state.head, state.time) = before);
    (state.seq, state.head) = (entry.seq, envelope.hash(Purpose::Entry(state.vault)));
    state.time = entry.time;
    if let Some(Op::Resume(from)) = entry.ops.first() {
        let (by, time) = (entry.by.clone(), entry.time);
        state.resumed.push(Resumed { seq: state.seq, from: *from, by, time, epoch: state.head });
        undo.push(|state| _ = state.resumed.pop());
    }
    Ok(Applied { entry, dropped, undo })
}

/// Returns an entry whose signature and place are right.
fn checked(state: &State, envelope: &Envelope) -> Result<Entry> {
    envelope.check_size(limits::BODY, "body")?;
    let purpose = Purpose::Entry(state.vault);
    let key = state
        .key(&envelope.by)
        .ok_or_else(|| Code::UnknownActor.because(format!("actor `{}`", envelope.by)))?;
    envelope.verify(key, purpose)?;
    let entry: Entry = envelope.parse()?;
    if entry.by != envelope.by {
        return Err(
            Code::Actor.because(format!("envelope of `{}` holds `{}`", envelope.by, entry.by))
        );
    }
    if entry.seq != state.seq + 1 {
        return Err(Code::Seq.because(format!("entry {} after {}", entry.seq, state.seq)));
    }
    if entry.prev != state.head {
        return Err(Code::Prev.because(format!("entry {} built on another head", entry.seq)));
    }
    Ok(entry)
}

/// Runs `ops` as `by` would, hands the state they lead to to `look`, and takes them back: for
/// writers, who must know the readers after their own operations.
pub fn attempt<T>(
    state: &mut State,
    by: &Actor,
    time: Time,
    ops: &[Op],
    look: impl FnOnce(&State) -> T,
) -> std::result::Result<T, Refused> {
    let (undo, _) = run(state, by, time, ops)?;
    let seen = look(state);
    state.revert(undo);
    Ok(seen)
}

/// Runs all of `ops`, or none.
fn run(
    state: &mut State,
    by: &Actor,
    time: Time,
    ops: &[Op],
) -> std::result::Result<(Undo, Vec<Hash>), Refused> {
    if ops.is_empty() || ops.len() > limits::OPS {
        return Err(Code::Limits.because(format!("{} operations in one entry", ops.len())).into());
    }
    let mut change = Change { state, by, time, undo: Undo::default(), dropped: Vec::new() };
    for (index, op) in ops.iter().enumerate() {
        if let Err(error) = change.run(index, op) {
            change.state.revert(change.undo);
            return Err(Refused { op: Some(index), error });
        }
    }
    Ok((change.undo, change.dropped))
}
