//! New entries: one transaction applies, stores blobs and entry, records, and hands the entry to
//! everybody who follows (design/trust, *Server*, `POST /v1/log`).

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use shared::audit::{self, Fact, Who};
use shared::blob::looks_like_age;
use shared::error::Code;
use shared::hash::Hash;
use shared::limits;
use shared::log::{Entry, MetaSet, MountSet, Op, Put, Refused};
use shared::name::Actor;
use shared::path::demand_nfc;
use shared::signed::Envelope;
use shared::wire::v1::blob::Inline;
use shared::wire::v1::error::Conflict;
use shared::wire::v1::log::{AppendRequest, Appended, Frame};

use crate::store::{Transaction, access, blob, log, report};
use crate::watch::{Due, Line};

use super::{Caller, Outcome, Outlets, Refusal, Vault, admitted, directory, refuse, signer};

/// Most bytes of blobs that travel inside one line; a follower asks for the others.
const INLINE: usize = 4 << 20;

/// What became of an entry.
#[derive(Debug)]
pub enum Append {
    /// It is in the log.
    Done(Appended),
    /// It was built on an old head.
    Conflict(Conflict),
}

impl Vault {
    /// Appends an entry.
    ///
    /// # Errors
    /// [`Refusal`] by a rule, or for want of a right or of the database.
    pub async fn append(&self, caller: &Caller, request: AppendRequest) -> Result<Append, Refusal> {
        let (outlets, caller) = (self.0.outlets.clone(), caller.clone());
        let (by, machine) = (request.envelope.by.clone(), caller.name.clone());
        let done = self.call(move |tx| append(tx, &outlets, &caller, &request)).await;
        if let Ok(Append::Done(done)) = &done {
            tracing::info!(seq = done.seq, %by, %machine, "entry appended");
        }
        done
    }
}

fn append(
    tx: &mut Transaction,
    outlets: &Outlets,
    caller: &Caller,
    request: &AppendRequest,
) -> Outcome<Append> {
    if let Err(refusal) = admitted(tx, caller) {
        return Ok(Err(refusal));
    }
    let envelope = &request.envelope;
    if matches!(&envelope.by, Actor::Machine(name) if *name != caller.name) {
        let why = Code::Actor.because(format!("entry of `{}` from `{}`", envelope.by, caller.name));
        return refuse(tx, refused_fact(caller, envelope, None), why);
    }
    let (entry, dropped) = match tx.apply(envelope) {
        None => return Ok(Err(Refusal::Stranger)),
        Some(Err(why)) => return not_applied(tx, caller, envelope, why),
        Some(Ok(applied)) => applied,
    };
    let gathered = match names_are_normal(&entry) {
        Err(refused) => Err(refused),
        Ok(()) => gather(tx, &entry, &dropped, &request.blobs)?,
    };
    match gathered {
        Err(why) => {
            tx.take_back();
            refuse(tx, refused_fact(caller, envelope, why.op), why.error)
        }
        Ok(brought) => {
            let done = keep(tx, caller, envelope, &entry, &brought, &dropped)?;
            publish(tx, outlets, envelope, &entry, &brought, Some(caller))?;
            Ok(Ok(Append::Done(done)))
        }
    }
}

/// Demands Unicode's normal form of the names that an entry writes to: the server's own policy, no
/// rule of the log.
fn names_are_normal(entry: &Entry) -> Result<(), Refused> {
    for (index, op) in entry.ops.iter().enumerate() {
        let normal = match op {
            Op::Put(Put { path, .. }) | Op::MetaSet(MetaSet { path, .. }) => {
                demand_nfc(path.as_str())
            }
            Op::MountSet(MountSet { mount, .. }) => demand_nfc(mount.as_str()),
            _ => Ok(()),
        };
        normal.map_err(|error| Refused { op: Some(index), error })?;
    }
    Ok(())
}

/// Tells the very same bytes sent again, a lost race, and a refusal apart.
fn not_applied(
    tx: &mut Transaction,
    caller: &Caller,
    envelope: &Envelope,
    why: Refused,
) -> Outcome<Append> {
    if let Some(done) = stored(tx, envelope)? {
        let who = other_signer(caller, envelope);
        let known = Fact { who, seq: Some(done.seq), ..caller.fact(audit::Op::Append) };
        tx.record(known)?;
        return Ok(Ok(Append::Done(done)));
    }
    let fact = refused_fact(caller, envelope, why.op);
    match (why.error.code, tx.state()) {
        (Code::Seq | Code::Prev, Some(state)) => {
            let conflict = Conflict { seq: state.seq(), head: state.head() };
            tx.record(Fact { result: audit::Outcome::Conflict, ..fact })?;
            Ok(Ok(Append::Conflict(conflict)))
        }
        _ => refuse(tx, fact, why.error),
    }
}

