//! The program `vault-agent`: arguments, dispatch, exit. What a subcommand does lives elsewhere.

mod install;
mod join;
mod logging;
mod run;
mod status;

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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => return usage(&wrong),
    };
    let flags = Flags { state: cli.state, config: cli.config, ..Flags::default() };
    let env = |name: &str| std::env::var(name).ok();
    let global = Global::new(flags, Term::std(), Box::new(env), clock::now);
    let ran = harden().and_then(|()| dispatch(cli.command, &global));
    ran.unwrap_or_else(|error| global.term.fail(&error)).into()
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
