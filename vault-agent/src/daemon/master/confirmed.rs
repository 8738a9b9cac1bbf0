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
use crate::daemon::record;
use host::files;
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

/// Writes down what the owner of `source` has confirmed, in place of an earlier word about it;
/// those about files that are none of `sources` go.
///
/// # Errors
/// When the folder cannot be written.
pub(super) fn set(
    state: &Path,
    source: &Source,
    (base, digest): (Base, Hash),
    sources: &[&Path],
) -> Result<()> {
    let _lock = files::lock_folder(&state.canonicalize()?.join(NAME))?;
    let mut written = load(state);
    written.v = VERSION;
    written.sources.retain(|path, _| sources.contains(&path.as_path()));
    let confirmed = Confirmed { secret: source.secret.clone(), base, digest };
    written.sources.insert(source.path.clone(), confirmed);
    record::write(state, NAME, &written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_for_one_content_on_one_version() {
        let folder = tempfile::tempdir().unwrap();
        let source = |path: &str, secret: &str| Source {
            path: path.into(),
            secret: secret.parse().unwrap(),
        };
        let (a, b) = (source("/a", "secret/a"), source("/b", "secret/b"));
        let (base, digest) = (Base { ver: 3, digest: Hash::of(&[b"3"]) }, Hash::of(&[b"x"]));
        let is = |source: &Source, base| is(folder.path(), source, Some(base), &digest);
        assert!(!is(&a, base));
        set(folder.path(), &a, (base, digest), &[&a.path, &b.path]).unwrap();
        assert!(is(&a, base) && !is(&b, base));
        assert!(!is(&a, Base { ver: 4, ..base }));
        assert!(!is(&source("/a", "secret/b"), base));
        assert!(!super::is(folder.path(), &a, Some(base), &Hash::of(&[b"y"])));
        assert!(!super::is(folder.path(), &a, None, &digest));
        set(folder.path(), &b, (base, digest), &[&b.path]).unwrap();
        assert!(is(&b, base) && !is(&a, base), "what is followed no more is forgotten");
    }
}
