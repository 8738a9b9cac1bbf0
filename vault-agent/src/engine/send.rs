//! Sending a signed entry: the same bytes until somebody answers, here and after a restart. They
//! are saved while they are under way: a caller is answered when both are done, so that a crash
//! loses nothing that was acknowledged, and what it leaves in the log alone comes back with the
//! stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::blob::Sealed;
use shared::error::Code;
use shared::hash::Hash;
use shared::log::Entry;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::{AppendRequest, Appended};
use tokio::time::{Instant, sleep, timeout_at};

use super::intake;
use super::ledger::Delivery;
use super::parts::Parts;
use super::types::WriteError;
use crate::state::{Failure, log, pending};
use machine::remote::RemoteError;

/// How long a caller waits for an answer from the server.
const PATIENCE: Duration = Duration::from_secs(15);
/// How soon the same bytes are sent again.
const AGAIN: Duration = Duration::from_millis(200);
/// The longest pause before that; it doubles each time.
const SLOWEST: Duration = Duration::from_secs(3);
/// Blobs travel inside the request up to this sum.
pub(super) const INLINE: usize = 4 << 20;

/// An entry to be sent, with the blobs it names.
pub(super) struct Outgoing {
    pub(super) seq: u64,
    pub(super) envelope: Envelope,
    pub(super) blobs: Vec<Arc<Sealed>>,
}

/// What became of it, if the server has answered and no rule forbids it.
pub(super) enum Sent {
    /// It is in the log, there and here.
    Done(Appended),
    /// Another entry stands in the log where this one was to stand: it never will.
    Conflict,
}

/// What is known of an entry that is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// The server cannot have it.
    Never,
    /// It was sent, and nobody knows what became of it.
    Perhaps,
}

/// Sends an entry, saves it meanwhile, and, when it is in the log, applies it here. Both are done
/// when this returns.
///
/// # Errors
/// If the server refuses it, no answer comes, or the database fails: the text then says whether the
/// entry may be in the log all the same.
pub(super) async fn send(parts: &Arc<Parts>, outgoing: Outgoing) -> Result<Sent, WriteError> {
    let body = body(parts, &outgoing).await?;
    let Outgoing { seq, envelope, blobs } = outgoing;
    let hash = envelope.hash(Purpose::Entry(parts.own.pins.vault));
    let mut saving = Some(parts.pending.save(hash, body.clone(), blobs).await?);
    if parts.pending.is_at_risk()
        && let Some(saving) = saving.take()
        && let Err(fault) = saving.await.unwrap_or(Err(Failure::Closed))
    {
        parts.pending.forget();
        return Err(fault.into());
    }
    let sent = until_answered(parts, seq, hash, &body, Tried::Never).await;
    let applied = match &sent {
        Ok(Sent::Done(_)) => {
            let own = Delivery { position: seq, envelope, blobs: Vec::new() };
            intake::take_own(parts, own).await
        }
        Err(WriteError::Unresolved) => Ok(()),
        Ok(Sent::Conflict) | Err(_) => {
            parts.pending.give_up(hash);
            Ok(())
        }
    };
    let saved = match saving {
        Some(saving) => saving.await.unwrap_or(Err(Failure::Closed)),
        None => Ok(()),
    };
    let but = |what: String, fault: Failure| Err(WriteError::Local(format!("{what}: {fault}")));
    match (&sent, applied, saved) {
        (Ok(Sent::Done(_)), Err(fault), _) => {
            but(format!("the change is in the log as entry {seq}, but not here yet"), fault)
        }
        (Err(WriteError::Unresolved), _, Err(fault)) => {
            parts.pending.forget();
            but("no answer came, and the change may be in the log".into(), fault)
        }
        _ => sent,
    }
}

/// Uploads blobs that are too large to travel inside, and makes the request's body, which is kept
/// as it is, to be sent again.
async fn body(parts: &Parts, outgoing: &Outgoing) -> Result<Bytes, WriteError> {
    let size = outgoing.blobs.iter().map(|sealed| sealed.bytes.len()).sum::<usize>();
    let mut blobs = Vec::new();
    if size <= INLINE {
        blobs.extend(outgoing.blobs.iter().map(|sealed| Inline(sealed.bytes.clone())));
    } else {
        for sealed in &outgoing.blobs {
            upload(parts, sealed.id, sealed.bytes.clone()).await?;
        }
    }
    let request = AppendRequest { envelope: outgoing.envelope.clone(), blobs };
    let body = serde_json::to_vec(&request);
    body.map(Bytes::from).map_err(|why| WriteError::Local(why.to_string()))
}

/// Uploads a blob ahead of its entry.
pub(super) async fn upload(parts: &Parts, blob: Hash, bytes: Vec<u8>) -> Result<(), WriteError> {
    let sent = parts.link.writing_client()?.put_blob(blob, bytes).await;
    sent.map_err(|fault| WriteError::Offline { reason: fault.to_string() })
}

