//! New entries: one transaction applies, stores blobs and entry, records, and hands the entry to
//! everybody who follows (design/trust, *Server*, `POST /v1/log`).

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use shared::blob::looks_like_age;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::limits;
use shared::log::{Entry, Op, Put};
use shared::name::Actor;
use shared::signed::Envelope;
use shared::wire::v1::blob::Inline;
use shared::wire::v1::error::Conflict;
use shared::wire::v1::log::{AppendRequest, Appended, Frame};

use crate::store::{Desk, access, blob, log, report};
use crate::watch::{Due, Line};

use super::{Caller, Outcome, Outlets, Refusal, Vault, admitted, directory, refuse};

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
        let done = self.call(move |desk| append(desk, &outlets, &caller, &request)).await;
        if let Ok(Append::Done(done)) = &done {
            tracing::info!(seq = done.seq, %by, %machine, "entry appended");
        }
        done
    }
}

fn append(
    desk: &mut Desk,
    outlets: &Outlets,
    caller: &Caller,
    request: &AppendRequest,
) -> Outcome<Append> {
    if let Err(refusal) = admitted(desk, caller) {
        return Ok(Err(refusal));
    }
    let envelope = &request.envelope;
    if matches!(&envelope.by, Actor::Machine(name) if *name != caller.name) {
        let why = Code::Actor.because(format!("entry of `{}` from `{}`", envelope.by, caller.name));
        return refuse(desk, refused_row(caller, envelope, &why), why);
    }
    let (entry, dropped) = match desk.apply(envelope) {
        None => return Ok(Err(Refusal::Stranger)),
        Some(Err(why)) => return not_applied(desk, caller, envelope, why),
        Some(Ok(applied)) => applied,
    };
    match gather(desk, &entry, &dropped, &request.blobs)? {
        Err(why) => {
            desk.take_back();
            refuse(desk, refused_row(caller, envelope, &why), why)
        }
        Ok(brought) => {
            let done = keep(desk, caller, envelope, &entry, &brought, &dropped)?;
            publish(desk, outlets, envelope, &entry, &brought)?;
            Ok(Ok(Append::Done(done)))
        }
    }
}

/// Tells the very same bytes sent again, a lost race, and a refusal apart.
fn not_applied(
    desk: &mut Desk,
    caller: &Caller,
    envelope: &Envelope,
    why: Error,
) -> Outcome<Append> {
    if let Some(done) = stored(desk, envelope)? {
        let mut row = caller.row("append");
        row.who = signer(caller, envelope);
        row.seq = Some(done.seq);
        desk.record(row)?;
        return Ok(Ok(Append::Done(done)));
    }
    let mut row = refused_row(caller, envelope, &why);
    match (why.code, desk.state()) {
        (Code::Seq | Code::Prev, Some(state)) => {
            let conflict = Conflict { seq: state.seq(), head: state.head() };
            "conflict".clone_into(&mut row.result);
            desk.record(row)?;
            Ok(Ok(Append::Conflict(conflict)))
        }
        _ => refuse(desk, row, why),
    }
}

/// Returns where the very same bytes stand in the log, if they do.
pub(super) fn stored(desk: &Desk, envelope: &Envelope) -> rusqlite::Result<Option<Appended>> {
    let Ok(claimed) = serde_json::from_slice::<Entry>(&envelope.body) else { return Ok(None) };
    let known = if claimed.seq > 0 { log::at(desk.conn(), claimed.seq)? } else { None };
    let known = known.filter(|known| known.envelope == *envelope);
    Ok(known.map(|known| Appended { seq: known.seq, head: known.hash }))
}

/// Makes the audit record of a refused entry: the operation the refusal is about, else the first.
pub(super) fn refused_row(
    caller: &Caller,
    envelope: &Envelope,
    why: &Error,
) -> crate::store::audit::Row {
    let entry = serde_json::from_slice::<Entry>(&envelope.body).ok();
    let about = entry.as_ref().and_then(|entry| {
        let named =
            |op: &&Op| op.path().is_some_and(|path| why.detail.contains(&format!("`{path}`")));
        entry.ops.iter().find(named).or(entry.ops.first())
    });
    let mut row = caller.row(about.map_or("append", Op::name));
    row.who = signer(caller, envelope);
    row.path = about.and_then(Op::path).map(ToString::to_string);
    row.ver = about.and_then(version);
    row
}

