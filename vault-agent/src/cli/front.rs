//! The program `vault`: answers itself what is asked most, HashiCorp's `kv` commands; for everything else it turns into the
//! `vault-agent` beside it, which holds the whole command line. So what is loaded anew for every look-up stays small.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::Parser;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use shared::time::Time;

use super::{Env, Flags, Global, HELP, argv, failed, kv, now, parse_as, run, sibling, usage};
use crate::exit::Exit;
use crate::output::Term;

/// What `vault` says to `vault-agent` when it hands a command line on.
pub const VERB: &str = "cli";

/// The command line with the verb `kv` alone: looking a key up should cost no more than it must, so the other verbs'
/// arguments are not even described.
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
    Kv(kv::Basic),
}

/// Runs the program `vault`.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if !is_quick(&args) {
        return hand_on(&args).into();
    }
    stay_private();
    let env = |name: &str| std::env::var(name).ok();
    answer(args, Term::std(), Box::new(env), now).into()
}

/// Runs a command line that `vault` has handed on.
#[must_use]
pub fn handed_on(args: Vec<OsString>) -> ExitCode {
    stay_private();
    let env = |name: &str| std::env::var(name).ok();
    run(args, Term::std(), Box::new(env), now).into()
}

/// Tells whether `vault` answers by itself: one of HashiCorp's `kv` commands, the overview, or the version.
pub(super) fn is_quick(args: &[OsString]) -> bool {
    let word = |n: usize| args.get(n).and_then(|word| word.to_str()).unwrap_or_default();
    match args.len() {
        0 => true,
        1 => matches!(word(0), "-h" | "-help" | "--help" | "-v" | "-version" | "--version"),
        _ => word(0) == "kv" && kv::is_basic(word(1)),
    }
}

/// Runs one of those.
pub(super) fn answer(args: Vec<OsString>, term: Term, env: Env, clock: fn() -> Time) -> Exit {
    match parse(args) {
        Err(error) => usage(&term, &error),
        Ok((flags, command)) => {
            let global = Global::new(flags, term, env, clock);
            kv::basic(&global, &command).unwrap_or_else(|error| failed(&global, &error))
        }
    }
}

fn parse(args: Vec<OsString>) -> Result<(Flags, kv::Basic), clap::Error> {
    let args: Vec<OsString> =
        std::iter::once(OsString::from("vault")).chain(argv::normalise(args)).collect();
    if args.get(1).is_some_and(|word| word == "kv")
        && args.get(2).is_some_and(|word| word == "get")
        && let Some(get) = kv::plain_get(&args[3..])
    {
        return Ok((Flags::default(), get));
    }
    described(args)
}

fn described(args: Vec<OsString>) -> Result<(Flags, kv::Basic), clap::Error> {
    let KvCli { flags, command: KvVerb::Kv(command) } = parse_as(args)?;
    Ok((flags, command))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashicorps_kv_commands_are_quick() {
        for (line, expected) in [
            ("kv get secret/a", true),
            ("kv metadata get secret/a", true),
            ("--version", true),
            ("-help", true),
            ("kv find a", false),
            ("kv", false),
            ("-format=json kv get secret/a", false),
            ("status", false),
            ("--help status", false),
        ] {
            let args: Vec<_> = line.split(' ').map(OsString::from).collect();
            assert_eq!(is_quick(&args), expected, "{line}");
        }
        assert!(is_quick(&[]));
    }

    #[test]
    fn a_plain_look_up_is_read_as_clap_reads_it() {
        for line in [
            "kv get secret/app",
            "kv get -field=a secret/app",
            "kv get secret/app --field=a=b",
            "kv get -mount=secret -field=x app/db",
            "kv get -field=a -field=b secret/app",
            "kv get -field= secret/app",
            "kv get -field a secret/app",
            "kv get -version=2 secret/app",
            "kv get -format=json secret/app",
            "kv get -- secret/app",
            "kv get a b",
            "kv get -nope=1 secret/app",
            "kv get",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let whole =
                std::iter::once(OsString::from("vault")).chain(argv::normalise(words.clone()));
            let shown = |read: Result<(Flags, kv::Basic), clap::Error>| match read {
                Ok(read) => format!("{read:?}"),
                Err(error) => format!("{:?}", error.kind()),
            };
            assert_eq!(shown(parse(words)), shown(described(whole.collect())), "{line}");
        }
    }
}
