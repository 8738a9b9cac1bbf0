//! Keys of this machine that only systemd on this host can open. Each is proven to open before its file is removed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use zeroize::Zeroizing;

use host::files::{self, Access};
use host::hint::Failure;
use machine::identity::Key;
use machine::paths::Paths;

use host::systemd;

/// Returns the credentials that are sealed, and the files that hold them.
pub fn sealed(paths: &Paths) -> Vec<(String, PathBuf)> {
    let all = Key::ALL.map(|key| (key.credential(), key.sealed(paths)));
    all.into_iter().filter(|(_, file)| file.exists()).collect()
}

/// Returns the keys that lie open on disk.
pub fn open(paths: &Paths) -> Vec<Key> {
    Key::ALL.into_iter().filter(|key| key.file(paths).exists()).collect()
}

/// Seals every key that lies open, and reads each back; the open ones stay.
///
/// # Errors
/// If there is none, or systemd cannot; the keys are as they were.
pub fn seal(paths: &Paths) -> Result<()> {
    let keys = open(paths);
    if keys.is_empty() && sealed(paths).is_empty() {
        bail!(
            Failure::local(format!("no keys in `{}`", paths.identity().display()))
                .hint("run `vault-agent init` and `vault-agent join` first")
        );
    }
    for key in keys {
        let name = key.credential();
        let plain = text(&key.file(paths))?;
        let file = key.sealed(paths);
        let content = systemd::creds("encrypt", &name, plain.as_bytes())?;
        files::replace(&file, &content, Access::PRIVATE)?;
        let written = text(&file)?;
        let same = systemd::creds("decrypt", &name, written.as_bytes())
            .map(|opened| *opened == *plain.as_bytes());
        if !matches!(same, Ok(true)) {
            files::remove(&file)?;
            same?;
            bail!("`{name}` does not open to what was sealed: the keys stay in their files");
        }
    }
    Ok(())
}

fn text(file: &Path) -> Result<Zeroizing<String>> {
    let read = files::settings(file).with_context(|| format!("reading `{}`", file.display()));
    read.map(|(_, text)| text)
}

/// Overwrites and removes the keys that lie open; tells whether any did.
///
/// # Errors
/// If one cannot be; what could be removed is.
pub fn wipe(paths: &Paths) -> Result<bool> {
    let keys = open(paths);
    for key in &keys {
        let file = key.file(paths);
        files::wipe(&file).with_context(|| format!("cannot wipe `{}`", file.display()))?;
    }
    Ok(!keys.is_empty())
}
