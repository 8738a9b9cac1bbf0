//! `vault-agent init` and `join`: this machine's keys, and the pins it lives by.

mod proof;
pub mod rekey;
mod request;
mod wanted;

use std::time::Duration;

use anyhow::{Result, bail};
use shared::duration;
use shared::error::{Code, Error};
use shared::grant::Grants;
use shared::hash::Hash;
use shared::name::Name;
use shared::token::{Line as _, MachineLine, PinLine};
use shared::words::LABEL;

use self::request::Request;
use self::wanted::Wanted;
use crate::ask;
use crate::engine::Engine;
use host::files;
use host::hint::{self, Exit, Failure, hinted, parsed};
use host::shown::Shown;
use host::term::Term;
use machine::config::is_address;
use machine::identity::{MachineKeys, Pins};
use machine::joining::{host_name, write_config};
use machine::local::{STATUS, Status};
use machine::paths::Paths;
use machine::running::answering;

/// Make this machine's keys and print its line for `vault machine add`
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Name of this machine in the vault [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Make new keys beside those that this host has; they take over when it joins with the line
    /// that `vault machine rekey` prints
    #[arg(long, conflicts_with = "of")]
    rekey: bool,
    /// Wipe the new keys again, unless the vault has them
    #[arg(long, requires = "rekey", conflicts_with = "name")]
    give_up: bool,
    /// Print the line again where this host is that machine of this vault already
    #[arg(long, hide = true, requires = "name")]
    of: Option<Hash>,
}

/// Join the vault: with the line that `vault machine add` printed, or by asking and waiting
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --wait the host shows six words and waits until an admin has approved them, for a day \
at most. The same command goes on where it was stopped.
`vault machine invite NAME` on an admin's host prints the command for this one."
)]
pub struct JoinArgs {
    /// The line that starts with VLTP1-, or `-` for standard input
    #[arg(required_unless_present = "wait", conflicts_with = "wait")]
    line: Option<String>,

    /// Ask the server at these addresses, host:port, and wait for `vault machine approve`
    #[arg(long, value_name = "ADDRESS", num_args = 1.., value_delimiter = ',', requires = "vault")]
    wait: Vec<String>,

    /// The vault: its twelve words, or its whole id
    #[arg(long, value_name = "WORDS", num_args = 1.., requires = "wait")]
    vault: Vec<String>,

    /// Name of this machine in the vault [default: the host's name]
    #[arg(long, value_name = "NAME", requires = "wait")]
    name: Option<String>,

    /// Have a first configuration let this user use the agent's socket, as root does; repeatable
    #[arg(long, value_name = "USER")]
    allow: Vec<String>,

    /// Wait for so long at most [default: 24h]
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = patience)]
    timeout: Option<Duration>,
}

/// Longest wait for an approval: as long as a request is kept.
const DAY: Duration = Duration::from_hours(24);

fn patience(text: &str) -> Result<Duration, String> {
    let micros = duration::parse_or_seconds(text).and_then(|micros| u64::try_from(micros).ok());
    let time =
        micros.map(Duration::from_micros).filter(|time| (Duration::ZERO..=DAY).contains(time));
    time.ok_or_else(|| format!("`{text}` is not a duration of up to 24h, such as 30m"))
}

/// Makes the keys unless they are there, and prints the machine line and its six words.
pub fn init(args: &InitArgs, paths: &Paths, term: &Term) -> Result<Exit> {
    if args.give_up {
        give_up(paths, term)?;
        return Ok(Exit::OK);
    }
    if args.rekey {
        let name = args.name.as_ref().map(|name| parsed(name.parse())).transpose()?;
        let line = rekey::make(name, paths)?;
        return print(&line, "vault machine rekey NAME VLTM1-…", term);
    }
    let name: Name = parsed(args.name.clone().map_or_else(host_name, Ok)?.parse())?;
    let is_it = |pins: &Pins| Some(pins.vault) == args.of && pins.name == name;
    if !Pins::load(paths)?.as_ref().is_some_and(is_it) {
        refuse_second(paths)?;
    }
    let line = MachineKeys::load_or_create(paths)?.line(name)?;
    print(&line, "vault machine add VLTM1-… --read PREFIX", term)
}

/// Prints a line and its six words; tells a person what to do with it.
fn print(line: &MachineLine, then: &str, term: &Term) -> Result<Exit> {
    // A program that reads the line, such as `vault machine add --ssh`, needs no advice.
    let person = term.out_is_tty;
    if person {
        term.say(Shown::own("on a machine with an admin key:\n"));
        term.say(format!("  {then}\n"));
    }
    term.line(line.to_line()?)?;
    term.line(format!("{LABEL}{}", line.words()))?;
    if person {
        term.say(Shown::own(
            "\ncompare these six words on the admin's machine, which shows them before it signs",
        ));
    }
    Ok(Exit::OK)
}

