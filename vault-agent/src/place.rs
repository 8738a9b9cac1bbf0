//! Where this agent is, as flags and environment tell.

use std::path::PathBuf;

use anyhow::Result;
use machine::paths::Paths;

#[derive(Debug, clap::Args)]
pub struct Place {
    /// State directory [env: VAULT_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Place {
    /// Returns an environment variable; an empty one counts as absent.
    pub fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    /// Returns the places of state, configuration and socket.
    pub fn paths(&self) -> Result<Paths> {
        Paths::resolve(self.state.clone(), self.config.clone())
    }
}
