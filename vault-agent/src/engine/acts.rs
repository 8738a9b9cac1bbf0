//! What somebody has signed, and what takes back what still holds of it: for replacing an admin
//! whose key others may have used. Machines and grants outlive the admin they came from.

use std::collections::BTreeMap;
use std::iter::successors;

use anyhow::{Context as _, Result};
use rusqlite::Connection;
use shared::grant::Grants;
use shared::log::{Access, Entry, MountSet, Number, Op, Put, Rekey, State, Versions};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::signed::{VaultId, parse_strict};
use shared::time::Time;

use super::entries::Past;
use super::parts::Parts;
use crate::state::log;
use host::shown::quoted;
use machine::findings::access_command;
use machine::local::{Act, Acts, ActsQuery, EntryTold};

/// How far an entry may be dated before the one before it: clocks differ.
const CLOCKS: u64 = 5 * 60 * 1_000_000;

/// Tells what a key has signed since a time.
pub(super) async fn tell(parts: &Parts, query: ActsQuery) -> Result<Acts> {
    let vault = parts.own.pins.vault;
    let seen = parts.store.read(move |conn| Ok(look(conn, vault, &query))).await??;
    let folded = parts.ledger.read();
    let act = |found: Found| found.act(&folded.state, &seen.borne);
    let (acts, earlier) = (seen.found.into_iter().map(act).collect(), seen.earlier);
    Ok(Acts { acts, earlier, begins: folded.begins() })
}

/// What a walk of the log has found.
#[derive(Default)]
struct Seen {
    found: Vec<Found>,
    /// How many entries the key signed before.
    earlier: u64,
    /// The number that a machine got with other keys, by the one before.
    borne: BTreeMap<Number, Number>,
}

/// An entry that the key has signed.
struct Found {
    told: EntryTold,
    backdated: bool,
    /// What takes its operations back, before it is known whether they still hold.
    back: Vec<Back>,
}

/// What takes an operation back.
enum Back {
    /// Removes a machine that came by it.
    Machine(Number),
    /// Gives a machine the access that it had before.
    Access(Access, Grants, Grants),
    /// Gives a machine its name back.
    Name(Number, Name),
    /// Says again whether a machine sleeps.
    Sleeps(Number, bool),
    /// Removes an admin that came by it.
    Admin(Name),
    /// Runs this.
    Command(String),
}

fn look(conn: &Connection, vault: VaultId, query: &ActsQuery) -> Result<Seen> {
    let (mut past, _, begins) = Past::beginning(conn, vault)?;
    let (mut seen, mut newest) = (Seen::default(), Time::default());
    log::replay(conn, begins, |_, envelope| {
        let entry: Entry = parse_strict(&envelope.body).context("an entry of the own log")?;
        let backdated = entry.time.plus(CLOCKS) < newest;
        newest = newest.max(entry.time);
        if matches!(entry.by, Actor::Machine(_)) {
            return Ok(());
        }
        seen.borne.extend(entry.ops.iter().filter_map(|op| match op {
            Op::MachineRekey(Rekey { number, new_number, .. }) => Some((*number, *new_number)),
            _ => None,
        }));
        let back = entry.ops.iter().filter_map(|op| back(op, entry.seq, &past)).collect();
        let told = past.entry(vault, envelope, false)?;
        if told.key.as_ref() == Some(&query.key) {
            // Whoever misuses a key may date back what it signs.
            if told.time >= query.since || backdated {
                seen.found.push(Found { told, backdated, back });
            } else {
                seen.earlier += 1;
            }
        }
        Ok(())
    })?;
    Ok(seen)
}

