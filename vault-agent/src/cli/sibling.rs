//! The programs beside this one: `vault` finds `vault-agent` and `vault-server` in its own folder.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::exit::Failure;

/// Returns the file of a sibling: this program's own name, a dash, and `daemon`.
///
/// # Errors
/// If there is none.
pub fn find(daemon: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's own file")?;
    let name = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = own.with_file_name(format!("{name}-{daemon}"));
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        Failure::local(format!("there is no program `{}`", path.display()))
            .hint("build all of them with `cargo build`, or install them together")
    )
}
