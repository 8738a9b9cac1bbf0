//! Reaching the server: all addresses at once, the pinned key, and why none has answered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use host::hint::Failure;
use host::shown::Shown;
use shared::error::Code;
use tokio::task::JoinSet;

use super::parts::Parts;
use machine::remote::{Client, ConnectError, Ping, Race, Tried, Wave, connect_to_stay};

/// Connects to the first address that answers. A wrong key is an alarm, and stops no other.
pub(super) async fn reach(parts: &Parts) -> Option<Client> {
    let all = addresses(parts);
    if all.is_empty() {
        parts.link.down("no server address is configured");
        return None;
    }
    first(parts, parts.ways.waves(&all)).await
}

/// Returns the addresses where the server is sought.
pub(super) fn addresses(parts: &Parts) -> Vec<String> {
    let folded = parts.ledger.read();
    let mut signed: Vec<String> =
        folded.state.addresses().iter().map(ToString::to_string).collect();
    signed.extend(folded.trusted.iter().flat_map(|trust| trust.addresses.clone()));
    parts.ways.all(&signed, &parts.own.pins.addresses)
}

async fn first(parts: &Parts, waves: Vec<Wave>) -> Option<Client> {
    let mut race = race(parts, waves);
    let mut failed: Vec<ConnectError> = Vec::new();
    while let Some(tried) = race.next().await {
        match tried {
            Ok(client) => {
                answered(parts, &client);
                return Some(client);
            }
            Err(fault) => {
                silent(parts, &fault);
                failed.push(fault);
                failed.sort_by(|one, other| one.address().cmp(other.address()));
                parts.link.missed(failed[0].address(), ConnectError::list(&failed));
            }
        }
    }
    parts.link.none_answered();
    None
}

/// Begins to connect, as this machine, to a server with a pinned key.
pub(super) fn race(
    parts: &Parts,
    waves: Vec<Wave>,
) -> Race<impl Fn(&mut JoinSet<Tried>, &str) + use<>> {
    let (own, folded) = (Arc::clone(&parts.own), parts.ledger.read());
    let active = folded.state.machines().values().filter(|machine| machine.active).count();
    let (pins, ping) = (folded.server_keys(), Ping::among(active));
    Race::new(waves, move |tries: &mut JoinSet<Tried>, address: &str| {
        let (own, pins, address) = (Arc::clone(&own), pins.clone(), address.to_owned());
        tries.spawn(async move { connect_to_stay(&address, &pins, &own.keys.sign, ping).await });
    })
}

/// Notes that an address has answered with a pinned key.
pub(super) fn answered(parts: &Parts, client: &Client) {
    parts.ways.answered(client.address(), client.way().took);
    let all = addresses(parts);
    // Another address that shows a wrong key goes on to be an alarm, while it is one.
    parts.alarms.clear_if(|code, subject| {
        let is_sought = all.iter().any(|address| address == subject);
        code == Code::ServerPin.as_str() && (subject == client.address() || !is_sought)
    });
}

/// Notes why an address did not answer.
pub(super) fn silent(parts: &Parts, fault: &ConnectError) {
    tracing::debug!(%fault, "not connected");
    if let ConnectError::WrongPin { address } = fault {
        let detail = format!("server at `{address}`");
        parts.alarms.raise(Code::ServerPin.as_str(), address, detail);
    }
}

/// Connects beside the connection that is kept, if one is; through the pinned addresses if no other
/// answers.
pub(super) async fn beside(parts: &Parts) -> Result<Client> {
    if let Some(client) = reach(parts).await {
        return Ok(client);
    }
    let tried = addresses(parts);
    let pinned = parts.own.pins.addresses.iter().filter(|address| !tried.contains(address));
    let rest = Wave { addresses: pinned.cloned().collect(), after: Duration::ZERO };
    let why = parts.link.now().reason();
    match first(parts, vec![rest]).await {
        Some(client) => Ok(client),
        None => Err(failure(&why).into()),
    }
}

/// Connects to the first that answers of `addresses` and those that [`reach`] knows beside them.
pub(super) async fn by_one_of(parts: &Parts, addresses: &[String]) -> Result<Client> {
    parts.ways.list(addresses);
    let reached = reach(parts).await;
    reached.ok_or_else(|| failure(&parts.link.now().reason()).into())
}

/// Makes an error of why no address answers, one line each.
fn failure(why: &str) -> Failure {
    Failure::local(Shown::lines(why.lines()))
}

/// Returns half to all of `wait`.
pub(super) fn jittered(wait: Duration) -> Duration {
    let [byte] = *shared::keys::random::<1>();
    wait.mul_f64(0.5 + f64::from(byte) / 512.0)
}
