//! `vault-agent init` and `join`: this machine's keys, and the pins it lives by.

use std::os::unix::net::UnixStream;

use anyhow::{Result, bail};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::name::Name;
use shared::token::{Line as _, PinLine};
use shared::words::LABEL;

use crate::engine::Engine;
use host::files;
use host::hint::{self, Exit, Failure, hinted, parsed};
use host::shown::Shown;
use host::term::Term;
use machine::identity::{MachineKeys, Pins};
use machine::joining::{host_name, write_config};
use machine::paths::Paths;

/// Make this machine's keys and print its line for `vault machine add`
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Name of this machine in the vault [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print the line again where this host is that machine of this vault already
    #[arg(long, hide = true, requires = "name")]
    of: Option<Hash>,
}

/// Join the vault with the line that `vault machine add` printed
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    /// The line that starts with VLTP1-, or `-` for standard input
    line: String,
}

/// Makes the keys unless they are there, and prints the machine line and its six words.
pub fn init(args: &InitArgs, paths: &Paths, term: &Term) -> Result<Exit> {
    let name: Name = parsed(args.name.clone().map_or_else(host_name, Ok)?.parse())?;
    let is_it = |pins: &Pins| Some(pins.vault) == args.of && pins.name == name;
    if !Pins::load(paths)?.as_ref().is_some_and(is_it) {
        refuse_second(paths)?;
    }
    let line = MachineKeys::load_or_create(paths)?.line(name)?;
    // A program that reads the line, such as `vault machine add --ssh`, needs no advice.
    let person = term.out_is_tty;
    if person {
        term.say(Shown::own("on a machine with an admin key:\n"));
        term.say(Shown::own("  vault machine add VLTM1-… --read PREFIX\n"));
    }
    term.line(line.to_line()?)?;
    term.line(format!("{LABEL}{}", line.words()))?;
    if person {
        term.say(
            "\ncompare these six words on the admin's machine, which shows them before it signs",
        );
    }
    Ok(Exit::OK)
}

/// Takes the pins over, and has a first look at the server. A line by which this host does not
/// belong to the vault leaves nothing behind.
pub fn join(args: &JoinArgs, paths: &Paths, term: &Term) -> Result<Exit> {
    let line = match args.line.as_str() {
        "-" => term.read_line()?.unwrap_or_default(),
        line => line.to_owned(),
    };
    let pin = parsed(PinLine::from_line(&line))?;
    if !MachineKeys::exist(paths) {
        bail!(hinted(
            "this host has no keys yet",
            "run `vault-agent init` first, then `vault machine add` with its line"
        ));
    }
    let (pins, old) = (Pins::from(pin), Pins::load(paths)?);
    if old.as_ref().is_some_and(|old| old.vault != pins.vault || old.name != pins.name) {
        refuse_second(paths)?;
    }
    let is_first = old.is_none() && !paths.database().exists();
    pins.store(paths)?;
    if old.is_some() && runs(paths) {
        // It holds the database, and follows the vault itself.
        write_config(paths, &pins.addresses)?;
        term.say(format!("joined vault {} as `{}` already", pins.vault.short(), pins.name));
        term.say("an agent runs here: it takes new pins when it is restarted");
        return Ok(Exit::OK);
    }
    let found = look(paths);
    if is_first && !matches!(found, Ok(First::Member { .. } | First::Unreached(_))) {
        leave(paths)?;
    }
    let said = match found? {
        First::Member { readable } => {
            format!("the server answers; secrets readable here: {readable}").into()
        }
        First::Unreached(why) => {
            Shown::own("the server cannot be reached yet: ") + hint::shown(&why)
        }
        First::Substituted(why) => bail!(Failure::remote(why.to_string()).hint(why.code.hint())),
    };
    write_config(paths, &pins.addresses)?;
    term.say(format!("joined vault {} as `{}`", pins.vault.short(), pins.name));
    term.say(said);
    if runs(paths) {
        term.say(
            "an agent runs here, with the keys that were here before: restart it, as with \
             `systemctl --user restart vault-agent`",
        );
    } else {
        term.say(
            "next: `vault-agent target add FILE SECRET`, then `vault-agent install --user`, as \
             root without --user",
        );
    }
    Ok(Exit::OK)
}

/// Tells whether an agent runs here.
fn runs(paths: &Paths) -> bool {
    UnixStream::connect(&paths.socket).is_ok()
}

/// What the first sync brought.
enum First {
    /// The vault knows this machine by both keys.
    Member {
        /// How many secrets it may read.
        readable: usize,
    },
    /// Nobody knows yet.
    Unreached(anyhow::Error),
    /// The vault does not hold this machine's own keys.
    Substituted(Error),
}

fn look(paths: &Paths) -> Result<First> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (engine, reached) = runtime.block_on(Engine::first_sync(paths))?;
    let substituted = |why: &str| First::Substituted(Code::JoinSubstituted.because(why));
    if let Err(why) = reached {
        return Ok(match engine.is_stranger() {
            true => substituted("the server knows no machine with this host's signing key"),
            false => First::Unreached(why),
        });
    }
    if let Err(why) = engine.check_own_keys() {
        return Ok(First::Substituted(why));
    }
    let readable = engine.own(|state, machine| {
        state.secrets().keys().filter(|path| machine.read.cover(path)).count()
    });
    Ok(readable.map_or_else(
        || substituted("the machine with this host's keys was removed, or has others now"),
        |readable| First::Member { readable },
    ))
}

/// Takes back what a first attempt to join has written.
fn leave(paths: &Paths) -> Result<()> {
    let database = paths.database();
    for end in ["", "-wal", "-shm"] {
        let mut file = database.clone().into_os_string();
        file.push(end);
        files::remove_trusted(file.as_ref())?;
    }
    Pins::remove(paths)
}

fn refuse_second(paths: &Paths) -> Result<()> {
    let state = paths.state.display();
    let hint = format!(
        "a second vault on one host needs `--state DIR`; to join anew after a removal, stop the agent, \
         move `{state}` away, and run this again"
    );
    Pins::refuse_any(paths, hint)
}
