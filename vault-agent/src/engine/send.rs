//! Sending a signed entry: saved first, then the same bytes until somebody answers, here and
//! after a restart.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::blob::Sealed;
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::{AppendRequest, Appended};
use tokio::time::{Instant, sleep, timeout_at};

use super::Inner;
use super::ledger::{Delivery, ingest};
use super::types::WriteError;
use crate::state::{Outcome, pending};
use machine::remote::RemoteError;

/// How long a caller waits for an answer from the server.
const PATIENCE: Duration = Duration::from_secs(15);
/// How soon the same bytes are sent again.
const AGAIN: Duration = Duration::from_millis(200);
/// The longest pause before that; it doubles each time.
const SLOWEST: Duration = Duration::from_secs(3);
/// Blobs travel inside the request up to this sum.
pub(super) const INLINE: usize = 4 << 20;

/// The alarm while the server has no room.
pub(super) const SERVER_FULL: &str = "E_SERVER_FULL";

/// An entry to be sent, with the blobs it names.
pub(super) struct Outgoing {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) envelope: Envelope,
    pub(super) blobs: Vec<(Hash, Arc<Sealed>)>,
}

/// The entry that waits for an answer.
pub(super) struct Pending {
    pub(super) hash: Hash,
    /// Its blobs; none if it was found at the start.
    pub(super) blobs: Vec<(Hash, Arc<Sealed>)>,
}

/// What became of it.
pub(super) enum Sent {
    /// It is in the log, there and here.
    Done(Appended),
    /// The log has moved on to `seq`.
    Conflict { seq: u64 },
    /// A rule forbids it.
    Refused(Error),
    /// The server's disk is full, and this entry was never sent before: it is in no log.
    Full,
    /// Nobody knows; it is kept.
    Unresolved,
}

/// Saves and sends an entry and, when it is in the log, applies it here.
pub(super) async fn send(inner: &Arc<Inner>, outgoing: Outgoing) -> Result<Sent, WriteError> {
    let offline = |reason: String| WriteError::Offline { reason };
    let inline = outgoing.blobs.iter().map(|(_, blob)| blob.bytes.len()).sum::<usize>() <= INLINE;
    if !inline {
        let client = inner.writing_client().map_err(offline)?;
        for (blob, sealed) in &outgoing.blobs {
            let put = client.put_blob(*blob, sealed.bytes.clone()).await;
            put.map_err(|fault| offline(fault.to_string()))?;
        }
    }
    let body = request(&outgoing, inline)?;
    let Outgoing { seq, hash, envelope, blobs } = outgoing;
    inner.save_pending(hash, body.clone(), blobs).await?;
    let sent = until_answered(inner, seq, hash, &body, Tried::Never).await;
    match &sent {
        Sent::Done(_) => {
            let delivery = Delivery { position: seq, envelope, blobs: Vec::new() };
            own_entry(inner, delivery).await?;
        }
        Sent::Conflict { .. } | Sent::Refused(_) | Sent::Full => inner.drop_pending(hash),
        Sent::Unresolved => {}
    }
    Ok(sent)
}

/// What is known of an entry that is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// The server cannot have it.
    Never,
    /// It was sent, and nobody knows what became of it.
    Perhaps,
}

/// Makes the request's body; it is kept as it is, to be sent again.
fn request(outgoing: &Outgoing, inline: bool) -> Result<Bytes, WriteError> {
    let blobs: Vec<Inline> = if inline {
        outgoing.blobs.iter().map(|(_, sealed)| Inline(sealed.bytes.clone())).collect()
    } else {
        Vec::new()
    };
    let body = serde_json::to_vec(&AppendRequest { envelope: outgoing.envelope.clone(), blobs });
    body.map(Bytes::from).map_err(|why| WriteError::Local(why.to_string()))
}

/// Sends the same bytes until they are answered or patience ends. Connections may come and go.
async fn until_answered(
    inner: &Arc<Inner>,
    seq: u64,
    hash: Hash,
    body: &Bytes,
    mut tried: Tried,
) -> Sent {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = AGAIN;
    loop {
        // A new connection may have brought the entry as part of the log.
        if inner.pending_entry() != Some(hash) {
            return Sent::Done(Appended { seq, head: hash });
        }
        let Ok(client) = inner.writing_client() else {
            let mut link = inner.link.subscribe();
            let back = timeout_at(deadline, link.wait_for(|link| link.caught_up)).await;
            if back.is_err() {
                return Sent::Unresolved;
            }
            continue;
        };
        match client.append(body.clone()).await {
            Ok(appended) if (appended.seq, appended.head) == (seq, hash) => {
                return Sent::Done(appended);
            }
            Ok(_) => {
                tried = Tried::Perhaps;
                tracing::warn!(seq, "the server acknowledges another entry than was sent");
            }
            Err(RemoteError::Conflict(conflict)) => return Sent::Conflict { seq: conflict.seq },
            Err(RemoteError::Refused(error)) if matches!(error.code, Code::Seq | Code::Prev) => {
                return Sent::Conflict { seq };
            }
            Err(RemoteError::Refused(error)) => return Sent::Refused(error),
            Err(fault @ RemoteError::Status { status, .. }) if !fault.is_unresolved() => {
                let code = if status == 413 { Code::Limits } else { Code::Denied };
                return Sent::Refused(code.because(fault.to_string()));
            }
            Err(fault) if fault.is_full() => {
                inner.server_full();
                if tried == Tried::Never {
                    return Sent::Full;
                }
            }
            Err(fault) => {
                tried = Tried::Perhaps;
                tracing::warn!(seq, %fault, "no answer to an entry, sending it again");
            }
        }
        if Instant::now() + pause >= deadline {
            return Sent::Unresolved;
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOWEST);
    }
}

