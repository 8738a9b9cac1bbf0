//! The program `vault`: answers itself what is asked most, a look-up in this machine's agent; for everything else it turns into
//! the `vault-agent` beside it, which holds the whole command line. So next to nothing is loaded anew for every look-up.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::kv::LookUp;
use super::{Global, argv, failed, run, sibling};
use crate::clock;
use crate::exit::Exit;
use crate::output::{Format, Term};

/// What `vault` says to `vault-agent` when it hands a command line on.
pub const VERB: &str = "cli";

/// Runs the program `vault`.
#[must_use]
pub fn main() -> ExitCode {
    stay_private();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    look_up(&args).unwrap_or_else(|| hand_on(&args)).into()
}

/// Runs a command line that `vault` has handed on.
#[must_use]
pub fn handed_on(args: Vec<OsString>) -> ExitCode {
    stay_private();
    run(args, Term::std(), Box::new(env), clock::now).into()
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Answers a plain `kv get` from the agent that listens on this machine; `None` for everything else.
fn look_up(args: &[OsString]) -> Option<Exit> {
    let (kv, words) = args.split_first()?;
    let (get, words) = words.split_first()?;
    if kv != "kv" || get != "get" {
        return None;
    }
    let (flags, look_up) = LookUp::plain(&argv::normalise(words.iter().cloned()))?;
    let global = Global::new(flags, Term::std(), Box::new(env), clock::now);
    if global.format().ok()? == Format::Env {
        return None;
    }
    let client = global.socket_client()?;
    Some(look_up.run(&global, &client).unwrap_or_else(|error| failed(&global, &error)))
}

/// Becomes `vault-agent`; comes back only if that cannot be.
fn hand_on(args: &[OsString]) -> Exit {
    let why = match sibling::find("agent") {
        Ok(agent) => {
            let why = Command::new(&agent).arg(VERB).args(args).exec();
            anyhow::Error::from(why).context(format!("cannot start `{}`", agent.display()))
        }
        Err(why) => why,
    };
    Term::std().fail(&why)
}

/// No core dump with values in it, no look inside by other programs; not passed on to what this starts.
fn stay_private() {
    if let Err(why) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        Term::std().say(format!("warning: this process may leave a core dump: {why}"));
    }
}
