//! The command line: arguments, dispatch, exit. What a subcommand does lives elsewhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use host::clock;
use host::hint::hinted;
use host::process::{harden, note_own_file};
use host::progress::Progress;
use host::shown::Shown;
use host::shutdown::{Shutdown, ShutdownArgs};
use host::systemd::Whose;
use host::term::Term;
use host::{logging, man};
use rustix::process::{Resource, Rlimit};

use crate::config::{self, Config, EXAMPLE, Places};
use crate::health;
use crate::init::{Made, Wanted, init, join};
use crate::install::{Options, install};
use crate::relocate::{self, relocate};
use crate::serve::{bind, run};
use crate::store::Source;
use crate::{backup, check, datadir, restore};

/// Keep a vault's log and ciphertext; the keys stay with the machines
#[derive(Parser)]
#[command(name = "vault-server", version = host::version::own())]
struct Cli {
    #[command(flatten)]
    at: At,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a server and print its setup line for `vault init`
    Init {
        #[command(flatten)]
        wanted: Wanted,
        /// It is to take over a vault that has lost its server
        #[arg(long)]
        adopt: bool,
        /// It is a further server of the configured database; FILE is a copy of the first one's
        /// key
        #[arg(long, value_name = "FILE", conflicts_with = "adopt")]
        join: Option<PathBuf>,
    },
    /// Serve until SIGTERM, SIGINT or SIGHUP
    Run {
        /// Address to listen on, instead of the configuration's; port 0 lets the system choose
        #[arg(long, value_name = "IP:PORT")]
        listen: Option<SocketAddr>,
        #[command(flatten)]
        metrics: Metrics,
        #[command(flatten)]
        shutdown: ShutdownArgs,
    },
    /// Write a backup of all but the server key, also while the server runs
    Backup {
        /// The file, or a folder that keeps the newest backups under names of their own [default:
        /// the configuration's]
        #[arg(value_name = "FILE|DIR")]
        to: Option<PathBuf>,
        /// Backups that stay in the folder [default: the configuration's, 7]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        keep: Option<u32>,
    },
    /// Make a server of a backup; it waits for an owner before it takes a change
    Restore(restore::Options),
    /// Look through all that is kept, or through a backup, and name the first fault
    Check {
        /// A backup, instead of the server's own data
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Move log, blobs and audit records to where another database is
    #[command(subcommand)]
    Store(StoreCommand),
    /// Make the key that takes the other's place, and print it for `vault server rekey`
    Rekey,
    /// Have systemd run the server, as a user of its own
    Install(Options),
    /// Check or print a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask the server that runs here whether it takes writes; fails if it does not
    Health(Metrics),
    /// Print the manual page, or write all of them
    Man {
        /// Write every page into this folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Command whose page is printed, e.g. run
        #[arg(value_name = "COMMAND", conflicts_with = "out")]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct At {
    /// Directory of database and server key; the configuration then lives in it too
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VAULT_SERVER_DATA",
        hide_env_values = true
    )]
    data: Option<PathBuf>,
    /// Configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "VAULT_SERVER_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Metrics {
    /// Loopback address of /healthz and /metrics, instead of the configuration's
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "VAULT_SERVER_METRICS",
        hide_env_values = true,
        value_parser = loopback
    )]
    metrics_listen: Option<SocketAddr>,
}

/// Parses an address that only this machine reaches.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "it is not IP:PORT".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("it is not a loopback address".into())
    }
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Move them, and look through all of it, while no server runs
    Move(relocate::Options),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is sound
    Check,
    /// Print a configuration with every key and its meaning
    Example,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let term = Term::std();
    match set_up().and_then(|()| dispatch(cli.command, &cli.at, &term)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => term.fail(&error).into(),
    }
}

