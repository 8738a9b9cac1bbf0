//! The command line: which verb goes where. Dispatch only; each verb is one file.

mod argv;
mod audit;
pub mod client;
mod completions;
pub mod duration;
mod export;
mod global;
mod import;
mod kv;
mod owning;
mod sibling;
mod ssh;
mod status;
pub mod tls;

pub mod access;
pub mod dev;
pub mod init;
pub mod machine;
pub mod target;

#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use shared::time::Time;

use crate::exit::Exit;
use crate::output::Term;

pub use global::{Env, Flags, Global};

const HELP: &str = "\
vault keeps secrets end-to-end encrypted, the same on every machine that may have them

Usage: vault COMMAND [OPTIONS]

Secrets
  kv get PATH                a secret; -field=KEY for one value, -format=json for scripts
  kv put PATH K=V…           write it whole; K=@FILE, K=- (stdin), K alone asks with echo off
  kv patch PATH K=V…         change some keys and keep the others
  kv list PATH               names below a path
  kv delete|undelete|destroy|rollback|metadata
                             versions: every write makes one, none is lost by mistake
  import PATH FILE           take in a .env or JSON file
  export PATH…               print as .env, JSON or shell lines

Machines
  status                     who holds which version; fails while an awake machine lags
  machine list|add           machines of this vault
  access set|show            which paths a machine may read and write

Audit
  audit log                  who read and wrote what: --since 24h --machine NAME --denied
  audit verify               prove that no record was changed or lost

Setting up
  init VLTS1-…               set this machine up with the line that `vault-server init` prints
  dev                        try everything out on this machine: --import FILE --out .env
  completions SHELL          for bash, zsh, fish, elvish and powershell

A PATH is MOUNT/NAME, e.g. secret/app/db. Flags take one dash or two, before or behind it.
Without VAULT_ADDR this machine's agent answers; with it, any server with Vault's KV v2 API.
`vault COMMAND -h` tells more.";

/// The arguments of `vault`.
#[derive(Debug, Parser)]
#[command(name = "vault", version, override_help = HELP, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read and write secrets
    #[command(subcommand, arg_required_else_help = true)]
    Kv(kv::Command),
    /// Take in a .env or JSON file
    Import(import::Args),
    /// Print secrets as .env, JSON or shell lines
    Export(export::Args),
    /// Print who holds which version
    Status(status::Args),
    /// List and add machines
    Machine(machine::Args),
    /// Set and show what machines may read and write
    Access(access::Args),
    /// Review and verify the audit log
    #[command(subcommand, arg_required_else_help = true)]
    Audit(audit::Command),
    /// Set this machine up with a server's setup line
    Init(init::Args),
    /// Try everything out on this machine
    Dev(dev::Args),
    /// Print a completion script
    Completions(completions::Args),
}

/// [`Cli`] with the verb `kv` alone.
#[derive(Debug, Parser)]
#[command(name = "vault", version, override_help = HELP, arg_required_else_help = true, disable_help_subcommand = true)]
struct KvCli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: KvVerb,
}

#[derive(Debug, clap::Subcommand)]
enum KvVerb {
    /// Read and write secrets
    #[command(subcommand, arg_required_else_help = true)]
    Kv(kv::Command),
}

/// Runs the process's command line.
#[must_use]
pub fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    run(std::env::args_os().skip(1), Term::std(), Box::new(env), now).into()
}

/// Runs a command line; `args` is without the program's name.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    term: Term,
    env: Env,
    clock: fn() -> Time,
) -> Exit {
    let args = std::iter::once(OsString::from("vault")).chain(argv::normalise(args));
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&term, &error),
    };
    let global = Global::new(cli.flags, term, env, clock);
    dispatch(&global, cli.command).unwrap_or_else(|error| global.term.fail(&error))
}

/// Reads the arguments. Looking a key up should cost no more than it must: for `kv` the other
/// verbs' arguments are not even described.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|verb| verb == "kv") {
        let KvCli { flags, command: KvVerb::Kv(command) } = parse_as(args)?;
        return Ok(Cli { flags, command: Command::Kv(command) });
    }
    parse_as(args)
}

fn parse_as<T: Parser>(args: Vec<OsString>) -> Result<T, clap::Error> {
    let mut command = T::command();
    if cfg!(test) {
        // Snapshots of help must not depend on the terminal that tests run in.
        command = command.term_width(100);
    }
    T::from_arg_matches(&command.try_get_matches_from(args)?)
}

fn dispatch(global: &Global, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Kv(command) => kv::run(global, &command),
        Command::Import(args) => import::run(global, &args),
        Command::Export(args) => export::run(global, &args),
        Command::Status(args) => status::run(global, &args),
        Command::Machine(args) => machine::run(args, global),
        Command::Access(args) => access::run(args, global),
        Command::Audit(command) => audit::run(global, &command),
        Command::Init(args) => init::run(args, global),
        Command::Dev(args) => dev::run(&args, global),
        Command::Completions(args) => completions::run(global, &args, &mut Cli::command()),
    }
}

/// Help that was asked for is data; a wrong call is not.
fn usage(term: &Term, error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away has read enough.
        let _ = term.print(text);
        Exit::OK
    } else {
        term.say(text.trim_end());
        Exit::LOCAL
    }
}

fn now() -> Time {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