/// Sends the same bytes until they are answered or patience ends. Connections may come and go.
async fn until_answered(
    parts: &Parts,
    seq: u64,
    hash: Hash,
    body: &Bytes,
    mut tried: Tried,
) -> Result<Sent, WriteError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = AGAIN;
    loop {
        // A new connection may have brought the entry as part of the log.
        if parts.pending.entry() != Some(hash) {
            return Ok(Sent::Done(Appended { seq, head: hash }));
        }
        let Ok(client) = parts.link.writing_client() else {
            let mut link = parts.link.subscribe();
            let back = timeout_at(deadline, link.wait_for(|link| link.caught_up)).await;
            if back.is_err() {
                return Err(WriteError::Unresolved);
            }
            continue;
        };
        match client.append(body.clone()).await {
            Ok(appended) if (appended.seq, appended.head) == (seq, hash) => {
                return Ok(Sent::Done(appended));
            }
            Ok(_) => {
                tried = Tried::Perhaps;
                tracing::warn!(seq, "the server acknowledges another entry than was sent");
            }
            Err(RemoteError::Conflict(_)) => return conflict(parts, seq, hash, deadline).await,
            Err(RemoteError::Refused(error)) if matches!(error.code, Code::Seq | Code::Prev) => {
                return conflict(parts, seq, hash, deadline).await;
            }
            Err(RemoteError::Refused(error)) => return Err(WriteError::Refused(error)),
            Err(fault @ RemoteError::Status { status, .. }) if !fault.is_unresolved() => {
                let code = if status == 413 { Code::Limits } else { Code::Denied };
                return Err(WriteError::Refused(code.because(fault.to_string())));
            }
            Err(fault) if fault.is_full() => {
                parts.alarms.server_full(true);
                if tried == Tried::Never {
                    return Err(WriteError::Full);
                }
            }
            Err(fault) => {
                tried = Tried::Perhaps;
                tracing::warn!(seq, %fault, "no answer to an entry, sending it again");
            }
        }
        if Instant::now() + pause >= deadline {
            return Err(WriteError::Unresolved);
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOWEST);
    }
}

/// Waits for the entry that stands where this one was to stand. Only the log proves a conflict: a
/// server might commit an entry and say that it came too late, to have it written twice.
async fn conflict(
    parts: &Parts,
    seq: u64,
    hash: Hash,
    deadline: Instant,
) -> Result<Sent, WriteError> {
    let mut applied = parts.ledger.applied();
    loop {
        match parts.store.read(move |conn| log::hash_at(conn, seq)).await? {
            Some(known) if known == hash => return Ok(Sent::Done(Appended { seq, head: hash })),
            Some(_) => return Ok(Sent::Conflict),
            None => {}
        }
        if !matches!(timeout_at(deadline, applied.changed()).await, Ok(Ok(()))) {
            tracing::warn!(seq, "the server speaks of another entry but does not send it");
            return Err(WriteError::Unresolved);
        }
    }
}

/// Tells whether an entry waits for an answer, and somebody can be asked.
pub(super) fn must_resolve(parts: &Parts) -> bool {
    parts.pending.entry().is_some() && parts.link.writing_client().is_ok()
}

/// Waits until there is both an entry without an answer and somebody to ask.
pub(super) async fn pending_and_online(parts: &Parts) {
    if parts.pending.entry().is_none() {
        return std::future::pending().await;
    }
    let _ = parts.link.subscribe().wait_for(|link| link.caught_up).await;
}

/// Sends an entry again whose writer is gone or was told that it is unresolved.
pub(super) async fn resolve(parts: &Arc<Parts>) {
    let found = parts.store.read(|conn| pending::load(conn)).await;
    let Ok(Some(pending::Pending { hash, request })) = found else {
        return parts.pending.forget();
    };
    let parsed = serde_json::from_slice::<AppendRequest>(&request).ok().and_then(|request| {
        let entry = request.envelope.parse::<Entry>().ok()?;
        let purpose = Purpose::Entry(parts.own.pins.vault);
        (request.envelope.hash(purpose) == hash).then_some((entry.seq, request))
    });
    let Some((seq, AppendRequest { envelope, blobs })) = parsed else {
        tracing::warn!("a pending entry is damaged and dropped");
        return parts.pending.give_up(hash);
    };
    match until_answered(parts, seq, hash, &request.into(), Tried::Perhaps).await {
        Ok(Sent::Done(_)) => {
            tracing::info!(seq, "a pending entry is in the log");
            let blobs = blobs.into_iter().map(|blob| blob.0).collect();
            let delivery = Delivery { position: seq, envelope, blobs };
            if let Err(fault) = intake::take_own(parts, delivery).await {
                tracing::warn!(%fault, "a pending entry is not applied yet");
            }
            parts.pending.forget();
        }
        Ok(Sent::Conflict) => {
            tracing::warn!(seq, "a pending entry came too late and is dropped");
            parts.pending.give_up(hash);
        }
        Err(WriteError::Refused(error)) => {
            tracing::warn!(seq, %error, "a pending entry is refused and dropped");
            parts.pending.give_up(hash);
        }
        Err(_) => sleep(AGAIN).await,
    }
}