/// Keeps the keys to this process and its files, and takes the descriptors that as many connections
/// as configured may need.
fn set_up() -> Result<()> {
    note_own_file();
    harden()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let files = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: files.maximum, maximum: files.maximum };
    rustix::process::setrlimit(Resource::Nofile, most).context("cannot raise open files")
}

fn dispatch(command: Command, at: &At, term: &Term) -> Result<()> {
    match command {
        Command::Init { wanted, adopt: _, join: Some(key) } => {
            let places = at.places()?;
            let config = join(&places, &wanted, &key)?;
            term.say(format!("made a further server in `{}`", config.data.display()));
            let next = "start it with `vault-server run`, then tell the machines its address: \
                        `vault server move`";
            term.say(next);
            Ok(())
        }
        Command::Init { wanted, adopt, join: None } => {
            run_init(&at.places()?, &wanted, if adopt { ADOPTED } else { FOUNDED }, term)
        }
        Command::Run { listen, metrics, shutdown } => {
            let mut config = at.places()?.read()?;
            config.metrics_listen = metrics.metrics_listen.or(config.metrics_listen);
            config.listen = listen.unwrap_or(config.listen);
            serve(config, shutdown)
        }
        Command::Backup { to, keep } => run_backup(&at.places()?, to, keep, term),
        Command::Restore(options) => restore::restore(&at.places()?, &options, term),
        Command::Check { file: Some(file) } => check::check_backup(&file, term),
        Command::Check { file: None } => {
            let (data, store) = at.places()?.kept()?;
            check::check_own(&Source::of(&data, &store)?, &data, term)
        }
        Command::Store(StoreCommand::Move(options)) => relocate(&at.places()?, &options, term),
        Command::Rekey => run_rekey(&at.places()?.kept()?.0, term),
        Command::Install(options) => {
            let places = at.places_of(options.whose())?;
            install(&options, &places, at.arguments(&places)?, term)
        }
        Command::Config(ConfigCommand::Check) => {
            let places = at.places()?;
            places.read()?;
            Ok(term.line(format!("`{}` is sound", places.config.display()))?)
        }
        Command::Config(ConfigCommand::Example) => Ok(term.print(Shown::own(EXAMPLE))?),
        Command::Health(Metrics { metrics_listen: Some(address) }) => health::ask(address),
        Command::Health(Metrics { metrics_listen: None }) => {
            health::ask(health::address(&at.places()?.read()?)?)
        }
        Command::Man { out: None, command } => Ok(term.data(man::page(Cli::command(), &command)?)?),
        Command::Man { out: Some(folder), .. } => {
            let count = man::write(Cli::command(), &folder)?;
            term.say(format!("wrote {count} pages to `{}`", folder.display()));
            Ok(())
        }
    }
}

impl At {
    fn places(&self) -> Result<Places> {
        Places::find(self.config.as_deref(), self.data.as_deref())
    }

    /// As [`At::places`], for a server that somebody else may run.
    fn places_of(&self, whose: Whose) -> Result<Places> {
        match (whose, self) {
            (Whose::Host, Self { data: None, config: None }) => Ok(Places::of_host()),
            (Whose::Host | Whose::User, _) => self.places(),
        }
    }

    /// Returns what a server that is to have the same places is started with, whoever starts it.
    fn arguments(&self, places: &Places) -> Result<Vec<String>> {
        let mut arguments = vec!["--config".to_owned(), places.config.display().to_string()];
        if let Some(data) = &self.data {
            let data = std::path::absolute(data).context("no current directory")?;
            arguments.extend(["--data".to_owned(), data.display().to_string()]);
        }
        Ok(arguments)
    }
}

/// What a new server is for.
const FOUNDED: &str =
    "start it with `vault-server run`; `vault init` then asks for this line, once:\n";
const ADOPTED: &str = "start it with `vault-server run`; `vault server adopt` on the machine with the \
                       admin key then asks for this line, once:\n";

