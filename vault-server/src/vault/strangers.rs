//! Keys that belong to no active machine: counted, and recorded once a minute, so that a flood of
//! them fills no disk.

use shared::audit::{Fact, Op, Outcome};
use shared::hash::Hash;
use shared::text::Text;

use super::tally::Seen;
use super::{Peer, Vault};

impl Vault {
    /// Counts a request by a key that belongs to no active machine.
    pub fn count_stranger(&self, peer: &Peer) {
        self.0.metrics.stranger();
        self.0.strangers.count(peer.ip(), peer.key);
    }

    /// Writes one record for every address that strangers came from.
    pub(super) async fn record_strangers(&self) {
        let seen = self.0.strangers.take();
        if seen.is_empty() {
            return;
        }
        // A failure is in the log; the counters in the metrics still hold these requests.
        let _ = self
            .call(move |tx| {
                for (addr, Seen { count, key }) in seen {
                    tx.record(Fact {
                        key: key.map(|key| Text::lossy(&Hash::from_bytes(key).to_string())),
                        addr: (!addr.is_empty()).then_some(addr),
                        count: Some(count).filter(|count| *count > 1),
                        result: Outcome::Forbidden,
                        ..Fact::new(Op::Stranger)
                    })?;
                }
                Ok(Ok(()))
            })
            .await;
    }
}