/// Applies an entry of one's own that the server has acknowledged; the stream brings it again and
/// it is recognised. Returns when it is applied: the server has it on disk already.
async fn own_entry(inner: &Arc<Inner>, delivery: Delivery) -> Result<(), WriteError> {
    let local = |fault: crate::state::Failure| WriteError::Local(fault.to_string());
    let receipt = ingest(inner, vec![delivery]).await.map_err(local)?;
    let closed = |_| WriteError::Unresolved;
    let news = receipt.applied.await.map_err(closed)?.map_err(local)?;
    if let Some(error) = &news.refused {
        inner.refuse(error);
        inner.down(&error.to_string());
    }
    let own = Arc::clone(inner);
    let opening = inner.open_all(news.arrived);
    inner.before_commit(&opening);
    inner.spawn(async move {
        if let Ok(Ok(())) = receipt.committed.await {
            own.after_advance(opening, news.advanced, news.missing).await;
        }
    });
    Ok(())
}

/// Waits until there is both an entry without an answer and somebody to ask.
pub(super) async fn pending_and_online(inner: &Arc<Inner>) {
    if inner.pending_entry().is_none() {
        return std::future::pending().await;
    }
    let mut link = inner.link.subscribe();
    let _ = link.wait_for(|link| link.caught_up).await;
}

/// Sends an entry again whose writer is gone or was told that it is unresolved.
pub(super) async fn resolve(inner: &Arc<Inner>) {
    let found = inner.store.read(pending::load).await;
    let Ok(Some(pending::Pending { hash, request })) = found else {
        inner.forget_pending();
        return;
    };
    let parsed = serde_json::from_slice::<AppendRequest>(&request);
    let Ok(AppendRequest { envelope, blobs }) = parsed else {
        tracing::warn!("a pending entry is damaged and dropped");
        return inner.drop_pending(hash);
    };
    let entry = envelope.parse::<shared::log::Entry>();
    let purpose = Purpose::Entry(inner.pins.vault);
    let Some(entry) = entry.ok().filter(|_| envelope.hash(purpose) == hash) else {
        tracing::warn!("a pending entry is damaged and dropped");
        return inner.drop_pending(hash);
    };
    match until_answered(inner, entry.seq, hash, &request.into(), Tried::Perhaps).await {
        Sent::Done(appended) => {
            tracing::info!(seq = appended.seq, "a pending entry is in the log");
            let blobs = blobs.into_iter().map(|blob| blob.0).collect();
            let delivery = Delivery { position: entry.seq, envelope, blobs };
            if let Err(fault) = own_entry(inner, delivery).await {
                tracing::warn!(%fault, "a pending entry is not applied yet");
            }
            inner.forget_pending();
        }
        Sent::Conflict { .. } => {
            tracing::warn!(seq = entry.seq, "a pending entry came too late and is dropped");
            inner.drop_pending(hash);
        }
        Sent::Refused(error) => {
            tracing::warn!(seq = entry.seq, %error, "a pending entry is refused and dropped");
            inner.drop_pending(hash);
        }
        Sent::Full | Sent::Unresolved => sleep(AGAIN).await,
    }
}

impl Inner {
    async fn save_pending(
        &self,
        hash: Hash,
        body: Bytes,
        blobs: Vec<(Hash, Arc<Sealed>)>,
    ) -> Result<(), WriteError> {
        let saved = self.store.write(move |conn| pending::save(conn, hash, &body)).await;
        saved.map_err(|fault| WriteError::Local(fault.to_string()))?;
        *self.pending() = Some(Pending { hash, blobs });
        Ok(())
    }

    /// Forgets an entry that is known not to be in the log. Not waited for: sent once more after
    /// a crash, it would only be refused again.
    fn drop_pending(&self, hash: Hash) {
        self.forget_pending();
        let _ = self.store.try_submit(Box::new(move |conn| match pending::settle(conn, hash) {
            Ok(()) => Outcome::Keep(Box::new(|_| {})),
            Err(fault) => Outcome::Undo(fault.into()),
        }));
    }

    /// Notes that the server has no room; the next report that it takes ends the alarm.
    pub(super) fn server_full(&self) {
        let detail = "the server's disk is full: it takes no writes and hands out no contents";
        self.raise(SERVER_FULL, "", detail);
    }

    fn forget_pending(&self) {
        *self.pending() = None;
    }

    /// Returns the hash of the entry that waits for an answer.
    pub(super) fn pending_entry(&self) -> Option<Hash> {
        self.pending().as_ref().map(|pending| pending.hash)
    }

    /// Notes that an entry is in the log; returns the blobs that this machine has made for it, as
    /// the server sends them to all others.
    pub(super) fn settled(&self, entry: Hash) -> Vec<(Hash, Arc<Sealed>)> {
        let pending = self.pending().take_if(|pending| pending.hash == entry);
        pending.map(|pending| pending.blobs).unwrap_or_default()
    }
}
