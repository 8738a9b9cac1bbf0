//! `vault-agent hook run`: has the running agent tell a target's program once more.

use std::path::PathBuf;

use anyhow::{Result, bail};
use host::hint::{Exit, Failure};
use host::term::Term;
use machine::local::{HOOK, HookRequest, HookRun};
use machine::paths::Paths;

use crate::{ask, targets};

/// Run what a target has as `on_change`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run the hook of a target once more, and wait for its end
    Run {
        /// The target's file
        #[arg(value_name = "TARGET")]
        target: PathBuf,
    },
}

pub(crate) fn run(command: &Command, paths: &Paths, term: &Term) -> Result<Exit> {
    let Command::Run { target } = command;
    let target = targets::named(target, &paths.config)?;
    let shown = target.path.display();
    let HookRun { failure } =
        ask::post_and_wait(paths, HOOK, &HookRequest { target: target.path.clone() })?;
    let hook = target.on_change.as_ref().map(ToString::to_string).unwrap_or_default();
    match failure {
        None => term.say(format!("the hook of `{shown}` has run: {hook}")),
        Some(why) => bail!(
            Failure::remote(format!("the hook of `{shown}` failed: {why} ({hook})"))
                .hint("the agent's log has what it printed; it is tried again as configured")
        ),
    }
    Ok(Exit::OK)
}
