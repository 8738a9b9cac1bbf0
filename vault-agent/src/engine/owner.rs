//! Owner acts: the operations, the re-encryptions that they make necessary, the bytes to sign;
//! and submitting them once they are signed. Admin keys never come here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use shared::blob::{self, Blob, Place, Sealed};
use shared::error::Code;
use shared::hash::Hash;
use shared::keys::{Recipient, Signature};
use shared::limits;
use shared::log::{self, Entry, Op, Put, State};
use shared::name::Actor;
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;

use super::blob::Due;
use super::folded::Folded;
use super::offload;
use super::parts::Parts;
use super::read::{self, Reach};
use super::rights::may_read;
use super::send::{self, INLINE, Outgoing, Sent};
use super::timing;
use super::types::{Own, WriteError};
use crate::state::blobs;
use host::clock;
use machine::local::{Inline, PrepareRequest, Prepared, Submitted, Unreadable};

/// Blobs of one entry together: below what the server parks for a machine.
const ENTRY_BLOBS: u64 = 24 << 20;
/// What an entry's other fields take of its body, at most.
const FRAME: usize = 512;
/// Versions that are in memory for re-encrypting at once.
const STEP: usize = 16;
/// Re-encryptions without an act that are prepared at once, about: however many there are, what is
/// prepared fits into an answer, and each time some are done.
const ROUND: usize = if cfg!(test) { 100 } else { 500 };
/// Re-encryptions that a removal waits for, at most: whoever goes is out before more than these.
const FEW: usize = 250;

/// A live version whose readers change.
struct Stale {
    path: SecretPath,
    ver: u64,
    readers: Hash,
    recipients: Vec<Recipient>,
}

/// What stands before a prepared entry.
struct Ground {
    by: Actor,
    time: Time,
    seq: u64,
    head: Hash,
}

/// Adds the re-encryptions that `ops` make necessary and builds the entries to sign: none, without
/// operations, where no re-encryption is due. Those that do not fit into one request are left for
/// later: whoever is shut out wins no time by what it has written, nor by writing on meanwhile, and
/// the server needs to take nothing but the act. Without an act some are prepared, and more are
/// left.
pub(super) async fn prepare(parts: &Parts, request: PrepareRequest) -> Result<Prepared> {
    let PrepareRequest { ops, actor, history } = request;
    if ops.len() > limits::OPS {
        bail!("{} operations in one act, {} at most", ops.len(), limits::OPS);
    }
    let Survey { ground, stale, mut unreadable, behind } = parts
        .ledger
        .attempt(|folded| survey(folded, &parts.own, (actor, clock::now()), &ops, history))?;
    parts.store.write(|conn| blobs::unstage_all(conn)).await?;
    if history {
        // What is re-encrypted needs to be kept no longer.
        let due: HashSet<Hash> = stale.iter().map(|(due, _)| due.blob).collect();
        given(parts).retain(|blob, _| due.contains(blob));
    }
    let size = stale.iter().map(|(due, _)| due.size).sum::<u64>();
    let most = if ops.is_empty() {
        ROUND
    } else if size > INLINE as u64 || (is_removal(&ops) && stale.len() > FEW) {
        0
    } else {
        usize::MAX
    };
    let due = stale.len() as u64;
    let (rewraps, left) = rewrap(parts, stale, most, &mut unreadable).await?;
    let mut all = ops;
    all.extend(rewraps.into_iter().map(Op::Rewrap));
    Ok(Prepared { bodies: entries(parts, ground, all)?, unreadable, left, due, behind })
}

fn given(parts: &Parts) -> MutexGuard<'_, HashMap<Hash, Blob>> {
    parts.given.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_removal(ops: &[Op]) -> bool {
    ops.iter().any(|op| matches!(op, Op::MachineRemove { .. }))
}

/// What an act leaves to be done.
struct Survey {
    ground: Ground,
    stale: Vec<(Due, Stale)>,
    unreadable: Vec<Unreadable>,
    /// Earlier versions that stay with keys which the act replaces.
    behind: u64,
}

