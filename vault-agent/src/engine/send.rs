//! Sending a signed entry: the same bytes until somebody answers, here and after a restart. They
//! are saved while they are under way: a caller is answered when both are done, so that a crash
//! loses nothing that was acknowledged, and what it leaves in the log alone comes back with the
//! stream.

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

use super::alarms::Alarms;
use super::intake::Intake;
use super::ledger::Delivery;
use super::link::Link;
use super::own::Own;
use super::pending::Pending;
use super::types::WriteError;
use crate::state::{Failure, pending};
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
    pub(super) hash: Hash,
    pub(super) envelope: Envelope,
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

/// What it takes to send.
pub(super) struct Sender {
    pub(super) own: Arc<Own>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) pending: Arc<Pending>,
    pub(super) link: Arc<Link>,
    pub(super) intake: Arc<Intake>,
}

/// What is known of an entry that is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// The server cannot have it.
    Never,
    /// It was sent, and nobody knows what became of it.
    Perhaps,
}

impl Sender {
    /// Sends an entry, saves it meanwhile, and, when it is in the log, applies it here. Both are
    /// done when this returns.
    ///
    /// # Errors
    /// If it could not be sent, or the database fails: the text says whether the entry may be in
    /// the log all the same.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<Sent, WriteError> {
        let body = self.body(&outgoing).await?;
        let local = |fault: Failure| WriteError::Local(fault.to_string());
        let Outgoing { seq, hash, envelope, blobs } = outgoing;
        let mut saving = self.pending.save(hash, body.clone(), blobs).await.map_err(local)?;
        let mut saved = None;
        if self.pending.is_at_risk() {
            if let Err(fault) = saving.done().await {
                self.pending.forget();
                return Err(local(fault));
            }
            saved = Some(Ok(()));
        }
        let sent = self.until_answered(seq, hash, &body, Tried::Never).await;
        let applied = match &sent {
            Sent::Done(_) => {
                let own = Delivery { position: seq, envelope, blobs: Vec::new() };
                self.intake.take_own(own).await
            }
            Sent::Conflict { .. } | Sent::Refused(_) | Sent::Full => {
                self.pending.give_up(hash);
                Ok(())
            }
            Sent::Unresolved => Ok(()),
        };
        let saved = match saved {
            Some(saved) => saved,
            None => saving.done().await,
        };
        let but = |what: String, fault: Failure| Err(WriteError::Local(format!("{what}: {fault}")));
        match (&sent, applied, saved) {
            (Sent::Done(_), Err(fault), _) => {
                but(format!("the change is in the log as entry {seq}, but not here yet"), fault)
            }
            (Sent::Unresolved, _, Err(fault)) => {
                self.pending.forget();
                but("no answer came, and the change may be in the log".into(), fault)
            }
            _ => Ok(sent),
        }
    }

    /// Uploads blobs that are too large to travel inside, and makes the request's body, which is
    /// kept as it is, to be sent again.
    async fn body(&self, outgoing: &Outgoing) -> Result<Bytes, WriteError> {
        let size = outgoing.blobs.iter().map(|(_, blob)| blob.bytes.len()).sum::<usize>();
        let mut blobs = Vec::new();
        if size <= INLINE {
            blobs.extend(outgoing.blobs.iter().map(|(_, sealed)| Inline(sealed.bytes.clone())));
        } else {
            let offline = |reason: String| WriteError::Offline { reason };
            let client = self.link.writing_client().map_err(offline)?;
            for (blob, sealed) in &outgoing.blobs {
                let put = client.put_blob(*blob, sealed.bytes.clone()).await;
                put.map_err(|fault| offline(fault.to_string()))?;
            }
        }
        let request = AppendRequest { envelope: outgoing.envelope.clone(), blobs };
        let body = serde_json::to_vec(&request);
        body.map(Bytes::from).map_err(|why| WriteError::Local(why.to_string()))
    }

    /// Sends the same bytes until they are answered or patience ends. Connections may come and go.
    async fn until_answered(&self, seq: u64, hash: Hash, body: &Bytes, mut tried: Tried) -> Sent {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = AGAIN;
        loop {
            // A new connection may have brought the entry as part of the log.
            if self.pending.entry() != Some(hash) {
                return Sent::Done(Appended { seq, head: hash });
            }
            let Ok(client) = self.link.writing_client() else {
                let mut link = self.link.subscribe();
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
                Err(RemoteError::Conflict(conflict)) => {
                    return Sent::Conflict { seq: conflict.seq };
                }
                Err(RemoteError::Refused(error))
                    if matches!(error.code, Code::Seq | Code::Prev) =>
                {
                    return Sent::Conflict { seq };
                }
                Err(RemoteError::Refused(error)) => return Sent::Refused(error),
                Err(fault @ RemoteError::Status { status, .. }) if !fault.is_unresolved() => {
                    let code = if status == 413 { Code::Limits } else { Code::Denied };
                    return Sent::Refused(code.because(fault.to_string()));
                }
                Err(fault) if fault.is_full() => {
                    self.alarms.server_full(true);
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

    /// Tells whether an entry waits for an answer, and somebody can be asked.
    pub(super) fn must_resolve(&self) -> bool {
        self.pending.entry().is_some() && self.link.writing_client().is_ok()
    }

    /// Waits until there is both an entry without an answer and somebody to ask.
    pub(super) async fn pending_and_online(&self) {
        if self.pending.entry().is_none() {
            return std::future::pending().await;
        }
        let _ = self.link.subscribe().wait_for(|link| link.caught_up).await;
    }

    /// Sends an entry again whose writer is gone or was told that it is unresolved.
    pub(super) async fn resolve(&self) {
        let found = self.pending.load().await;
        let Ok(Some(pending::Pending { hash, request })) = found else {
            self.pending.forget();
            return;
        };
        let parsed = serde_json::from_slice::<AppendRequest>(&request);
        let Ok(AppendRequest { envelope, blobs }) = parsed else {
            tracing::warn!("a pending entry is damaged and dropped");
            return self.pending.give_up(hash);
        };
        let entry = envelope.parse::<shared::log::Entry>();
        let purpose = Purpose::Entry(self.own.pins.vault);
        let Some(entry) = entry.ok().filter(|_| envelope.hash(purpose) == hash) else {
            tracing::warn!("a pending entry is damaged and dropped");
            return self.pending.give_up(hash);
        };
        match self.until_answered(entry.seq, hash, &request.into(), Tried::Perhaps).await {
            Sent::Done(appended) => {
                tracing::info!(seq = appended.seq, "a pending entry is in the log");
                let blobs = blobs.into_iter().map(|blob| blob.0).collect();
                let delivery = Delivery { position: entry.seq, envelope, blobs };
                if let Err(fault) = self.intake.take_own(delivery).await {
                    tracing::warn!(%fault, "a pending entry is not applied yet");
                }
                self.pending.forget();
            }
            Sent::Conflict { .. } => {
                tracing::warn!(seq = entry.seq, "a pending entry came too late and is dropped");
                self.pending.give_up(hash);
            }
            Sent::Refused(error) => {
                tracing::warn!(seq = entry.seq, %error, "a pending entry is refused and dropped");
                self.pending.give_up(hash);
            }
            Sent::Full | Sent::Unresolved => sleep(AGAIN).await,
        }
    }
}
