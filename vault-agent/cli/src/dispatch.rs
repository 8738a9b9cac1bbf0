//! The command line: which verb goes where. Dispatch only; each verb is one file.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand as _};
use host::hint::Exit;
use host::shown::Shown;
use host::term::Term;
use shared::time::Time;

use crate::context::{Env, Flags, Global};
use crate::fleet::{audit, blast, history, log, status, ui};
use crate::owner::{access, admin, heal, init, machine, recover, recovery, resume, server, setup};
use crate::print::exit::report;
use crate::shell::{complete, completions, help, man};
use crate::vault::{export, generic, import, print, rotate_due, secrets, token};
use crate::{argv, compose, dev, kv, podman, run as running, scan};

pub(crate) const HELP: &str = "\
vault keeps secrets end-to-end encrypted, the same on every machine that may have them

Usage: vault COMMAND [OPTIONS]

Secrets
  kv get PATH…               a secret; -field=KEY for one value, -format=json for scripts
  kv put PATH K=V…           write it whole; K=@FILE, K=- (stdin), K alone asks with echo off
  kv patch PATH K=V…         change some keys and keep the others
  kv list [-r] PATH          names below a path
  kv edit|find|cp|mv|diff|history
                             in an editor; by name; elsewhere; what changed
  kv delete|undelete|destroy|rollback|metadata
                             versions: every write makes one, none is lost by mistake
  run [-w] PATH… -- COMMAND  run a program with secrets as its environment
  import PATH FILE           take in a .env, JSON or YAML file, or all of vault://HOST/MOUNT
  export PATH…               print as .env, JSON or shell lines
  scan [--git] [FILE…]       find values of the vault in files and git; --hosts; --install-hook
  compose|podman             secrets for services of Docker Compose, and as Podman's
  blast PATH|rotate-due      a value has leaked: who had it, what to restart; what is due at issuers

Machines
  status                     who holds which version; fails while an awake machine lags
  ui [--ssh HOST]            a page in the browser: is all well, who read what, what to type
  machine list|add|remove    machines of this vault; exposed: which keys a lost one could read
  access|admin               which paths a machine may read and write; who may sign for that
  token create|list|revoke   for programs that should see less than their machine

Audit
  audit log                  who read and wrote what: --key NAME --op read --since 'last week'
  audit tail|summary|export  as it happens; counted; for other programs
  audit verify; log [show N] prove that no record is lost; the signed log in words

Rescue
  heal|resume                give a server back what it lost; let a restored one go on
  server move|rekey|adopt    another address, another key, another server
  recovery|recover           with the kit: test it, appoint an admin, renew it, start on a new host

Any Vault
  read|write|list|delete     any path of the API; secrets list|enable: its mounts

Setting up
  setup                      make a vault here: --import FILE --target .env
  init [FILE]                set this machine up with the line that `vault-server init` prints
  dev                        try everything out on this machine: --import FILE --out .env
  completions SHELL; man     for bash, zsh, fish, elvish and powershell; manual pages
  help [COMMAND|flags]       how to call a command; the flags that all of them take

A PATH is MOUNT/NAME, e.g. secret/app/db. Flags take one dash or two, before or behind it.
Without VAULT_ADDR this machine's agent answers; with it, any server with Vault's KV v2 API.
`vault COMMAND -h` tells more; `vault help flags` lists what every command takes.";