/// Tries `ops` on the state and lists what they leave stale: what this machine can read, and what
/// it cannot; with `history` of earlier versions, too.
fn survey(
    folded: &mut Folded,
    own: &Own,
    (by, time): (Actor, Time),
    ops: &[Op],
    history: bool,
) -> Result<Survey> {
    if folded.state.key(&by).is_none() {
        // Told before anybody types a passphrase.
        return Err(Code::UnknownActor.because(format!("`{by}` is none of this vault's")).into());
    }
    let time = timing::of_entry(time, folded.state.time());
    let is_rekey = ops.iter().any(|op| matches!(op, Op::MachineRekey(_)));
    let old = |state: &State| if is_rekey && !history { state.stale_before().count() } else { 0 };
    let before = old(&folded.state);
    let look = |state: &State| (stale(state, history), old(state));
    let (stale, after) = if ops.is_empty() {
        look(&folded.state)
    } else {
        log::attempt(&mut folded.state, &by, time, ops, look).map_err(|refused| refused.error)?
    };
    let ground = Ground { by, time, seq: folded.state.seq(), head: folded.state.head() };
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for stale in stale {
        let secret = folded.state.secret(&stale.path);
        match secret.and_then(|secret| secret.version(stale.ver)) {
            Some(version) if may_read(&folded.state, own, &stale.path) => {
                readable.push((folded.due(&stale.path, stale.ver, version), stale));
            }
            Some(_) => unreadable.push(Unreadable { path: stale.path, ver: stale.ver }),
            None => {}
        }
    }
    let behind = after.saturating_sub(before) as u64;
    Ok(Survey { ground, stale: readable, unreadable, behind })
}

fn stale(state: &State, history: bool) -> Vec<Stale> {
    let stale = |(path, ver): (&SecretPath, u64)| Stale {
        path: path.clone(),
        ver,
        readers: log::readers_hash(state, path),
        recipients: log::recipients(state, path),
    };
    // The newest first: they are in use.
    let mut all: Vec<Stale> = state.stale().map(stale).collect();
    if history {
        all.extend(state.stale_before().map(stale));
    }
    all
}

/// Re-encrypts and stages, some versions at a time, until there are `most` or, where that is a
/// bound, what the server parks; tells whether any are left. Adds what could not be read to `lost`:
/// that holds up no other.
async fn rewrap(
    parts: &Parts,
    stale: Vec<(Due, Stale)>,
    most: usize,
    lost: &mut Vec<Unreadable>,
) -> Result<(Vec<Put>, bool)> {
    let (mut puts, mut size) = (Vec::new(), 0);
    let mut waiting = stale.into_iter().peekable();
    while waiting.peek().is_some() {
        if puts.len() >= most || (most < usize::MAX && size >= ENTRY_BLOBS) {
            return Ok((puts, true));
        }
        let mut step = Vec::with_capacity(STEP);
        for (due, stale) in waiting.by_ref().take(STEP) {
            if let Some(blob) = given(parts).get(&due.blob).cloned() {
                step.push((due.given(&blob), stale, blob));
                continue;
            }
            match read::ciphertext(parts, &due, Reach::Server).await {
                Ok((blob, _)) => step.push((due, stale, blob)),
                Err(fault) => {
                    tracing::warn!(path = %due.path, ver = due.ver, %fault, "not re-encrypted");
                    lost.push(Unreadable { path: due.path, ver: due.ver });
                }
            }
        }
        let own = Arc::clone(&parts.own);
        let resealed = offload::shared(step, move |part| {
            part.into_iter().map(|task| reseal(&own, task)).collect::<Vec<_>>()
        });
        let resealed = resealed.await.context("re-encrypting was interrupted")?;
        let mut blobs = Vec::with_capacity(STEP);
        for result in resealed.into_iter().flatten() {
            match result {
                Ok((put, blob)) => {
                    size += put.size;
                    puts.push(put);
                    blobs.push(blob);
                }
                Err(unreadable) => lost.push(unreadable),
            }
        }
        let staged = parts.store.write(move |conn| {
            blobs.iter().try_for_each(|blob| blobs::stage(conn, blob.id, &blob.bytes))
        });
        staged.await?;
    }
    Ok((puts, false))
}

