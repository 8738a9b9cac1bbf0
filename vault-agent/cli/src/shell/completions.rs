//! `vault completions`: scripts for shells. Those of bash, zsh and fish ask `vault` itself what
//! could follow.

use clap_complete::Shell;

use crate::context::Global;
use crate::shell::complete;
use host::hint::Exit;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "bash, zsh and fish complete secrets, keys and machines too, while the agent runs.\n\nExamples:\n  vault completions bash > ~/.local/share/bash-completion/completions/vault\n  vault completions zsh > ~/.zfunc/_vault\n  vault completions fish > ~/.config/fish/completions/vault.fish"
)]
pub struct Args {
    /// Shell to complete for
    shell: Shell,
}

pub(crate) fn run(
    global: &Global,
    args: &Args,
    command: &mut clap::Command,
) -> anyhow::Result<Exit> {
    if let Some(script) = complete::script(args.shell) {
        global.term.print(script)?;
        return Ok(Exit::OK);
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "vault", &mut script);
    global.term.print(script)?;
    Ok(Exit::OK)
}