/// Takes the pins over, and has a first look at the server. A line by which this host does not
/// belong to the vault leaves nothing behind.
///
/// A line that tells of a new key of the server goes to `vouch` where the host belongs to the vault
/// already.
pub fn join(
    args: &JoinArgs,
    paths: &Paths,
    term: &Term,
    vouch: impl FnOnce(PinLine, (u64, Hash)) -> Result<Exit>,
) -> Result<Exit> {
    let line = match args.line.as_deref() {
        None => return ask(args, paths, term),
        Some("-") => term.read_line()?.unwrap_or_default(),
        Some(line) => line.to_owned(),
    };
    let pin = parsed(PinLine::from_line(&line))?;
    if pin.at.is_none() && (rekey::is_begun(paths) || rekey::have_taken_over(paths)) {
        take_over(&Pins::from(pin), paths, term)?;
        return Ok(Exit::OK);
    }
    if let Some(at) = pin.at
        && Pins::load(paths)?.is_some_and(|pins| pins.vault == pin.vault)
    {
        return vouch(pin, at);
    }
    if !MachineKeys::exist(paths) {
        bail!(hinted(
            "this host has no keys yet",
            "run `vault-agent init` first, then `vault machine add` with its line"
        ));
    }
    settle(&Pins::from(pin), &args.allow, paths, term)?;
    Ok(Exit::OK)
}

/// Has the keys that `init --rekey` made take over, once the vault knows them; goes on where an
/// earlier attempt ended.
fn take_over(pins: &Pins, paths: &Paths, term: &Term) -> Result<()> {
    rekey::demand_vault(pins.vault, paths)?;
    let _turn = rekey::in_turn(paths)?;
    let runs = runs(paths)?;
    if !rekey::have_taken_over(paths) {
        let next = rekey::next(paths);
        // Those of an earlier attempt may have the name of before.
        Pins::remove(&next)?;
        pins.store(&next)?;
        match look(&next)? {
            First::Member { .. } => {}
            First::Unreached(why) => bail!(
                Failure::remote(
                    Shown::own("the keys of before stay: the server cannot be reached: ")
                        + hint::shown(&why)
                )
                .hint("run this again once it can be")
            ),
            First::Removed => bail!(removed(&pins.name, paths)),
            First::Substituted(why) => bail!(
                Failure::remote(format!("the keys of before stay: {why}"))
                    .hint("`vault machine rekey` on an admin's machine comes first")
            ),
        }
        rekey::exchange(pins.name.clone(), paths)?;
    }
    rekey::clear(paths)?;
    term.say(format!("`{}` has its new keys, and the old ones are wiped", pins.name));
    if runs {
        term.say(
            "an agent runs here, with the keys of before: restart it, as with `systemctl --user \
             restart vault-agent`",
        );
    }
    Ok(())
}

/// Wipes the keys that `init --rekey` made, as long as those that this host has are in the vault.
fn give_up(paths: &Paths, term: &Term) -> Result<()> {
    let _turn = rekey::in_turn(paths)?;
    if rekey::is_begun(paths) && !rekey::have_taken_over(paths) {
        if rekey::is_sealed(paths) {
            bail!(hinted(
                "the keys that this host has are sealed: nobody but its agent can see here whether \
                 the vault has the new ones already",
                "go on instead: `vault machine rekey` on an admin's host, with the line of \
                 `vault-agent init --rekey`"
            ));
        }
        if runs(paths)? {
            bail!(hinted(
                "an agent runs here: it alone sees whether the vault has the new keys already",
                "stop it, run this again, and start it then"
            ));
        }
        match look(paths)? {
            First::Member { .. } => {}
            First::Unreached(why) => bail!(
                Failure::remote(
                    Shown::own("the new keys stay: the server cannot be reached: ")
                        + hint::shown(&why)
                )
                .hint("run this again once it can be: the vault may have them already")
            ),
            First::Removed | First::Substituted(_) => bail!(
                Failure::remote("the new keys stay: the vault has those of before no more").hint(
                    "`vault-agent join` has them take over, with the line of `vault machine rekey`"
                )
            ),
        }
    }
    rekey::clear(paths)?;
    term.say("no new keys are here any more; this host keeps those that it has");
    Ok(())
}

/// Asks to become a machine of the vault and waits for it, then goes on as with a line. What is
/// there already is not done again.
fn ask(args: &JoinArgs, paths: &Paths, term: &Term) -> Result<Exit> {
    let vault: Wanted = parsed(args.vault.join(" ").parse())?;
    if let Some(bad) = args.wait.iter().find(|address| !is_address(address)) {
        let way = "write it as host:port, such as 10.8.0.3:8443";
        bail!(hinted(format!("`--wait {bad}` is not host:port"), way));
    }
    let pins = match Pins::load(paths)? {
        Some(pins) if vault.is(&pins.vault) => pins,
        Some(_) | None => {
            let name: Name = parsed(args.name.clone().map_or_else(host_name, Ok)?.parse())?;
            refuse_second(paths)?;
            let keys = MachineKeys::load_or_create(paths)?;
            let line = keys.line(name)?;
            term.line(format!("{LABEL}{}", line.words()))?;
            let state = &paths.state;
            let request =
                Request { addresses: &args.wait, vault, key: &keys.sign, line: &line, state };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(request.wait(args.timeout.unwrap_or(DAY), term))?
        }
    };
    if let Some((read, write)) = settle(&pins, &args.allow, paths, term)? {
        term.say(format!("it reads {}, and writes {}", listed(&read), listed(&write)));
    }
    Ok(Exit::OK)
}

