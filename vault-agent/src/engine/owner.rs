//! Owner acts: the operations, the re-encryptions that they make necessary, the bytes to sign;
//! and submitting them once they are signed. Admin keys never come here.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use shared::blob::{self, Blob, Place, Sealed};
use shared::hash::Hash;
use shared::keys::{Recipient, Signature};
use shared::limits;
use shared::log::{self, Entry, Op, Put, State};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use shared::wire::v1::log::Appended;

use super::blob::Due;
use super::folded::Folded;
use super::ledger::Ledger;
use super::link::Link;
use super::offload;
use super::own::Own;
use super::read::{Reach, Reader};
use super::rights::may_read;
use super::send::{INLINE, Outgoing, Sender, Sent};
use super::types::{Prepared, PreparedEntry, WriteError};
use crate::state::{Store, blobs};
use host::clock;

/// Blobs of one entry together: below what the server parks for a machine.
const ENTRY_BLOBS: u64 = 24 << 20;
/// What an entry's other fields take of its body, at most.
const FRAME: usize = 512;
/// Versions that are re-encrypted between two reports of progress.
const STEP: usize = 16;

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

/// What owner acts take.
pub(super) struct Acts {
    pub(super) own: Arc<Own>,
    pub(super) store: Arc<Store>,
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) reader: Arc<Reader>,
    pub(super) sender: Arc<Sender>,
}

/// Adds the re-encryptions that `ops` make necessary and builds the entries to sign.
pub(super) async fn prepare(
    acts: &Acts,
    by: Actor,
    ops: Vec<Op>,
    progress: impl Fn(usize, usize) + Send + 'static,
) -> Result<Prepared> {
    if ops.len() > limits::OPS {
        bail!("{} operations in one act, {} at most", ops.len(), limits::OPS);
    }
    let time = clock::now();
    let (ground, stale, unreadable) = survey(acts, by, time, &ops)?;
    acts.store.write(blobs::unstage_all).await?;
    let (rewraps, lost) = rewrap(acts, stale, progress).await?;
    let count = rewraps.len();
    let mut all = ops;
    all.extend(rewraps.into_iter().map(Op::Rewrap));
    if all.is_empty() && unreadable.is_empty() && lost.is_empty() {
        bail!("there is nothing to do");
    }
    let entries = entries(acts, ground, all)?;
    Ok(Prepared { entries, rewraps: count, unreadable: [unreadable, lost].concat() })
}

type Survey = (Ground, Vec<(Due, Stale)>, Vec<(SecretPath, u64)>);

/// Tries `ops` on the state and lists what they leave stale: what this machine can read, and what
/// it cannot.
fn survey(acts: &Acts, by: Actor, time: Time, ops: &[Op]) -> Result<Survey> {
    acts.ledger.attempt(|folded| surveyed(folded, &acts.own.name, by, time, ops))
}

fn surveyed(folded: &mut Folded, own: &Name, by: Actor, time: Time, ops: &[Op]) -> Result<Survey> {
    let stale = if ops.is_empty() {
        stale(&folded.state)
    } else {
        log::attempt(&mut folded.state, &by, time, ops, stale).map_err(|refused| refused.error)?
    };
    let ground = Ground { by, time, seq: folded.state.seq(), head: folded.state.head() };
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for stale in stale {
        let secret = folded.state.secret(&stale.path);
        match secret.and_then(|secret| secret.version(stale.ver)) {
            Some(version) if may_read(&folded.state, own, &stale.path) => {
                readable.push((folded.due(&stale.path, stale.ver, version), stale));
            }
            Some(_) => unreadable.push((stale.path, stale.ver)),
            None => {}
        }
    }
    Ok((ground, readable, unreadable))
}

fn stale(state: &State) -> Vec<Stale> {
    let stale = state.stale().map(|(path, ver)| Stale {
        path: path.clone(),
        ver,
        readers: log::readers_hash(state, path),
        recipients: log::recipients(state, path),
    });
    stale.collect()
}

/// Re-encrypts and stages; returns what was done, and what could not be read.
async fn rewrap(
    acts: &Acts,
    stale: Vec<(Due, Stale)>,
    progress: impl Fn(usize, usize) + Send + 'static,
) -> Result<(Vec<Put>, Vec<(SecretPath, u64)>)> {
    let total = stale.len();
    let (mut done, mut lost) = (Vec::with_capacity(total), Vec::new());
    let mut waiting = stale.into_iter().peekable();
    progress(0, total);
    while waiting.peek().is_some() {
        let mut step = Vec::with_capacity(STEP);
        for (due, stale) in waiting.by_ref().take(STEP) {
            match acts.reader.ciphertext(&due, Reach::Server).await {
                Ok(blob) => step.push((due, stale, blob)),
                Err(fault) => {
                    tracing::warn!(path = %due.path, ver = due.ver, %fault, "not re-encrypted");
                    lost.push((due.path, due.ver));
                }
            }
        }
        let (puts, failed) = reseal_all(acts, step).await?;
        done.extend(puts);
        lost.extend(failed);
        progress(done.len() + lost.len(), total);
    }
    Ok((done, lost))
}

