//! `vault machine remove`: takes a machine out, and re-encrypts what it could read; of one that is
//! out already, what is left of the latter. What it could read is `exposed`'s to say.

use anyhow::{Result, bail};
use shared::limits::REASON;
use shared::log::Op;
use shared::name::Name;
use shared::text::Text;

use crate::context::Global;
use crate::owner::owning::{Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::signing::admin::AdminFile;
use crate::owner::ssh::{Connection, Leaving, Machine, SSH};
use host::hint::{Exit, Failure, hinted, parsed};
use machine::identity::Pins;
use machine::local::{MACHINES, Machines};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    machine: String,

    /// Why, for the log: every machine of the vault can read it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,

    /// Log in there, and take the agent away too; needs --uninstall
    #[arg(long, value_name = "[USER@]HOST", requires = "uninstall")]
    ssh: Option<String>,

    /// Take unit, keys, state and programs of the agent away from its host, over ssh
    #[arg(long, requires = "ssh")]
    uninstall: bool,

    /// Remove the files of its targets there too, as far as they hold what the agent wrote
    #[arg(long, requires = "uninstall")]
    with_targets: bool,

    /// The agent there is that of the user of the login alone
    #[arg(long, requires = "ssh")]
    user: bool,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let name: Name = parsed(args.machine.parse())?;
    let reason: Text<_> = parsed(args.reason.parse())?;
    let all: Machines = global.client()?.get(MACHINES, &[])?;
    let is_out = is_removed(&name, &all);
    if !is_out {
        active(&all, &name)?;
    }
    // What is wrong with the host is told before anything is signed.
    let leaving = match &args.ssh {
        Some(host) => leaving(&name, host, args, &all, global)?,
        None => None,
    };
    if is_out {
        global.term.say(format!("machine `{name}` is removed already"));
        if !go_on(args, global)? {
            return Ok(Exit::LOCAL);
        }
    } else if !remove(&name, &reason, args, global)? {
        return Ok(Exit::LOCAL);
    }
    global.term.say(format!(
        "it may keep what it could read: `vault machine exposed {name}` lists each key of that, \
         and which ones are still in use"
    ));
    if let (Some(leaving), Some(host)) = (leaving, &args.ssh) {
        for line in leaving.leave(args.with_targets, global)?.lines() {
            global.term.say(format!("{name}: {line}"));
        }
        global.term.say(format!("the agent is gone from `{host}`"));
    }
    Ok(Exit::OK)
}

/// Tells whether the last machine of that name is out of the vault.
fn is_removed(name: &Name, all: &Machines) -> bool {
    active(all, name).is_err() && all.machines.iter().any(|row| row.name == *name)
}

/// Removes it from the vault; tells whether the person agreed.
fn remove(name: &Name, reason: &Text<REASON>, args: &Args, global: &Global) -> Result<bool> {
    let owner = Owner::at(global, &args.signing)?;
    let signed = owner.sign(|all| {
        let number = active(all, name)?.number;
        if all.own == Some(number) {
            bail!(itself(name));
        }
        Ok(vec![Op::MachineRemove { number, reason: reason.clone() }])
    });
    match signed {
        Ok(Signed::Done(done)) => {
            global.term.say(format!("machine `{name}` is removed: entry {}", done.seq));
            Ok(true)
        }
        Ok(Signed::Declined | Signed::Needless) => Ok(false),
        // The same command before may have come this far, too.
        Err(fault) => {
            let all: Machines = global.client()?.get(MACHINES, &[])?;
            if is_removed(name, &all) { go_on(args, global) } else { Err(fault) }
        }
    }
}

/// Re-encrypts what an earlier removal has left, where an admin key is; tells whether the person
/// agreed.
fn go_on(args: &Args, global: &Global) -> Result<bool> {
    if !AdminFile::any(&global.paths()?)? {
        return Ok(true);
    }
    let signed = Owner::at(global, &args.signing)?.finish()?;
    if let Signed::Done(done) = signed {
        global.term.say(format!("what was left is re-encrypted: entry {}", done.seq));
    }
    Ok(signed != Signed::Declined)
}

/// Finds its agent on the host, by the name that it has there or the keys it has or had.
fn leaving(
    name: &Name,
    host: &str,
    args: &Args,
    all: &Machines,
    global: &Global,
) -> Result<Option<Leaving>> {
    let Some(pins) = Pins::load(&global.paths()?)? else {
        bail!(hinted(
            "this host belongs to no vault",
            "run `vault-agent uninstall` on the other host"
        ));
    };
    let rows = all.machines.iter().filter(|row| row.name == *name);
    if rows.clone().any(|row| row.active && all.own == Some(row.number)) {
        bail!(itself(name));
    }
    let keys = rows.map(|row| row.sign.clone()).collect();
    let machine = Machine { vault: pins.vault, name, keys };
    let connection = Connection::open(SSH, host)?;
    let found = Leaving::find(connection, args.user, &machine, global)?;
    if found.is_none() {
        global.term.say(format!("there is no agent on `{host}`"));
    }
    Ok(found)
}

/// Says that a machine does not remove itself.
fn itself(name: &Name) -> Failure {
    Failure::local(format!("`{name}` is this machine"))
        .hint("remove it from another machine that has an admin key")
}