fn run_init(places: &Places, wanted: &Wanted, next: &'static str, term: &Term) -> Result<()> {
    let Made { config, line, again } = init(places, wanted)?;
    term.say(format!("made a server in `{}`", config.data.display()));
    if again {
        term.say("it was begun before, and keeps its key; a line of before is void");
    }
    term.say(format!("configuration: `{}`", places.config.display()));
    term.say(Shown::own(next));
    Ok(term.line(line)?)
}

fn run_backup(places: &Places, to: Option<PathBuf>, keep: Option<u32>, term: &Term) -> Result<()> {
    let (data, store, set) = match (places.read(), &to) {
        (Ok(config), _) => (config.data, config.store, config.backup),
        (Err(why), Some(_)) if why.missing => {
            (places.data.clone(), config::Store::default(), config::Backup::default())
        }
        (Err(why), _) => return Err(why.into()),
    };
    let source = Source::of(&data, &store)?;
    let Some(to) = to.or(set.dir) else {
        return Err(hinted(
            "no file and no folder is named",
            "`vault-server backup FILE`, or set `dir` in `[backup]` of the configuration",
        ));
    };
    let keep = keep.unwrap_or(set.keep) as usize;
    let mut progress = Progress::start(term, 0);
    let mut at = |done, all, what: &str| progress.at(done, all, what);
    let made = backup::backup(&source, &data, &to, keep, clock::now(), &mut at);
    progress.end();
    let backup::Made { file, looked, deleted } = made?;
    term.say(format!("`{}` is whole: {}", file.display(), looked.amount()));
    if let Some((flaw, way)) = looked.flaw {
        term.say_hinted(format!("it is as the server has it: {flaw}"), way);
    }
    if deleted > 0 {
        let backups = if deleted == 1 { "backup" } else { "backups" };
        term.say(format!("{deleted} older {backups} deleted"));
    }
    Ok(term.line(file.display().to_string())?)
}

fn run_rekey(data: &Path, term: &Term) -> Result<()> {
    let key = datadir::next_key(data)?;
    let next = "on the machine with the admin key: `vault server rekey KEY`, with this key; then \
                restart the server, which takes it at its start\n";
    term.say(Shown::own(next));
    Ok(term.line(key.to_string())?)
}

fn serve(config: Config, shutdown: ShutdownArgs) -> Result<()> {
    logging::start(config.log, "server");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(async {
        let listener = bind(config.listen).await?;
        let shutdown = Shutdown::listen(shutdown)?.wait();
        run(config, listener, shutdown).await
    });
    runtime.shutdown_background();
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn places_stand_before_and_behind_the_command() {
        let data = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            cli.at.data.unwrap().display().to_string()
        };
        for line in ["vault-server --data /x init", "vault-server init --data /x"] {
            assert_eq!(data(line), "/x", "{line}");
        }
        assert_eq!(data("vault-server config check --data /x"), "/x");
    }

    #[test]
    fn metrics_stay_on_this_machine() {
        let parse = |address: &str| {
            let words = ["vault-server", "run", "--metrics-listen", address];
            Cli::try_parse_from(words).map(drop).map_err(|fault| fault.to_string())
        };
        parse("127.0.0.1:9843").unwrap();
        for (address, why) in
            [("0.0.0.0:9843", "it is not a loopback address"), ("9843", "it is not IP:PORT")]
        {
            let fault = parse(address).unwrap_err();
            assert!(fault.contains(address) && fault.contains(why), "{fault}");
        }
    }

    #[test]
    fn commands_have_pages() {
        let page = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            man::page(Cli::command(), &words).map(|page| String::from_utf8(page).unwrap())
        };
        assert!(page(&[]).unwrap().contains(".TH vault-server 1"));
        assert!(page(&["run"]).unwrap().contains("Serve until SIGTERM"));
        assert!(page(&["health"]).unwrap().contains("whether it takes writes"));
        let fault = page(&["walk"]).unwrap_err();
        assert_eq!(fault.to_string(), "`vault-server` has no command `walk`");
    }
}
