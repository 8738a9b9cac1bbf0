//! Reaching the server: addresses in order, the pinned key. And following its log: back-off with
//! jitter, and what a stream's frames do. An entry that does not verify ends the stream and changes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use shared::error::Code;
use shared::hash::Hash;
use shared::wire::v1::log::{Frame, LogQuery};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ledger::Delivery;
use super::link::{Ended, SYNC};
use super::parts::Parts;
use super::{access, fetch, intake, report};
use machine::remote::{Client, ConnectError, connect};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The same for a machine that the vault does not know, most likely for ever: each of its tries is
/// in the audit log.
const LONGEST_STRANGER_WAIT: Duration = Duration::from_mins(10);
/// How long an address is waited for before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(300);

/// Tries the addresses in order, those of the pins if there are none. Each gets a head start
/// on the next, so that a network that swallows packets costs a moment and not a timeout; the
/// first that answers is taken.
pub(super) async fn reach(parts: &Parts, addresses: &[String]) -> Option<Client> {
    let addresses = if addresses.is_empty() { &parts.own.pins.addresses } else { addresses };
    let pins = {
        let folded = parts.ledger.read();
        if folded.born { folded.state.server().to_vec() } else { parts.own.pins.server.clone() }
    };
    let mut waiting = addresses.iter();
    let mut tries = JoinSet::new();
    let begin = |tries: &mut JoinSet<_>, address: &String| {
        let (own, pins, address) = (Arc::clone(&parts.own), pins.clone(), address.clone());
        tries.spawn(async move { connect(&address, &pins, &own.keys.sign).await });
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
                parts.alarms.clear(Code::ServerPin.as_str());
                return Some(client);
            }
            Ok(Err(fault)) => not_reached(parts, &fault),
            // A task that was stopped: the engine ends.
            Err(_) => {}
        }
    }
    match addresses.last() {
        None => parts.link.down("no server address is configured"),
        Some(_) => parts.link.none_answered(),
    }
    None
}

/// Notes why an address did not answer.
fn not_reached(parts: &Parts, fault: &ConnectError) {
    tracing::debug!(%fault, "not connected");
    let (ConnectError::WrongPin { address } | ConnectError::Unreachable { address, .. }) = fault;
    if let ConnectError::WrongPin { .. } = fault {
        let detail = format!("server at `{address}`");
        parts.alarms.raise(Code::ServerPin.as_str(), address, detail);
    }
    parts.link.missed(address, fault.to_string());
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

/// Connects, follows, and connects again, for ever.
pub(super) async fn keep(parts: &Arc<Parts>, mut addresses: watch::Receiver<Vec<String>>) {
    let link = &parts.link;
    let mut next = FIRST_WAIT;
    link.keep();
    loop {
        let listed = addresses.borrow_and_update().clone();
        link.until_halted(false).await;
        let once = async {
            match reach(parts, &listed).await {
                Some(client) => follow(parts, client).await,
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
pub(super) async fn follow(parts: &Arc<Parts>, client: Client) -> Tried {
    parts.link.up(client.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(fetch::run(Arc::clone(parts), client.clone()));
    tasks.spawn(report::run(Arc::clone(&parts.reports), client.clone()));
    tasks.spawn(access::run(Arc::clone(&parts.accesses), client.clone()));
    let ended = match frames(parts, &client).await {
        Ok(()) => Ended::Lost("the server ended the stream".into()),
        Err(ended) => ended,
    };
    let tried = match &ended {
        _ if parts.link.is_caught_up() => Tried::CaughtUp,
        Ended::Stranger(_) => Tried::Stranger,
        Ended::Refused(_) | Ended::Lost(_) | Ended::Local(_) => Tried::Short,
    };
    over(parts, ended);
    tried
}

async fn frames(parts: &Arc<Parts>, client: &Client) -> Result<(), Ended> {
    let after = parts.ledger.read().state.seq();
    let mut frames = client.log(LogQuery { after, follow: true, run: Some(parts.own.run) }).await?;
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
                Frame::Beat => parts.link.still_synced(),
            }
        }
        intake::take(parts, deliveries).await?;
        for (at, seq, hash) in heads {
            compare(parts, at, seq, hash).await?;
        }
    }
}

/// Compares the server's head with the stream: behind it the server has lost entries, beside it it
/// shows another history.
async fn compare(parts: &Arc<Parts>, position: u64, seq: u64, hash: Hash) -> Result<(), Ended> {
    let known = parts.ledger.is_known(seq, hash).await??;
    if seq < position {
        let why = format!("it has {seq} entries, this machine has verified {position}");
        return Err(Ended::Refused(Code::ServerBehind.because(why)));
    }
    if seq == position && known {
        caught_up(parts);
    }
    Ok(())
}

fn caught_up(parts: &Arc<Parts>) {
    let fork = Code::Fork.as_str();
    parts.alarms.clear_if(|code, subject| subject == SYNC && code != fork);
    intake::caught_up(parts);
    parts.accesses.shipping.soon();
}

fn over(parts: &Parts, ended: Ended) {
    let why = match ended {
        Ended::Lost(why) => {
            tracing::info!(why, "disconnected");
            why
        }
        Ended::Refused(error) | Ended::Stranger(error) => {
            parts.link.refuse(&error);
            error.to_string()
        }
        Ended::Local(fault) => {
            tracing::error!(%fault, "sync stopped");
            fault.to_string()
        }
    };
    parts.link.down(&why);
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
