//! The `vault` command line, in the order of its layers: what every command uses, then the
//! commands, then the dispatch that knows them all.

mod argv;
mod sibling;

mod client;
mod print;

mod context;

mod kv;
mod vault;

mod compose;
mod fleet;
mod owner;
mod podman;
mod run;
mod scan;
mod shell;

mod dev;

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
