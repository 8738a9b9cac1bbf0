//! The programs of one installation: `vault`, and `vault-agent` and `vault-server` in its folder.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use host::hint::hinted;

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
