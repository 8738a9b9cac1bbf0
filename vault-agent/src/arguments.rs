//! The program `vault-agent`: arguments, dispatch, exit. What a subcommand does lives elsewhere.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use host::hint::{Exit, hinted};
use host::man;
use host::process::{harden, note_own_file};
use host::term::Term;
use machine::running::process;

use crate::place::Place;
use crate::{ask, forwards, halts, hook, install, join, run, sources, status, targets, uninstall};

/// Keep this machine's .env files right, and answer `vault` from an encrypted cache
#[derive(Debug, Parser)]
#[command(
    name = "vault-agent",
    version = host::version::own(),
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    /// Say why, on one line; it stands in the audit log [env: VAULT_REASON]
    #[arg(long, global = true, value_name = "TEXT")]
    reason: Option<String>,
    #[command(subcommand)]
    command: Command,
}

// What each is for stands at its arguments, where it has any.
#[derive(Debug, Subcommand)]
enum Command {
    Init(join::InitArgs),
    Join(join::JoinArgs),
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
    /// Print the number of the process that answers as this machine's agent, if one does
    #[command(hide = true)]
    Answering,
    /// Print how this machine stands; fails while a target lags or an alarm stands
    Status,
    Accept(halts::AcceptArgs),
    SetAside(halts::SetAsideArgs),
    #[command(subcommand)]
    Target(targets::Command),
    #[command(subcommand)]
    Source(sources::Command),
    #[command(subcommand)]
    Hook(hook::Command),
    #[command(subcommand)]
    Forward(forwards::Command),
    Install(install::Args),
    Uninstall(uninstall::Args),
    Man(ManArgs),
    /// Deprecated: `vault compose`
    #[command(hide = true)]
    Compose(Moved),
    /// Deprecated: `vault podman`
    #[command(hide = true)]
    Podman(Moved),
}

/// Print the manual page, or write all of them
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
    let Cli { place, reason, command } = Cli::parse();
    let term = Term::std();
    note_own_file();
    let ran = harden()
        .and_then(|()| ask::say_why(reason.as_deref(), place.env("VAULT_REASON").as_deref()))
        .and_then(|()| dispatch(command, &place, &term));
    ran.unwrap_or_else(|error| term.fail(&error)).into()
}

fn dispatch(command: Command, place: &Place, term: &Term) -> Result<Exit> {
    match command {
        Command::Init(args) => join::init(&args, &place.paths()?, term),
        Command::Join(args) => {
            let paths = place.paths()?;
            join::join(&args, &paths, term, |pin, at| halts::vouch(pin, at, &paths, term))
        }
        Command::Run(args) => run::run(&args, &place.paths()?).map(|()| Exit::OK),
        Command::Once => run::once(&place.paths()?, term),
        Command::Answer { offline } => run::answer(&place.paths()?, offline).map(|()| Exit::OK),
        Command::Answering => {
            if let Some(id) = process(&place.paths()?)? {
                term.line(id.to_string())?;
            }
            Ok(Exit::OK)
        }
        Command::Status => status::run(&place.paths()?, term),
        Command::Accept(args) => halts::accept(&args, &place.paths()?, term),
        Command::SetAside(args) => halts::set_aside(&args, &place.paths()?, term),
        Command::Target(command) => {
            targets::foretell(&command, &place.paths()?, term)?;
            targets::run(&command, &place.paths()?, term)?;
            install::remind(place, term)?;
            Ok(Exit::OK)
        }
        Command::Source(command) => {
            sources::run(&command, &place.paths()?, term)?;
            install::remind(place, term)?;
            Ok(Exit::OK)
        }
        Command::Hook(command) => hook::run(&command, &place.paths()?, term),
        Command::Forward(command) => forwards::run(&command, &place.paths()?, term),
        Command::Install(args) => install::run(&args, place, term),
        Command::Uninstall(args) => uninstall::run(&args, place, term),
        Command::Man(args) => manual(&args, term),
        Command::Compose(Moved { words }) => moved("compose", words, place, term),
        Command::Podman(Moved { words }) => moved("podman", words, place, term),
    }
}

fn manual(args: &ManArgs, term: &Term) -> Result<Exit> {
    match &args.out {
        None => term.data(man::page(Cli::command(), &args.command)?)?,
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
    let text = format!("cannot start `{}`: {why}", vault.display());
    Err(hinted(text, "install `vault` beside `vault-agent`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
