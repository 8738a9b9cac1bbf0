//! `vault machine set`: says whether the silence of a machine is normal.

use anyhow::Result;
use clap::ArgAction;
use shared::log::{Op, was};
use shared::name::Name;

use crate::context::Global;
use crate::owner::owning::{Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use host::hint::{Exit, parsed};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    machine: String,

    /// It sleeps at times, as a laptop does: nobody misses it then; `--sleeps=false` takes that
    /// back
    #[arg(
        long,
        value_name = "true|false",
        action = ArgAction::Set,
        required = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    sleeps: bool,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let name: Name = parsed(args.machine.parse())?;
    let (owner, sleeps) = (Owner::at(global, &args.signing)?, args.sleeps);
    let signed = owner.sign(|all| {
        let row = active(all, &name)?;
        if row.sleeps == sleeps {
            return Ok(Vec::new());
        }
        let (number, was) = (row.number, was::machine(row.number, row.sleeps));
        Ok(vec![Op::MachineSet { number, sleeps, was }])
    })?;
    match signed {
        Signed::Needless => global.term.say("nothing changes"),
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => global.term.say(format!("done: entry {}", done.seq)),
    }
    Ok(Exit::OK)
}
