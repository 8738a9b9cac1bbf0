//! What the agent remembers of its master files over a restart: the version each was last in step
//! with, and a salted hash of what it held. Losing it costs the difference between an edit and a
//! change made elsewhere, never a value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use shared::hash::Hash;
use shared::path::SecretPath;

use super::decide::Base;
use crate::daemon::record;
use machine::config::Source;

/// The file's name in the state folder.
const NAME: &str = "sources.json";

/// The version of its format.
const VERSION: u32 = 1;

/// The record and where it is kept.
#[derive(Debug)]
pub(super) struct Record {
    /// The agent's private folder.
    pub(super) state: PathBuf,
    /// The salt of all hashes.
    pub(super) salt: Hash,
    known: Mutex<BTreeMap<PathBuf, Known>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    secret: SecretPath,
    base: Base,
    /// Whether the file ended with the end of a line.
    #[serde(default)]
    whole: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    salt: Hash,
    sources: BTreeMap<PathBuf, Known>,
}

impl Record {
    /// Reads the record; one that is missing or unreadable counts as empty.
    pub(super) fn load(state: &Path) -> Self {
        let ours = |written: &Written| written.v == VERSION;
        let read = record::read(&state.join(NAME), ours, "no edit is taken for one");
        let (salt, known) = match read {
            Some(written) => (written.salt, written.sources),
            None => (Hash::from_bytes(*shared::keys::random::<32>()), BTreeMap::new()),
        };
        Self { state: state.to_owned(), salt, known: Mutex::new(known) }
    }

    /// Returns what a file was last in step with.
    pub(super) fn base(&self, source: &Source) -> Option<Base> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&source.path).filter(|known| known.secret == source.secret);
        known.map(|known| known.base)
    }

    /// Tells whether a file ended with the end of a line when it was last in step.
    pub(super) fn was_whole(&self, source: &Source) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&source.path).is_some_and(|known| known.secret == source.secret && known.whole)
    }

    /// Notes what a file is in step with, and whether it ends with the end of a line, on disk
    /// before it returns.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(super) fn set(&self, source: &Source, base: Base, whole: bool) -> anyhow::Result<()> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Known { secret: source.secret.clone(), base, whole };
        if all.get(&source.path) == Some(&known) {
            return Ok(());
        }
        let mut written = Written { v: VERSION, salt: self.salt, sources: all.clone() };
        written.sources.insert(source.path.clone(), known);
        record::write(&self.state, NAME, &written)?;
        *all = written.sources;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::files::{self, Access};

    #[test]
    fn the_record_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let source = |path: &str, secret: &str| Source {
            path: path.into(),
            secret: secret.parse().unwrap(),
        };
        let (a, other) = (source("/a", "secret/a"), source("/a", "secret/b"));
        let record = Record::load(folder.path());
        assert_eq!(record.base(&a), None);
        let base = Base { ver: 3, digest: Hash::of(&[b"x"]) };
        record.set(&a, base, true).unwrap();
        record.set(&source("/b", "secret/b"), base, false).unwrap();
        let again = Record::load(folder.path());
        assert_eq!((again.salt, again.base(&a)), (record.salt, Some(base)));
        assert_eq!(again.base(&other), None, "another secret was never in step with this file");
        assert!(again.was_whole(&a) && !again.was_whole(&other));
        assert!(!again.was_whole(&source("/b", "secret/b")));
        files::replace(
            &folder.path().canonicalize().unwrap().join(NAME),
            b"{\"v\":9}",
            Access::PRIVATE,
        )
        .unwrap();
        assert_eq!(Record::load(folder.path()).base(&a), None);
    }
}
