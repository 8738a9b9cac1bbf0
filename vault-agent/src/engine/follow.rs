//! Following the log: back-off with jitter, and what a stream's frames do. An entry that does not
//! verify ends the stream and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use shared::error::Code;
use shared::hash::Hash;
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::access::{self, Accesses};
use super::connect::Connector;
use super::fetch;
use super::intake::Intake;
use super::ledger::Delivery;
use super::link::Ended;
use super::report;
use crate::state::{self, Store};
use machine::remote::Client;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The same for a machine that the vault does not know, most likely for ever: each of its tries is
/// in the audit log.
const LONGEST_STRANGER_WAIT: Duration = Duration::from_mins(10);

/// What it takes to follow the log.
pub(super) struct Follower {
    pub(super) store: Arc<Store>,
    pub(super) connector: Connector,
    pub(super) intake: Arc<Intake>,
    pub(super) accesses: Arc<Accesses>,
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

/// Returns the pauses before and after the next one, when a try that came `wait` after the last
/// went like this.
fn pause(wait: Duration, tried: Tried) -> (Duration, Duration) {
    let (wait, longest) = match tried {
        Tried::CaughtUp => (FIRST_WAIT, LONGEST_WAIT),
        Tried::Short => (wait.min(LONGEST_WAIT), LONGEST_WAIT),
        Tried::Stranger => (wait, LONGEST_STRANGER_WAIT),
    };
    (wait, (wait * 2).min(longest))
}

impl Follower {
    /// Connects, follows, and connects again, for ever.
    pub(super) async fn keep(&self, mut addresses: watch::Receiver<Vec<String>>) {
        let link = &self.connector.link;
        let mut next = FIRST_WAIT;
        link.keep();
        loop {
            let listed = addresses.borrow_and_update().clone();
            link.until_halted(false).await;
            let once = async {
                match self.connector.reach(&listed).await {
                    Some(client) => self.follow(client).await,
                    None => Tried::Short,
                }
            };
            let tried = tokio::select! {
                tried = once => tried,
                () = changed(&mut addresses) => {
                    link.down("the list of addresses changed");
                    next = FIRST_WAIT;
                    continue;
                }
                () = link.until_halted(true) => {
                    link.down("stopped: the server has shown two histories");
                    continue;
                }
            };
            let then;
            (next, then) = pause(next, tried);
            tokio::select! {
                () = sleep(jittered(next)) => next = then,
                () = changed(&mut addresses) => next = FIRST_WAIT,
                () = link.nudged() => {}
            }
        }
    }

    /// Follows the log until the connection ends.
    pub(super) async fn follow(&self, client: Client) -> Tried {
        let (link, intake) = (&self.connector.link, &self.intake);
        link.up(client.clone());
        let mut tasks = JoinSet::new();
        let (reader, ticks) = (Arc::clone(&intake.reader), intake.ticks.clone());
        tasks.spawn(fetch::run(reader, ticks, client.clone()));
        tasks.spawn(report::run(Arc::clone(&intake.reports), client.clone()));
        tasks.spawn(access::run(Arc::clone(&self.accesses), client.clone()));
        let ended = match self.frames(&client).await {
            Ok(()) => Ended::Lost("the server ended the stream".into()),
            Err(ended) => ended,
        };
        let tried = match &ended {
            _ if link.is_caught_up() => Tried::CaughtUp,
            Ended::Stranger(_) => Tried::Stranger,
            Ended::Refused(_) | Ended::Lost(_) | Ended::Local(_) => Tried::Short,
        };
        self.ended(ended);
        tried
    }

    async fn frames(&self, client: &Client) -> Result<(), Ended> {
        let after = self.connector.ledger.read().seq();
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
                    Frame::Beat => self.connector.link.still_synced(),
                }
            }
            self.intake.take(deliveries).await?;
            for (at, seq, hash) in heads {
                self.compare(at, seq, hash).await?;
            }
        }
    }

    /// Compares the server's head with the stream: behind it the server has lost entries, beside
    /// it it shows another history.
    async fn compare(&self, position: u64, seq: u64, hash: Hash) -> Result<(), Ended> {
        let known = self.store.read(move |conn| state::log::hash_at(conn, seq)).await?;
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
            self.caught_up();
        }
        Ok(())
    }

    fn caught_up(&self) {
        for code in Code::ALL.iter().filter(|code| stops_sync(**code)) {
            self.connector.alarms.clear(code.as_str());
        }
        self.intake.caught_up();
        self.accesses.ship_soon();
    }

    fn ended(&self, ended: Ended) {
        let why = match ended {
            Ended::Lost(why) => {
                tracing::info!(why, "disconnected");
                why
            }
            Ended::Refused(error) | Ended::Stranger(error) => {
                self.connector.link.refuse(&error);
                error.to_string()
            }
            Ended::Local(fault) => {
                tracing::error!(%fault, "sync stopped");
                fault.to_string()
            }
        };
        self.connector.link.down(&why);
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
