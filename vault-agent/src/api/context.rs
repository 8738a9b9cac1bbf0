//! What every route works with, and what it is made from.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Result;
use tokio::sync::Semaphore;

use crate::daemon::Targets;
use crate::engine::Engine;
use crate::forward::Forwarding;
use crate::page::Page;
use machine::config;
use machine::paths::Paths;

use super::caller::Gate;
use super::tokens::Tokens;

/// Large request bodies read at a time.
const LARGE_BODIES: usize = 8;

/// What every route works with.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) engine: Engine,
    pub(super) gate: Gate,
    pub(super) large_bodies: Semaphore,
    /// The way to the targets; `None` where nobody tends them.
    pub(super) targets: Option<Targets>,
    /// Who is told of alarms and records; `None` where nobody is.
    pub(super) forwarding: Option<Forwarding>,
    /// The way to the page, where an agent runs.
    pub(super) page: OnceLock<Page>,
}

impl Api {
    pub(super) fn open(
        engine: Engine,
        paths: &Paths,
        options: &config::Api,
        targets: Option<Targets>,
    ) -> Result<Self> {
        let token_file = token_file(paths, options);
        let gate = Gate::open(options, &token_file, Tokens::open(&paths.state)?);
        if let Some(first) = gate.unknown.first() {
            let hint = "mend it and start the agent again; all others are let in";
            engine.alarm("E_ALLOW", format!("`allow` names {first} (hint: {hint})"));
        }
        let (large_bodies, page) = (Semaphore::new(LARGE_BODIES), OnceLock::new());
        Ok(Self { engine, gate, large_bodies, targets, forwarding: None, page })
    }

    pub(super) fn has_mount(&self, name: &str) -> bool {
        self.engine.state(|state| state.mounts().contains_key(name))
    }
}

/// Returns where the token of TCP callers is kept: beside the configuration unless it says
/// otherwise.
pub fn token_file(paths: &Paths, options: &config::Api) -> PathBuf {
    options.token_file.clone().unwrap_or_else(|| paths.config.with_file_name("token"))
}
