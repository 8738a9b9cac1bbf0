//! How the connection to the server is: the client, how far it has come, why there is none, and
//! whether a fork has stopped it. Making a connection lives in `reach`, following in `follow`.

use std::sync::Arc;
use std::time::Duration;

use shared::error::{Code, Error};
use shared::time::Time;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::alarms::Alarms;
use super::types::{Ticks, WriteError};
use crate::state::{self, Failure, Store, facts};
use host::clock;
use machine::remote::{Client, RemoteError};

/// The subject of an alarm that has stopped the sync.
pub(super) const SYNC: &str = "sync";
/// The alarm while the server waits for an owner.
const RESTORED: &str = "E_SERVER_RESTORED";
/// What it means that the server was restored.
pub(super) const WAITS: &str = "the server was restored from a copy: it takes no change and hands \
                                out no content until `vault heal` has given its log back, or an \
                                owner runs `vault resume`";
/// The way out of it.
const HEALS: &str = "`vault heal` on every host, then, on an admin's, `vault resume` with the code \
                     that the server's host has: its log names the file";
/// Why there is no connection after a fork.
pub(super) const HALTED: &str = "updates and writes are stopped: E_FORK";
/// How often at most the time of the last sync is written down while nothing else is.
const NOTE_SYNCED: u64 = 60;
/// How long the first connection since the start, while it is being made, may keep a write waiting.
const FIRST_TRY: Duration = Duration::from_secs(3);
/// How long a later one may.
const NEXT_TRY: Duration = Duration::from_secs(1);

/// How the connection is.
#[derive(Clone, Default)]
pub(super) struct LinkState {
    /// The connection, if there is one.
    pub(super) client: Option<Client>,
    /// Whether the stream has reached the server's head: writes may be built.
    pub(super) caught_up: bool,
    /// Its address, or the one last tried.
    pub(super) address: Option<String>,
    /// Why there is none, or why it does not catch up.
    pub(super) trouble: Option<String>,
    /// Attempts since the start that have ended, well or badly.
    pub(super) tries: u64,
    /// Whether a connection that is lost is made again.
    pub(super) kept: bool,
    /// Whether updates and writes have stopped because of a fork.
    pub(super) halted: bool,
    /// Whether an owner's act is under way all the same.
    pub(super) acting: bool,
    /// Whether the server has said that it was restored and waits for an owner.
    pub(super) restored: bool,
    /// When this machine last knew to be at the server's head.
    pub(super) synced_at: Option<Time>,
    /// The same since the boot, of this process alone.
    pub(super) heard: Option<Duration>,
}

/// The connection, for everybody who needs it or waits for it.
pub(super) struct Link {
    state: watch::Sender<LinkState>,
    /// Ends the pause before the next try to connect.
    nudge: Notify,
    alarms: Arc<Alarms>,
    store: Arc<Store>,
    ticks: Ticks,
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

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for Ended {
    fn from(fault: Failure) -> Self {
        Self::Local(fault)
    }
}

impl Link {
    /// Starts without a connection; `fork` is what has stopped an earlier process, and `address`
    /// where the server is to be sought.
    pub(super) fn new(
        alarms: Arc<Alarms>,
        store: Arc<Store>,
        ticks: Ticks,
        synced_at: Option<Time>,
        fork: Option<String>,
        address: Option<String>,
    ) -> Self {
        let halted = fork.is_some();
        if let Some(proof) = fork {
            alarms.raise(Code::Fork.as_str(), SYNC, proof);
        }
        let state = LinkState { synced_at, halted, address, ..LinkState::default() };
        let state = watch::Sender::new(state);
        Self { state, nudge: Notify::new(), alarms, store, ticks }
    }

    pub(super) fn now(&self) -> LinkState {
        self.state.borrow().clone()
    }

    /// Shows how the connection is to `look`, which must not call the link.
    pub(super) fn look<T>(&self, look: impl FnOnce(&LinkState) -> T) -> T {
        look(&self.state.borrow())
    }

