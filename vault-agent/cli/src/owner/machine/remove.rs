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
use crate::owner::ssh::{Host, SSH, Wish, look};
use host::hint::{Exit, hinted, parsed};
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
    if is_removed(&name, &all) {
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
    if let Some(host) = &args.ssh {
        uninstall(&name, host, args, global)?;
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
            bail!(hinted(
                format!("`{name}` is this machine"),
                "remove it from another machine that has an admin key"
            ));
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

/// Takes the agent away from its host.
fn uninstall(name: &Name, host: &str, args: &Args, global: &Global) -> Result<()> {
    let Some(pins) = Pins::load(&global.paths()?)? else {
        bail!(hinted(
            "this host belongs to no vault",
            "run `vault-agent uninstall` on the other host"
        ));
    };
    let wish = Wish { user: args.user, addresses: &[] };
    let (connection, probe) = look(SSH, host, wish)?;
    let Some(there) = Host::as_is(connection, probe, wish, global)? else {
        global.term.say(format!("there is no agent on `{host}`"));
        return Ok(());
    };
    for line in there.uninstall(name, pins.vault, args.with_targets)?.lines() {
        global.term.say(format!("{name}: {line}"));
    }
    global.term.say(format!("the agent is gone from `{host}`"));
    Ok(())
}
