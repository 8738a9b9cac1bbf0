//! New keys for a host from this terminal, at both ends: made there, signed here, taken over there.
//! The host is one that is reached over ssh, or this very one. Each step looks first what is there,
//! so that the same line again goes on where it ended.

use std::time::Instant;

use anyhow::{Result, bail};
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::token::{Line as _, MachineLine, PinLine};

use super::enrolment::addresses;
use super::guests::remark;
use super::new_keys::{is_known, sign};
use super::waiting::{self, Expected, What};
use crate::context::Global;
use crate::owner::owning::server_addresses;
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::ssh::{
    Connection, Host, Joined, Machine, Reached, SSH, Standing, Start, Wish, ask, seek,
};
use crate::sibling;
use host::hint::{Exit, Failure, hinted, parsed};
use host::shown::Shown;
use host::version;
use machine::local::{MACHINES, MachineRow, Machines};

/// How both ends are done.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// The agent there is that of the user of the login alone
    #[arg(long, conflicts_with = "line")]
    user: bool,

    /// Leave the restart of its agent to you
    #[arg(long, conflicts_with = "line")]
    no_start: bool,
}

/// The host, and where it looks for the server.
pub struct End {
    host: Host,
    /// Whether it is reached over ssh.
    is_far: bool,
    /// Whether this very host has next keys, or such as have taken over without an agent that runs
    /// with them. What another says of itself is never believed.
    is_begun: bool,
    addresses: Vec<String>,
}

/// Reaches the host of a machine over ssh; nothing is changed there but programs that are older.
///
/// # Errors
/// If it is not reached, or is not that machine.
pub fn reach(
    ssh: &str,
    row: &MachineRow,
    all: &Machines,
    flags: &Flags,
    owner: &Owner<'_>,
    global: &Global,
) -> Result<End> {
    let (vault, addresses) = (owner.pins.vault, addresses(&[], owner, global)?);
    owner.demand_person()?;
    let wish = Wish { user: flags.user, addresses: &addresses };
    let machine = Machine { vault, name: &row.name, keys: vec![row.sign.clone()] };
    let Some((at, standing)) = seek(Connection::open(SSH, ssh)?, wish, &machine, global)? else {
        bail!(keyless(ssh, &row.name));
    };
    remark(ssh, &at.probe, global)?;
    let joined = joined(ssh, &standing, &machine)?;
    at.demand_programs()?;
    let host = Host::equip(at, global)?;
    demand(&host, &standing, joined, &machine, all)?;
    Ok(End { host, is_far: true, is_begun: false, addresses })
}

/// Takes this very host.
///
/// # Errors
/// If its agent is not to be found as it was started.
pub fn here(name: &Name, flags: &Flags, owner: &Owner<'_>, global: &Global) -> Result<End> {
    if global.flags.config.is_some() {
        bail!(hinted(
            "with `--config` nobody knows how its agent is started",
            format!(
                "do it in three steps: `vault-agent init --rekey`, `vault machine rekey {name}` with \
                 its line, `vault-agent join` with the line of that; then restart the agent"
            )
        ));
    }
    let state = global.flags.state.as_ref().map(std::path::absolute).transpose()?;
    let user = flags.user || !rustix::process::geteuid().is_root();
    let wish = Wish { user, addresses: &[] };
    let connection = Connection::here(name.as_str(), state);
    let mut probe = ask(&connection, wish)?;
    let agent = sibling::find("agent")?.display().to_string();
    probe.agent = Some((agent, version::own().to_owned()));
    let at = Reached::new(connection, probe, wish, global)?;
    let is_begun = at.standing()?.rekey;
    let host = Host::equip(at, global)?;
    let addresses = server_addresses(global, &owner.pins)?;
    Ok(End { host, is_far: false, is_begun, addresses })
}

/// Returns what a host has joined; refuses one that is no machine of the vault, before anything is
/// sent there.
fn joined<'a>(ssh: &str, standing: &'a Standing, machine: &Machine<'_>) -> Result<&'a Joined> {
    match &standing.joined {
        Some(joined) if joined.vault == machine.vault && standing.keys => Ok(joined),
        Some(joined) if joined.vault != machine.vault => bail!(hinted(
            format!("`{ssh}` is `{}` of another vault", joined.name),
            "name the host of the machine that is to get new keys; nothing was signed"
        )),
        Some(_) | None => bail!(keyless(ssh, machine.name)),
    }
}

/// Refuses a host that has neither the keys that the vault has of the machine, nor those that it
/// had until an earlier attempt.
fn demand(
    host: &Host,
    standing: &Standing,
    joined: &Joined,
    machine: &Machine<'_>,
    all: &Machines,
) -> Result<()> {
    let Machine { vault, name, keys } = machine;
    if standing.sealed {
        // They open for its agent alone; its pins have the name that the vault calls it by.
        if joined.name == **name {
            return Ok(());
        }
        bail!(other(host, name, Some(&joined.name)));
    }
    let sign = host.init(&joined.name, *vault)?.sign;
    if keys.contains(&sign) || standing.rekey && keys.contains(&host.next(name)?.sign) {
        return Ok(());
    }
    let known = all.machines.iter().find(|row| row.active && row.sign == sign);
    bail!(other(host, name, known.map(|row| &row.name)))
}

