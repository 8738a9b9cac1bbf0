//! Requests by keys that belong to no active machine, counted by address. What becomes of the
//! counts lives in `strangers`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use shared::text::Text;

/// Addresses told apart within one minute; what comes from others is counted together.
const ADDRESSES: usize = 32;

/// Requests since the last record, by address.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<BTreeMap<Text<64>, Seen>>);

/// What one address has sent.
#[derive(Debug)]
pub struct Seen {
    /// Requests.
    pub count: u64,
    /// The key, while there was only one.
    pub key: Option<[u8; 32]>,
}

impl Strangers {
    pub fn count(&self, addr: Text<64>, key: [u8; 32]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.contains_key(&addr) || seen.len() < ADDRESSES;
        let slot = if known { addr } else { Text::default() };
        let entry = seen.entry(slot).or_insert(Seen { count: 0, key: Some(key) });
        entry.count += 1;
        if entry.key != Some(key) {
            entry.key = None;
        }
    }

    pub fn take(&self) -> BTreeMap<Text<64>, Seen> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
