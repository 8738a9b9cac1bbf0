//! New entries: one transaction applies, stores blobs and entry, records, and hands the entry to
//! everybody who follows (design/trust, *Server*, `POST /v1/log`).

use std::collections::{HashMap, HashSet, hash_map};
use std::sync::Arc;

use bytes::Bytes;
use shared::audit::{self, Fact};
use shared::blob::looks_like_age;
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::limits;
use shared::log::{Entry, MetaSet, MountSet, Op, Put, Refused, Rekey, State};
use shared::name::{Actor, Name};
use shared::path::demand_nfc;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::{AppendRequest, Frame};
use shared::wire::v1::shares::Share;

use crate::store::{Fault, Result, Transaction, access, blob, changes_members, log, report};

use super::checkpoint;
use super::code::CodeFile;
use super::follow::line;
use super::hub::{Hub, directory};
use super::restored;
use super::signers::Signers;
use super::{Caller, Outcome, Refusal, Vault, admitted, admitted_to_log, refuse, replaced, signer};

/// Most bytes of blobs that travel inside one line; a follower asks for the others.
const INLINE: u64 = 2 << 20;

/// What became of an entry.
#[derive(Debug)]
pub enum Append {
    /// It is in the log, and made this head.
    Done(SignedHead),
    /// It was built on an old head; this is the newest.
    Conflict(SignedHead),
}

/// Heads of before on which an owner's entry may have been built to get the next place.
const HEADS: u64 = 64;

impl Vault {
    /// Appends an entry. Its size and signature are checked before it queues, and so is the share
    /// of the machine that carries it, unless an owner signed it.
    pub async fn append(&self, caller: Caller, request: AppendRequest) -> Result<Append, Refusal> {
        let number = caller.number;
        let signers = self.0.hub.signers();
        let checked = signers.map_or(Ok(false), |known| known.check(&request.envelope));
        let by_owner = matches!(checked, Ok(true));
        if !by_owner {
            self.afford(&caller, &[Share::Log, Share::Blobs, Share::Audit])?;
        }
        let (hub, code) = (self.0.hub.clone(), self.0.code.clone());
        let meter = Arc::clone(&self.0.meter);
        let shared = Arc::new((caller, request, checked));
        let work = move |tx: &mut Transaction| {
            let (caller, request, checked) = &*shared;
            let mut caller = caller.clone();
            admitted_to_log(tx, &mut caller)?;
            if let Err(why) = checked {
                return not_applied(tx, &caller, &request.envelope, why.clone().into()).map(Ok);
            }
            if let Some(until) = meter.barred(number, by_owner) {
                return Ok(Err(until));
            }
            let done = append(tx, &hub, &code, &caller, request)?;
            if matches!(done, Append::Conflict(_)) && by_owner && is_recent(tx, &request.envelope)?
            {
                meter.keep_place(Hash::of(&[&request.envelope.body]), number);
            }
            Ok(Ok(done))
        };
        loop {
            let tried = if by_owner {
                self.call_for_owner(number, work.clone()).await?
            } else {
                self.call(number, work.clone()).await?
            };
            match tried {
                Ok(done) => return Ok(done),
                Err(until) => self.0.meter.passed(until).await,
            }
        }
    }
}

/// Tells whether an entry was built on one of the last heads.
fn is_recent(tx: &Transaction, envelope: &Envelope) -> Result<bool> {
    let entry = serde_json::from_slice::<Entry>(&envelope.body);
    let (Ok(Entry { seq, prev, .. }), Some(state)) = (entry, tx.state()) else { return Ok(false) };
    let recent = seq > 0 && seq <= state.seq() && seq + HEADS > state.seq();
    Ok(recent && log::at(tx.conn(), seq - 1)?.is_some_and(|before| before.hash == prev))
}