async fn reseal_all(
    acts: &Acts,
    step: Vec<(Due, Stale, Blob)>,
) -> Result<(Vec<Put>, Vec<(SecretPath, u64)>)> {
    let own = Arc::clone(&acts.own);
    let parts = offload::shared(step, move |part| {
        part.into_iter().map(|task| reseal(&own, task)).collect::<Vec<_>>()
    });
    let parts = parts.await.context("re-encrypting was interrupted")?;
    let (mut puts, mut sealed, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for result in parts.into_iter().flatten() {
        match result {
            Ok((put, blob)) => {
                puts.push(put);
                sealed.push(blob);
            }
            Err(place) => lost.push(place),
        }
    }
    let staged = acts.store.write(move |conn| {
        sealed.iter().try_for_each(|blob| blobs::stage(conn, blob.id, &blob.bytes))
    });
    staged.await?;
    Ok((puts, lost))
}

fn reseal(
    own: &Own,
    (due, stale, blob): (Due, Stale, Blob),
) -> Result<(Put, Sealed), (SecretPath, u64)> {
    let vault = own.pins.vault;
    let place = Place { vault: &vault, path: &stale.path, ver: stale.ver };
    let opened = due.open(&own.keys, &blob);
    let sealed = opened.and_then(|opened| blob::reseal(place, &opened, &stale.recipients));
    match sealed {
        Ok(sealed) => {
            let put = Put {
                path: stale.path,
                ver: stale.ver,
                blob: sealed.id,
                size: sealed.bytes.len() as u64,
                commit: sealed.commit,
                readers: stale.readers,
            };
            Ok((put, sealed))
        }
        Err(error) => {
            tracing::warn!(%error, "not re-encrypted");
            Err((stale.path, stale.ver))
        }
    }
}

/// Lays the operations out in as many entries as the limits ask for, each built on the last.
fn entries(acts: &Acts, ground: Ground, ops: Vec<Op>) -> Result<Vec<PreparedEntry>> {
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
        head = unsigned.hash(Purpose::Entry(acts.own.pins.vault));
        seq = entry.seq;
        entries.push(PreparedEntry { seq, head, body: unsigned.body, ops: entry.ops });
    }
    Ok(entries)
}

/// Sends an entry that an owner has signed, with the blobs staged for it. Called by the writer.
pub(super) async fn append(acts: &Acts, envelope: Envelope) -> Result<Appended, WriteError> {
    let entry: Entry = envelope.parse().map_err(WriteError::Refused)?;
    let hash = envelope.hash(Purpose::Entry(acts.own.pins.vault));
    {
        let folded = acts.ledger.read();
        if (entry.seq, entry.prev) != (folded.state.seq() + 1, folded.state.head()) {
            return Err(WriteError::Moved);
        }
        let key = folded.state.key(&envelope.by).ok_or(WriteError::Denied)?;
        envelope.verify(key, Purpose::Entry(acts.own.pins.vault)).map_err(WriteError::Refused)?;
    }
    let puts: Vec<&Put> = entry.ops.iter().filter_map(brings_blob).collect();
    let blobs = if puts.iter().map(|put| put.size).sum::<u64>() <= INLINE as u64 {
        let mut blobs = Vec::with_capacity(puts.len());
        for put in puts {
            let bytes = staged(acts, put).await?;
            blobs.push((put.blob, Arc::new(Sealed { bytes, id: put.blob, commit: put.commit })));
        }
        blobs
    } else {
        upload(acts, &puts).await?;
        Vec::new()
    };
    match acts.sender.send(Outgoing { seq: entry.seq, hash, envelope, blobs }).await? {
        Sent::Done(appended) => Ok(appended),
        Sent::Conflict { .. } => Err(WriteError::Moved),
        Sent::Refused(error) => Err(WriteError::Refused(error)),
        Sent::Full => Err(WriteError::Full),
        Sent::Unresolved => Err(WriteError::Unresolved),
    }
}

fn brings_blob(op: &Op) -> Option<&Put> {
    match op {
        Op::Put(put) | Op::Rewrap(put) => Some(put),
        _ => None,
    }
}

/// Returns a staged blob; one that is gone was staged before a restart.
async fn staged(acts: &Acts, put: &Put) -> Result<Vec<u8>, WriteError> {
    let blob = put.blob;
    let found = acts.store.read(move |conn| blobs::staged(conn, blob)).await;
    found.map_err(|fault| WriteError::Local(fault.to_string()))?.ok_or(WriteError::Moved)
}

/// Uploads staged blobs one by one: together they are too large for one request.
async fn upload(acts: &Acts, puts: &[&Put]) -> Result<(), WriteError> {
    for put in puts {
        let bytes = staged(acts, put).await?;
        let client = acts.link.writing_client();
        let client = client.map_err(|reason| WriteError::Offline { reason })?;
        let sent = client.put_blob(put.blob, bytes).await;
        sent.map_err(|fault| WriteError::Offline { reason: fault.to_string() })?;
    }
    Ok(())
}
