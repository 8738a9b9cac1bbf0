//! The program `vault-agent`: arguments, dispatch, exit. What a subcommand does lives elsewhere.

mod install;
mod join;
mod logging;
mod run;
mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::cli::{Flags, Global, compose, front, podman, target};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::output::Term;

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
    Target(target::Args),
    /// Have systemd run the agent, in a unit fit for what it is to do
    Install(install::Args),
    /// Be a provider service of Docker Compose
    Compose(compose::Args),
    /// Be a secret store of Podman
    Podman(podman::Args),
}

/// Describes the program's arguments, for its manual pages.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|verb| verb == front::VERB) {
        return front::handed_on(args.collect());
    }
    let parsed = daemon(std::env::args_os().skip(1)).map_or_else(Cli::try_parse, Ok);
    let cli = match parsed {
        Ok(cli) => cli,
        Err(wrong) => return usage(&wrong),
    };
    let flags = Flags { state: cli.state, config: cli.config, ..Flags::default() };
    let env = |name: &str| std::env::var(name).ok();
    let global = Global::new(flags, Term::std(), Box::new(env), clock::now);
    let ran = harden().and_then(|()| dispatch(cli.command, &global));
    ran.unwrap_or_else(|error| global.term.fail(&error)).into()
}

/// Reads the arguments of `run` as units give them, without clap, which would stay in the memory of every agent for good;
/// `None` for all others.
fn daemon(words: impl IntoIterator<Item = OsString>) -> Option<Cli> {
    let (mut runs, mut exit_with_stdin, mut state, mut config) = (false, false, None, None);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let place = match word.to_str()? {
            "run" if !runs => {
                runs = true;
                continue;
            }
            "--exit-with-stdin" if runs && !exit_with_stdin => {
                exit_with_stdin = true;
                continue;
            }
            "--state" => &mut state,
            "--config" => &mut config,
            _ => return None,
        };
        let value = words.next().filter(|value| value.to_str().is_some_and(is_plain))?;
        if place.replace(PathBuf::from(value)).is_some() {
            return None;
        }
    }
    runs.then_some(Cli { state, config, command: Command::Run(run::Args { exit_with_stdin }) })
}

/// Tells whether a value can be nothing else.
fn is_plain(value: &str) -> bool {
    !value.is_empty() && !value.starts_with('-')
}

/// Answers a wrong call, and a call for help. Compose reads nothing but standard output.
fn usage(wrong: &clap::Error) -> ExitCode {
    if wrong.use_stderr() && std::env::args_os().any(|word| word == compose::VERB) {
        let text = wrong.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let hint = "`vault-agent compose up --help` tells the options";
        return compose::fail(&Term::std(), &Failure::local(first).hint(hint).into()).into();
    }
    wrong.exit()
}

/// Leaves no core dump with keys in it, lets no other process look in.
fn harden() -> Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("cannot switch core dumps off")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot make the process undumpable")
}

fn dispatch(command: Command, global: &Global) -> Result<Exit> {
    let (paths, term) = (|| global.paths(), &global.term);
    match command {
        Command::Init(args) => join::init(args, &paths()?, term),
        Command::Join(args) => join::join(&args, &paths()?, term),
        Command::Run(args) => run::run(&args, &paths()?).map(|()| Exit::OK),
        Command::Once => run::once(&paths()?, term),
        Command::Answer { offline } => run::answer(&paths()?, offline).map(|()| Exit::OK),
        Command::Status => status::run(&paths()?, term),
        Command::Target(args) => {
            let (mut out, mut talk) = (Vec::new(), Vec::new());
            let ran = target::run(&args, &paths()?.config, &mut out, &mut talk);
            term.print(out)?;
            if !talk.is_empty() {
                term.say(String::from_utf8_lossy(&talk).trim_end());
            }
            ran?;
            install::remind(global)?;
            Ok(Exit::OK)
        }
        Command::Install(args) => install::run(&args, global),
        Command::Compose(args) => compose::run(&args, global),
        Command::Podman(args) => podman::run(&args, global),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cli: Cli) -> (Option<PathBuf>, Option<PathBuf>, String) {
        (cli.state, cli.config, format!("{:?}", cli.command))
    }

    #[test]
    fn the_daemons_arguments_are_read_as_clap_does() {
        for line in [
            "run",
            "run --exit-with-stdin",
            "run --state /a --exit-with-stdin",
            "--state /a run --config b/c",
            "--config run --state run run",
        ] {
            let words = || line.split(' ').map(OsString::from);
            let ours = told(daemon(words()).expect(line));
            let theirs = Cli::try_parse_from(std::iter::once("vault-agent".into()).chain(words()));
            assert_eq!(ours, told(theirs.unwrap()), "{line}");
        }
    }

    #[test]
    fn all_other_arguments_are_left_to_clap() {
        for line in [
            "",
            "once",
            "--state /a",
            "run run",
            "run --help",
            "run --state",
            "run --state --config b",
            "run --state=/a",
            "run --state /a --state /b",
            "--exit-with-stdin run",
            "run --exit-with-stdin --exit-with-stdin",
            "run --config ",
            "run -- --state /a",
        ] {
            assert!(daemon(line.split(' ').map(OsString::from)).is_none(), "{line}");
        }
    }
}
