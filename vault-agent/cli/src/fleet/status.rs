//! `vault status`: which machine holds which version of what. Ends with 2 while an awake machine
//! lags or fails, or an alarm stands.

mod seal;

use anyhow::bail;
use serde_json::{Value, json};
use shared::error::Code;
use shared::time::Time;

use crate::client::{Client, Error};
use crate::context::Global;
use crate::print::{self, Format, table};
use crate::vault::rotation;
use host::clock;
use host::hint::{Exit, Failure, hinted};
use host::shown::Shown;
use machine::local::{
    self, Alarm, NearShare, Outdated, OverShare, Room, Rotation, Status, TargetRow,
};

/// More warnings about rotation would hide the fleet.
const MOST_ROTATIONS: usize = 5;

/// Print who holds which version
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits 2 while an awake machine lags, its hook or its file fails, its targets are not
known, or an alarm stands.
Where VAULT_ADDR names another Vault, its seal status is printed as HashiCorp's does:
0 unsealed, 1 no answer, 2 sealed."
)]
pub struct Args {
    /// Print this field only, of another Vault's status
    #[arg(long, value_name = "KEY")]
    field: Option<String>,
}

/// Tells whether the API at a named address is one of our agents, for a caller who may see the
/// fleet.
fn knows_a_fleet(client: &Client) -> bool {
    !client.only_shows() && client.ask(local::STATUS, &[]).is_ok_and(|answer| answer.status == 200)
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    if !client.is_own_agent() && !knows_a_fleet(&client) {
        return seal::run(global, &client, format, args.field.as_deref());
    }
    if args.field.is_some() {
        bail!(hinted(
            "-field is for the status of another Vault",
            "-format=json prints the fleet for scripts"
        ));
    }
    let status = fetch(&client)?;
    if format == Format::Table {
        print(global, &status)?;
    } else {
        global.term.document(print::data(format, &document(&status, global.now()))?)?;
    }
    let wrong = status.targets.iter().any(|row| row.awake && is_wrong(row))
        || status.outdated.iter().any(|machine| machine.awake);
    // Alarms with a word for a code are for a person to read; those with an `E_…` code stop
    // updates, or say that somebody lies. A machine that is off is no fault.
    let harmless = Code::Stale.as_str();
    let alarms = status.alarms.iter().map(|alarm| alarm.code.as_str());
    let alarms = alarms.filter(|code| *code != harmless).any(|code| code.starts_with("E_"));
    Ok(if wrong || alarms { Exit::REMOTE } else { Exit::OK })
}

/// Tells whether a row is not as it should be.
fn is_wrong(row: &TargetRow) -> bool {
    row.lags() || row.fails()
}

fn fetch(client: &Client) -> anyhow::Result<Status> {
    client.get(local::STATUS, &[]).map_err(|error| match error {
        Error::Refused(refusal) if refusal.status == 404 => Failure::remote(
            "the server at this address knows no fleet: it is not one of our agents",
        )
        .hint("unset VAULT_ADDR to ask this machine's agent")
        .into(),
        other => anyhow::Error::from(other),
    })
}

fn print(global: &Global, status: &Status) -> std::io::Result<()> {
    let now = global.now();
    for alarm in &status.alarms {
        say_alarm(global, alarm, now);
    }
    say_rotations(global, status, now);
    if !status.online {
        let age = status.synced_at.map(|at| clock::age(now.seconds_since(at)));
        let age = age.map_or_else(|| "never synced".to_owned(), |age| format!("as of {age} ago"));
        let server = status.server.as_deref().unwrap_or("none configured");
        global.term.say(format!("not connected to the server ({server}); {age}"));
    }
    say_unknown(global, status, now);
    say_short(global, status, now);
    if status.targets.is_empty() {
        global.term.say_hinted(
            "no machine has a target yet",
            "`vault-agent target add FILE SECRET` makes one",
        );
        return Ok(());
    }
    let mut rows: Vec<_> = status.targets.iter().collect();
    rows.sort_by_key(|row| (row.machine.clone(), &row.target, row.secret.clone()));
    let header = ["MACHINE", "TARGET", "SECRET", "WANTED", "APPLIED", "HOOK", "SEEN"];
    let cells: Vec<_> = rows.iter().map(|row| cells(row, now)).collect();
    let text = table::plain(&header, &cells);
    let colour = global.colour();
    let of_lines = std::iter::once(None).chain(rows.iter().map(Some));
    for (line, row) in text.lines().zip(of_lines) {
        global.term.line(match row {
            Some(row) if colour && is_wrong(row) => {
                let red_or_yellow = if row.awake { 31 } else { 33 };
                Shown::from(line).coloured(red_or_yellow)
            }
            Some(_) | None => line.into(),
        })?;
    }
    let mut said = std::collections::HashSet::new();
    for row in rows {
        let Some(remark) = row.remark() else { continue };
        // Once for all secrets of a target.
        let line = format!("{} {}: {remark}", row.machine, row.target);
        if said.insert(line.clone()) {
            global.term.say(line);
        }
    }
    Ok(())
}

/// Says what is not known of the fleet: a table must not look better than what is known.
fn say_unknown(global: &Global, status: &Status, now: Time) {
    for Outdated { machine, of, .. } in &status.outdated {
        let shown = of.map_or_else(
            || "none are shown".to_owned(),
            |of| format!("those shown are of {} ago", clock::age(now.seconds_since(of))),
        );
        global.term.say(format!(
            "{machine}: the server does not hand out its newest signed targets; {shown}"
        ));
    }
    if status.unwatched {
        global.term.say(
            "silence is not judged: every other machine is said to sleep, so nobody would be missed",
        );
    }
}

