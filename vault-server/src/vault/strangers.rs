//! Keys that belong to no active machine: counted, and recorded once a minute, so that a flood of
//! them fills no disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use shared::audit::{Fact, Op, Outcome};
use shared::hash::Hash;
use shared::text::Text;

use super::{Peer, Vault};

/// Addresses told apart within one minute; what comes from others is counted together.
const ADDRESSES: usize = 32;

/// Requests since the last record, by address.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<BTreeMap<Text<64>, Seen>>);

#[derive(Debug)]
struct Seen {
    count: u64,
    /// The key, while there was only one.
    key: Option<[u8; 32]>,
}

impl Strangers {
    fn count(&self, addr: Text<64>, key: [u8; 32]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.contains_key(&addr) || seen.len() < ADDRESSES;
        let slot = if known { addr } else { Text::default() };
        let entry = seen.entry(slot).or_insert(Seen { count: 0, key: Some(key) });
        entry.count += 1;
        if entry.key != Some(key) {
            entry.key = None;
        }
    }

    fn take(&self) -> BTreeMap<Text<64>, Seen> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

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
            .call(move |desk| {
                for (addr, Seen { count, key }) in seen {
                    desk.record(Fact {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_many_addresses_stays_bounded() {
        let strangers = Strangers::default();
        let addr = |high: u64, low: u64| Text::lossy(&format!("10.0.{high}.{low}"));
        for n in 0..1000_u64 {
            strangers.count(addr(n / 250, n % 250), [1; 32]);
        }
        strangers.count(addr(0, 0), [2; 32]);
        let seen = strangers.take();
        assert_eq!(seen.len(), ADDRESSES + 1);
        assert_eq!(seen.values().map(|seen| seen.count).sum::<u64>(), 1001);
        let twice = &seen[&addr(0, 0)];
        assert_eq!((twice.count, twice.key), (2, None));
        assert!(strangers.take().is_empty());
    }
}
