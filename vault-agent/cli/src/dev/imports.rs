//! The imports of `vault dev`: each file whenever it has changed since it was imported, so that
//! what was changed in the vault meanwhile is not set back by starting again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use shared::hash::Hash;
use zeroize::Zeroizing;

use super::folder::{Folder, PASSPHRASE, read_line};
use super::pairs::Pair;
use crate::context::Global;
use crate::{print, vault};
use host::files;
use host::hint::{Exit, hinted};

/// Imports a file unless this very content was imported before; prints what `vault import` prints.
///
/// # Errors
/// If the file cannot be read or imported.
pub fn import(pair: &Pair, folder: &Folder, inner: &Global) -> Result<()> {
    let print = fingerprint(pair, folder)?;
    let place = folder.at("imported.json");
    let text = read_line(&place)?.unwrap_or_default();
    // A damaged file counts as absent: at worst a file is imported once more.
    let mut done: BTreeMap<String, Hash> = serde_json::from_str(&text).unwrap_or_default();
    if done.get(pair.path.as_str()) == Some(&print) {
        return Ok(());
    }
    let ran = vault::import::file(inner, pair.path.as_str(), &pair.file);
    let exit = ran.unwrap_or_else(|error| print::exit::report(&inner.term, &error));
    if exit != Exit::OK {
        return Err(hinted(
            format!("`{}` was not imported", pair.file.display()),
            "mend it and start again: what was imported before is kept",
        ));
    }
    done.insert(pair.path.to_string(), print);
    files::replace(&place, &serde_json::to_vec_pretty(&done)?, files::Access::PRIVATE)?;
    Ok(())
}

/// Hashes a file's content together with a secret of the folder: nobody can guess at the content
/// with the hash alone.
fn fingerprint(pair: &Pair, folder: &Folder) -> Result<Hash> {
    let content = std::fs::read(&pair.file)
        .map(Zeroizing::new)
        .with_context(|| format!("reading `{}`", pair.file.display()))?;
    let key = Zeroizing::new(read_line(&folder.at(PASSPHRASE))?.unwrap_or_default());
    Ok(Hash::of(&[b"vault-dev-import\0", key.as_bytes(), b"\0", &content]))
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
        assert_eq!(fingerprint(&pair, &folder).unwrap(), first);
        files::replace(&file, b"A=2\n", files::Access::PRIVATE).unwrap();
        assert_ne!(fingerprint(&pair, &folder).unwrap(), first);
    }
}
