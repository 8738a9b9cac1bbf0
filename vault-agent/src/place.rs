//! Where this agent is, as flags and environment tell.

use std::path::PathBuf;

use anyhow::Result;
use machine::paths::Paths;

/// Where this agent is, as flags and environment tell.
pub struct Place {
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
}

impl Place {
    /// Returns an environment variable; an empty one counts as absent.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    /// Returns the places of state, configuration and socket.
    ///
    /// # Errors
    /// If neither a flag nor the environment tells where they are.
    pub fn paths(&self) -> Result<Paths> {
        Paths::resolve(self.state.clone(), self.config.clone())
    }
}
