//! `vault machine list`: which hosts belong to the vault, and which did.

use anyhow::Result;
use serde::Serialize;

use crate::context::Global;
use crate::print::{Format, table};
use host::clock;
use host::hint::Exit;
use host::shown::Shown;
use machine::local::{MACHINES, MachineRow, Machines, REMOVED, Removed};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Removed machines too, with when they were removed, by whom, and why
    #[arg(long)]
    all: bool,
}

/// A machine as JSON shows it.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    machine: MachineRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Removed>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let client = global.client()?;
    let Machines { machines, .. } = client.get(MACHINES, &[])?;
    let removed: Vec<Removed> = if args.all { client.get(REMOVED, &[])? } else { Vec::new() };
    let format = global.format()?;
    let (listed, left): (Vec<_>, Vec<_>) =
        machines.into_iter().partition(|machine| args.all || machine.active);
    let row = |machine: MachineRow| {
        let removed = removed.iter().find(|it| it.number == machine.number).cloned();
        Row { machine, removed }
    };
    let rows: Vec<Row> = listed.into_iter().map(row).collect();
    let exit = global.show(format, || shown(&rows, args.all, global), &rows)?;
    if !left.is_empty() && format == Format::Table {
        global.term.say(format!("{} more were removed: `--all` shows when, and why", left.len()));
    }
    Ok(exit)
}

fn shown(rows: &[Row], all: bool, global: &Global) -> Shown {
    let cells = |Row { machine, removed }: &Row| {
        let seen = machine.seen_at.map(|at| ago(global.now().seconds_since(at)));
        let seen = seen.unwrap_or_else(|| if machine.active { "never" } else { "-" }.to_owned());
        let mut cells = vec![
            machine.name.to_string(),
            if machine.active { "active" } else { "removed" }.to_owned(),
            machine.read.to_string(),
            machine.write.to_string(),
            machine.agent.clone().unwrap_or_else(|| "-".to_owned()),
            if machine.sleeps { format!("{seen} (sleeps)") } else { seen },
        ];
        if all {
            cells.push(removed.as_ref().map_or_else(|| "-".to_owned(), how));
        }
        cells
    };
    let columns = ["MACHINE", "STATE", "READS", "WRITES", "AGENT", "SEEN", "REMOVED"];
    let columns = if all { &columns[..] } else { &columns[..6] };
    table::plain(columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// Says when, by whom and why a machine was removed.
fn how(Removed { entry, time, by, reason, goes_on, .. }: &Removed) -> String {
    let act = format!("{time} by {by}, entry {entry}");
    match (goes_on, reason.as_str()) {
        (Some(_), _) => format!("{act}: it got other keys"),
        (None, "") => act,
        (None, reason) => format!("{act}: {reason}"),
    }
}

fn ago(seconds: u64) -> String {
    if seconds < 60 { "now".to_owned() } else { format!("{} ago", clock::age(seconds)) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::keys::SignKey;

    use super::*;
    use crate::testing::{World, now};

    #[test]
    fn machines_are_listed_and_with_all_how_the_removed_ones_went() {
        let sign = SignKey::from_seed(&[3; 32]).verify_key();
        let machine = |name: &str, number: u64, active: bool| {
            json!({
                "name": name, "number": number, "active": active, "sleeps": false, "sign": sign,
                "read": ["secret/jjeco/"], "write": [], "agent": active.then_some("0.1.0"),
                "seen_at": active.then(now),
            })
        };
        let rows = [machine("nas", 2, false), machine("old", 4, false), machine("vps", 3, true)];
        let machines =
            json!({ "machines": rows, "next": 5, "own": 3, "server": [sign] }).to_string();
        let gone = |number: u64, entry: u64, reason: &str, goes_on: Option<u64>| {
            json!({
                "number": number, "entry": entry, "time": now(), "by": "admin:jonas",
                "reason": reason, "goes_on": goes_on,
            })
        };
        let removed = json!([gone(2, 7, "", Some(3)), gone(4, 12, "sold", None)]).to_string();
        let world = World::admin(&[
            ("GET /v1/agent/machines", 200, &machines),
            ("GET /v1/agent/removed", 200, &removed),
        ]);
        insta::assert_snapshot!(world.run("machine list").shown(), @r"
        exit 0
        --- stdout
        MACHINE  STATE   READS          WRITES  AGENT  SEEN
        vps      active  secret/jjeco/  -       0.1.0  now
        --- stderr
        2 more were removed: `--all` shows when, and why
        ");
        insta::assert_snapshot!(world.run("machine list --all").out, @r"
        MACHINE  STATE    READS          WRITES  AGENT  SEEN  REMOVED
        nas      removed  secret/jjeco/  -       -      -     2026-11-23T20:00:00Z by admin:jonas, entry 7: it got other keys
        old      removed  secret/jjeco/  -       -      -     2026-11-23T20:00:00Z by admin:jonas, entry 12: sold
        vps      active   secret/jjeco/  -       0.1.0  now   -
        ");
        let names = |line: &str| {
            let rows: Value = serde_json::from_str(&world.run(line).out).unwrap();
            let rows = rows.as_array().unwrap().clone();
            rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("machine list -format=json"), ["vps"]);
        assert_eq!(names("machine list --all -format=json"), ["nas", "old", "vps"]);
    }

    #[test]
    fn ages_are_rounded_down() {
        for (seconds, expected) in
            [(0, "now"), (59, "now"), (60, "1 min ago"), (7200, "2 h ago"), (300_000, "3 d ago")]
        {
            assert_eq!(ago(seconds), expected);
        }
    }
}
