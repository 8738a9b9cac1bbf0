//! What a batch of entries does to the ciphertext that this machine keeps.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::Connection;
use shared::blob::Blob;
use shared::hash::Hash;
use shared::log::{self, Entry, Op, State};
use shared::path::SecretPath;

use super::{Before, Ledger, News};
use crate::engine::blob::Due;
use crate::engine::folded::Folded;
use crate::engine::rights::{may_read, may_retain, place};
use crate::state::{self, retained};

impl Ledger {
    /// Notes how many readers each new blob was made for: the log itself keeps their hash only.
    pub(super) fn note_readers(
        &self,
        conn: &Connection,
        folded: &mut Folded,
        entry: &Entry,
        new: &mut Vec<Hash>,
    ) -> rusqlite::Result<()> {
        for op in &entry.ops {
            let (Op::Put(put) | Op::Rewrap(put)) = op else { continue };
            if folded.readers.contains_key(&put.readers)
                || !may_read(&folded.state, &self.own, &put.path)
                || log::readers_hash(&folded.state, &put.path) != put.readers
            {
                continue;
            }
            let (count, position) = place(&folded.state, &self.own, &put.path);
            state::blobs::set_readers(conn, put.readers, count, position)?;
            folded.readers.insert(put.readers, (count, position));
            new.push(put.readers);
        }
        Ok(())
    }

    /// Keeps the ciphertext of the newest versions, and drops that of versions that may not be read
    /// any more. It takes the place of a predecessor only if it opens: a writer of ciphertext that
    /// does not must not take the last good one from the disk.
    pub(super) fn tend_blobs(
        &self,
        conn: &Connection,
        folded: &mut Folded,
        touched: &BTreeSet<SecretPath>,
        mut blobs: HashMap<Hash, Blob>,
        news: &mut News,
        before: &mut Before,
    ) -> rusqlite::Result<()> {
        let good = self.open_successors(folded, touched, &blobs);
        for path in touched {
            self.tend_retained(conn, &folded.state, path)?;
            let held = folded.held.get(path).copied();
            let Some(due) = folded.newest(&self.own, path) else {
                if held.is_some() {
                    state::blobs::drop(conn, path)?;
                    folded.held.remove(path);
                    before.held.push((path.clone(), held));
                }
                continue;
            };
            if held == Some(due.blob) {
                continue;
            }
            let (blob, is_good) = match blobs.remove(&due.blob) {
                Some(blob) => (Some(blob), held.is_none() || good.contains(&due.blob)),
                // An owner's act that was carried out from here.
                None => (state::blobs::staged(conn, due.blob)?.map(Blob::new), true),
            };
            if blob.is_none() {
                news.missing = true;
            }
            if let Some(blob) = blob.as_ref().filter(|_| is_good) {
                state::blobs::keep(conn, path, due.ver, &due.retained(blob.clone()))?;
                before.held.push((path.clone(), held));
                folded.held.insert(path.clone(), due.blob);
            } else if let Some(ver) = state::blobs::version(conn, path)?
                && !may_retain(&folded.state, &self.own, path, ver)
            {
                // The last good one is destroyed: it goes, whatever becomes of the newest.
                state::blobs::drop(conn, path)?;
                folded.held.remove(path);
                before.held.push((path.clone(), held));
            }
            news.arrived.extend(blob.map(|blob| (due, blob)));
        }
        Ok(())
    }

    /// Opens the blobs that are to take the place of another, and keeps their contents in memory;
    /// returns those that open.
    fn open_successors(
        &self,
        folded: &Folded,
        touched: &BTreeSet<SecretPath>,
        blobs: &HashMap<Hash, Blob>,
    ) -> HashSet<Hash> {
        let due = |path| {
            let held = folded.held.get(path)?;
            let due = folded.newest(&self.own, path).filter(|due| due.blob != *held)?;
            let blob = blobs.get(&due.blob)?;
            Some((due, blob))
        };
        let successors = touched.iter().filter_map(due);
        let opens = |(due, blob): &(Due, &Blob)| {
            if self.cache.has(&due.blob) {
                return true;
            }
            let opened = due.content(&self.own.keys, blob);
            opened.map(|content| self.cache.put(due.blob, content)).is_ok()
        };
        successors.filter(opens).map(|(due, _)| due.blob).collect()
    }

    /// Drops what must not be retained any more of `path`.
    fn tend_retained(
        &self,
        conn: &Connection,
        state: &State,
        path: &SecretPath,
    ) -> rusqlite::Result<()> {
        for ver in retained::of(conn, path)? {
            if !may_retain(state, &self.own, path, ver) {
                retained::drop(conn, path, ver)?;
            }
        }
        Ok(())
    }
}
