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
use shared::head::SignedHead;
use shared::log::Entry;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::AppendRequest;
use tokio::time::{Instant, sleep, timeout_at};

use super::intake;
use super::ledger::Delivery;
use super::link::WAITS;
use super::parts::Parts;
use super::types::WriteError;
use crate::state::{Failure, pending};
use machine::local::Submitted;
use machine::remote::RemoteError;

/// How long a caller waits for an answer from the server.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long an entry without a writer is sent again before others have their turn.
const ROUND: Duration = Duration::from_secs(3);
/// What they are told.
const UNANSWERED: &str = "it gives no answer to a change that was sent before";
/// How soon the same bytes are sent again.
const AGAIN: Duration = Duration::from_millis(200);
/// The longest pause before that; it doubles each time.
const SLOWEST: Duration = Duration::from_secs(3);
/// The longest that a server may have it wait.
const LONGEST: Duration = Duration::from_mins(1);
/// How soon a restored server is tried again.
const RESTORED: Duration = Duration::from_secs(5);
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
    Done(Submitted),
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

/// An entry on its way.
struct Sending {
    seq: u64,
    hash: Hash,
    envelope: Envelope,
    /// Its blobs, unless they are kept with what is pending.
    blobs: Vec<Vec<u8>>,
    /// The request's body.
    body: Bytes,
}

/// What an answer 201 was worth.
enum Acknowledged {
    /// The entry is applied here.
    Applied,
    /// No listed key vouches for this very entry.
    Unproven,
}