    /// Tells whether the stream has reached the server's head.
    pub(super) fn is_caught_up(&self) -> bool {
        self.look(|link| link.caught_up)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Returns the connection, or why there is none.
    pub(super) fn client(&self) -> Result<Client, String> {
        let state = self.state.borrow();
        match &state.client {
            Some(client) if !client.is_closed() => Ok(client.clone()),
            Some(_) => Err("the connection is gone".into()),
            None => Err(state.reason()),
        }
    }

    /// Returns the connection if entries may be built; [`WriteError::Halted`] after a fork, unless
    /// an owner's act is under way, [`WriteError::Offline`] for any other reason.
    pub(super) fn writing_client(&self) -> Result<Client, WriteError> {
        if self.look(|link| link.halted && !link.acting) {
            return Err(WriteError::Halted);
        }
        let client = self.client().map_err(|reason| WriteError::Offline { reason })?;
        let state = self.state.borrow();
        if !state.caught_up {
            let reason = state.trouble.clone();
            let reason = reason.unwrap_or_else(|| "still catching up with the log".to_owned());
            return Err(WriteError::Offline { reason });
        }
        Ok(client)
    }

    /// Has a connection made now, not at the end of a pause, and waits until it has caught up or
    /// failed: a write right after the start, or when the server is back, is not refused for some
    /// seconds' sake.
    pub(super) async fn try_now(&self) {
        let mut link = self.subscribe();
        let (before, kept) = {
            let link = link.borrow();
            if link.caught_up || link.halted {
                return;
            }
            (link.tries, link.kept)
        };
        if kept {
            self.nudge.notify_one();
        } else if before > 0 {
            return;
        }
        let decided = link.wait_for(|link| link.caught_up || link.tries > before);
        // Whatever came of it, the caller looks at the link itself.
        let _ = timeout(if before == 0 { FIRST_TRY } else { NEXT_TRY }, decided).await;
    }

    /// Waits until a fork has stopped updates and writes, or until none does any more.
    pub(super) async fn until_halted(&self, halted: bool) {
        // The sender is here: it cannot be closed.
        let _ = self.subscribe().wait_for(|link| link.halted == halted).await;
    }

    /// Tells whether the server has last said that it was restored and waits for an owner.
    pub(super) fn is_restored(&self) -> bool {
        self.look(|link| link.restored)
    }

    /// Notes whether it does.
    pub(super) fn restored(&self, restored: bool) {
        let is_news = self
            .state
            .send_if_modified(|link| std::mem::replace(&mut link.restored, restored) != restored);
        if restored {
            self.alarms.raise(RESTORED, "", format!("{WAITS} (hint: {HEALS})"));
        } else if is_news {
            self.alarms.clear(RESTORED);
        }
    }

    /// Has a connection made now, not at the end of a pause.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits until somebody wants a connection now.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Notes that a connection that is lost will be made again.
    pub(super) fn keep(&self) {
        self.state.send_modify(|link| link.kept = true);
    }

    /// Notes a connection.
    pub(super) fn up(&self, client: Client) {
        self.state.send_modify(|link| {
            link.address = Some(client.address().to_owned());
            link.client = Some(client);
            link.trouble = None;
        });
    }

    /// Tells whether another connection has come in the place of `client`.
    pub(super) fn is_replaced(&self, client: &Client) -> bool {
        self.look(|link| link.client.as_ref().is_some_and(|now| !now.is_same(client)))
    }

    /// Notes that the stream has reached the server's head.
    pub(super) fn caught_up(&self) {
        self.state.send_modify(|link| {
            link.caught_up = true;
            link.tries += 1;
        });
        self.still_synced();
    }

    /// Lets an owner's act be carried out although a fork has stopped writes, one at a time, until
    /// what is returned is dropped.
    pub(super) fn act(self: &Arc<Self>) -> Option<Acting> {
        let begun = self.state.send_if_modified(|link| !std::mem::replace(&mut link.acting, true));
        begun.then(|| Acting(Arc::clone(self)))
    }

    /// Notes that there is no connection any more.
    pub(super) fn down(&self, why: &str) {
        self.state.send_modify(|link| {
            link.client = None;
            link.caught_up = false;
            link.tries += 1;
            link.trouble = Some(why.into());
        });
        self.ticks.send_replace(());
    }

    /// Notes where the server is sought, before it was tried anywhere.
    pub(super) fn sought(&self, address: Option<&String>) {
        self.state.send_if_modified(|link| {
            if link.tries == 0 && link.client.is_none() {
                link.address = address.or(link.address.as_ref()).cloned();
            }
            false
        });
    }

    /// Notes that an address was tried and why it is none.
    pub(super) fn missed(&self, address: &str, why: String) {
        self.state.send_modify(|link| {
            link.address = Some(address.to_owned());
            link.trouble = Some(why);
        });
    }

    /// Notes that no address has answered.
    pub(super) fn none_answered(&self) {
        self.state.send_modify(|link| link.tries += 1);
    }

    /// Notes that the server's head is known now; on disk once in a while.
    pub(super) fn still_synced(&self) {
        let (now, up) = (clock::now(), clock::since_boot());
        let mut before = None;
        // Nobody waits for this.
        self.state.send_if_modified(|link| {
            if link.caught_up {
                before = Some(link.synced_at.replace(now).unwrap_or_default());
                link.heard = Some(up);
            }
            false
        });
        let minute = |time: Time| time.as_secs() / NOTE_SYNCED;
        if before.is_some_and(|before| minute(now) != minute(before)) {
            // The next one comes in a minute.
            let _ = state::note(&self.store, move |conn| facts::set(conn, facts::SYNCED_AT, &now));
        }
    }

    /// Writes down when this machine last knew to be at the server's head.
    pub(super) async fn write_synced(&self) {
        let Some(time) = self.state.borrow().synced_at else { return };
        let written = self.store.write(move |conn| facts::set(conn, facts::SYNCED_AT, &time));
        if let Err(fault) = written.await {
            tracing::warn!(%fault, "the time of the last sync is not written down");
        }
    }

    /// Raises the alarm of a record that does not verify; a fork stops updates and writes until
    /// a person has looked at it.
    pub(super) fn refuse(&self, error: &Error) {
        // The newest reason stands in the place of the one before: their ways out may be contrary.
        let codes = [Code::Fork.as_str(), error.code.as_str()];
        self.alarms.clear_if(|code, subject| subject == SYNC && !codes.contains(&code));
        self.alarms.raise(error.code.as_str(), SYNC, error.detail.clone());
        self.state.send_modify(|link| {
            link.trouble = Some(error.to_string());
            link.halted |= error.code == Code::Fork;
        });
        if error.code == Code::Fork {
            let proof = error.detail.clone();
            if let Err(fault) =
                state::note(&self.store, move |conn| facts::set(conn, facts::FORK, &proof))
            {
                tracing::error!(%fault, "the fork is not written down");
            }
        }
    }

    /// Lets updates and writes go on after a fork.
    pub(super) fn go_on(&self) {
        let was = self.state.send_if_modified(|link| std::mem::take(&mut link.halted));
        if was && let Err(fault) = state::note(&self.store, |conn| facts::unset(conn, facts::FORK))
        {
            tracing::error!(%fault, "the fork stays written down");
        }
        self.alarms.clear(Code::Fork.as_str());
        self.ticks.send_replace(());
    }
}

/// An owner's act during a fork.
pub(super) struct Acting(Arc<Link>);

impl Drop for Acting {
    fn drop(&mut self) {
        self.0.state.send_modify(|link| link.acting = false);
        self.0.down(HALTED);
    }
}

impl LinkState {
    /// Returns why there is no connection.
    pub(super) fn reason(&self) -> String {
        self.trouble.clone().unwrap_or_else(|| "not connected".into())
    }
}
