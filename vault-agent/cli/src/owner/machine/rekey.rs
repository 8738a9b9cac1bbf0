//! `vault machine rekey`: gives a machine new keys. Name, access and history stay, and the old keys
//! are dead at once. By the line that `vault-agent init --rekey` printed on its host, or at both
//! ends at once, which is [`super::both_ends`]'.

use anyhow::{Result, bail};
use shared::name::Name;
use shared::token::{Line as _, MachineLine, PinLine};

use super::both_ends;
use super::enrolment::addresses;
use super::new_keys::sign;
use crate::context::Global;
use crate::owner::owning::{Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use host::hint::{Exit, hinted, parsed};
use machine::local::{MACHINES, Machines};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
On the very host that is to get new keys the name is enough. Without ssh run `vault-agent init
--rekey` on its host first: it prints the line, and six words to compare. Run the `vault-agent join`
line that this prints there, and restart the agent. Until then the keys of before stay on the host,
and its files are kept.")]
pub struct Args {
    /// The machine
    machine: String,

    /// Line that `vault-agent init --rekey` printed there
    #[arg(value_name = "VLTM1-…")]
    line: Option<String>,

    /// Do both ends: make the keys there, have them take over, and restart the agent
    #[arg(long, value_name = "[USER@]HOST", conflicts_with = "line")]
    ssh: Option<String>,

    #[command(flatten)]
    ends: both_ends::Flags,

    /// Re-encrypt the earlier versions that are kept, too: else another host gets the newest alone
    #[arg(long)]
    history: bool,

    /// Leave earlier versions to the keys of before, on this very host too: those are wiped
    #[arg(long, conflicts_with = "history")]
    newest: bool,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let name: Name = parsed(args.machine.parse())?;
    let line = args.line.as_ref().map(|line| parsed(MachineLine::from_line(line))).transpose()?;
    let owner = Owner::at(global, &args.signing)?;
    let all: Machines = global.client()?.get(MACHINES, &[])?;
    let row = active(&all, &name)?;
    // One whose keys are others by now finds itself in the vault no more.
    let is_own = all.own.map_or(owner.pins.name == name, |own| own == row.number);
    let owner = if is_own { owner.at_once() } else { owner };
    // What this host does not re-encrypt to itself nobody may be able to open any more.
    let with_history = args.history || (is_own && !args.newest);
    let owner = if with_history { owner.with_history() } else { owner };
    if let Some(line) = line {
        return by_line(&line, name, &owner, global);
    }
    let end = match &args.ssh {
        Some(ssh) => both_ends::reach(ssh, row, &all, &args.ends, &owner, global)?,
        None if is_own => both_ends::here(&name, &args.ends, &owner, global)?,
        None => bail!(hinted(
            format!("`{name}` is another host than this"),
            format!(
                "add `--ssh HOST`, or pass the line that `vault-agent init --rekey --name {name}` \
                 prints there"
            )
        )),
    };
    both_ends::run(&end, &name, &all.server, &args.ends, &owner, global)
}

/// Signs for the keys of a line, and prints the one to run there.
fn by_line(line: &MachineLine, name: Name, owner: &Owner<'_>, global: &Global) -> Result<Exit> {
    if line.name != name {
        bail!(hinted(
            format!("the line is for a machine `{}`, and not for `{name}`", line.name),
            format!("run `vault-agent init --rekey --name {name}` on its host")
        ));
    }
    let addresses = addresses(&[], owner, global)?;
    let compare = || {
        global.term.say(format!(
            "compare the six words below with those that `vault-agent init` shows on `{name}`; if \
             they differ, somebody has changed the line"
        ));
    };
    let (mut signed, server) = sign(line, compare, owner, global)?;
    if signed == Signed::Needless {
        // What an earlier attempt has left.
        signed = owner.finish()?;
    }
    if signed == Signed::Declined {
        return Ok(Exit::LOCAL);
    }
    let (vault, at) = (owner.pins.vault, None);
    let pin = PinLine { addresses, server, vault, name, at, checkpoint: None };
    global.term.say(format!("run this on `{}`, and restart its agent:", pin.name));
    global.term.line(format!("vault-agent join {}", parsed(pin.to_line())?))?;
    Ok(Exit::OK)
}