/// Sends an entry, saves it meanwhile, and, when it is in the log, applies it here. Both are done
/// when this returns.
///
/// # Errors
/// If the server refuses it, no answer comes, or the database fails: the text then says whether the
/// entry may be in the log all the same.
pub(super) async fn send(parts: &Arc<Parts>, outgoing: Outgoing) -> Result<Sent, WriteError> {
    if parts.pending.is_full() {
        return Err(WriteError::Offline { reason: "it owes an answer to too many changes".into() });
    }
    let body = body(parts, &outgoing).await?;
    let Outgoing { seq, envelope, blobs } = outgoing;
    let hash = envelope.hash(Purpose::Entry(parts.own.pins.vault));
    let mut saving = Some(parts.pending.save(hash, body.clone(), blobs).await?);
    if parts.pending.is_at_risk()
        && let Some(saving) = saving.take()
        && let Err(fault) = saving.await.unwrap_or(Err(Failure::Closed))
    {
        parts.pending.forget(hash);
        return Err(fault.into());
    }
    let sending = Sending { seq, hash, envelope, blobs: Vec::new(), body };
    let sent = until_answered(parts, &sending, Tried::Never, PATIENCE).await;
    let is_open = match &sent {
        Ok(Sent::Done(_)) => false,
        Err(WriteError::Unresolved | WriteError::Postponed { .. } | WriteError::Local(_)) => true,
        Ok(Sent::Conflict) | Err(_) => {
            parts.pending.give_up(hash);
            false
        }
    };
    let saved = match saving {
        Some(saving) => saving.await.unwrap_or(Err(Failure::Closed)),
        None => Ok(()),
    };
    match saved {
        Err(fault) if is_open && !matches!(sent, Err(WriteError::Local(_))) => {
            parts.pending.forget(hash);
            let what = "no answer came, and the change may be in the log";
            Err(WriteError::Local(format!("{what}: {fault}")))
        }
        Ok(()) | Err(_) => sent,
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
    let request = AppendRequest { envelope: outgoing.envelope.clone(), blobs, code: None };
    let body = serde_json::to_vec(&request);
    body.map(Bytes::from).map_err(|why| WriteError::Local(why.to_string()))
}

/// Uploads a blob ahead of its entry; once more if there is a better connection meanwhile.
pub(super) async fn upload(parts: &Parts, blob: Hash, bytes: Vec<u8>) -> Result<(), WriteError> {
    loop {
        let client = parts.link.writing_client()?;
        match client.put_blob(blob, bytes.clone()).await {
            Err(RemoteError::Lost(_)) if parts.link.is_replaced(&client) => {}
            sent => {
                return sent.map_err(|fault| WriteError::Offline { reason: fault.to_string() });
            }
        }
    }
}

/// Sends the same bytes until they are answered or patience ends. Connections may come and go.
async fn until_answered(
    parts: &Arc<Parts>,
    sending: &Sending,
    mut tried: Tried,
    patience: Duration,
) -> Result<Sent, WriteError> {
    let Sending { seq, hash, .. } = *sending;
    let deadline = Instant::now() + patience;
    let mut pause = AGAIN;
    loop {
        // A new connection may have brought the entry as part of the log, or another in its place.
        if !parts.pending.holds(hash) {
            return Ok(match parts.ledger.hash_at(seq).await? {
                Some(known) if known == hash => Sent::Done(Submitted { seq, head: hash }),
                Some(_) | None => Sent::Conflict,
            });
        }
        let Ok(client) = parts.link.writing_client() else {
            let mut link = parts.link.subscribe();
            let back = timeout_at(deadline, link.wait_for(|link| link.caught_up)).await;
            if back.is_err() {
                return Err(WriteError::Unresolved);
            }
            continue;
        };
        let mut wait = pause;
        let asked = client.append(sending.body.clone(), parts.ledger.signed());
        let Ok(answer) = timeout_at(deadline, asked).await else {
            return Err(WriteError::Unresolved);
        };
        match answer {
            Ok(head) => {
                parts.link.restored(false);
                match acknowledged(parts, sending, head).await? {
                    Acknowledged::Applied => {
                        return Ok(Sent::Done(Submitted { seq, head: hash }));
                    }
                    Acknowledged::Unproven => tried = Tried::Perhaps,
                }
            }
            Err(RemoteError::Conflict(head)) => {
                intake::shown(parts, &head).await?;
                if parts.link.look(|link| link.halted) {
                    let reason = format!("{}: {}", Code::Fork, Code::Fork.sentence());
                    return Err(WriteError::Postponed { reason, again: RESTORED });
                }
                return conflict(parts, seq, hash, deadline).await;
            }
            Err(RemoteError::Refused(error)) if matches!(error.code, Code::Seq | Code::Prev) => {
                return conflict(parts, seq, hash, deadline).await;
            }
            Err(fault) => wait = unanswered(parts, seq, fault, &mut tried, (pause, deadline))?,
        }
        if Instant::now() + wait >= deadline {
            return Err(WriteError::Unresolved);
        }
        sleep(wait).await;
        pause = (pause * 2).min(SLOWEST);
    }
}

/// Returns how soon to send the entry again, after an answer that neither takes nor settles it.
///
/// # Errors
/// If a rule forbids the entry, or the server takes none before patience ends.
fn unanswered(
    parts: &Parts,
    seq: u64,
    fault: RemoteError,
    tried: &mut Tried,
    (pause, deadline): (Duration, Instant),
) -> Result<Duration, WriteError> {
    if let RemoteError::Refused(error) = fault {
        return Err(WriteError::Refused(error));
    }
    if fault.is_restored() {
        parts.link.restored(true);
        return Err(WriteError::Postponed { reason: WAITS.into(), again: RESTORED });
    }
    if let Some(asked) = fault.is_metered() {
        let again = asked.clamp(pause, LONGEST);
        if Instant::now() + again >= deadline {
            return Err(WriteError::Postponed { reason: fault.to_string(), again });
        }
        tracing::warn!(seq, %fault, ?again, "the server has an entry wait");
        return Ok(again);
    }
    if fault.is_full() {
        parts.alarms.server_full(true);
        return if *tried == Tried::Never { Err(WriteError::Full) } else { Ok(pause) };
    }
    if fault.is_unresolved() {
        *tried = Tried::Perhaps;
        tracing::warn!(seq, %fault, "no answer to an entry, sending it again");
        return Ok(pause);
    }
    let is_large = matches!(fault, RemoteError::Status { status: 413, .. });
    let code = if is_large { Code::Limits } else { Code::Denied };
    Err(WriteError::Refused(code.because(fault.to_string())))
}

/// Takes in an acknowledged entry. The server's word for it is its signature of the head that this
/// very entry made; anything else is no answer at all.
async fn acknowledged(
    parts: &Arc<Parts>,
    sending: &Sending,
    head: SignedHead,
) -> Result<Acknowledged, WriteError> {
    let Sending { seq, hash, .. } = *sending;
    if (head.seq, head.head) != (seq, hash) {
        tracing::warn!(seq, "the server acknowledges another entry than was sent");
        intake::shown(parts, &head).await?;
        return Ok(Acknowledged::Unproven);
    }
    let (envelope, blobs) = (sending.envelope.clone(), sending.blobs.clone());
    let own = Delivery { position: seq, envelope, blobs, head: Some(head) };
    match intake::take_own(parts, own).await {
        Ok(Ok(())) => Ok(Acknowledged::Applied),
        Ok(Err(error)) => {
            tracing::warn!(seq, %error, "the server's acknowledgement does not verify");
            parts.link.refuse(&error);
            Ok(Acknowledged::Unproven)
        }
        Err(fault) => {
            let is_proven = head.verify(&parts.ledger.read().server_keys(), parts.own.pins.vault);
            let is = if is_proven.is_ok() { "is" } else { "may be" };
            let what = format!("the change {is} in the log as entry {seq}, but not here yet");
            Err(WriteError::Local(format!("{what}: {fault}")))
        }
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
        match parts.ledger.hash_at(seq).await? {
            Some(known) if known == hash => return Ok(Sent::Done(Submitted { seq, head: hash })),
            Some(_) => return Ok(Sent::Conflict),
            // The log has gone over to another branch, on which the entry can never stand.
            None if !parts.pending.holds(hash) => return Ok(Sent::Conflict),
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
    parts.pending.newest().is_some() && parts.link.writing_client().is_ok()
}

/// Waits until there is both an entry without an answer and somebody to ask.
pub(super) async fn pending_and_online(parts: &Parts) {
    if parts.pending.newest().is_none() {
        return std::future::pending().await;
    }
    let _ = parts.link.subscribe().wait_for(|link| link.caught_up).await;
}

/// Sends the newest entry again whose writer is gone or was told that it is unresolved. Returns why
/// nothing can be written now and how soon to try again, if the server has said so.
pub(super) async fn resolve(parts: &Arc<Parts>) -> Option<(String, Duration)> {
    let hash = parts.pending.newest()?;
    let found = parts.store.read(move |conn| pending::load(conn, hash)).await;
    let Ok(Some(request)) = found else {
        parts.pending.forget(hash);
        return None;
    };
    let parsed = serde_json::from_slice::<AppendRequest>(&request).ok().and_then(|request| {
        let entry = request.envelope.parse::<Entry>().ok()?;
        let purpose = Purpose::Entry(parts.own.pins.vault);
        (request.envelope.hash(purpose) == hash).then_some((entry.seq, request))
    });
    let Some((seq, AppendRequest { envelope, blobs, .. })) = parsed else {
        tracing::warn!("a pending entry is damaged and dropped");
        parts.pending.give_up(hash);
        return None;
    };
    let blobs = blobs.into_iter().map(|blob| blob.0).collect();
    let sending = Sending { seq, hash, envelope, blobs, body: request.into() };
    let sent = match parts.ledger.hash_at(seq).await {
        // An owner's act went first: nobody need be asked about this one.
        Ok(Some(known)) if known != hash => Ok(Sent::Conflict),
        Ok(_) => until_answered(parts, &sending, Tried::Perhaps, ROUND).await,
        Err(fault) => Err(fault.into()),
    };
    match sent {
        Ok(Sent::Done(_)) => {
            tracing::info!(seq, "a pending entry is in the log");
            parts.pending.forget(hash);
        }
        Ok(Sent::Conflict) => {
            tracing::warn!(seq, "a pending entry came too late and is dropped");
            parts.pending.give_up(hash);
        }
        Err(WriteError::Refused(error)) => {
            tracing::warn!(seq, %error, "a pending entry is refused and dropped");
            parts.pending.give_up(hash);
        }
        Err(WriteError::Postponed { reason, again }) => return Some((reason, again)),
        Err(WriteError::Unresolved) => return Some((UNANSWERED.into(), SLOWEST)),
        Err(_) => sleep(AGAIN).await,
    }
    None
}
