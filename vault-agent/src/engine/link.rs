//! Keeping a connection and following the log: addresses in order, back-off with jitter, and what
//! a stream's frames do. An entry that does not verify ends the stream and changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::Inner;
use super::ledger::{Delivery, News, ingest, is_head};
use crate::state::{self, Failure, facts};
use host::clock;
use machine::remote::{Client, ConnectError, RemoteError, connect};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The same for a machine that the vault does not know, most likely for ever: each of its tries is in the audit log.
const LONGEST_STRANGER_WAIT: Duration = Duration::from_mins(10);
/// How long an address is waited for before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(300);
/// How often at most the time of the last sync is written down while nothing else is.
const NOTE_SYNCED: u64 = 60;

/// How the connection is.
#[derive(Clone)]
pub(super) struct Link {
    /// The connection, if there is one.
    pub(super) client: Option<Client>,
    /// Whether the stream has reached the server's head: writes may be built.
    pub(super) caught_up: bool,
    /// Its address, or the one last tried.
    pub(super) address: Option<String>,
    /// Why there is none.
    pub(super) trouble: Option<String>,
    /// Attempts since the start that have ended, well or badly.
    pub(super) tries: u64,
    /// Whether a connection that is lost is made again.
    pub(super) kept: bool,
}

impl Link {
    /// Before the first try.
    pub(super) const UNTRIED: Self = Self {
        client: None,
        caught_up: false,
        address: None,
        trouble: None,
        tries: 0,
        kept: false,
    };
}

/// Why a stream ended.
pub(super) enum Ended {
    /// The connection, not what it carried.
    Lost(String),
    /// A record or a claim that does not verify.
    Refused(Error),
    /// The server knows no machine with this key.
    Stranger(Error),
    /// The agent's own database.
    Local(Failure),
}