fn reseal(own: &Own, (due, stale, blob): (Due, Stale, Blob)) -> Result<(Put, Sealed), Unreadable> {
    let Stale { path, ver, readers, recipients } = stale;
    let place = Place { vault: &own.pins.vault, path: &path, ver };
    let opened = due.open(&own.keys, &blob);
    match opened.and_then(|opened| blob::reseal(place, &opened, &recipients)) {
        Ok(sealed) => {
            let (size, commit) = (sealed.bytes.len() as u64, sealed.commit);
            Ok((Put { path, ver, blob: sealed.id, size, commit, readers }, sealed))
        }
        Err(error) => {
            tracing::warn!(%error, "not re-encrypted");
            Err(Unreadable { path, ver })
        }
    }
}

/// Lays the operations out in as many entries as the limits ask for, each built on the last.
fn entries(parts: &Parts, ground: Ground, ops: Vec<Op>) -> Result<Vec<Inline>> {
    let Ground { by, time, mut seq, mut head } = ground;
    let mut entries = Vec::new();
    let mut ops = ops.into_iter().peekable();
    while ops.peek().is_some() {
        let (mut part, mut size, mut bytes) = (Vec::new(), FRAME, 0);
        while let Some(op) = ops.peek() {
            size += serde_json::to_vec(op).context("writing an operation as JSON")?.len() + 1;
            bytes += if let Op::Put(put) | Op::Rewrap(put) = op { put.size } else { 0 };
            let full = part.len() == limits::OPS || size > limits::BODY || bytes > ENTRY_BLOBS;
            if full && !part.is_empty() {
                break;
            }
            part.extend(ops.next());
        }
        let entry = Entry { seq: seq + 1, prev: head, time, by: by.clone(), ops: part };
        let body = serde_json::to_vec(&entry).context("writing an entry as JSON")?;
        let unsigned = Envelope { by: by.clone(), body, sig: Signature::from_bytes([0; 64]) };
        head = unsigned.hash(Purpose::Entry(parts.own.pins.vault));
        seq = entry.seq;
        entries.push(Inline(unsigned.body));
    }
    Ok(entries)
}

/// Sends an entry that an owner has signed, with the blobs staged for it. Called by the writer.
pub(super) async fn append(
    parts: &Arc<Parts>,
    envelope: Envelope,
) -> Result<Submitted, WriteError> {
    let entry: Entry = envelope.parse().map_err(WriteError::Refused)?;
    {
        let folded = parts.ledger.read();
        if (entry.seq, entry.prev) != (folded.state.seq() + 1, folded.state.head()) {
            return Err(WriteError::Moved);
        }
        let key = folded.state.key(&envelope.by).ok_or(WriteError::Denied)?;
        let purpose = Purpose::Entry(parts.own.pins.vault);
        envelope.verify(key, purpose).map_err(WriteError::Refused)?;
    }
    let puts = entry.ops.iter().filter_map(|op| match op {
        Op::Put(put) | Op::Rewrap(put) => Some(put),
        _ => None,
    });
    let puts: Vec<&Put> = puts.collect();
    let inside = puts.iter().map(|put| put.size).sum::<u64>() <= INLINE as u64;
    let mut blobs = Vec::new();
    for put in puts {
        let id = put.blob;
        // One that is gone was staged before a restart.
        let staged = parts.store.read(move |conn| blobs::staged(conn, id)).await?;
        let bytes = staged.ok_or(WriteError::Moved)?;
        if inside {
            blobs.push(Arc::new(Sealed { bytes, id, commit: put.commit }));
        } else {
            // One by one: together they are too large for one request.
            send::upload(parts, id, bytes).await?;
        }
    }
    match send::send(parts, Outgoing { seq: entry.seq, envelope, blobs }).await? {
        Sent::Done(submitted) => Ok(submitted),
        Sent::Conflict => Err(WriteError::Moved),
    }
}
