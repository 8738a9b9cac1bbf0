//! Decrypted content, bounded in bytes, number and time, wiped when it leaves; and which blobs were
//! refused, so that a bad one is not decrypted again for every reader.

use std::collections::HashMap;
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

impl Cache {
    /// Returns a blob's content, or why it was refused.
    pub(super) fn get(&self, blob: &Hash) -> Option<Result<Content, Error>> {
        self.lock().get(blob)
    }

    /// Keeps a blob's content; what was used longest ago goes.
    pub(super) fn put(&self, blob: Hash, content: Content) {
        self.lock().put(blob, content);
    }

    /// Notes that a blob, whose hash is right, does not open.
    pub(super) fn refuse(&self, blob: Hash, error: Error) {
        self.lock().refuse(blob, error);
    }

    /// Drops what is known of these blobs.
    pub(super) fn remove(&self, blobs: &[Hash]) {
        let mut contents = self.lock();
        blobs.iter().for_each(|blob| contents.remove(blob));
    }

    /// Tells whether a blob's content is here.
    pub(super) fn has(&self, blob: &Hash) -> bool {
        self.lock().has(blob)
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wipes what is not used any more, for ever.
pub(super) async fn tend(cache: Arc<Cache>) {
    loop {
        tokio::time::sleep(UNUSED).await;
        cache.lock().wipe_unused();
    }
}

/// Contents and refusals by blob.
#[derive(Default)]
struct Contents {
    contents: HashMap<Hash, Slot>,
    refused: HashMap<Hash, Error>,
    bytes: usize,
    clock: u64,
    /// The clock when unused contents were last wiped.
    wiped: u64,
}

struct Slot {
    content: Content,
    used: u64,
}

impl Contents {
    /// Returns a blob's content, or why it was refused.
    fn get(&mut self, blob: &Hash) -> Option<Result<Content, Error>> {
        if let Some(slot) = self.contents.get_mut(blob) {
            self.clock += 1;
            slot.used = self.clock;
            return Some(Ok(slot.content.clone()));
        }
        self.refused.get(blob).map(|error| Err(error.clone()))
    }

    /// Keeps a blob's content; what was used longest ago goes.
    fn put(&mut self, blob: Hash, content: Content) {
        self.remove(&blob);
        self.clock += 1;
        self.bytes += content.bytes.len();
        self.contents.insert(blob, Slot { content, used: self.clock });
        while self.contents.len() > ENTRIES || (self.bytes > BYTES && self.contents.len() > 1) {
            let oldest = self.contents.iter().min_by_key(|(_, slot)| slot.used);
            let Some(oldest) = oldest.map(|(blob, _)| *blob) else { break };
            self.remove(&oldest);
        }
    }

    /// Drops the contents that were not used since the last call.
    fn wipe_unused(&mut self) {
        let since = std::mem::replace(&mut self.wiped, self.clock);
        let Self { contents, bytes, .. } = self;
        contents.retain(|_, slot| {
            let used = slot.used > since;
            if !used {
                *bytes -= slot.content.bytes.len();
            }
            used
        });
        contents.shrink_to_fit();
    }

    /// Notes that a blob, whose hash is right, does not open.
    fn refuse(&mut self, blob: Hash, error: Error) {
        if self.refused.len() < REFUSED {
            self.refused.insert(blob, error);
        }
    }

    /// Drops what is known of a blob.
    fn remove(&mut self, blob: &Hash) {
        self.refused.remove(blob);
        if let Some(slot) = self.contents.remove(blob) {
            self.bytes -= slot.content.bytes.len();
        }
    }

    /// Tells whether a blob's content is here.
    fn has(&self, blob: &Hash) -> bool {
        self.contents.contains_key(blob)
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
        let mut cache = Contents::default();
        let blobs: Vec<Hash> = (0..5u8).map(|n| Hash::of(&[&[n]])).collect();
        for blob in &blobs[..4] {
            cache.put(*blob, content(BYTES / 4));
        }
        assert!(cache.get(&blobs[0]).is_some());
        cache.put(blobs[4], content(BYTES / 4));
        let left: Vec<bool> = blobs.iter().map(|blob| cache.has(blob)).collect();
        assert_eq!(left, [true, false, true, true, true]);
        assert_eq!(cache.bytes, BYTES);
    }

    #[test]
    fn what_nobody_asks_for_is_wiped() {
        let mut cache = Contents::default();
        let blobs: Vec<Hash> = (0..3u8).map(|n| Hash::of(&[&[n]])).collect();
        for blob in &blobs {
            cache.put(*blob, content(10));
        }
        cache.wipe_unused();
        assert_eq!(cache.bytes, 30, "all were used since the start");
        assert!(cache.get(&blobs[1]).is_some());
        cache.wipe_unused();
        let left: Vec<bool> = blobs.iter().map(|blob| cache.has(blob)).collect();
        assert_eq!((left, cache.bytes), (vec![false, true, false], 10));
        cache.wipe_unused();
        assert_eq!((cache.contents.len(), cache.bytes), (0, 0));
    }

    #[test]
    fn one_content_over_the_bound_is_still_served() {
        let mut cache = Contents::default();
        cache.put(Hash::ZERO, content(BYTES + 1));
        assert!(cache.has(&Hash::ZERO));
        cache.put(Hash::of(&[]), content(1));
        assert!(!cache.has(&Hash::ZERO));
    }
}