fn listed(grants: &Grants) -> String {
    if grants.as_slice().is_empty() { "nothing".to_owned() } else { grants.to_string() }
}

/// Takes the pins over, has a first look at the server, and writes a first configuration; returns
/// what this machine reads and writes, if the server says so by now. Pins by which this host does
/// not belong to the vault leave nothing behind.
fn settle(
    pins: &Pins,
    allow: &[String],
    paths: &Paths,
    term: &Term,
) -> Result<Option<(Grants, Grants)>> {
    let old = Pins::load(paths)?;
    if old.as_ref().is_some_and(|old| old.vault != pins.vault || old.name != pins.name) {
        refuse_second(paths)?;
    }
    let runs = runs(paths)?;
    pins.store(paths)?;
    if old.is_some() && runs {
        // It holds the database, and follows the vault itself.
        let status: Status = ask::ask(paths, STATUS)?;
        if status.alarms.iter().any(|alarm| alarm.code == Code::UnknownActor.as_str()) {
            bail!(removed(&pins.name, paths));
        }
        write_config(paths, &pins.addresses, allow)?;
        term.say(format!("joined vault {} as `{}` already", pins.vault.short(), pins.name));
        term.say("an agent runs here: it takes new pins when it is restarted");
        return Ok(None);
    }
    let is_first = !was_member(paths)?;
    let found = look(paths);
    if is_first && !matches!(found, Ok(First::Member { .. } | First::Unreached(_))) {
        leave(paths)?;
    }
    let (said, grants): (Shown, _) = match found? {
        First::Member { readable, read, write } => (
            format!("the server answers; secrets readable here: {readable}").into(),
            Some((read, write)),
        ),
        First::Unreached(why) => {
            (Shown::own("the server cannot be reached yet: ") + hint::shown(&why), None)
        }
        First::Substituted(why) => bail!(Failure::remote(why.to_string()).hint(why.code.hint())),
        First::Removed => bail!(removed(&pins.name, paths)),
    };
    write_config(paths, &pins.addresses, allow)?;
    term.say(format!("joined vault {} as `{}`", pins.vault.short(), pins.name));
    term.say(said);
    if runs {
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
    Ok(grants)
}

/// Tells whether an agent runs here.
fn runs(paths: &Paths) -> Result<bool> {
    Ok(answering(paths)?.is_some())
}

/// Tells whether the log that is here has had this machine in it: it has not where an earlier
/// attempt to join was refused, or ended before the vault was seen.
fn was_member(paths: &Paths) -> Result<bool> {
    if !paths.database().exists() {
        return Ok(false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::open(paths)?;
        let was = engine.was_member();
        engine.close().await;
        Ok(was)
    })
}

/// What the first sync brought.
enum First {
    /// The vault knows this machine by both keys.
    Member {
        /// How many secrets it may read.
        readable: usize,
        /// Which.
        read: Grants,
        /// What it may write.
        write: Grants,
    },
    /// Nobody knows yet.
    Unreached(anyhow::Error),
    /// The vault does not hold this machine's own keys.
    Substituted(Error),
    /// It held them once.
    Removed,
}

fn look(paths: &Paths) -> Result<First> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (engine, reached) = runtime.block_on(Engine::first_sync(paths))?;
    let substituted = |why: &str| First::Substituted(Code::JoinSubstituted.because(why));
    if let Err(why) = reached {
        return Ok(match engine.is_stranger() {
            Some(true) => First::Removed,
            Some(false) => substituted("the server knows no machine with this host's signing key"),
            None => First::Unreached(why),
        });
    }
    if let Err(why) = engine.check_own_keys() {
        return Ok(First::Substituted(why));
    }
    let member = engine.own(|state, machine| {
        let readable = state.secrets().keys().filter(|path| machine.read.cover(path)).count();
        First::Member { readable, read: machine.read.clone(), write: machine.write.clone() }
    });
    Ok(member.unwrap_or(First::Removed))
}

/// Says that this host's keys are out: no vault takes them twice.
fn removed(name: &Name, paths: &Paths) -> Failure {
    let text = "this host's keys are no machine's in the vault any more: it was removed, or has \
                others there";
    let state = paths.state.display();
    Failure::remote(text).hint(format!(
        "if `vault machine rekey {name}` was not finished, run it again; else, to come back, it needs \
         new keys: stop its agent, move `{state}` away, run `vault-agent init --name {name}`, and \
         `vault machine add` with its line on an admin's host"
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
