//! The imports of `vault dev`: each file whenever it has changed since it was imported, so that
//! what was changed in the vault meanwhile is not set back by starting again.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use shared::hash::Hash;
use zeroize::Zeroizing;

use super::folder::{Folder, read_line};
use super::pairs::Pair;
use crate::context::{Flags, Global};
use crate::{print, vault};
use host::files;
use host::hint::{Exit, Failure};
use host::term::Term;

/// Imports a file unless this very content was imported before; prints what `vault import` prints.
///
/// # Errors
/// If the file cannot be read or imported.
pub fn import(pair: &Pair, folder: &Folder) -> Result<()> {
    let print = fingerprint(pair, folder)?;
    let mut done = Done::load(folder)?;
    if done.0.get(pair.path.as_str()) == Some(&print) {
        return Ok(());
    }
    let flags = Flags { state: Some(folder.agent()), ..Flags::default() };
    let global = Global::new(flags, Term::std(), Box::new(|_| None), host::clock::now);
    let ran = vault::import::file(&global, pair.path.as_str(), &pair.file);
    let exit = ran.unwrap_or_else(|error| print::exit::report(&global.term, &error));
    if exit != Exit::OK {
        bail!(
            Failure::local(format!("`{}` was not imported", pair.file.display()))
                .hint("mend it and start again: what was imported before is kept")
        );
    }
    done.0.insert(pair.path.to_string(), print);
    done.store(folder)
}

/// Hashes a file's content together with a secret of the folder: nobody can guess at the content
/// with the hash alone.
fn fingerprint(pair: &Pair, folder: &Folder) -> Result<Hash> {
    let content = std::fs::read(&pair.file)
        .map(Zeroizing::new)
        .with_context(|| format!("reading `{}`", pair.file.display()))?;
    let key = Zeroizing::new(read_line(&folder.passphrase())?.unwrap_or_default());
    Ok(Hash::of(&[b"vault-dev-import\0", key.as_bytes(), b"\0", &content]))
}

/// What was imported last, by secret.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Done(BTreeMap<String, Hash>);

impl Done {
    fn place(folder: &Folder) -> std::path::PathBuf {
        folder.at("imported.json")
    }

    /// A damaged file counts as absent: at worst a file is imported once more.
    fn load(folder: &Folder) -> Result<Self> {
        let text = read_line(&Self::place(folder))?.unwrap_or_default();
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn store(&self, folder: &Folder) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing what was imported")?;
        let place: &Path = &Self::place(folder);
        files::replace(place, &text, files::Access::PRIVATE)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_imported_is_remembered_without_telling_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("dev")).unwrap();
        folder.make_passphrase().unwrap();
        let file = dir.path().join("master");
        files::write_private(&file, b"A=1\n").unwrap();
        let pair = Pair { file: file.clone(), path: "secret/dev".parse().unwrap() };
        let first = fingerprint(&pair, &folder).unwrap();
        assert_ne!(first, Hash::of(&[b"A=1\n"]));
        assert_eq!(Done::load(&folder).unwrap(), Done::default());
        Done(BTreeMap::from([("secret/dev".to_owned(), first)])).store(&folder).unwrap();
        assert_eq!(
            Done::load(&folder).unwrap().0["secret/dev"],
            fingerprint(&pair, &folder).unwrap()
        );
        files::replace(&file, b"A=2\n", files::Access::PRIVATE).unwrap();
        assert_ne!(fingerprint(&pair, &folder).unwrap(), first);
    }
}
