//! `vault machine rename`: gives a machine another name. Its number stays, and with it its keys,
//! its access and its history.

use anyhow::Result;
use shared::log::Op;
use shared::name::Name;

use crate::context::Global;
use crate::owner::owning::{Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use host::hint::{Exit, Failure, parsed};
use machine::local::{MACHINES, Machines};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    #[arg(value_name = "OLD")]
    old: String,

    /// What it is called from now on; no other machine may be
    #[arg(value_name = "NEW")]
    new: String,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let (old, new): (Name, Name) = (parsed(args.old.parse())?, parsed(args.new.parse())?);
    let owner = Owner::at(global, &args.signing)?;
    // Another number, once it was shown, is another machine.
    let mut shown = None;
    let signed = owner.sign(|all| {
        let Some(number) = number(all, &old, &new)? else { return Ok(Vec::new()) };
        if *shown.get_or_insert(number) != number {
            return Err(active(all, &old).err().unwrap_or_else(|| taken(&old)).into());
        }
        Ok(vec![Op::MachineRename { number, to: new.clone() }])
    });
    let signed = signed.or_else(|fault| {
        // The same command before may have come this far, too.
        let all: Machines = global.client()?.get(MACHINES, &[])?;
        match number(&all, &old, &new) {
            Ok(None) => Ok(Signed::Needless),
            Ok(Some(_)) | Err(_) => Err(fault),
        }
    });
    match signed? {
        Signed::Needless => {
            global.term.say(format!("there is a machine `{new}`, and it needs no other name"));
        }
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => {
            global.term.say(format!("machine `{old}` is `{new}` now: entry {}", done.seq));
        }
    }
    Ok(Exit::OK)
}

/// Returns the number of the machine to be renamed; `None` if a machine bears the new name and none
/// the old one, as after the same command before.
fn number(all: &Machines, old: &Name, new: &Name) -> Result<Option<u64>, Failure> {
    match (active(all, old), active(all, new)) {
        (Ok(_), Ok(_)) if old == new => Ok(None),
        (Ok(_), Ok(_)) => Err(taken(new)),
        (Ok(row), Err(_)) => Ok(Some(row.number)),
        (Err(_), Ok(_)) => Ok(None),
        (Err(fault), Err(_)) => Err(fault),
    }
}

fn taken(name: &Name) -> Failure {
    Failure::remote(format!("E_EXISTS: machine `{name}`"))
        .hint("choose another name; `vault machine list` shows those that are taken")
}