fn append(
    tx: &mut Transaction,
    hub: &Arc<Hub>,
    code: &Arc<CodeFile>,
    caller: &Caller,
    request: &AppendRequest,
) -> Outcome<Append> {
    let envelope = &request.envelope;
    if tx.restored().is_some() {
        if let Some(done) = known(tx, envelope)? {
            return Ok(done);
        }
        restored::admits(tx, request, refused_fact(caller, envelope, None))?;
    }
    let is_others = |name: &Name| caller.is_owner() || *name != caller.name;
    if matches!(&envelope.by, Actor::Machine(name) if is_others(name)) {
        // Signed before the machine was renamed, it may be in the log already, or merely late.
        let entry = serde_json::from_slice::<Entry>(&envelope.body);
        let late = entry.is_ok_and(|entry| tx.state().map(State::head) != Some(entry.prev));
        let code = if late { Code::Prev } else { Code::Actor };
        let why = code.because(format!("entry of `{}` from `{}`", envelope.by, caller.name));
        return not_applied(tx, caller, envelope, why.into());
    }
    let (entry, dropped) = match tx.apply(envelope).ok_or(Refusal::Stranger)? {
        Ok(applied) => applied,
        Err(why) => return not_applied(tx, caller, envelope, why),
    };
    restored::may_resume(tx, &entry, || refused_fact(caller, envelope, None))?;
    if let Err(why) = lists_own_key(tx, &entry) {
        tx.take_back();
        return refuse(tx, refused_fact(caller, envelope, why.op), why.error);
    }
    let gathered = match names_are_normal(&entry) {
        Ok(()) => gather(tx, &entry, &dropped, &request.blobs)?,
        Err(refused) => Err(refused),
    };
    let timely = super::clock::agrees(&entry, tx.now()).map_err(Refused::from);
    let brought = match timely.and(gathered) {
        Ok(brought) => brought,
        Err(why) => {
            tx.take_back();
            return refuse(tx, refused_fact(caller, envelope, why.op), why.error);
        }
    };
    if matches!(envelope.by, Actor::Machine(_)) {
        tx.charge(Share::Log, envelope.body.len() + entry.weight());
        let inline = brought.iter().filter_map(|brought| brought.inline);
        tx.charge(Share::Blobs, inline.map(|Inline(bytes)| bytes.len()).sum());
    } else {
        // What was parked for it has been charged already.
        let parked = brought.iter().filter(|brought| brought.inline.is_none());
        tx.give_back(Share::Blobs, parked.map(|brought| brought.put.size).sum());
        tx.bill(None);
    }
    if let Some(Op::Checkpoint(named)) = entry.ops.first() {
        checkpoint::keep_state(tx, envelope, *named)?;
    }
    let head = keep(tx, caller, envelope, &entry, &brought, &dropped)?;
    restored::resumed(tx, code, &entry)?;
    publish(tx, hub, envelope, &entry, head, &brought, Some(caller))?;
    // Once: the same entry sent again makes no line.
    let (by, machine) = (envelope.by.clone(), caller.name.clone());
    tx.after_commit(move || tracing::info!(seq = head.seq, %by, %machine, "entry appended"));
    Ok(Append::Done(head))
}

/// Refuses a list of server keys without the one that this server runs with: no machine would reach
/// it any more. The server's own policy, no rule of the log.
fn lists_own_key(tx: &Transaction, entry: &Entry) -> Result<(), Refused> {
    let at = entry.ops.iter().rposition(|op| matches!(op, Op::ServerSet { .. }));
    let own = tx.own_key();
    let is_listed = tx.state().is_some_and(|state| state.server().contains(&own));
    match at {
        Some(index) if !is_listed => {
            let why = format!("the list lacks {own}, with which this server runs");
            Err(Refused { op: Some(index), error: Code::Key.because(why) })
        }
        Some(_) | None => Ok(()),
    }
}

/// Demands Unicode's normal form of the names that an entry writes to: the server's own policy, no
/// rule of the log.
fn names_are_normal(entry: &Entry) -> Result<(), Refused> {
    for (index, op) in entry.ops.iter().enumerate() {
        let name = match op {
            Op::Put(Put { path, .. }) | Op::MetaSet(MetaSet { path, .. }) => path.as_str(),
            Op::MountSet(MountSet { mount, .. }) => mount.as_str(),
            _ => continue,
        };
        demand_nfc(name).map_err(|error| Refused { op: Some(index), error })?;
    }
    Ok(())
}

