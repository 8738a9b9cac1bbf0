//! `vault access`: what machines may read and write.

use anyhow::Result;
use serde_json::json;
use shared::grant::Grants;
use shared::log::{Access, Op, was};
use shared::name::Name;

use crate::context::Global;
use crate::owner::owning::{Lists, Signing, active};
use crate::owner::signing::act::{Owner, Signed};
use crate::owner::signing::words;
use crate::print::table;
use host::hint::{Exit, Failure, parsed};
use host::shown::Shown;
use machine::findings::access_command;
use machine::local::{MACHINES, MachineRow, Machines};

/// Set and show what machines may read and write
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what machines may read and write
    Show {
        /// This machine only
        machine: Option<String>,
    },
    /// Replace what a machine may read and write, and re-encrypt what changes readers; of two lists
    /// the one that is not given becomes empty
    Set {
        /// The machine
        machine: String,
        #[command(flatten)]
        lists: Lists,
        /// Re-encrypt the earlier versions that are kept, too: else a new reader gets the newest
        /// alone
        #[arg(long)]
        history: bool,
        #[command(flatten)]
        signing: Signing,
    },
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Show { machine } => show(machine.as_deref(), global),
        Command::Set { machine, lists, history, signing } => {
            set(machine, lists, *history, signing, global)
        }
    }
}

fn show(machine: Option<&str>, global: &Global) -> Result<Exit> {
    let all: Machines = global.client()?.get(MACHINES, &[])?;
    let rows: Vec<&MachineRow> = match machine {
        Some(name) => vec![active(&all, &parsed(name.parse())?)?],
        None => all.machines.iter().filter(|row| row.active).collect(),
    };
    let data =
        |row: &&MachineRow| json!({"machine": row.name, "read": row.read, "write": row.write});
    let data = rows.iter().map(data).collect::<Vec<_>>();
    global.show(global.format()?, || shown(&rows), &data)
}

fn shown(rows: &[&MachineRow]) -> Shown {
    let cells =
        |row: &&MachineRow| vec![row.name.to_string(), row.read.to_string(), row.write.to_string()];
    table::plain(&["MACHINE", "READS", "WRITES"], &rows.iter().map(cells).collect::<Vec<_>>())
}

fn set(
    machine: &str,
    lists: &Lists,
    history: bool,
    signing: &Signing,
    global: &Global,
) -> Result<Exit> {
    let name: Name = parsed(machine.parse())?;
    let (read, write) = lists.parsed(global)?;
    if lists.read.is_empty() && lists.write.is_empty() {
        let all: Machines = global.client()?.get(MACHINES, &[])?;
        return Err(no_list(active(&all, &name)?).into());
    }
    let owner = Owner::at(global, signing)?;
    let owner = if history { owner.with_history() } else { owner };
    let mut narrowed = false;
    let mut signed = owner.sign(|all| {
        let row = active(all, &name)?;
        global.term.say(comparison(row, &read, &write));
        if row.read == read && row.write == write {
            return Ok(Vec::new());
        }
        narrowed = !row.read.as_slice().iter().all(|grant| read.as_slice().contains(grant));
        let (number, was) = (row.number, was::access(row.number, &row.read, &row.write));
        let (read, write) = (read.clone(), write.clone());
        Ok(vec![Op::AccessSet(Access { number, was, read, write })])
    })?;
    if signed == Signed::Needless {
        // The lists are right: what an earlier act has left may be encrypted to others.
        signed = owner.finish()?;
    }
    match signed {
        Signed::Needless => global.term.say("nothing changes"),
        Signed::Declined => return Ok(Exit::LOCAL),
        Signed::Done(done) => global.term.say(format!("done: entry {}", done.seq)),
    }
    if narrowed {
        global.term.say(format!(
            "`{name}` may keep what it has read before: rotate those secrets at their issuers"
        ));
    }
    Ok(Exit::OK)
}

/// Asks for a list: none at all would take everything, and says so nowhere. What the machine has
/// today is a line to be changed.
fn no_list(MachineRow { name, read, write, .. }: &MachineRow) -> Failure {
    let today = match (read.as_slice(), write.as_slice()) {
        ([], []) => {
            format!("today it has nothing; `vault access set {name} --read PREFIX` gives some")
        }
        _ => format!(
            "today it has `{}`: change that; `--read ''` takes everything",
            access_command(name, (read, None), (write, None))
        ),
    };
    Failure::local(format!("say what `{name}` may read or write: both lists are replaced"))
        .hint(today)
}