/// Returns what takes an operation back that is about to be applied.
fn back(op: &Op, seq: u64, past: &Past) -> Option<Back> {
    let run = |command: String| Some(Back::Command(command));
    match op {
        Op::MachineAdd(new) => Some(Back::Machine(new.number)),
        Op::MachineRekey(Rekey { new_number, .. }) => Some(Back::Machine(*new_number)),
        Op::MachineRemove { number, .. } => {
            run(format!("vault machine add {} --ssh HOST", past.name(*number)))
        }
        Op::MachineRename { number, .. } => {
            Some(Back::Name(*number, past.name(*number).parse().ok()?))
        }
        Op::MachineSet { number, sleeps, .. } => Some(Back::Sleeps(*number, !sleeps)),
        Op::AccessSet(access) => {
            let (read, write) = past.access(access.number)?;
            Some(Back::Access(access.clone(), read, write))
        }
        Op::AdminAdd { name, .. } => Some(Back::Admin(name.clone())),
        Op::Put(Put { path, ver, .. }) if *ver > 1 => {
            run(format!("vault kv rollback -version={} {}", ver - 1, word(path)))
        }
        Op::Put(Put { path, .. }) => run(format!("vault kv delete {}", word(path))),
        Op::Delete(at) => run(format!("vault kv undelete {}", versions(at))),
        Op::Undelete(at) => run(format!("vault kv delete {}", versions(at))),
        Op::MetaSet(meta) => run(format!("vault kv metadata get {}", word(&meta.path))),
        Op::MountSet(MountSet { mount, .. }) => {
            run(format!("vault secrets list -detailed    # {mount}/"))
        }
        Op::MountDrop { mount } => run(format!("vault secrets enable -path={mount} kv-v2")),
        Op::ServerSet { .. } | Op::AddressesSet { .. } => run(format!("vault log show {seq}")),
        Op::AdminRemove { .. }
        | Op::RootSet { .. }
        | Op::RecoverySet { .. }
        | Op::Rewrap(_)
        | Op::Destroy(_)
        | Op::Forget { .. }
        | Op::Resume(_)
        | Op::Checkpoint(_)
        | Op::FormatSet { .. } => None,
    }
}

fn word(path: &SecretPath) -> String {
    quoted(path.as_str())
}

fn versions(Versions { path, versions }: &Versions) -> String {
    let list: Vec<String> = versions.iter().map(ToString::to_string).collect();
    format!("-versions={} {}", list.join(","), word(path))
}

impl Found {
    /// Tells it, with what takes back what still holds.
    fn act(self, state: &State, borne: &BTreeMap<Number, Number>) -> Act {
        let Self { told: EntryTold { seq, time, ops, rewraps, more, .. }, backdated, back } = self;
        let mut what: Vec<String> = ops.into_iter().map(|op| op.what).collect();
        if more > 0 {
            what.push(format!("{more} more"));
        }
        if rewraps > 0 {
            let versions = if rewraps == 1 { "version" } else { "versions" };
            what.push(format!("re-encrypted {rewraps} {versions}"));
        }
        let mut commands: Vec<String> = Vec::new();
        for command in back.into_iter().filter_map(|back| command(back, state, borne)) {
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        Act { seq, time, backdated, what, back: commands }
    }
}

/// Returns the command, if what it takes back still holds.
fn command(back: Back, state: &State, borne: &BTreeMap<Number, Number>) -> Option<String> {
    let machine = |number: Number| {
        let numbers = successors(Some(number), |number| borne.get(number).copied());
        state.machine_numbered(numbers.last()?)
    };
    let name = |number| Some(machine(number)?.name.clone());
    match back {
        Back::Machine(number) => Some(format!("vault machine remove {}", name(number)?)),
        Back::Access(set, read, write) => {
            let machine = machine(set.number)?;
            if (&machine.read, &machine.write) != (&set.read, &set.write) {
                return None;
            }
            let command = access_command(&machine.name, (&read, None), (&write, None));
            let nothing = read.as_slice().is_empty() && write.as_slice().is_empty();
            Some(if nothing { command + " --read ''" } else { command })
        }
        Back::Name(number, before) => {
            let now = name(number)?;
            (now != before).then(|| format!("vault machine rename {now} {before}"))
        }
        Back::Sleeps(number, sleeps) => {
            Some(format!("vault machine set {} --sleeps={sleeps}", name(number)?))
        }
        Back::Admin(name) if !state.admins().contains_key(&name) => None,
        Back::Admin(name) if state.admins().len() > 1 => {
            Some(format!("vault admin remove {name} --kit FILE"))
        }
        Back::Admin(name) => {
            Some(format!("vault recovery admin NAME --instead-of {name} --kit FILE"))
        }
        Back::Command(command) => Some(command),
    }
}