/// Tells the very same bytes sent again, a lost race, and a refusal apart. The same bytes make no
/// record, but are taken of the caller's share, whoever signed them.
fn not_applied(
    tx: &mut Transaction,
    caller: &Caller,
    envelope: &Envelope,
    why: Refused,
) -> Outcome<Append> {
    if let Some(done) = known(tx, envelope)? {
        return Ok(done);
    }
    let fact = refused_fact(caller, envelope, why.op);
    match (why.error.code, tx.head()) {
        (Code::Seq | Code::Prev, Some(head)) => {
            tx.record(Fact { result: audit::Outcome::Conflict, ..fact })?;
            Ok(Append::Conflict(head))
        }
        _ => refuse(tx, fact, why.error),
    }
}

/// Answers the very same bytes sent again as it did before; they are on record already.
fn known(tx: &Transaction, envelope: &Envelope) -> Result<Option<Append>> {
    let Some((seq, hash)) = stored(tx, envelope)? else { return Ok(None) };
    tx.charge(Share::Log, envelope.body.len());
    Ok(Some(Append::Done(tx.sign(seq, hash)?)))
}

/// Returns where the very same bytes stand in the log, and their hash, if they do.
pub(super) fn stored(tx: &Transaction, envelope: &Envelope) -> Result<Option<(u64, Hash)>> {
    let Ok(claimed) = serde_json::from_slice::<Entry>(&envelope.body) else { return Ok(None) };
    let known = if claimed.seq > 0 { log::at(tx.conn(), claimed.seq)? } else { None };
    let known = known.filter(|known| known.envelope == *envelope);
    Ok(known.map(|known| (known.seq, known.hash)))
}

/// Tells of a refused entry: of the operation that the refusal is about, else the first.
pub(super) fn refused_fact(caller: &Caller, envelope: &Envelope, op: Option<usize>) -> Fact {
    let entry = serde_json::from_slice::<Entry>(&envelope.body).ok();
    let about = entry.as_ref().and_then(|entry| entry.ops.get(op.unwrap_or(0)));
    fact(caller, envelope, about)
}

/// Starts the record of an entry, or of one of its operations; names who signed, unless it was the
/// calling machine itself.
fn fact(caller: &Caller, envelope: &Envelope, op: Option<&Op>) -> Fact {
    let own =
        matches!(&envelope.by, Actor::Machine(name) if *name == caller.name) && !caller.is_owner();
    Fact {
        who: (!own).then(|| signer(&envelope.by)),
        path: op.and_then(Op::path).cloned(),
        ver: op.and_then(version),
        ..caller.fact(op.map_or(audit::Op::Append, Into::into))
    }
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
) -> Result<Result<Vec<Brought<'a>>, Refused>> {
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