/// Returns where the very same bytes stand in the log, if they do.
pub(super) fn stored(tx: &Transaction, envelope: &Envelope) -> rusqlite::Result<Option<Appended>> {
    let Ok(claimed) = serde_json::from_slice::<Entry>(&envelope.body) else { return Ok(None) };
    let known = if claimed.seq > 0 { log::at(tx.conn(), claimed.seq)? } else { None };
    let known = known.filter(|known| known.envelope == *envelope);
    Ok(known.map(|known| Appended { seq: known.seq, head: known.hash }))
}

/// Tells of a refused entry: of the operation that the refusal is about, else the first.
pub(super) fn refused_fact(caller: &Caller, envelope: &Envelope, op: Option<usize>) -> Fact {
    let entry = serde_json::from_slice::<Entry>(&envelope.body).ok();
    let about = entry.as_ref().and_then(|entry| entry.ops.get(op.unwrap_or(0)));
    let who = other_signer(caller, envelope);
    match about {
        Some(op) => Fact { who, ..done(caller, op) },
        None => Fact { who, ..caller.fact(audit::Op::Append) },
    }
}

/// Tells that an operation of the log was done.
fn done(caller: &Caller, op: &Op) -> Fact {
    Fact { path: op.path().cloned(), ver: version(op), ..caller.fact(op.into()) }
}

/// Returns who signed, unless it was the calling machine itself.
fn other_signer(caller: &Caller, envelope: &Envelope) -> Option<Who> {
    let own = matches!(&envelope.by, Actor::Machine(name) if *name == caller.name);
    (!own).then(|| signer(&envelope.by))
}

pub(super) fn put_of(op: &Op) -> Option<&Put> {
    match op {
        Op::Put(put) | Op::Rewrap(put) => Some(put),
        _ => None,
    }
}

fn version(op: &Op) -> Option<u64> {
    match op {
        Op::Delete(at) | Op::Undelete(at) | Op::Destroy(at) => at.versions.first().copied(),
        _ => put_of(op).map(|put| put.ver),
    }
}

/// A blob that an entry brings.
pub(super) struct Brought<'a> {
    /// The version that it is of.
    pub(super) put: &'a Put,
    /// Its bytes, unless it was parked before.
    pub(super) inline: Option<&'a Inline>,
}

/// Finds the bytes of every blob that the entry brings and does not drop itself.
fn gather<'a>(
    tx: &Transaction,
    entry: &'a Entry,
    dropped: &[Hash],
    blobs: &'a [Inline],
) -> rusqlite::Result<Result<Vec<Brought<'a>>, Refused>> {
    let mut inline: HashMap<Hash, &Inline> =
        blobs.iter().map(|blob| (Hash::of(&[&blob.0]), blob)).collect();
    let dropped: HashSet<&Hash> = dropped.iter().collect();
    let mut brought = Vec::new();
    for (index, op) in entry.ops.iter().enumerate() {
        let Some(put) = put_of(op) else { continue };
        let bytes = inline.remove(&put.blob);
        if dropped.contains(&put.blob) {
            continue;
        }
        let fault = |code: Code| {
            let Put { blob, ver, path, .. } = put;
            let why = format!("blob {} of version {ver} of `{path}`", blob.short());
            Ok(Err(Refused { op: Some(index), error: code.because(why) }))
        };
        let size = match bytes {
            Some(bytes) if bytes.0.len() > limits::BLOB => return fault(Code::Limits),
            Some(bytes) if !looks_like_age(&bytes.0) => return fault(Code::BlobOpen),
            Some(bytes) => bytes.0.len() as u64,
            None => match blob::look(tx.conn(), &put.blob)? {
                Some(known) if known.place.is_none() => known.size,
                Some(_) | None => return fault(Code::BlobAbsent),
            },
        };
        if size != put.size {
            return fault(Code::BlobSize);
        }
        brought.push(Brought { put, inline: bytes });
    }
    if let Some(extra) = inline.keys().next() {
        let why = format!("blob {} was sent, but the entry does not bring it", extra.short());
        return Ok(Err(Code::BlobHash.because(why).into()));
    }
    Ok(Ok(brought))
}

