//! `vault admin remove`: takes an admin's power, by the recovery kit. What they have signed stays.

use anyhow::Result;
use shared::log::Op;
use shared::name::Name;

use super::kit::Rooted;
use crate::context::Global;
use crate::owner::signing::act::Signed;
use crate::owner::signing::admin::place;
use host::hint::{Exit, Failure, parsed};
use machine::local::{ADMINS, AdminRow, Admins};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The admin
    admin: String,

    #[command(flatten)]
    rooted: Rooted,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let name: Name = parsed(args.admin.parse())?;
    let all: Admins = global.client()?.get(ADMINS, &[])?;
    let term = &global.term;
    let Some(row) = all.active().find(|row| row.name == name) else {
        if all.admins.iter().any(|row| row.name == name) {
            term.say(format!("admin `{name}` is removed already"));
            return Ok(Exit::OK);
        }
        return Err(nobody(&name, &all).into());
    };
    let owner = args.rooted.owner(&all, "removes", global)?;
    let file = place(&global.paths()?, &name);
    let is_here = file.exists();
    for line in warnings(row, &all, is_here) {
        term.say(line);
    }
    let op = Op::AdminRemove { name: name.clone() };
    let signed = owner.sign(|_| Ok(vec![op.clone()])).or_else(|fault| {
        // The same command before may have come this far, too.
        let all: Admins = global.client()?.get(ADMINS, &[])?;
        let is_there = all.active().any(|row| row.name == name);
        if is_there { Err(fault) } else { Ok(Signed::Needless) }
    });
    match signed? {
        Signed::Needless => term.say(format!("admin `{name}` is removed already")),
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => {
            term.say(format!("admin `{name}` is removed: entry {}", done.seq));
        }
    }
    term.say(format!("what `{name}` has signed stays: `vault log` lists it"));
    if is_here {
        term.say(format!("`{}` signs nothing any more: delete it", file.display()));
    }
    Ok(Exit::OK)
}

/// Says beforehand what nobody may overlook.
fn warnings(AdminRow { name, .. }: &AdminRow, all: &Admins, is_here: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if is_here {
        lines.push(format!(
            "`{name}`'s key is on this host: if that is you, you remove yourself, and sign nothing \
             here any more"
        ));
    }
    if all.active().count() == 1 {
        lines.push(format!(
            "`{name}` is the last admin: until you appoint another with the recovery kit, no machine \
             is added or removed, and no access changes"
        ));
    }
    lines
}

fn nobody(name: &Name, all: &Admins) -> Failure {
    let names = all.active().map(|row| row.name.as_str()).collect::<Vec<_>>().join(", ");
    Failure::remote(format!("there is no admin `{name}`")).hint(format!("there are: {names}"))
}
