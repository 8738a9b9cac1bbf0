//! What a command keeps in the state folder from the moment it has begun: the same line goes on
//! with it after a kill. One small private JSON file for each kind, replaced as a whole; what is in
//! it stands with its command.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use host::files::{self, Access};
use machine::identity::load_json;
use machine::paths::Paths;

/// What a second run of a command goes on with.
pub(super) trait Resumable: Serialize + DeserializeOwned {
    /// The name of its file.
    const FILE: &'static str;

    /// Returns where it is kept.
    fn place(paths: &Paths) -> PathBuf {
        paths.state.join(Self::FILE)
    }

    /// Reads what an earlier run has left, if it left something.
    fn load(paths: &Paths) -> Result<Option<Self>> {
        load_json(&Self::place(paths))
    }

    /// Keeps it durably.
    fn store(&self, paths: &Paths) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing as JSON")?;
        files::replace_trusted(&Self::place(paths), &text, Access::PRIVATE)?;
        Ok(())
    }

    /// Forgets it: it is done, or will not be.
    fn remove(paths: &Paths) -> Result<()> {
        files::remove_trusted(&Self::place(paths))?;
        Ok(())
    }
}