/// Shows both lists before and after.
fn comparison(row: &MachineRow, read: &Grants, write: &Grants) -> Shown {
    let line = |what: &str, before: &Grants, after: &Grants| {
        let (before, after) = (words::grants(before), words::grants(after));
        if before == after {
            format!("{what}  {after} (as before)")
        } else {
            format!("{what}  {after}   instead of   {before}")
        }
    };
    Shown::lines([line("reads ", &row.read, read), line("writes", &row.write, write)])
}

#[cfg(test)]
mod tests {
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::World;

    fn grants(list: &[&str]) -> Grants {
        Grants::parse(list).unwrap()
    }

    fn row(name: &str, read: &[&str]) -> MachineRow {
        MachineRow {
            name: name.parse().unwrap(),
            number: 1,
            active: true,
            sleeps: false,
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
    fn a_call_without_a_list_says_what_there_is_today() {
        let mut vps = row("vps", &["secret/jjeco/", "secret/two words"]);
        vps.write = grants(&["secret/vps/"]);
        let (machines, server) = (vec![row("nas", &[]), vps], Vec::new());
        let all = Machines { machines, next: 3, own: Some(1), server, checkpoint: None };
        let all = serde_json::to_string(&all).unwrap();
        let world = World::agent(&[("GET /v1/agent/machines", 200, &all)]);
        let shown =
            ["vps", "nas", "nsa"].map(|name| world.run(&format!("access set {name}")).shown());
        insta::assert_snapshot!(shown.join("\n"), @"
        exit 1
        --- stdout
        --- stderr
        say what `vps` may read or write: both lists are replaced
        hint: today it has `vault access set vps --read 'secret/jjeco/,secret/two words' \
        --write secret/vps/`: change that; `--read ''` takes everything

        exit 1
        --- stdout
        --- stderr
        say what `nas` may read or write: both lists are replaced
        hint: today it has nothing; `vault access set nas --read PREFIX` gives some

        exit 2
        --- stdout
        --- stderr
        there is no machine `nsa`
        hint: there are: nas, vps
        ");
        // Said out loud, it gets as far as the owner's keys, which are not here.
        let aloud = world.run_args(&["access", "set", "vps", "--read", ""]);
        assert!(!aloud.err.contains("say what"), "{}", aloud.err);
    }

    #[test]
    fn a_prefix_that_covers_less_than_was_meant_is_refused() {
        let paths = json!(["secret/jjeco/api-keys", "secret/jjeco/db", "secret/nas"]).to_string();
        let world = World::agent(&[("GET /v1/agent/paths", 200, &paths)]);
        let ran = ["secret/jjeco", "secret/*", "secret/*/db"].map(|prefix| {
            world.run_args(&["access", "set", "vps", "--read", "secret/nas", "--write", prefix])
        });
        assert!(ran.iter().all(|ran| ran.exit == 1));
        insta::assert_snapshot!(ran.map(|ran| ran.err).join("\n"), @r"
        there is no secret `secret/jjeco`; the folder is `secret/jjeco/`, with 2 secrets
        hint: a folder has `/` at its end: all that is below it

        `secret/*`: `*` stands alone, for everything
        hint: `secret/` is all that is below that folder

        `secret/*/db`: `*` stands alone, for everything
        hint: a folder with `/` at its end is all that is below it
        ");
        // What may come later is let pass, and named.
        let list = "secret/new,secret/jjecco/,secret/jjeco/,secret/nas,sys/audit";
        let later = world.run_args(&["access", "set", "vps", "--read", list]).err;
        let said: Vec<&str> = later.lines().filter(|line| line.contains("nothing at")).collect();
        assert_eq!(
            said,
            ["there is nothing at `secret/jjecco/` yet", "there is nothing at `secret/new` yet"]
        );
    }

    #[test]
    fn before_and_after_are_shown() {
        let lines = comparison(&row("vps", &["secret/jjeco/"]), &grants(&["*"]), &grants(&[]));
        insta::assert_snapshot!(lines, @r"
        reads   everything (*)   instead of   secret/jjeco/
        writes  nothing (as before)
        ");
    }
}
