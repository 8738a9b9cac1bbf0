//! `vault access`: what machines may read and write.

use anyhow::Result;
use shared::grant::Grants;
use shared::log::{Access, Op};
use shared::name::Name;

use crate::context::Global;
use crate::owner::owning::{Lists, Owner, Signing, active, no_machine};
use crate::owner::signing::words;
use crate::print::{self, Format, table};
use host::hint::Exit;
use host::hint::parsed;
use machine::local::{MACHINES, MachineRow, Machines};

/// Show and set what machines may read and write
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show what machines may read and write
    Show {
        /// This machine only
        machine: Option<String>,
    },
    /// Replace what a machine may read and write, and re-encrypt what changes readers; a list that
    /// is not given becomes empty
    Set {
        /// The machine
        machine: String,
        #[command(flatten)]
        lists: Lists,
        #[command(flatten)]
        signing: Signing,
    },
}

/// Runs `vault access`.
///
/// # Errors
/// If there is no such machine, a prefix breaks the grammar, or the act is not signed.
pub fn run(args: Args, global: &Global) -> Result<Exit> {
    match args.verb {
        Verb::Show { machine } => show(machine.as_deref(), global),
        Verb::Set { machine, lists, signing } => set(&machine, &lists, &signing, global),
    }
}

fn show(machine: Option<&str>, global: &Global) -> Result<Exit> {
    let all: Machines = global.client()?.get(MACHINES, &[])?;
    let rows: Vec<&MachineRow> = match machine {
        Some(name) => {
            let name = parsed(name.parse())?;
            vec![active(&all, &name).ok_or_else(|| no_machine(&all, &name))?]
        }
        None => all.machines.iter().filter(|row| row.active).collect(),
    };
    match global.format()? {
        Format::Table => global.term.line(shown(&rows))?,
        other => {
            let rows: Vec<_> = rows
                .iter()
                .map(|row| {
                    serde_json::json!({"machine": row.name, "read": row.read, "write": row.write})
                })
                .collect();
            global.term.line(print::data(other, &rows.into())?)?;
        }
    }
    Ok(Exit::OK)
}

fn shown(rows: &[&MachineRow]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| vec![row.name.to_string(), row.read.to_string(), row.write.to_string()])
        .collect();
    table::plain(&["MACHINE", "READS", "WRITES"], &rows)
}

fn set(machine: &str, lists: &Lists, signing: &Signing, global: &Global) -> Result<Exit> {
    let name: Name = parsed(machine.parse())?;
    let (read, write) = lists.parsed()?;
    let owner = Owner::at(global, signing)?;
    let all = owner.machines()?;
    let row = active(&all, &name).ok_or_else(|| no_machine(&all, &name))?;
    for line in comparison(row, &read, &write) {
        global.term.say(line);
    }
    if row.read == read && row.write == write {
        global.term.say("nothing changes");
        return Ok(Exit::OK);
    }
    let narrowed = !row.read.as_slice().iter().all(|grant| read.as_slice().contains(grant));
    let op = Op::AccessSet(Access { name: name.clone(), read, write });
    match owner.sign(vec![op.clone()], vec![op])? {
        Some(done) => {
            global.term.say(format!("done: entry {}", done.seq));
            if narrowed {
                global.term.say(format!(
                    "`{name}` may keep what it has read before: rotate those secrets at their issuers"
                ));
            }
            Ok(Exit::OK)
        }
        None => Ok(Exit::LOCAL),
    }
}

/// Shows both lists before and after.
fn comparison(row: &MachineRow, read: &Grants, write: &Grants) -> Vec<String> {
    let line = |what: &str, before: &Grants, after: &Grants| {
        let (before, after) = (words::grants(before), words::grants(after));
        if before == after {
            format!("{what}  {after} (as before)")
        } else {
            format!("{what}  {after}   instead of   {before}")
        }
    };
    vec![line("reads ", &row.read, read), line("writes", &row.write, write)]
}

#[cfg(test)]
mod tests {
    use shared::keys::SignKey;

    use super::*;

    fn grants(list: &[&str]) -> Grants {
        Grants::parse(list).unwrap()
    }

    fn row(name: &str, read: &[&str]) -> MachineRow {
        MachineRow {
            name: name.parse().unwrap(),
            active: true,
            incarnation: 1,
            sign: SignKey::from_seed(&[1; 32]).verify_key(),
            read: grants(read),
            write: grants(&[]),
            seen_at: None,
            agent: None,
        }
    }

    #[test]
    fn machines_are_listed_with_their_lists() {
        let (vps, rtx) = (row("vps", &["secret/jjeco/", "secret/mail"]), row("rtx1080", &["*"]));
        insta::assert_snapshot!(shown(&[&rtx, &vps]), @r"
        MACHINE  READS                      WRITES
        rtx1080  *                          -
        vps      secret/jjeco/,secret/mail  -
        ");
    }

    #[test]
    fn before_and_after_are_shown() {
        let lines =
            comparison(&row("vps", &["secret/jjeco/"]), &grants(&["*"]), &grants(&[])).join("\n");
        insta::assert_snapshot!(lines, @r"
        reads   everything (*)   instead of   secret/jjeco/
        writes  nothing (as before)
        ");
    }
}