/// The arguments of `vault`.
#[derive(Debug, Parser)]
#[command(
    name = "vault",
    version = host::version::own(),
    override_help = HELP,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
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
    /// Run a program with secrets as its environment
    Run(running::Args),
    /// Take in a .env, JSON or YAML file, or secrets of another Vault
    Import(import::Args),
    /// Print secrets as .env, JSON or shell lines
    Export(export::Args),
    /// Find values of the vault in files, in git, and on all hosts
    Scan(scan::Args),
    /// Print who holds which version
    Status(status::Args),
    /// Open a page that answers whether all is well
    Ui(ui::Args),
    /// List secrets that are to be changed at their issuers
    RotateDue(rotate_due::Args),
    /// Read any path of the API
    Read(generic::ReadArgs),
    /// Write to any path of the API
    Write(generic::WriteArgs),
    /// List any path of the API
    List(generic::ListArgs),
    /// Delete at any path of the API
    Delete(generic::DeleteArgs),
    /// List, make and tune mounts
    #[command(subcommand, arg_required_else_help = true)]
    Secrets(secrets::Command),
    /// Make, look up and revoke tokens for programs
    #[command(subcommand, arg_required_else_help = true)]
    Token(token::Command),
    /// Print what requests carry
    #[command(subcommand, arg_required_else_help = true, hide = true)]
    Print(print::Command),
    /// List, add, rename, set and remove machines, and tell what they could read
    #[command(subcommand, arg_required_else_help = true)]
    Machine(machine::Command),
    /// Set and show what machines may read and write
    #[command(subcommand, arg_required_else_help = true)]
    Access(access::Command),
    /// List, appoint and remove admins, and change the passphrase of an admin's key
    #[command(subcommand, arg_required_else_help = true)]
    Admin(admin::Command),
    /// Review and verify the audit log
    #[command(subcommand, arg_required_else_help = true)]
    Audit(audit::Command),
    /// Tell what a leaked value has reached, and what to restart and rotate
    Blast(blast::Args),
    /// Print entries of the signed log in words
    Log(log::Args),
    /// Give the server back what it has lost and this machine has
    Heal(heal::Args),
    /// Let a restored server go on from where its log ends, without what is lost
    Resume(resume::Args),
    /// Move the server, change its key, or give the vault to a new one
    #[command(subcommand, arg_required_else_help = true)]
    Server(server::Command),
    /// Make this host a machine of a vault that has none left, with the recovery kit
    Recover(recover::Args),
    /// Prove, use and renew the recovery kit
    #[command(subcommand, arg_required_else_help = true)]
    Recovery(recovery::Command),
    /// Make a vault on this host
    Setup(Box<setup::Args>),
    /// Set this machine up with a server's setup line
    Init(init::Args),
    /// Try everything out on this machine
    Dev(dev::Args),
    /// Be a provider service of Docker Compose
    Compose(compose::Args),
    /// Be a secret store of Podman
    Podman(podman::Args),
    /// Print a completion script
    Completions(completions::Args),
    /// Print the manual page, or write all of them
    Man(man::Args),
    /// Print how to call a command, or the flags that all of them take
    Help(help::Args),
    /// Print the version, as -V does
    #[command(hide = true)]
    Version,
}

/// Runs a command line; `args` is without the program's name.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    term: Term,
    env: Env,
    clock: fn() -> Time,
) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some((verb, words)) = args.split_first()
        && verb == complete::VERB
    {
        let global = Global::new(Flags::default(), term, env, clock);
        return complete::run(&global, words, described());
    }
    if let Some((verb, words)) = args.split_first()
        && verb == setup::detached::VERB
    {
        return term.fail(&setup::detached::run(words));
    }
    if args.is_empty() {
        return bare(&Global::new(Flags::default(), term, env, clock));
    }
    let verb = args.iter().find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let is_scan = verb.is_some_and(|verb| verb == "scan");
    let is_compose = verb.is_some_and(|verb| verb == compose::VERB);
    let args = std::iter::once(OsString::from("vault")).chain(argv::normalise(args));
    let matches = described().try_get_matches_from(args);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if is_scan => return scan::no_find(usage(&term, &error)),
        Err(error) if is_compose && error.use_stderr() => return compose::usage(&term, &error),
        Err(error) => return usage(&term, &error),
    };
    let global = Global::new(cli.flags, term, env, clock);
    dispatch(&global, cli.command).unwrap_or_else(|error| report(&global.term, &error))
}

/// Answers `vault` alone: with the next command on a host that has no vault, else with the help.
fn bare(global: &Global) -> Exit {
    if let Some(step) = setup::first_step(global) {
        global.term.say(step);
        return Exit::LOCAL;
    }
    match described().try_get_matches_from(["vault"]) {
        Err(error) => usage(&global.term, &error),
        Ok(_) => Exit::LOCAL,
    }
}

