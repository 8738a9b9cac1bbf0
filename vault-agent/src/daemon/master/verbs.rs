//! What `vault-agent source` asks of a master file, beside the agent that follows it.

use std::path::Path;

use anyhow::Result;
use shared::hash::Hash;

use super::record::Record;
use super::{confirmed, job};
use host::hint::hinted;
use machine::config::Source;

/// Writes down that what the file of `source` holds now is meant, one of `sources` that are
/// followed. Returns how many keys it holds.
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
    confirmed::set(state, source, (base, found.digest), sources)?;
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
    use super::super::decide::Base;
    use super::*;
    use host::files::{self, Access};

    #[test]
    fn what_is_not_held_is_not_confirmed() {
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
        assert!(!confirmed::is(&state, &source, Some(base), &digest()));
        assert_eq!(confirm(&state, &source, &[&source.path]).unwrap(), 1);
        assert!(confirmed::is(&state, &source, Some(base), &digest()));
        save("A=2\n");
        assert!(!confirmed::is(&state, &source, Some(base), &digest()));
    }
}