fn keyless(host: &str, name: &Name) -> anyhow::Error {
    hinted(
        format!("`{host}` has no keys of this vault to replace"),
        format!(
            "if it is `{name}`, which has lost them: `vault machine add {name} --ssh {host} --rekey` \
             gives it new ones; nothing was signed"
        ),
    )
}

fn other(host: &Host, name: &Name, known: Option<&Name>) -> anyhow::Error {
    let host = host.host();
    match known {
        Some(known) => hinted(
            format!("`{host}` is the machine `{known}`, and not `{name}`"),
            "name the host of the machine that is to get new keys; nothing was signed",
        ),
        None => hinted(
            format!("the keys on `{host}` are out: the vault has others of `{name}`"),
            format!(
                "it may be a copy of `{name}`, or an old state of it; if it is to be a machine, run \
                 `vault-agent uninstall` there and add it as a new one; nothing was signed"
            ),
        ),
    }
}

/// Does what is still to be done.
///
/// # Errors
/// What is in the way; the same command goes on there.
pub fn run(
    end: &End,
    name: &Name,
    server: &[VerifyKey],
    flags: &Flags,
    owner: &Owner<'_>,
    global: &Global,
) -> Result<Exit> {
    let (End { host, addresses, .. }, term, begun) = (end, &global.term, Instant::now());
    let join = |server: &[VerifyKey]| {
        let (addresses, server) = (addresses.clone(), server.to_vec());
        let (vault, name) = (owner.pins.vault, name.clone());
        let pin = PinLine { addresses, server, vault, name, at: None, checkpoint: None };
        host.join(&parsed(pin.to_line())?)
    };
    if !flags.no_start {
        // One that went on with the keys of before would answer nothing any more.
        host.may_start()?;
    }
    // An earlier attempt may have signed, and left no agent here that can tell. If it has not, this
    // host refuses and says so again below.
    let (mut signed, mut signed_for) = (Signed::Needless, None);
    if !end.is_begun || join(server).is_err() {
        let line = signed_for.insert(host.next(name)?);
        let server;
        (signed, server) = sign(line, || vouch(end, name, global), owner, global)?;
        if signed == Signed::Declined {
            term.say(format!(
                "the keys that `{name}` has made for this lie unused beside those that it has: the \
                 same command takes them"
            ));
            return Ok(Exit::LOCAL);
        }
        if end.is_far && signed == Signed::Needless {
            term.say(format!(
                "nothing was signed: an earlier attempt was for these keys; if you made none, \
                 `{}` keeps those that it had",
                host.host()
            ));
        }
        join(&server)?;
    }
    term.say(format!("{name}: the new keys have taken over, and those of before are wiped"));
    if flags.no_start {
        term.say(format!("restart the agent of `{name}`: until then it has the keys of before"));
        return Ok(Exit::OK);
    }
    owner.hang_up();
    for note in host.start(Start::Again)? {
        term.say(Shown::from(format!("{name}: ")) + note);
    }
    if signed == Signed::Needless {
        // What an earlier attempt has left.
        owner.finish()?;
    }
    let files = host.targets()?;
    let expected = Expected { name, what: What::All(&files) };
    match waiting::wait(&expected, &global.client()?)? {
        waiting::Waited::Right(what) => {
            if let Some(line) = &signed_for {
                demand_known(line, global)?;
            }
            let seconds = begun.elapsed().as_secs_f64();
            let what = Shown::from(format!("{name} is right: ")) + what;
            term.line(what + format!(", {seconds:.1} s").into())?;
            Ok(Exit::OK)
        }
        waiting::Waited::Missing(what, todo) => {
            term.say(format!("what `{name}` says of itself:"));
            term.say(host.diagnosis());
            Err(Failure::remote(what).hint(todo).into())
        }
    }
}

/// Says, before a person agrees, what vouches for a host that was reached over ssh: what it says of
/// itself is its own word, and the line of the keys that it had is no secret.
fn vouch(end: &End, name: &Name, global: &Global) {
    if end.is_far {
        let host = end.host.host();
        global.term.say(format!(
            "that `{host}` is the host of `{name}`, its ssh host key says, and nothing else; the \
             six words below are those that it shows"
        ));
    }
}

/// Refuses to call right what the vault does not list: the keys of the line as the machine's own.
fn demand_known(line: &MachineLine, global: &Global) -> Result<()> {
    if is_known(line, &global.client()?.get(MACHINES, &[])?) {
        return Ok(());
    }
    let name = &line.name;
    Err(Failure::remote(format!("the vault has other keys of `{name}` than were signed for"))
        .hint(format!(
            "somebody has given it others meanwhile: `vault log` says who; if it was not to be, run \
             the same command again, and `vault machine exposed {name}`"
        ))
        .into())
}
