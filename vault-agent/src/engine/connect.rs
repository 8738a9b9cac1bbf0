//! Reaching the server: addresses in order, the pinned key.

use std::sync::Arc;
use std::time::Duration;

use shared::error::Code;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::alarms::Alarms;
use super::ledger::Ledger;
use super::link::Link;
use super::own::Own;
use machine::remote::{Client, ConnectError, connect};

/// How long an address is waited for before the next is tried as well.
const HEAD_START: Duration = Duration::from_millis(300);

/// What it takes to connect.
pub(super) struct Connector {
    pub(super) own: Arc<Own>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
}

impl Connector {
    /// Tries the addresses in order, those of the pins if there are none. Each gets a head start
    /// on the next, so that a network that swallows packets costs a moment and not a timeout; the
    /// first that answers is taken.
    pub(super) async fn reach(&self, addresses: &[String]) -> Option<Client> {
        let addresses = if addresses.is_empty() { &self.own.pins.addresses } else { addresses };
        let pins = {
            let folded = self.ledger.read();
            if folded.born { folded.state.server().to_vec() } else { self.own.pins.server.clone() }
        };
        let mut waiting = addresses.iter();
        let mut tries = JoinSet::new();
        let begin = |tries: &mut JoinSet<_>, address: &String| {
            let (own, pins, address) = (Arc::clone(&self.own), pins.clone(), address.clone());
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
                    self.alarms.clear(Code::ServerPin.as_str());
                    return Some(client);
                }
                Ok(Err(fault)) => self.not_reached(&fault),
                // A task that was stopped: the engine ends.
                Err(_) => {}
            }
        }
        match addresses.last() {
            None => self.link.down("no server address is configured"),
            Some(_) => self.link.none_answered(),
        }
        None
    }

    /// Notes why an address did not answer.
    fn not_reached(&self, fault: &ConnectError) {
        tracing::debug!(%fault, "not connected");
        let (ConnectError::WrongPin { address } | ConnectError::Unreachable { address, .. }) =
            fault;
        if let ConnectError::WrongPin { .. } = fault {
            let detail = format!("server at `{address}`");
            self.alarms.raise(Code::ServerPin.as_str(), address, detail);
        }
        self.link.missed(address, fault.to_string());
    }
}
