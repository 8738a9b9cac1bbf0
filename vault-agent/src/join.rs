//! `vault-agent init` and `join`: this machine's keys, and the pins it lives by.

use anyhow::{Result, bail};
use shared::error::Code;
use shared::name::Name;
use shared::token::{Line as _, PinLine};

use crate::engine::Engine;
use host::hint::{Exit, Failure, hinted, parsed};
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
}

/// Join the vault with the line that `vault machine add` printed
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    /// The line that starts with VLTP1-, or `-` for standard input
    line: String,
}

/// Makes the keys unless they are there, and prints the machine line.
pub fn init(args: InitArgs, paths: &Paths, term: &Term) -> Result<Exit> {
    let name: Name = parsed(args.name.map_or_else(host_name, Ok)?.parse())?;
    refuse_second(paths)?;
    let line = MachineKeys::load_or_create(paths)?.line(name)?;
    term.say(Shown::own("on a machine with an admin key:\n"));
    term.say(Shown::own("  vault machine add VLTM1-… --read PREFIX\n"));
    term.line(line.to_line()?)?;
    Ok(Exit::OK)
}

/// Takes the pins over, and has a first look at the server.
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
    let pins = Pins::from(pin);
    if Pins::load(paths)?.is_some_and(|old| old.vault != pins.vault || old.name != pins.name) {
        refuse_second(paths)?;
    }
    write_config(paths, &pins.addresses)?;
    pins.store(paths)?;
    term.say(format!("joined vault {} as `{}`", pins.vault.short(), pins.name));
    look(paths, &pins, term)?;
    term.say("next: `vault-agent target add FILE SECRET`, then `vault-agent run`");
    Ok(Exit::OK)
}

/// Tells what the first sync brought.
fn look(paths: &Paths, pins: &Pins, term: &Term) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (engine, reached) = runtime.block_on(Engine::first_sync(paths))?;
    if let Err(why) = reached {
        term.say(format!("the server cannot be reached yet: {why:#}"));
        return Ok(());
    }
    let readable = engine.own(|state, machine| {
        state.secrets().keys().filter(|path| machine.read.cover(path)).count()
    });
    let Some(readable) = readable else {
        let code = Code::JoinSubstituted;
        let text = format!("{code}: the log does not know the keys of machine `{}`", pins.name);
        bail!(Failure::remote(text).hint(code.hint()));
    };
    term.say(format!("the server answers; secrets readable here: {readable}"));
    Ok(())
}

fn refuse_second(paths: &Paths) -> Result<()> {
    let state = paths.state.display();
    let hint = format!(
        "a second vault on one host needs `--state DIR`; to join anew after a removal, move `{state}` away"
    );
    Pins::refuse_any(paths, hint)
}