impl From<RemoteError> for Ended {
    fn from(fault: RemoteError) -> Self {
        match fault {
            RemoteError::Refused(error) => Self::Refused(error),
            RemoteError::Status { status: 403, detail, .. } => {
                Self::Stranger(Code::UnknownActor.because(detail))
            }
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<Failure> for Ended {
    fn from(fault: Failure) -> Self {
        Self::Local(fault)
    }
}

/// How a try to follow the log went.
#[derive(Clone, Copy)]
pub(super) enum Tried {
    /// The stream reached the server's head before it ended.
    CaughtUp,
    /// The server knew no machine with this key.
    Stranger,
    /// Anything else.
    Short,
}

/// Returns the pauses before and after the next one, when a try that came `wait` after the last went like this.
fn pause(wait: Duration, tried: Tried) -> (Duration, Duration) {
    let (wait, longest) = match tried {
        Tried::CaughtUp => (FIRST_WAIT, LONGEST_WAIT),
        Tried::Short => (wait.min(LONGEST_WAIT), LONGEST_WAIT),
        Tried::Stranger => (wait, LONGEST_STRANGER_WAIT),
    };
    (wait, (wait * 2).min(longest))
}

/// Connects, follows, and connects again, for ever.
pub(super) async fn keep(inner: &Arc<Inner>, mut addresses: watch::Receiver<Vec<String>>) {
    let mut next = FIRST_WAIT;
    inner.link.send_modify(|link| link.kept = true);
    loop {
        let listed = addresses.borrow_and_update().clone();
        let mut halted = inner.halted.subscribe();
        if halted.wait_for(|halted| !halted).await.is_err() {
            return;
        }
        let once = async {
            match reach(inner, &listed).await {
                Some(client) => follow(inner, client).await,
                None => Tried::Short,
            }
        };
        let tried = tokio::select! {
            tried = once => tried,
            () = changed(&mut addresses) => {
                inner.down("the list of addresses changed");
                next = FIRST_WAIT;
                continue;
            }
            _ = halted.wait_for(|halted| *halted) => {
                inner.down("stopped: the server has shown two histories");
                continue;
            }
        };
        let then;
        (next, then) = pause(next, tried);
        tokio::select! {
            () = sleep(jittered(next)) => next = then,
            () = changed(&mut addresses) => next = FIRST_WAIT,
            () = inner.nudge.notified() => {}
        }
    }
}

/// Waits for another list of addresses, for ever if nobody can send one.
async fn changed(addresses: &mut watch::Receiver<Vec<String>>) {
    if addresses.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns half to all of `wait`.
fn jittered(wait: Duration) -> Duration {
    let [byte] = *shared::keys::random::<1>();
    wait.mul_f64(0.5 + f64::from(byte) / 512.0)
}

/// Tries the addresses in order, those of the pins if there are none. Each gets a head start on the next, so that a
/// network that swallows packets costs a moment and not a timeout; the first that answers is taken.
pub(super) async fn reach(inner: &Arc<Inner>, addresses: &[String]) -> Option<Client> {
    let addresses = if addresses.is_empty() { &inner.pins.addresses } else { addresses };
    let pins = {
        let ledger = inner.ledger();
        if ledger.born { ledger.state.server().to_vec() } else { inner.pins.server.clone() }
    };
    let mut waiting = addresses.iter();
    let mut tries = JoinSet::new();
    let begin = |tries: &mut JoinSet<_>, address: &String| {
        let (inner, pins, address) = (Arc::clone(inner), pins.clone(), address.clone());
        tries.spawn(async move { connect(&address, &pins, &inner.keys.sign).await });
    };
    loop {
        if tries.is_empty() {
            let Some(address) = waiting.next() else { break };
            begin(&mut tries, address);
        }
        let tried = tokio::select! {
            Some(tried) = tries.join_next() => tried,
            () = sleep(HEAD_START), if waiting.len() > 0 => {
                if let Some(address) = waiting.next() {
                    begin(&mut tries, address);
                }
                continue;
            }
        };
        match tried {
            Ok(Ok(client)) => {
                inner.alarms().clear(Code::ServerPin.as_str());
                return Some(client);
            }
            Ok(Err(fault)) => inner.not_reached(&fault),
            // A task that was stopped: the engine ends.
            Err(_) => {}
        }
    }
    match addresses.last() {
        None => inner.down("no server address is configured"),
        Some(_) => inner.link.send_modify(|link| link.tries += 1),
    }
    None
}

/// Follows the log until the connection ends.
pub(super) async fn follow(inner: &Arc<Inner>, client: Client) -> Tried {
    let address = Some(client.address().to_owned());
    inner.link.send_modify(|link| {
        *link = Link { client: Some(client.clone()), address, trouble: None, ..link.clone() };
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(super::fetch::run(Arc::clone(inner), client.clone()));
    tasks.spawn(super::report::run(Arc::clone(inner), client.clone()));
    tasks.spawn(super::access::run(Arc::clone(inner), client.clone()));
    let ended = stream(inner, &client).await;
    let tried = match &ended {
        _ if inner.link.borrow().caught_up => Tried::CaughtUp,
        Ended::Stranger(_) => Tried::Stranger,
        Ended::Refused(_) | Ended::Lost(_) | Ended::Local(_) => Tried::Short,
    };
    inner.stream_ended(ended);
    tried
}

async fn stream(inner: &Arc<Inner>, client: &Client) -> Ended {
    match frames(inner, client).await {
        Ok(()) => Ended::Lost("the server ended the stream".into()),
        Err(ended) => ended,
    }
}

async fn frames(inner: &Arc<Inner>, client: &Client) -> Result<(), Ended> {
    let after = inner.ledger().seq();
    let mut frames = client.log(LogQuery { after, follow: true }).await?;
    tracing::info!(address = client.address(), "connected");
    // Where the stream stands: the n-th entry after `after` has to be number `after + n`.
    let mut position = after;
    loop {
        let batch = frames.next().await?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut deliveries = Vec::with_capacity(batch.len());
        let mut heads = Vec::new();
        for frame in batch {
            match frame {
                Frame::Genesis(envelope) => {
                    deliveries.push(Delivery { position: 0, envelope, blobs: Vec::new() });
                }
                Frame::Entry { envelope, blobs } => {
                    position += 1;
                    let blobs = blobs.into_iter().map(|blob| blob.0).collect();
                    deliveries.push(Delivery { position, envelope, blobs });
                }
                Frame::Head { seq, hash } => heads.push((position, seq, hash)),
                Frame::Beat => inner.still_synced(),
            }
        }
        if !deliveries.is_empty() {
            deliver(inner, deliveries).await?;
        }
        for (at, seq, hash) in heads {
            compare(inner, at, seq, hash).await?;
        }
    }
}

/// Applies what came; opens the blobs that came along while the commit is under way.
async fn deliver(inner: &Arc<Inner>, mut deliveries: Vec<Delivery>) -> Result<(), Ended> {
    deliveries.retain(|record| !is_head(&inner.ledger(), record));
    if deliveries.is_empty() {
        return Ok(());
    }
    let receipt = ingest(inner, deliveries).await?;
    let lost = |_| Ended::Local(Failure::Closed);
    let News { arrived, missing, advanced, refused } = receipt.applied.await.map_err(lost)??;
    let opening = inner.open_all(arrived);
    inner.before_commit(&opening);
    receipt.committed.await.map_err(lost)??;
    inner.after_advance(opening, advanced, missing).await;
    refused.map_or(Ok(()), |error| Err(Ended::Refused(error)))
}

/// Compares the server's head with the stream: behind it the server has lost entries, beside it
/// it shows another history.
async fn compare(inner: &Arc<Inner>, position: u64, seq: u64, hash: Hash) -> Result<(), Ended> {
    let known = inner.store.read(move |conn| state::log::hash_at(conn, seq)).await?;
    if let Some(known) = known
        && known != hash
    {
        let why = format!("entry {seq} is {} here and {} there", known.short(), hash.short());
        return Err(Ended::Refused(Code::Fork.because(why)));
    }
    if seq < position {
        let why = format!("it has {seq} entries, this machine has verified {position}");
        return Err(Ended::Refused(Code::ServerBehind.because(why)));
    }
    if seq == position && known.is_some() {
        inner.caught_up();
    }
    Ok(())
}

impl Inner {
    /// Notes why an address did not answer.
    fn not_reached(&self, fault: &ConnectError) {
        tracing::debug!(%fault, "not connected");
        let (ConnectError::WrongPin { address } | ConnectError::Unreachable { address, .. }) =
            fault;
        if let ConnectError::WrongPin { .. } = fault {
            self.raise(Code::ServerPin.as_str(), address, format!("server at `{address}`"));
        }
        self.link.send_modify(|link| {
            link.address = Some(address.clone());
            link.trouble = Some(fault.to_string());
        });
    }

    /// Tells everybody of new entries whose contents are open: what takes time can begin, what must not be undone
    /// waits for [`Inner::commit`].
    pub(super) fn before_commit(&self, opening: &Option<JoinHandle<()>>) {
        if opening.is_none() {
            self.tick();
        }
    }

    /// Tells everybody who waits for new entries, once they are on disk and open.
    pub(super) async fn after_advance(
        self: &Arc<Self>,
        opening: Option<JoinHandle<()>>,
        advanced: bool,
        missing: bool,
    ) {
        if let Some(opening) = opening {
            // A failure has raised its alarm.
            let _ = opening.await;
        }
        if advanced {
            self.still_synced();
            self.tick();
            self.reporting.soon();
            self.snapshot_if_due();
        }
        if missing {
            self.fetch_due.notify_one();
        }
    }

    fn caught_up(self: &Arc<Self>) {
        for code in Code::ALL.iter().filter(|code| stops_sync(**code)) {
            self.alarms().clear(code.as_str());
        }
        self.link.send_modify(|link| {
            link.caught_up = true;
            link.tries += 1;
        });
        self.still_synced();
        self.tick();
        self.fetch_due.notify_one();
        self.reporting.soon();
        self.shipping.soon();
        self.snapshot_if_due();
    }

    /// Notes that the server's head is known now; on disk once in a while.
    fn still_synced(self: &Arc<Self>) {
        if !self.link.borrow().caught_up {
            return;
        }
        let up = u64::try_from(clock::since_boot().as_micros()).unwrap_or(u64::MAX);
        self.heard.store(up, Ordering::Relaxed);
        let now = clock::now();
        let before = self.synced_at.swap(now.as_micros(), Ordering::Relaxed);
        let noted = shared::time::Time::from_micros(before);
        if now.as_secs() / NOTE_SYNCED != noted.as_secs() / NOTE_SYNCED {
            let _ = self.store.try_submit(Box::new(move |conn| {
                match facts::set(conn, facts::SYNCED_AT, &now) {
                    Ok(()) => state::Outcome::Keep(Box::new(|_| {})),
                    Err(fault) => state::Outcome::Undo(fault.into()),
                }
            }));
        }
    }

    pub(super) fn down(&self, why: &str) {
        self.link.send_modify(|link| {
            link.client = None;
            link.caught_up = false;
            link.tries += 1;
            link.trouble = Some(why.into());
        });
        self.tick();
    }

    fn stream_ended(self: &Arc<Self>, ended: Ended) {
        let why = match ended {
            Ended::Lost(why) => {
                tracing::info!(why, "disconnected");
                why
            }
            Ended::Refused(error) | Ended::Stranger(error) => {
                self.refuse(&error);
                error.to_string()
            }
            Ended::Local(fault) => {
                tracing::error!(%fault, "sync stopped");
                fault.to_string()
            }
        };
        self.down(&why);
    }

    /// Raises the alarm of a record that does not verify; a fork stops updates and writes until
    /// a person has looked at it.
    pub(super) fn refuse(self: &Arc<Self>, error: &Error) {
        self.raise(error.code.as_str(), "", error.detail.clone());
        if error.code == Code::Fork {
            self.halted.send_replace(true);
            let proof = error.detail.clone();
            let noted = self.store.try_submit(Box::new(move |conn| {
                match facts::set(conn, facts::FORK, &proof) {
                    Ok(()) => state::Outcome::Keep(Box::new(|_| {})),
                    Err(fault) => state::Outcome::Undo(fault.into()),
                }
            }));
            if let Err(fault) = noted {
                tracing::error!(%fault, "the fork is not written down");
            }
        }
    }
}

/// Tells whether an alarm of this code is over once the stream has caught up.
fn stops_sync(code: Code) -> bool {
    !code.as_str().starts_with("E_BLOB_")
        && !matches!(
            code,
            Code::Fork | Code::Frozen | Code::Stale | Code::AuditRewritten | Code::BlobReuse
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pause after so many tries that went like this.
    fn after(tries: u32, tried: Tried) -> Duration {
        (0..tries).fold(FIRST_WAIT, |next, _| pause(next, tried).1)
    }

    #[test]
    fn only_what_the_vault_does_not_know_is_given_long_pauses() {
        assert_eq!(after(1, Tried::Short), 2 * FIRST_WAIT);
        assert_eq!(after(100, Tried::Short), LONGEST_WAIT);
        assert_eq!(after(100, Tried::Stranger), LONGEST_STRANGER_WAIT);
        assert_eq!(pause(LONGEST_STRANGER_WAIT, Tried::CaughtUp).0, FIRST_WAIT);
        assert_eq!(pause(LONGEST_STRANGER_WAIT, Tried::Short), (LONGEST_WAIT, LONGEST_WAIT));
    }
}