/// Returns who signed, unless it was the calling machine itself.
fn signer(caller: &Caller, envelope: &Envelope) -> Option<String> {
    let own = matches!(&envelope.by, Actor::Machine(name) if *name == caller.name);
    (!own).then(|| envelope.by.to_string())
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
    desk: &Desk,
    entry: &'a Entry,
    dropped: &[Hash],
    blobs: &'a [Inline],
) -> rusqlite::Result<Result<Vec<Brought<'a>>, Error>> {
    let mut inline: HashMap<Hash, &Inline> =
        blobs.iter().map(|blob| (Hash::of(&[&blob.0]), blob)).collect();
    let dropped: HashSet<&Hash> = dropped.iter().collect();
    let mut brought = Vec::new();
    for put in entry.ops.iter().filter_map(put_of) {
        let bytes = inline.remove(&put.blob);
        if dropped.contains(&put.blob) {
            continue;
        }
        let fault = |code: Code| {
            Ok(Err(code.because(format!(
                "blob {} of version {} of `{}`",
                put.blob.short(),
                put.ver,
                put.path
            ))))
        };
        let size = match bytes {
            Some(bytes) if bytes.0.len() > limits::BLOB => return fault(Code::Limits),
            Some(bytes) if !looks_like_age(&bytes.0) => return fault(Code::BlobOpen),
            Some(bytes) => bytes.0.len() as u64,
            None => match blob::look(desk.conn(), &put.blob)? {
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
        return Ok(Err(Code::BlobHash.because(why)));
    }
    Ok(Ok(brought))
}

/// Writes the entry, its blobs and its audit records.
pub(super) fn keep(
    desk: &mut Desk,
    caller: &Caller,
    envelope: &Envelope,
    entry: &Entry,
    brought: &[Brought<'_>],
    dropped: &[Hash],
) -> rusqlite::Result<Appended> {
    let done = insert_entry(desk, envelope, entry)?;
    let conn = desk.conn();
    for Brought { put, inline } in brought {
        match inline {
            Some(bytes) => {
                let machine = caller.name.as_str();
                blob::insert(conn, entry.seq, put, machine, desk.now(), &bytes.0)?;
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
    record_ops(desk, caller, envelope, entry)?;
    Ok(done)
}

/// Writes an entry that was just applied.
pub(super) fn insert_entry(
    desk: &Desk,
    envelope: &Envelope,
    entry: &Entry,
) -> rusqlite::Result<Appended> {
    let head = desk.state().map_or(Hash::ZERO, shared::log::State::head);
    log::insert(desk.conn(), entry.seq, &head, envelope)?;
    Ok(Appended { seq: entry.seq, head })
}

/// Writes one audit record for every operation of an entry.
pub(super) fn record_ops(
    desk: &mut Desk,
    caller: &Caller,
    envelope: &Envelope,
    entry: &Entry,
) -> rusqlite::Result<()> {
    for op in &entry.ops {
        let mut row = caller.row(op.name());
        row.who = signer(caller, envelope);
        row.path = op.path().map(ToString::to_string);
        row.ver = version(op);
        row.seq = Some(entry.seq);
        desk.record(row)?;
    }
    Ok(())
}

/// Makes the entry known once it is on disk: to followers, with the blobs each may read, which are
/// recorded in this very transaction; and to connections, when machines came or went.
pub(super) fn publish(
    desk: &mut Desk,
    outlets: &Outlets,
    envelope: &Envelope,
    entry: &Entry,
    brought: &[Brought<'_>],
) -> rusqlite::Result<()> {
    let mut lines = Lines { envelope, brought, made: HashMap::new() };
    let mut deliveries = Vec::new();
    for due in outlets.hub.due() {
        let Some(readable) = readable(desk, &due, brought) else { continue };
        for at in &readable {
            let Brought { put, .. } = &brought[*at];
            let mut row = crate::store::audit::Row {
                machine: Some(due.name.to_string()),
                addr: Some(due.addr.clone()),
                op: "deliver".to_owned(),
                result: shared::audit::OK.to_owned(),
                ..Default::default()
            };
            row.path = Some(put.path.to_string());
            row.ver = Some(put.ver);
            row.seq = Some(entry.seq);
            desk.record(row)?;
        }
        deliveries.push((due, lines.with(desk, readable)?));
    }
    let seq = entry.seq;
    desk.after_commit(move || {
        for (due, bytes) in deliveries {
            due.send(Line { seq, bytes });
        }
    });
    announce_machines(desk, outlets, entry);
    Ok(())
}

/// Returns which of the blobs a follower may read and gets inline; `None` if it is no machine any
/// more.
fn readable(desk: &Desk, due: &Due, brought: &[Brought<'_>]) -> Option<Vec<usize>> {
    let machine = desk.state()?.machine(&due.name)?;
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
    fn with(&mut self, desk: &Desk, blobs: Vec<usize>) -> rusqlite::Result<Bytes> {
        if let Some(line) = self.made.get(&blobs) {
            return Ok(line.clone());
        }
        let mut inline = Vec::with_capacity(blobs.len());
        for at in &blobs {
            let Brought { put, inline: sent } = &self.brought[*at];
            match sent {
                Some(bytes) => inline.push((*bytes).clone()),
                None => inline.extend(blob::bytes(desk.conn(), &put.blob)?.map(Inline)),
            }
        }
        let frame = Frame::Entry { envelope: self.envelope.clone(), blobs: inline };
        let line = super::follow::line(&frame)?;
        self.made.insert(blobs, line.clone());
        Ok(line)
    }
}

/// Lets new machines in and ends the streams of removed ones, once the entry is on disk.
fn announce_machines(desk: &mut Desk, outlets: &Outlets, entry: &Entry) {
    let touched = |op: &Op| matches!(op, Op::MachineAdd(_) | Op::MachineRemove { .. });
    if !entry.ops.iter().any(touched) {
        return;
    }
    let machines = directory(desk.state());
    let outlets = outlets.clone();
    desk.after_commit(move || {
        outlets.hub.keep(|name, key| machines.get(key) == Some(name));
        outlets.directory.send_replace(machines);
    });
}
