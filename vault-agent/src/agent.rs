//! The `vault-agent` program: which subcommand goes where, and what holds for all of them. The
//! daemon's own life lives in `agent/run.rs`; everything it is made of, in the layers below.

mod logging;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use shared::name::Name;
use shared::token::{Line as _, PinLine};
use tokio::runtime::{Builder, Runtime};

use crate::cli;
use crate::clock;
use crate::config::{Config, ConfigError};
use crate::daemon;
use crate::engine::Engine;
use crate::exit::{Exit, Failure};
use crate::identity::{MachineKeys, Pins};
use crate::output::Term;
use crate::paths::Paths;

/// Threads that serve connections, and threads that encrypt, decrypt and write files.
const WORKERS: usize = 2;
const BLOCKING: usize = 8;

/// Keep this machine's secrets and .env files right
#[derive(Debug, Parser)]
#[command(name = "vault-agent", version, disable_help_subcommand = true)]
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
    /// Make this machine's keys, once, and print its line for `vault machine add`
    Init {
        /// Name of this machine [default: the host's]
        #[arg(long)]
        name: Option<Name>,
    },
    /// Join the vault whose line `vault machine add` printed
    Join {
        /// The line
        #[arg(value_name = "VLTP1-…")]
        line: String,
    },
    /// Follow the vault, keep files right, answer the local API, until SIGTERM
    Run {
        /// End when standard input ends, so that no agent outlives the program that started it
        #[arg(long, hide = true)]
        exit_with_stdin: bool,
    },
    /// Sync, make files right, run hooks, and end
    Once,
    /// Say how the agent and the fleet are
    Status,
    /// Say which files to keep right
    Target(cli::target::Args),
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let term = Term::std();
    let done = harden().and_then(|()| dispatch(cli, &term));
    done.unwrap_or_else(|error| fail(&term, error)).into()
}

/// Leaves no core dump with keys in it, lets no other process look in, makes private files only.
fn harden() -> Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("switching core dumps off")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("making the process undumpable")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(())
}

fn dispatch(cli: Cli, term: &Term) -> Result<Exit> {
    let Cli { state, config, command } = cli;
    let paths = Paths::resolve(state.clone(), config.clone())?;
    match command {
        Command::Init { name } => init(&paths, name, term),
        Command::Join { line } => join(&paths, &line, term),
        Command::Run { exit_with_stdin } => {
            let config = configured(&paths)?;
            logging::start(config.log);
            runtime()?.block_on(run::run(&paths, config, exit_with_stdin))?;
            Ok(Exit::OK)
        }
        Command::Once => {
            let config = configured(&paths)?;
            logging::start(config.log);
            runtime()?.block_on(once(&paths, config, term))
        }
        Command::Status => Ok(status(state, config)),
        Command::Target(args) => {
            let (mut out, mut talk) = (std::io::stdout().lock(), std::io::stderr().lock());
            cli::target::run(&args, &paths.config, &mut out, &mut talk)?;
            Ok(Exit::OK)
        }
    }
}

/// Shows what went wrong; a mistake in the configuration brings its own hint.
fn fail(term: &Term, error: anyhow::Error) -> Exit {
    match error.downcast::<ConfigError>() {
        Ok(mistake) => {
            let hint = mistake.hint();
            term.fail(&Failure::local(mistake.to_string()).hint(hint).into())
        }
        Err(error) => term.fail(&error),
    }
}

fn configured(paths: &Paths) -> Result<Config> {
    Ok(Config::load_or_default(&paths.config)?)
}

fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_name("agent")
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// Makes the keys unless they are there, and prints the machine line.
fn init(paths: &Paths, name: Option<Name>, term: &Term) -> Result<Exit> {
    let joined = Pins::load(paths)?.map(|pins| pins.name);
    let name = match (name, joined) {
        (Some(name), Some(joined)) if name != joined => {
            let text = format!("this machine is `{joined}` already");
            return Err(Failure::local(text)
                .hint("leave `--name` out, or use another `--state DIR`")
                .into());
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => cli::init::host_name()?.parse()?,
    };
    let fresh = !MachineKeys::exist(paths);
    let keys = MachineKeys::load_or_create(paths)?;
    let line = keys.line(name.clone()).to_line()?;
    let verb = if fresh { "made" } else { "found" };
    let dir = paths.identity();
    term.say(format!("{verb} the keys of machine `{name}` in `{}`", dir.display()));
    term.say("run on an admin's machine: vault machine add LINE --read PATH\n");
    term.line(line)?;
    Ok(Exit::OK)
}

/// Pins what the line says, then syncs. A server that cannot be reached now is no failure: the
/// agent goes on by itself.
fn join(paths: &Paths, line: &str, term: &Term) -> Result<Exit> {
    let line = PinLine::from_line(line)?;
    MachineKeys::load(paths)?;
    let pins = Pins::from(line);
    pins.store(paths)?;
    let addresses = addresses(&configured(paths)?, &pins);
    let engine = Engine::open(paths)?;
    let name = engine.name().clone();
    let (synced, status, readable) = runtime()?.block_on(async {
        let synced = engine.connect_once(&addresses).await;
        let readable = engine.state(|state| {
            let own = state.machine(&name);
            own.map_or(0, |own| state.secrets().keys().filter(|path| own.read.cover(path)).count())
        });
        let status = engine.status();
        engine.close().await;
        (synced, status, readable)
    });
    match synced {
        Ok(()) => {
            let vault = status.vault_name;
            term.say(format!("joined vault `{vault}` as `{name}`: {readable} secrets to read"));
            term.say("next: `vault-agent target add FILE SECRET`, then `vault-agent run`");
            Ok(Exit::OK)
        }
        Err(fault) if status.alarms.is_empty() => {
            term.say(format!("joined as `{name}`, but not synced yet: {fault}"));
            term.say("hint: `vault-agent run` goes on by itself once the server can be reached");
            Ok(Exit::OK)
        }
        Err(fault) => {
            let code = status.alarms.first().map(|alarm| alarm.code.clone()).unwrap_or_default();
            let failure = Failure::remote(fault.to_string());
            let hint = shared::error::Code::from_text(&code).map(shared::error::Code::hint);
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
            .into())
        }
    }
}

/// Returns the configured addresses, those of the pin line if there are none.
fn addresses(config: &Config, pins: &Pins) -> Vec<String> {
    if config.server.is_empty() { pins.addresses.clone() } else { config.server.clone() }
}

/// Syncs, makes files right, runs hooks, reports. Without a server the cache is what there is.
async fn once(paths: &Paths, config: Config, term: &Term) -> Result<Exit> {
    let engine = Engine::open(paths)?;
    let synced = engine.connect_once(&config.server).await;
    if let Err(fault) = &synced {
        term.say(format!("not synced, using the cache: {fault}"));
    }
    let right = daemon::once(config, &paths.config, &paths.state, engine.clone()).await;
    if synced.is_ok()
        && let Err(fault) = engine.settle().await
    {
        term.say(format!("not reported: {fault:#}"));
    }
    engine.close().await;
    Ok(if right { Exit::OK } else { Exit::REMOTE })
}

/// Shows what `vault status` shows of the agent with this state directory.
fn status(state: Option<PathBuf>, config: Option<PathBuf>) -> Exit {
    let flag = |name: &str, value: Option<PathBuf>| {
        value.into_iter().flat_map(|value| [name.into(), value.into_os_string()]).collect()
    };
    let mut args: Vec<std::ffi::OsString> = vec!["status".into()];
    args.extend::<Vec<_>>(flag("--state", state));
    args.extend::<Vec<_>>(flag("--config", config));
    // Only where the state lives is taken from the environment: this is about this very agent.
    let env = |name: &str| (name == "VAULT_STATE_DIR").then(|| std::env::var(name).ok()).flatten();
    cli::run(args, Term::std(), Box::new(env), clock::now)
}

#[cfg(test)]
mod tests;