/// Warns of what is running short at the server, as it says: nothing is wrong yet.
fn say_short(global: &Global, status: &Status, now: Time) {
    for OverShare { machine, share, count, last } in &status.over {
        let requests = if *count == 1 { "request" } else { "requests" };
        let (share, age) = (share.words(), clock::age(now.seconds_since(*last)));
        global.term.say(format!(
            "{machine} was refused {count} {requests} over its share of {share}, last {age} ago"
        ));
    }
    for NearShare { machine, share, used_percent, until } in &status.near {
        let (share, wait) = (share.words(), clock::age(until.seconds_since(now)));
        global.term.say(format!(
            "{machine} has taken {used_percent} % of its share of {share}; if it takes no more, it is \
             below 80 % in {wait}"
        ));
    }
    if let Some(Room { used_percent, free_bytes }) = status.room {
        let free = free_bytes >> 20;
        global.term.say(format!("the server's disk is {used_percent} % full: {free} MiB are free"));
    }
}

/// Warns of secrets that are to be changed soon, or should have been: for people, no fault of the
/// fleet.
fn say_rotations(global: &Global, status: &Status, now: Time) {
    let due = rotation::due(status.rotations.clone(), now, rotation::SOON);
    for entry in due.iter().take(MOST_ROTATIONS) {
        global.term.say(entry.fault().unwrap_or_else(|| {
            let who = |what: &str, name: &Option<String>| {
                name.as_ref().map(|name| format!(", {what} {name}")).unwrap_or_default()
            };
            let Rotation { path, issuer, owner, .. } = &entry.fact;
            let state = if entry.is_overdue(now) { "overdue" } else { "due" };
            let (when, issuer, owner) =
                (entry.when(now), who("issuer", issuer), who("owner", owner));
            format!("rotation {state}: `{path}` {when}{issuer}{owner}").into()
        }));
    }
    if due.len() > MOST_ROTATIONS {
        let more = due.len() - MOST_ROTATIONS;
        global.term.say(format!("rotation: {more} more; `vault rotate-due` lists all"));
    }
}

fn cells(row: &TargetRow, now: Time) -> Vec<String> {
    let seen = match (row.awake, row.seen_at) {
        (true, Some(at)) if row.outdated => {
            format!("{} ago (outdated)", clock::age(now.seconds_since(at)))
        }
        (true, _) => "now".to_owned(),
        (false, Some(at)) => format!("{} ago (asleep)", clock::age(now.seconds_since(at))),
        (false, None) => "never".to_owned(),
    };
    vec![
        row.machine.to_string(),
        row.target.clone(),
        row.secret.to_string(),
        version(row.wanted),
        version(row.applied),
        row.hook.to_string(),
        seen,
    ]
}

fn version(n: u64) -> String {
    if n == 0 { "-".to_owned() } else { format!("v{n}") }
}

fn say_alarm(global: &Global, Alarm { code, text, since }: &Alarm, now: Time) {
    let line = format!("alarm {code}: {text} (for {})", clock::age(now.seconds_since(*since)));
    match Code::from_text(code) {
        Some(code) => global.term.say_hinted(line, code.hint()),
        None => global.term.say(line),
    }
}

/// The answer with times as people and scripts read them.
fn document(status: &Status, now: Time) -> Value {
    let time = |at: Option<Time>| at.map(|at| at.to_string());
    let rows = status.targets.iter().map(|row| {
        json!({
            "machine": row.machine, "target": row.target, "secret": row.secret,
            "wanted": row.wanted, "applied": row.applied, "hook": row.hook,
            "seen_at": time(row.seen_at), "awake": row.awake, "outdated": row.outdated,
            "state": row.state, "lags": row.lags(),
            "fails": row.fails(), "detail": row.detail,
        })
    });
    let alarms = status.alarms.iter().map(
        |alarm| json!({ "code": alarm.code, "text": alarm.text, "since": alarm.since.to_string() }),
    );
    let outdated = status
        .outdated
        .iter()
        .map(|it| json!({ "machine": it.machine, "of": time(it.of), "awake": it.awake }));
    let over: Vec<_> = status
        .over
        .iter()
        .map(|it| {
            let (share, last) = (it.share, it.last.to_string());
            json!({ "machine": it.machine, "share": share, "count": it.count, "last": last })
        })
        .collect();
    let near: Vec<_> = status
        .near
        .iter()
        .map(|it| {
            let NearShare { machine, share, used_percent, until } = it;
            let until = until.to_string();
            json!({ "machine": machine, "share": share, "used_percent": used_percent, "until": until })
        })
        .collect();
    let rotations = rotation::due(status.rotations.clone(), now, rotation::SOON);
    let rotations: Vec<_> = rotations.iter().map(|entry| entry.document(now)).collect();
    json!({
        "machine": status.machine, "vault": status.vault, "seq": status.seq, "head": status.head,
        "online": status.online, "server": status.server, "synced_at": time(status.synced_at),
        "restored": status.restored, "unwatched": status.unwatched,
        "alarms": alarms.collect::<Vec<_>>(), "targets": rows.collect::<Vec<_>>(),
        "outdated": outdated.collect::<Vec<_>>(), "rotations": rotations,
        "over": over, "near": near, "room": status.room,
    })
}
