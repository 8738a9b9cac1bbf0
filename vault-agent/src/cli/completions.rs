//! `vault completions`: scripts for shells.

use clap_complete::Shell;

use super::Global;
use crate::exit::Exit;

/// Print a completion script
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vault completions bash > ~/.local/share/bash-completion/completions/vault"
)]
pub struct Args {
    /// Shell to complete for
    shell: Shell,
}

pub(super) fn run(
    global: &Global,
    args: &Args,
    command: &mut clap::Command,
) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "vault", &mut script);
    global.term.print(script)?;
    Ok(Exit::OK)
}
