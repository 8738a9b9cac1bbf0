//! The programs of one installation: `vault`, and `vault-agent` and `vault-server` in its folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use host::hint::hinted;

/// Where a package lays programs for hosts of other architectures, in folders named as `uname -m`
/// says there.
const CARRIED: &str = "/usr/lib/vault-agent";

/// Returns the file of `vault`: this program's own.
pub fn vault() -> Result<PathBuf> {
    std::env::current_exe().context("finding this program's own file")
}

/// Returns the file of a sibling: the name of `vault`, a dash, and `daemon`.
pub fn find(daemon: &str) -> Result<PathBuf> {
    let vault = vault()?;
    let name = vault.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = vault.with_file_name(format!("{name}-{daemon}"));
    if path.is_file() {
        return Ok(path);
    }
    Err(hinted(
        format!("there is no program `{}`", path.display()),
        "build all of them with `cargo build`, or install them together",
    ))
}

/// Returns `vault` and `vault-agent` for hosts of another architecture, if a package has brought
/// them for this installation.
pub fn carried(arch: &str) -> Result<Option<[PathBuf; 2]>> {
    // It comes from a stranger.
    if arch.is_empty() || arch.starts_with('.') || arch.contains('/') {
        return Ok(None);
    }
    let vault = vault()?;
    let prefix = vault.parent().and_then(Path::parent);
    let beside = prefix.map(|prefix| prefix.join("lib/vault-agent"));
    let folders = beside.into_iter().chain([PathBuf::from(CARRIED)]);
    let files = folders.map(|folder| ["vault", "vault-agent"].map(|it| folder.join(arch).join(it)));
    Ok(files.into_iter().find(|files| files.iter().all(|file| file.is_file())))
}