/// Writes the entry, its blobs and its audit records.
pub(super) fn keep(
    tx: &mut Transaction,
    caller: &Caller,
    envelope: &Envelope,
    entry: &Entry,
    brought: &[Brought<'_>],
    dropped: &[Hash],
) -> rusqlite::Result<Appended> {
    let done = insert_entry(tx, envelope, entry)?;
    let conn = tx.conn();
    for Brought { put, inline } in brought {
        match inline {
            Some(bytes) => {
                let machine = caller.name.as_str();
                blob::insert(conn, entry.seq, put, machine, tx.now(), &bytes.0)?;
            }
            None => blob::place(conn, entry.seq, put)?,
        }
    }
    for id in dropped {
        blob::delete(conn, id)?;
    }
    for op in &entry.ops {
        if let Op::MachineRemove { name, .. } = op {
            report::forget(conn, name)?;
            access::forget(conn, name)?;
        }
    }
    record_ops(tx, caller, envelope, entry)?;
    Ok(done)
}

/// Writes an entry that was just applied.
pub(super) fn insert_entry(
    tx: &Transaction,
    envelope: &Envelope,
    entry: &Entry,
) -> rusqlite::Result<Appended> {
    let head = tx.state().map_or(Hash::ZERO, shared::log::State::head);
    log::insert(tx.conn(), entry.seq, &head, envelope)?;
    Ok(Appended { seq: entry.seq, head })
}

/// Writes one audit record for every operation of an entry.
pub(super) fn record_ops(
    tx: &mut Transaction,
    caller: &Caller,
    envelope: &Envelope,
    entry: &Entry,
) -> rusqlite::Result<()> {
    for op in &entry.ops {
        let who = other_signer(caller, envelope);
        tx.record(Fact { who, seq: Some(entry.seq), ..done(caller, op) })?;
    }
    Ok(())
}

/// Makes the entry known once it is on disk: to followers, with the blobs each may read, which are
/// recorded in this very transaction; and to connections, when machines came or went. The machine
/// that wrote the blobs has them.
pub(super) fn publish(
    tx: &mut Transaction,
    outlets: &Outlets,
    envelope: &Envelope,
    entry: &Entry,
    brought: &[Brought<'_>],
    writer: Option<&Caller>,
) -> rusqlite::Result<()> {
    let mut lines = Lines { envelope, brought, made: HashMap::new() };
    let mut deliveries = Vec::new();
    for due in outlets.hub.due() {
        let own = writer.is_some_and(|writer| writer.key == due.key);
        let others: &[Brought<'_>] = if own { &[] } else { brought };
        let Some(readable) = readable(tx, &due, others) else { continue };
        for at in &readable {
            let Brought { put, .. } = &brought[*at];
            tx.record(Fact {
                machine: Some(due.name.clone()),
                addr: Some(due.addr.clone()),
                path: Some(put.path.clone()),
                ver: Some(put.ver),
                seq: Some(entry.seq),
                ..Fact::new(audit::Op::Deliver)
            })?;
        }
        deliveries.push((due, lines.with(tx, readable)?));
    }
    let seq = entry.seq;
    tx.after_commit(move || {
        for (due, bytes) in deliveries {
            due.send(Line { seq, bytes });
        }
    });
    announce_machines(tx, outlets, entry);
    Ok(())
}

/// Returns which of the blobs a follower may read and gets inline; `None` if it is no machine any
/// more.
fn readable(tx: &Transaction, due: &Due, brought: &[Brought<'_>]) -> Option<Vec<usize>> {
    let machine = tx.state()?.machine(&due.name)?;
    if *machine.sign.as_bytes() != due.key {
        return None;
    }
    let mut room = INLINE as u64;
    let mut readable = Vec::new();
    for (at, Brought { put, .. }) in brought.iter().enumerate() {
        if machine.read.cover(&put.path) && put.size <= room {
            room -= put.size;
            readable.push(at);
        }
    }
    Some(readable)
}

/// Lines of one entry by the blobs they carry: alike followers share the bytes.
struct Lines<'a> {
    envelope: &'a Envelope,
    brought: &'a [Brought<'a>],
    made: HashMap<Vec<usize>, Bytes>,
}

impl Lines<'_> {
    fn with(&mut self, tx: &Transaction, blobs: Vec<usize>) -> rusqlite::Result<Bytes> {
        if let Some(line) = self.made.get(&blobs) {
            return Ok(line.clone());
        }
        let mut inline = Vec::with_capacity(blobs.len());
        for at in &blobs {
            let Brought { put, inline: sent } = &self.brought[*at];
            match sent {
                Some(bytes) => inline.push((*bytes).clone()),
                None => inline.extend(blob::bytes(tx.conn(), &put.blob)?.map(Inline)),
            }
        }
        let frame = Frame::Entry { envelope: self.envelope.clone(), blobs: inline };
        let line = super::follow::line(&frame)?;
        self.made.insert(blobs, line.clone());
        Ok(line)
    }
}

/// Lets new machines in and ends the streams of removed ones, once the entry is on disk.
fn announce_machines(tx: &mut Transaction, outlets: &Outlets, entry: &Entry) {
    let touched = |op: &Op| matches!(op, Op::MachineAdd(_) | Op::MachineRemove { .. });
    if !entry.ops.iter().any(touched) {
        return;
    }
    let machines = directory(tx.state());
    let outlets = outlets.clone();
    tx.after_commit(move || {
        outlets.hub.keep(|name, key| machines.get(key) == Some(name));
        outlets.directory.send_replace(machines);
    });
}
