//! `vault machine rekey`: gives a machine the new keys whose line `vault-agent init --rekey`
//! printed on its host. Name, access and history stay, and the old keys are dead at once.

use anyhow::{Result, bail};
use shared::name::Name;
use shared::token::{Line as _, MachineLine, PinLine};

use super::enrolment::{addresses, rekeying};
use crate::context::Global;
use crate::owner::owning::{Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use host::hint::{Exit, hinted, parsed};
use machine::local::{MACHINES, Machines};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run `vault-agent init --rekey` on its host first: it prints the line, and six words to compare. Run
the `vault-agent join` line that this prints there, and restart the agent. Until then the keys of
before stay on the host, and its files are kept.")]
pub struct Args {
    /// The machine
    machine: String,

    /// Line that `vault-agent init --rekey` printed there
    #[arg(value_name = "VLTM1-…")]
    line: String,

    #[command(flatten)]
    signing: Signing,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let name: Name = parsed(args.machine.parse())?;
    let line = parsed(MachineLine::from_line(&args.line))?;
    if line.name != name {
        bail!(hinted(
            format!("the line is for a machine `{}`, and not for `{name}`", line.name),
            format!("run `vault-agent init --rekey --name {name}` on its host")
        ));
    }
    let owner = Owner::at(global, &args.signing)?;
    let addresses = addresses(&[], &owner, global)?;
    let mut server = Vec::new();
    let mut signed = owner
        .sign(|all| {
            server.clone_from(&all.server);
            if is_known(&line, all) {
                return Ok(Vec::new());
            }
            let row = active(all, &name)?;
            if all.own == Some(row.number) {
                bail!(hinted(
                    format!("`{name}` is this machine"),
                    "re-key it from another machine that has an admin key"
                ));
            }
            global.term.say(format!(
            "compare the six words below with those that `vault-agent init` shows on `{name}`; if \
             they differ, somebody has changed the line"
        ));
            Ok(vec![rekeying(&line, row, all.next)])
        })
        .or_else(|fault| {
            // The same command before may have come this far, too.
            let all: Machines = global.client()?.get(MACHINES, &[])?;
            server.clone_from(&all.server);
            if is_known(&line, &all) { Ok(Signed::Needless) } else { Err(fault) }
        })?;
    if signed == Signed::Needless {
        global.term.say(format!("machine `{name}` has these keys already"));
        // What an earlier attempt has left.
        signed = owner.finish()?;
    }
    match signed {
        Signed::Needless => {}
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => {
            global.term.say(format!("machine `{name}` has its new keys: entry {}", done.seq));
        }
    }
    let pin = PinLine { addresses, server, vault: owner.pins.vault, name, at: None };
    global.term.say(format!("run this on `{}`, and restart its agent:", pin.name));
    global.term.line(format!("vault-agent join {}", parsed(pin.to_line())?))?;
    Ok(Exit::OK)
}

/// Tells whether an active machine has the keys of the line.
fn is_known(line: &MachineLine, all: &Machines) -> bool {
    all.machines.iter().any(|row| row.active && row.sign == line.sign)
}
