//! Decrypted content, bounded in bytes, number and time, wiped when it leaves; and which blobs were
//! refused, so that a bad one is not decrypted again for every reader.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::error::Error;
use shared::hash::Hash;

use super::types::Content;

const BYTES: usize = 1 << 20;
const ENTRIES: usize = 256;
const REFUSED: usize = 1024;
/// What nobody has asked for in such a time is wiped.
const UNUSED: Duration = Duration::from_secs(60);

/// The contents in memory.
#[derive(Default)]
pub(super) struct Cache(Mutex<Contents>);

/// Contents and refusals by blob.
#[derive(Default)]
struct Contents {
    contents: HashMap<Hash, Slot>,
    refused: HashMap<Hash, Error>,
    /// Those that the server was asked for in vain.
    missed: HashSet<Hash>,
    bytes: usize,
    clock: u64,
    /// The clock when unused contents were last wiped.
    wiped: u64,
}

struct Slot {
    content: Content,
    used: u64,
}

impl Cache {
    /// Returns a blob's content, or why it was refused.
    pub(super) fn get(&self, blob: &Hash) -> Option<Result<Content, Error>> {
        let Contents { contents, refused, clock, .. } = &mut *self.lock();
        if let Some(slot) = contents.get_mut(blob) {
            *clock += 1;
            slot.used = *clock;
            return Some(Ok(slot.content.clone()));
        }
        refused.get(blob).map(|error| Err(error.clone()))
    }

    /// Keeps a blob's content; what was used longest ago goes.
    pub(super) fn put(&self, blob: Hash, content: Content) {
        let mut all = self.lock();
        all.remove(&blob);
        all.clock += 1;
        all.bytes += content.bytes.len();
        let used = all.clock;
        all.contents.insert(blob, Slot { content, used });
        while all.contents.len() > ENTRIES || (all.bytes > BYTES && all.contents.len() > 1) {
            let oldest = all.contents.iter().min_by_key(|(_, slot)| slot.used);
            let Some(oldest) = oldest.map(|(blob, _)| *blob) else { break };
            all.remove(&oldest);
        }
    }

    /// Notes that a blob, whose hash is right, does not open.
    pub(super) fn refuse(&self, blob: Hash, error: Error) {
        let refused = &mut self.lock().refused;
        if refused.len() < REFUSED {
            refused.insert(blob, error);
        }
    }

    /// Drops what is known of these blobs.
    pub(super) fn remove(&self, blobs: &[Hash]) {
        let mut all = self.lock();
        blobs.iter().for_each(|blob| all.remove(blob));
    }

    /// Notes that the server does not give a blob that it should have.
    pub(super) fn miss(&self, blob: Hash) {
        let missed = &mut self.lock().missed;
        if missed.len() < REFUSED {
            missed.insert(blob);
        }
    }

    /// Tells whether trying to get at a blob has failed, and not for want of a connection.
    pub(super) fn has_failed(&self, blob: &Hash) -> bool {
        let all = self.lock();
        all.refused.contains_key(blob) || all.missed.contains(blob)
    }

    /// Tells whether a blob, whose hash is right, does not open.
    pub(super) fn is_refused(&self, blob: &Hash) -> bool {
        self.lock().refused.contains_key(blob)
    }

    pub(super) fn has(&self, blob: &Hash) -> bool {
        self.lock().contents.contains_key(blob)
    }

    /// Drops the contents that were not used since the last call.
    fn wipe_unused(&self) {
        let Contents { contents, bytes, clock, wiped, .. } = &mut *self.lock();
        let since = std::mem::replace(wiped, *clock);
        contents.retain(|_, slot| {
            let used = slot.used > since;
            if !used {
                *bytes -= slot.content.bytes.len();
            }
            used
        });
        contents.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn remove(&mut self, blob: &Hash) {
        self.refused.remove(blob);
        self.missed.remove(blob);
        if let Some(slot) = self.contents.remove(blob) {
            self.bytes -= slot.content.bytes.len();
        }
    }
}

/// Wipes what is not used any more, for ever.
pub(super) async fn tend(cache: Arc<Cache>) {
    loop {
        tokio::time::sleep(UNUSED).await;
        cache.wipe_unused();
    }
}

#[cfg(test)]
mod tests {
    use shared::blob::Kind;
    use shared::plaintext::Plaintext;

    use super::*;

    fn content(bytes: usize) -> Content {
        Content { ver: 1, kind: Kind::Raw, bytes: Arc::new(Plaintext::new(vec![1; bytes])) }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let cache = Cache::default();
        let blobs: Vec<Hash> = (0..5u8).map(|n| Hash::of(&[&[n]])).collect();
        for blob in &blobs[..4] {
            cache.put(*blob, content(BYTES / 4));
        }
        assert!(cache.get(&blobs[0]).is_some());
        cache.put(blobs[4], content(BYTES / 4));
        let left: Vec<bool> = blobs.iter().map(|blob| cache.has(blob)).collect();
        assert_eq!(left, [true, false, true, true, true]);
        assert_eq!(cache.lock().bytes, BYTES);
    }

    #[test]
    fn what_nobody_asks_for_is_wiped() {
        let cache = Cache::default();
        let blobs: Vec<Hash> = (0..3u8).map(|n| Hash::of(&[&[n]])).collect();
        for blob in &blobs {
            cache.put(*blob, content(10));
        }
        cache.wipe_unused();
        assert_eq!(cache.lock().bytes, 30, "all were used since the start");
        assert!(cache.get(&blobs[1]).is_some());
        cache.wipe_unused();
        let left: Vec<bool> = blobs.iter().map(|blob| cache.has(blob)).collect();
        assert_eq!(left, [false, true, false]);
        assert_eq!(cache.lock().bytes, 10);
        cache.wipe_unused();
        assert!(cache.lock().contents.is_empty());
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn one_content_over_the_bound_is_still_served() {
        let cache = Cache::default();
        cache.put(Hash::ZERO, content(BYTES + 1));
        assert!(cache.has(&Hash::ZERO));
        cache.put(Hash::of(&[]), content(1));
        assert!(!cache.has(&Hash::ZERO));
    }
}
