//! Saves that look like the rest of a file and are meant: `vault-agent source confirm` writes them
//! down in the state folder, the agent reads them. One counts for that content on that version
//! alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::hash::Hash;
use shared::path::SecretPath;

use super::decide::Base;
use super::job;
use super::record::Record;
use crate::daemon::record;
use host::files;
use host::hint::hinted;
use machine::config::Source;

/// The file's name in the state folder.
const NAME: &str = "sources-confirmed.json";

/// The version of its format.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Confirmed {
    secret: SecretPath,
    base: Base,
    /// Names and values, hashed with the record's salt.
    digest: Hash,
}

#[derive(Default, Serialize, Deserialize)]
struct Written {
    v: u32,
    sources: BTreeMap<PathBuf, Confirmed>,
}

fn load(state: &Path) -> Written {
    let ours = |written: &Written| written.v == VERSION;
    let read = record::read(&state.join(NAME), ours, "what was confirmed is asked for again");
    read.unwrap_or_default()
}

/// Tells whether the owner of a file has confirmed what it holds, on what was last in step.
pub(super) fn is(state: &Path, source: &Source, base: Option<Base>, digest: &Hash) -> bool {
    load(state).sources.get(&source.path).is_some_and(|known| {
        known.secret == source.secret && Some(known.base) == base && known.digest == *digest
    })
}

/// Writes down that what the file of `source` holds now is meant, in place of an earlier word about
/// it; those about files that are none of `sources` go. Returns how many keys there are.
///
/// # Errors
/// A file that cannot be read or understood, nothing to confirm, a folder that cannot be written.
pub fn confirm(state: &Path, source: &Source, sources: &[&Path]) -> Result<usize> {
    let shown = source.path.display();
    let record = Record::load(state);
    let found = job::look(source, &record.salt).map_err(|state| state.into_error(source))?;
    let nothing = |why: &str| {
        hinted(format!("`{shown}` {why}: nothing is held"), "a save is published by itself")
    };
    let base = record.base(source);
    let base = base.ok_or_else(|| nothing("has not been in step with its secret here"))?;
    if base.digest == found.digest {
        return Err(nothing(&format!("holds what `{}` v{} does", source.secret, base.ver)));
    }
    let _lock = files::lock_folder(&state.canonicalize()?.join(NAME))?;
    let mut written = load(state);
    written.v = VERSION;
    written.sources.retain(|path, _| sources.contains(&path.as_path()));
    let confirmed = Confirmed { secret: source.secret.clone(), base, digest: found.digest };
    written.sources.insert(source.path.clone(), confirmed);
    record::write(state, NAME, &written)?;
    Ok(found.variables.len())
}

/// Reads and understands the file of a source that is to be one; returns how many keys it holds.
///
/// # Errors
/// What would keep it from being published.
pub fn check(source: &Source) -> Result<usize> {
    let found = job::look(source, &Hash::ZERO).map_err(|state| state.into_error(source))?;
    Ok(found.variables.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::files::Access;

    #[test]
    fn a_word_counts_for_one_content_on_one_version() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().canonicalize().unwrap();
        let source = Source { path: state.join(".env"), secret: "secret/a".parse().unwrap() };
        let save = |text: &str| {
            files::replace(&source.path, text.as_bytes(), Access::PRIVATE).unwrap();
        };
        let refused = || confirm(&state, &source, &[&source.path]).unwrap_err().to_string();
        assert!(refused().contains("is missing"));
        save("A=1\nB=2\nC=3\n");
        assert!(refused().contains("has not been in step"));
        let record = Record::load(&state);
        let digest = || job::look(&source, &record.salt).map_err(|_| "read").unwrap().digest;
        let base = Base { ver: 3, digest: digest() };
        record.set(&source, base, true).unwrap();
        assert!(refused().contains("holds what `secret/a` v3 does"));
        save("A=1\n");
        assert!(!is(&state, &source, Some(base), &digest()));
        assert_eq!(confirm(&state, &source, &[&source.path]).unwrap(), 1);
        assert!(is(&state, &source, Some(base), &digest()));
        assert!(!is(&state, &source, Some(Base { ver: 4, ..base }), &digest()));
        let other = Source { secret: "secret/b".parse().unwrap(), ..source.clone() };
        assert!(!is(&state, &other, Some(base), &digest()));
        save("A=2\n");
        assert!(!is(&state, &source, Some(base), &digest()));
    }
}
