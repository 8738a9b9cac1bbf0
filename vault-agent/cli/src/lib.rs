//! The `vault` command line, in the order of its layers: what every command uses, then the
//! commands, then the dispatch that knows them all.

/// The programs of one installation.
mod sibling;

/// The one HTTP client.
pub mod client;

/// What commands print.
pub mod print;

/// Flags and surroundings of every command.
pub mod context;

/// Secrets as HashiCorp's `vault kv`.
mod kv;

/// The API as it is, whole secrets in and out, rotation.
mod vault;

/// What only an owner may do.
mod owner;

/// Machines and the audit log.
mod fleet;

/// Help, completion and manual pages.
mod shell;

/// Values of the vault in files and git.
mod scan;

/// A program with secrets as its environment.
mod run;

/// A provider service of Docker Compose.
mod compose;

/// A secret store of Podman.
mod podman;

/// Everything on one machine, to try it out.
mod dev;

/// Go's one-dash flags.
mod argv;

/// Which verb goes where.
mod dispatch;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use host::clock;
use host::term::Term;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Runs the program `vault`.
#[must_use]
pub fn main() -> ExitCode {
    let term = Term::std();
    // No core dump with values in it, no look inside by other programs; not inherited by children.
    if let Err(why) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        term.say(format!("warning: this process may leave a core dump: {why}"));
    }
    let env = |name: &str| std::env::var(name).ok();
    dispatch::run(std::env::args_os().skip(1), term, Box::new(env), clock::now).into()
}
