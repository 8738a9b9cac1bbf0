//! Reaching the server: addresses in order, each with a head start, the pinned key.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::error::Code;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::parts::Parts;
use machine::remote::{Client, ConnectError, connect};

/// How long an address is waited for before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(300);

/// Tries the addresses in order, those of the pins if there are none. Each gets a head start
/// on the next, so that a network that swallows packets costs a moment and not a timeout; the
/// first that answers is taken.
pub(super) async fn reach(parts: &Parts, addresses: &[String]) -> Option<Client> {
    let addresses = if addresses.is_empty() { &parts.own.pins.addresses } else { addresses };
    let pins = parts.ledger.read().server_keys();
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

/// Connects beside the connection that is kept, if one is.
pub(super) async fn beside(parts: &Parts) -> Result<Client> {
    let known = parts.link.now().address;
    match reach(parts, known.as_slice()).await {
        Some(client) => Ok(client),
        None => reach(parts, &[]).await.with_context(|| parts.link.now().reason()),
    }
}

/// Returns half to all of `wait`.
pub(super) fn jittered(wait: Duration) -> Duration {
    let [byte] = *shared::keys::random::<1>();
    wait.mul_f64(0.5 + f64::from(byte) / 512.0)
}