/// Writes an entry that was applied, its blobs, and an audit record for each operation; returns the
/// head that it made.
pub(super) fn keep(
    tx: &mut Transaction,
    caller: &Caller,
    envelope: &Envelope,
    entry: &Entry,
    brought: &[Brought<'_>],
    dropped: &[Hash],
) -> Result<SignedHead> {
    let Entry { seq, ops, .. } = entry;
    let (conn, now) = (tx.conn(), tx.now());
    let state = tx.state().ok_or(Fault::Absent)?;
    let newest = state.seq() == *seq;
    let hash = if newest { state.head() } else { envelope.hash(Purpose::Entry(state.vault())) };
    log::insert(conn, *seq, &hash, envelope)?;
    for Brought { put, inline } in brought {
        let readers = replaced::readers(tx.state(), put);
        let place = blob::Place { seq: *seq, put, readers: readers.as_deref() };
        match inline {
            Some(Inline(bytes)) => {
                blob::insert(conn, &put.blob, Some(place), caller.number, now, bytes)?;
            }
            None => blob::place(conn, place)?,
        }
    }
    replaced::retire(tx, ops, dropped)?;
    for op in ops {
        if let Op::MachineRemove { number, .. } | Op::MachineRekey(Rekey { number, .. }) = op {
            report::forget(tx.conn(), *number)?;
            access::forget(tx.conn(), *number)?;
        }
        tx.record(Fact { seq: Some(*seq), ..fact(caller, envelope, Some(op)) })?;
    }
    tx.sign_newest(*seq, hash)
}

/// Makes the entry and its head known once they are on disk: to followers, with the blobs each may
/// read, which are recorded in this very transaction; and to connections, when machines came or
/// went. The machine that wrote the blobs has them. Readers of a blob come first: among thousands
/// of followers they would wait for those that nothing changes for.
pub(super) fn publish(
    tx: &mut Transaction,
    hub: &Arc<Hub>,
    envelope: &Envelope,
    entry: &Entry,
    head: SignedHead,
    brought: &[Brought<'_>],
    writer: Option<&Caller>,
) -> Result<()> {
    let seq = entry.seq;
    // Lines by the blobs they carry: alike followers share the bytes.
    let mut lines: HashMap<Vec<Hash>, Bytes> = HashMap::new();
    let (mut first, mut then) = (Vec::new(), Vec::new());
    for mut due in hub.due() {
        let own = writer.is_some_and(|writer| writer.key == due.caller.key);
        let others: &[Brought<'_>] = if own { &[] } else { brought };
        let Some(readable) = readable(tx, &mut due.caller, others) else { continue };
        for Brought { put, .. } in &readable {
            let (path, ver) = (Some(put.path.clone()), Some(put.ver));
            let fact = due.caller.fact(audit::Op::Deliver);
            tx.record(Fact { path, ver, seq: Some(seq), ..fact })?;
        }
        let deliveries = if readable.is_empty() { &mut then } else { &mut first };
        let key = readable.iter().map(|brought| brought.put.blob).collect();
        let bytes = match lines.entry(key) {
            hash_map::Entry::Occupied(line) => line.get().clone(),
            hash_map::Entry::Vacant(line) => {
                line.insert(carrying(tx, envelope, head, &readable)?).clone()
            }
        };
        deliveries.push((due, bytes));
    }
    tx.after_commit(move || {
        for (due, bytes) in first.into_iter().chain(then) {
            due.send(seq, bytes);
        }
    });
    if entry.ops.iter().any(changes_members) {
        admit(tx, hub);
    }
    Ok(())
}

/// Has connections know the machines and signers of the present state, once it is on disk.
pub(super) fn admit(tx: &mut Transaction, hub: &Arc<Hub>) {
    let (hub, machines) = (Arc::clone(hub), directory(tx.state()));
    let signers = tx.state().map(Signers::of);
    tx.after_commit(move || hub.admit(machines, signers));
}

/// Returns those of the blobs that a follower may read and gets inline; `None` if it is no machine
/// any more.
fn readable<'b>(
    tx: &Transaction,
    follower: &mut Caller,
    brought: &'b [Brought<'b>],
) -> Option<Vec<&'b Brought<'b>>> {
    let (_, machine) = admitted(tx, follower).ok()?;
    let mut room = INLINE;
    let fitting = brought.iter().filter(|Brought { put, .. }| {
        let fits = machine.read.cover(&put.path) && put.size <= room;
        room -= if fits { put.size } else { 0 };
        fits
    });
    Some(fitting.collect())
}

/// Writes the lines of an entry that carries these blobs and of the head that it made.
fn carrying(
    tx: &Transaction,
    envelope: &Envelope,
    head: SignedHead,
    blobs: &[&Brought<'_>],
) -> Result<Bytes> {
    let mut inline = Vec::with_capacity(blobs.len());
    for Brought { put, inline: sent } in blobs {
        match sent {
            Some(bytes) => inline.push((*bytes).clone()),
            None => inline.extend(blob::bytes(tx.conn(), &put.blob)?.map(Inline)),
        }
    }
    let entry = line(&Frame::Entry { envelope: envelope.clone(), blobs: inline })?;
    Ok([entry, line(&Frame::Head(head))?].concat().into())
}
