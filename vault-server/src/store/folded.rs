//! Keys that belong to no active machine: counted by address, and recorded once a minute, so that a
//! flood of them fills no disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use shared::audit::{Fact, Op, Outcome};
use shared::hash::Hash;
use shared::text::Text;

use super::caller::Peer;

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
    /// Counts a request.
    pub fn count(&self, peer: &Peer) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let addr = peer.ip();
        let known = seen.contains_key(&addr) || seen.len() < ADDRESSES;
        let slot = if known { addr } else { Text::default() };
        let seen = seen.entry(slot).or_insert(Seen { count: 0, key: Some(peer.key) });
        seen.count += 1;
        seen.key.take_if(|key| *key != peer.key);
    }

    /// Returns one record for every address that strangers came from, and starts anew.
    pub fn take(&self) -> Vec<Fact> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = |(addr, Seen { count, key }): (Text<64>, Seen)| Fact {
            key: key.map(|key| Text::lossy(&Hash::from_bytes(key).to_string())),
            addr: (!addr.is_empty()).then_some(addr),
            count: Some(count).filter(|count| *count > 1),
            result: Outcome::Forbidden,
            ..Fact::new(Op::Stranger)
        };
        std::mem::take(&mut *seen).into_iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_many_addresses_stays_bounded() {
        let strangers = Strangers::default();
        let peer = |high: u64, low: u64, key: u8| Peer {
            key: [key; 32],
            addr: format!("10.0.{high}.{low}:1").parse().unwrap(),
        };
        for n in 0..1000_u64 {
            strangers.count(&peer(n / 250, n % 250, 1));
        }
        strangers.count(&peer(0, 0, 2));
        let facts = strangers.take();
        assert_eq!(facts.len(), ADDRESSES + 1);
        assert_eq!(facts.iter().map(|fact| fact.count.unwrap_or(1)).sum::<u64>(), 1001);
        let twice = facts.iter().find(|fact| fact.count == Some(2)).unwrap();
        assert_eq!((twice.addr.clone(), twice.key.clone()), (Some(peer(0, 0, 1).ip()), None));
        assert!(strangers.take().is_empty());
    }
}