/// Describes the command line; the help of each command ends with where those flags are told that
/// all of them take.
fn described() -> clap::Command {
    let command = Cli::command().mut_subcommands(with_flags_named);
    // Snapshots of help must not depend on the terminal that tests run in.
    if cfg!(test) { command.term_width(100) } else { command }
}

fn with_flags_named(command: clap::Command) -> clap::Command {
    let after = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    command.after_help(after + help::FLAGS).mut_subcommands(with_flags_named)
}

fn dispatch(global: &Global, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Kv(command) => kv::run(global, &command, history::run),
        Command::Blast(args) => blast::run(global, &args),
        Command::Run(args) => running::run(global, &args),
        Command::Import(args) => import::run(global, &args),
        Command::Export(args) => export::run(global, &args),
        Command::Scan(args) => {
            let ran = scan::run(global, &args);
            Ok(ran.unwrap_or_else(|error| scan::no_find(report(&global.term, &error))))
        }
        Command::Status(args) => status::run(global, &args),
        Command::Ui(args) => ui::run(global, &args),
        Command::RotateDue(args) => rotate_due::run(global, &args),
        Command::Read(args) => generic::read(global, &args),
        Command::Write(args) => generic::write(global, &args),
        Command::List(args) => generic::list(global, &args),
        Command::Delete(args) => generic::delete(global, &args),
        Command::Secrets(command) => secrets::run(global, &command),
        Command::Token(command) => token::run(global, &command),
        Command::Print(command) => print::run(global, &command),
        Command::Machine(command) => machine::run(global, &command),
        Command::Access(command) => access::run(global, &command),
        Command::Admin(command) => admin::run(global, &command),
        Command::Audit(command) => audit::run(global, &command),
        Command::Log(args) => log::run(global, &args),
        Command::Recover(args) => recover::run(global, &args),
        Command::Recovery(command) => recovery::run(global, &command),
        Command::Heal(args) => heal::run(global, args),
        Command::Resume(args) => resume::run(global, &args),
        Command::Server(command) => server::run(global, &command),
        Command::Setup(args) => setup::run(&args, global),
        Command::Init(args) => init::run(args, global),
        Command::Dev(args) => dev::run(&args, global),
        Command::Compose(args) => compose::run(&args, global),
        Command::Podman(args) => podman::run(&args, global),
        Command::Completions(args) => completions::run(global, &args, &mut described()),
        Command::Man(args) => man::run(global, &args, described()),
        Command::Help(args) => help::run(global, &args, described()),
        Command::Version => {
            global.term.print(Shown::text(Cli::command().render_version()))?;
            Ok(Exit::OK)
        }
    }
}

/// Help that was asked for is data; a wrong call is not.
fn usage(term: &Term, error: &clap::Error) -> Exit {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away has read enough.
        let _ = term.print(Shown::text(text));
        Exit::OK
    } else {
        term.say(Shown::text(text.trim_end()));
        if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(verb))) =
            (error.kind(), error.get(ContextKind::InvalidSubcommand))
            && let Some(hint) = hint(verb)
        {
            term.say(format!("hint: {hint}"));
        }
        Exit::LOCAL
    }
}

/// Returns what stands here for a verb that `kv` knows, or that HashiCorp's CLI has.
fn hint(verb: &str) -> Option<String> {
    let known = match verb {
        "login" => {
            "nobody logs in: the agent knows who asks on its socket; elsewhere set VAULT_TOKEN"
        }
        "operator" => "there is nothing to unseal; `vault status` says how everything stands",
        "agent" => {
            "`vault-agent install` has it run with the host; `vault-agent run` in this terminal"
        }
        "join" | "once" | "target" | "install" => return Some(format!("`vault-agent {verb}`")),
        _ => {
            let kv = kv::Command::augment_subcommands(clap::Command::new("kv"));
            return kv.find_subcommand(verb).map(|kv| format!("`vault kv {}`", kv.get_name()));
        }
    };
    Some(known.to_owned())
}
