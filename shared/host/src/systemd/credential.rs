//! Keys that only systemd on this host can open. Each is proven to open before its file is wiped.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use zeroize::Zeroizing;

use super::systemctl::creds;
use crate::files::{self, Access};

/// A key that systemd hands to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub name: String,
    /// The file in which it lies open.
    pub open: PathBuf,
    /// The file in which it lies sealed.
    pub sealed: PathBuf,
}

impl Credential {
    /// Tells whether the key lies open on disk.
    pub fn is_open(&self) -> bool {
        self.open.exists()
    }

    /// Tells whether the key lies sealed on disk.
    pub fn is_sealed(&self) -> bool {
        self.sealed.exists()
    }

    /// Seals the key if it lies open, and reads it back; the open one stays.
    ///
    /// # Errors
    /// If systemd cannot; the key is as it was.
    pub fn seal(&self) -> Result<()> {
        let Some((access, plain)) = read(&self.open)? else { return Ok(()) };
        let content = creds("encrypt", &self.name, plain.as_bytes())?;
        files::replace_trusted(&self.sealed, &content, access)?;
        let written = read(&self.sealed)?.map(|(_, text)| text).unwrap_or_default();
        let opened = creds("decrypt", &self.name, written.as_bytes());
        if !opened.as_ref().is_ok_and(|opened| **opened == *plain.as_bytes()) {
            std::fs::remove_file(&self.sealed)
                .with_context(|| format!("cannot remove `{}`", self.sealed.display()))?;
            opened?;
            bail!("`{}` does not open to what was sealed: the keys stay in their files", self.name);
        }
        Ok(())
    }

    /// Overwrites and removes the file in which the key lies open, if there is one.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn wipe(&self) -> Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        files::wipe(&self.open).with_context(|| format!("cannot wipe `{}`", self.open.display()))
    }
}

/// Reads a key, and whose it is; the sealed one is to be the same user's.
fn read(file: &Path) -> Result<Option<(Access, Zeroizing<String>)>> {
    match files::settings(file) {
        Ok((found, text)) => Ok(Some((Access { mode: 0o600, ..Access::of(&found) }, text))),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why).with_context(|| format!("cannot read `{}`", file.display())),
    }
}
