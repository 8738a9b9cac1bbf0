//! The program `vault-agent`: arguments, dispatch, exit. What a subcommand does lives elsewhere.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use host::hint::{Exit, Failure};
use host::man;
use host::process::harden;
use host::term::Term;

use crate::place::Place;
use crate::{install, join, run, status, targets};

/// Keep this machine's .env files right, and answer `vault` from an encrypted cache
#[derive(Debug, Parser)]
#[command(
    name = "vault-agent",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    /// State directory [env: VAULT_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this machine's keys and print its line for `vault machine add`
    Init(join::InitArgs),
    /// Join the vault with the line that `vault machine add` printed
    Join(join::JoinArgs),
    /// Follow the vault until SIGTERM, SIGINT or SIGHUP
    Run(run::Args),
    /// Sync, make every target right, run the hooks, and end
    Once,
    /// Answer the local API on standard input, for `vault` where no agent runs
    #[command(hide = true)]
    Answer {
        /// Answer from the cache without asking the server
        #[arg(long, hide = true)]
        offline: bool,
    },
    /// Print how this machine stands; fails while a target lags or an alarm stands
    Status,
    /// Add, list and remove the files that are kept right
    Target(targets::Args),
    /// Have systemd run the agent, in a unit fit for what it is to do
    Install(install::Args),
    /// Print the manual page, or write all of them
    Man(ManArgs),
    /// Deprecated: `vault compose`
    #[command(hide = true)]
    Compose(Moved),
    /// Deprecated: `vault podman`
    #[command(hide = true)]
    Podman(Moved),
}

/// Arguments of `vault-agent man`.
#[derive(Debug, clap::Args)]
struct ManArgs {
    /// Write every page into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Command whose page is printed, e.g. target add
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Vec<String>,
}

/// What is handed on as it is.
#[derive(Debug, clap::Args)]
struct Moved {
    /// Arguments of the verb
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let term = Term::std();
    let place = Place { state: cli.state, config: cli.config };
    let ran = harden().and_then(|()| dispatch(cli.command, &place, &term));
    ran.unwrap_or_else(|error| term.fail(&error)).into()
}

fn dispatch(command: Command, place: &Place, term: &Term) -> Result<Exit> {
    match command {
        Command::Init(args) => join::init(args, &place.paths()?, term),
        Command::Join(args) => join::join(&args, &place.paths()?, term),
        Command::Run(args) => run::run(&args, &place.paths()?).map(|()| Exit::OK),
        Command::Once => run::once(&place.paths()?, term),
        Command::Answer { offline } => run::answer(&place.paths()?, offline).map(|()| Exit::OK),
        Command::Status => status::run(&place.paths()?, term),
        Command::Target(args) => {
            let (mut out, mut talk) = (Vec::new(), Vec::new());
            let ran = targets::run(&args, &place.paths()?.config, &mut out, &mut talk);
            term.print(out)?;
            if !talk.is_empty() {
                term.say(String::from_utf8_lossy(&talk).trim_end());
            }
            ran?;
            install::remind(place, term)?;
            Ok(Exit::OK)
        }
        Command::Install(args) => install::run(&args, place, term),
        Command::Man(args) => manual(&args, term),
        Command::Compose(Moved { words }) => moved("compose", words, place, term),
        Command::Podman(Moved { words }) => moved("podman", words, place, term),
    }
}

fn manual(args: &ManArgs, term: &Term) -> Result<Exit> {
    match &args.out {
        None => term.print(man::page(Cli::command(), &args.command)?)?,
        Some(folder) => {
            let count = man::write(Cli::command(), folder)?;
            term.say(format!("wrote {count} pages to `{}`", folder.display()));
        }
    }
    Ok(Exit::OK)
}

/// Hands a verb on to the `vault` beside this program, whose it is now.
fn moved(verb: &str, words: Vec<OsString>, place: &Place, term: &Term) -> Result<Exit> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let name = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let vault = own.with_file_name(name.strip_suffix("-agent").unwrap_or(&name));
    term.say(format!("`vault-agent {verb}` is deprecated: use `vault {verb}`"));
    let mut vault_runs = std::process::Command::new(&vault);
    vault_runs.arg(verb);
    for (flag, value) in [("--state", &place.state), ("--config", &place.config)] {
        if let Some(value) = value {
            vault_runs.arg(flag).arg(value);
        }
    }
    let why = vault_runs.args(words).exec();
    Err(Failure::local(format!("cannot start `{}`: {why}", vault.display()))
        .hint("install `vault` beside `vault-agent`")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
