//! The signing of new keys for a machine, by whichever way their line came here.

use anyhow::Result;
use shared::keys::VerifyKey;
use shared::token::MachineLine;

use super::enrolment::rekeying;
use crate::context::Global;
use crate::owner::owning::active;
use crate::owner::signing::act::{Owner, Signed};
use machine::local::{MACHINES, MachineRow, Machines};

/// Signs what gives the machine of a line the keys in it, unless it has them, and says what became
/// of that; returns the keys of the server, too. `before` is called before a person is asked.
///
/// # Errors
/// As [`Owner::sign`]; if there is no such machine.
pub fn sign(
    line: &MachineLine,
    before: impl Fn(),
    owner: &Owner<'_>,
    global: &Global,
) -> Result<(Signed, Vec<VerifyKey>)> {
    let (name, mut server) = (&line.name, Vec::new());
    let signed = owner
        .sign(|all| {
            server.clone_from(&all.server);
            if is_known(line, all) {
                return Ok(Vec::new());
            }
            let row = active(all, name)?;
            before();
            Ok(vec![rekeying(line, row, all.next)])
        })
        .or_else(|fault| {
            // The same command before may have come this far, too.
            let all: Machines = global.client()?.get(MACHINES, &[])?;
            server.clone_from(&all.server);
            if is_known(line, &all) { Ok(Signed::Needless) } else { Err(fault) }
        })?;
    match signed {
        Signed::Needless => global.term.say(format!("machine `{name}` has these keys already")),
        Signed::Declined => {}
        Signed::Done(done) => {
            global.term.say(format!("machine `{name}` has its new keys: entry {}", done.seq));
        }
    }
    Ok((signed, server))
}

/// Tells whether the vault has the keys of the line as those of the machine of its name.
pub fn is_known(line: &MachineLine, all: &Machines) -> bool {
    let is_it = |row: &MachineRow| row.active && row.name == line.name && row.sign == line.sign;
    all.machines.iter().any(is_it)
}
