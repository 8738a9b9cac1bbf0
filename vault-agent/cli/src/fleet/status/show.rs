//! The status for people: the table, then what is not as it should be, with since when and what to
//! type, and one line that sums it up: the last one is what stands above the prompt.

use std::collections::{BTreeMap, BTreeSet};

use shared::name::Name;
use shared::time::Time;
use shared::version::Version;

use super::narrow;
use crate::context::Global;
use crate::vault::rotation;
use host::clock;
use host::hint::with_hint;
use host::shown::Shown;
use host::version;
use machine::findings::{Finding, Kind, Mixed, Runs, mixed};
use machine::local::{NearShare, OverShare, Room, Rotation, Standing, Status, TargetRow};

/// More warnings about rotation would hide the fleet.
const MOST_ROTATIONS: usize = 5;
/// More findings than these would not be read: the first ones are shown, and how many more.
const MOST_FINDINGS: usize = 20;
/// Machines that a line names at most.
const MOST_NAMES: usize = 8;

/// Prints it all: the table is data, the rest is talk.
pub(super) fn print(global: &Global, status: &Status, found: &[Finding]) -> std::io::Result<()> {
    let now = global.now();
    if status.targets.is_empty() {
        global.term.say_hinted(
            "no machine has a target yet",
            "`vault-agent target add FILE SECRET` makes one",
        );
    } else {
        let columns = global.term.out_size().map(|size| size.columns);
        for line in table(status, found, now, (columns, global.colour())) {
            global.term.line(line)?;
        }
    }
    for line in notes(status, found, now).into_iter().chain(told(found, now)) {
        global.term.say(line);
    }
    match summary(status, found, now) {
        Some(wrong) => global.term.say(wrong),
        None if global.term.out_is_tty => global.term.say(well(status)),
        None => {}
    }
    Ok(())
}

/// Returns the lines of the table: a row for each secret of each target, by machine; in so many
/// columns, and in colour or not.
pub(super) fn table(
    status: &Status,
    found: &[Finding],
    now: Time,
    (columns, colour): (Option<usize>, bool),
) -> Vec<Shown> {
    let standing: BTreeMap<&Name, &Standing> =
        status.machines.iter().map(|it| (&it.machine, it)).collect();
    let mut rows: Vec<&TargetRow> = status.targets.iter().collect();
    rows.sort_by_key(|row| (&row.machine, &row.target, &row.secret));
    // Where the server is away, or the machine sleeps, that the rows are old blames nobody.
    let blamed: BTreeSet<&Name> = found
        .iter()
        .filter(|it| it.kind == Kind::Outdated)
        .filter_map(|it| it.machine.as_ref())
        .collect();
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let is_now = row.awake || row.machine == status.machine;
            let standing = standing.get(&row.machine).copied();
            cells(row, seen(row, standing, (is_now, blamed.contains(&row.machine)), now))
        })
        .collect();
    let text = narrow::laid_out(&cells, columns);
    let of_lines = std::iter::once(None).chain(rows.iter().map(Some));
    let line = |(line, row): (&str, Option<&&TargetRow>)| match row {
        Some(row) if colour && is_found(row, found) => Shown::from(line).coloured(31),
        Some(row) if colour && (row.lags() || row.fails()) => Shown::from(line).coloured(33),
        Some(_) | None => line.into(),
    };
    text.lines().zip(of_lines).map(line).collect()
}

fn is_found(row: &TargetRow, found: &[Finding]) -> bool {
    let is_its = |it: &Finding| {
        it.machine.as_ref() == Some(&row.machine)
            && it.target.as_ref().is_none_or(|target| *target == row.target)
            && !matches!(it.kind, Kind::Alarm(_))
    };
    found.iter().any(is_its)
}

fn cells(row: &TargetRow, seen: String) -> Vec<String> {
    let version = |n: u64| if n == 0 { "-".to_owned() } else { format!("v{n}") };
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

fn seen(
    row: &TargetRow,
    standing: Option<&Standing>,
    (is_now, is_outdated): (bool, bool),
    now: Time,
) -> String {
    let ago = |at: Time| format!("{} ago", clock::age(now.seconds_since(at)));
    match row.seen_at {
        Some(at) if is_outdated => format!("{} (outdated)", ago(at)),
        _ if is_now => "now".to_owned(),
        None => "never".to_owned(),
        Some(at) => match standing {
            Some(it) if it.sleeps => format!("{} (sleeps)", ago(at)),
            Some(it) if it.silent => format!("{} (silent)", ago(at)),
            Some(_) | None => ago(at),
        },
    }
}

/// Returns what is not as it should be, each with since when and the way out.
pub(super) fn told(found: &[Finding], now: Time) -> Vec<Shown> {
    let (silent, others): (Vec<_>, Vec<_>) =
        found.iter().partition(|it| it.kind == Kind::Silent && it.text == "silent");
    // A network that is down makes many silent at once, for one reason.
    let grouped = silent.len() > 3;
    let mut lines: Vec<Shown> = others
        .iter()
        .chain(if grouped { [].iter() } else { silent.iter() })
        .map(|it| line(it, now))
        .collect();
    if grouped {
        let longest = silent.iter().filter_map(|it| it.since).min();
        let who = names(silent.iter().filter_map(|it| it.machine.as_ref()));
        let age = longest.map(|at| clock::age(now.seconds_since(at))).unwrap_or_default();
        lines.push(with_hint(
            format!("{} machines are silent: {who} (the longest for {age})", silent.len()),
            "look at the network between them and the server; `systemctl status vault-agent` (or with \
             `--user`) there",
        ));
    }
    if lines.len() > MOST_FINDINGS {
        let more = lines.len() - MOST_FINDINGS;
        lines.truncate(MOST_FINDINGS);
        lines.push(with_hint(format!("and {more} more"), "`vault status -format=json` has all"));
    }
    lines
}

fn line(finding: &Finding, now: Time) -> Shown {
    let Finding { kind, machine, target, text, since, todo, .. } = finding;
    let age = since.map(|at| clock::age(now.seconds_since(at)));
    let age = match (kind, age) {
        (Kind::Server, None) => " (never synced)".to_owned(),
        (Kind::Server, Some(age)) => format!("; as of {age} ago"),
        (_, Some(age)) => format!(" (for {age})"),
        (_, None) => String::new(),
    };
    let text = match (kind, machine, target) {
        (Kind::Alarm(code), ..) => format!("alarm {code}: {text}{age}"),
        (_, Some(machine), Some(target)) => format!("{machine} {target}: {text}{age}"),
        (_, Some(machine), None) => format!("{machine}: {text}{age}"),
        (_, None, _) => format!("{text}{age}"),
    };
    with_hint(text, todo.as_str())
}

/// Returns what people should know although nothing is wrong.
fn notes(status: &Status, found: &[Finding], now: Time) -> Vec<Shown> {
    let mut lines = rotations(status, now);
    lines.extend(programs(status));
    if status.unwatched {
        lines.push(
            "every other machine is said to sleep at times: none of them is ever called silent"
                .into(),
        );
    }
    if status.server_keys > 1 {
        lines.push(with_hint(
            "two keys of the server are trusted, the old one still",
            "once the server runs with the new one, `vault server rekey` on an admin's host ends it",
        ));
    }
    lines.extend(unheard(status, now));
    lines.extend(short(status, now));
    let mut rows: Vec<&TargetRow> = status.targets.iter().collect();
    rows.sort_by_key(|row| (&row.machine, &row.target));
    let mut said = BTreeSet::new();
    for row in rows {
        let is_told = found.iter().any(|it| {
            it.machine.as_ref() == Some(&row.machine) && it.target.as_ref() == Some(&row.target)
        });
        // What fails is told of anyway, by its row or by an alarm.
        if let Some(remark) = row.remark().filter(|_| !is_told && !row.fails()) {
            let line = format!("{} {}: {remark}", row.machine, row.target);
            // Once for all secrets of a target.
            if said.insert(line.clone()) {
                lines.push(line.into());
            }
        }
    }
    lines
}

/// Returns who has not been heard since it was added, or got its keys, and is not missed yet.
fn unheard(status: &Status, now: Time) -> impl Iterator<Item = Shown> {
    let told = status.told;
    let is_new = move |it: &&Standing| told && it.seen_at.is_none() && !it.awake && !it.silent;
    let line = move |Standing { machine, added, .. }: &Standing| {
        format!("{machine}: added {} ago, not heard yet", clock::age(now.seconds_since(*added)))
    };
    status.machines.iter().filter(is_new).map(line).map(Shown::from)
}

/// Returns who runs older programs than the newest: in any order, one host after another.
fn programs(status: &Status) -> Option<Shown> {
    let Mixed { newest, on, older } = mixed(status, Version::of(version::own())?)?;
    let named = |runs: &Runs<'_>| match runs {
        Runs::Machine(name) => name.to_string(),
        Runs::Server => "the server".to_owned(),
        Runs::Asking => "this `vault`".to_owned(),
    };
    let said = |runs: &Runs<'_>| if *runs == Runs::Server { " (as it says)" } else { "" };
    let told = older.iter().map(|(on, it)| format!("{} {it}{}", named(on), said(on)));
    let told: Vec<String> = told.collect();
    let more = told.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let told = told[..told.len().min(MOST_NAMES)].join(", ");
    Some(with_hint(
        format!(
            "programs of {newest}, as on {}{}, are not everywhere: {told}{more}",
            named(&on),
            said(&on)
        ),
        format!("install {newest} there, in any order; neighbouring versions work together"),
    ))
}

/// Returns what is running short at the server, as it says: nothing is wrong yet.
fn short(status: &Status, now: Time) -> Vec<Shown> {
    let over = status.over.iter().map(|OverShare { machine, share, count, last }| {
        let requests = if *count == 1 { "request" } else { "requests" };
        let (share, age) = (share.words(), clock::age(now.seconds_since(*last)));
        with_hint(
            format!(
                "{machine} was refused {count} {requests} over its share of {share}, last {age} ago"
            ),
            format!(
                "`vault audit log --machine {machine}` shows what it does; the shares stand in \
                 `server.toml`, on the server's host"
            ),
        )
    });
    let near = status.near.iter().map(|NearShare { machine, share, used_percent, until }| {
        let (share, wait) = (share.words(), clock::age(until.seconds_since(now)));
        format!(
            "{machine} has taken {used_percent} % of its share of {share}; if it takes no more, it is \
             below 80 % in {wait}"
        )
    });
    let room = status.room.iter().map(|Room { used_percent, free_bytes }| {
        let free = free_bytes >> 20;
        format!("the server's disk is {used_percent} % full: {free} MiB are free")
    });
    over.chain(near.chain(room).map(Shown::from)).collect()
}

/// Returns which secrets are to be changed soon, or should have been.
fn rotations(status: &Status, now: Time) -> Vec<Shown> {
    let due = rotation::due(status.rotations.clone(), now, rotation::SOON);
    let shown = due.iter().take(MOST_ROTATIONS).map(|entry| {
        entry.fault().unwrap_or_else(|| {
            let who = |what: &str, name: &Option<String>| {
                name.as_ref().map(|name| format!(", {what} {name}")).unwrap_or_default()
            };
            let Rotation { path, issuer, owner, .. } = &entry.fact;
            let state = if entry.is_overdue(now) { "overdue" } else { "due" };
            let (when, issuer, owner) =
                (entry.when(now), who("issuer", issuer), who("owner", owner));
            format!("rotation {state}: `{path}` {when}{issuer}{owner}").into()
        })
    });
    let more = due.len().saturating_sub(MOST_ROTATIONS);
    let more = (more > 0).then(|| format!("rotation: {more} more; `vault rotate-due` lists all"));
    shown.chain(more.map(Shown::from)).collect()
}

/// Sums up what is not right: on which machines, and since when.
pub(super) fn summary(status: &Status, found: &[Finding], now: Time) -> Option<Shown> {
    if found.is_empty() {
        return None;
    }
    let on: BTreeSet<&Name> = found.iter().filter_map(|it| it.machine.as_ref()).collect();
    let server = found.iter().any(|it| it.machine.is_none());
    let mut on: Vec<String> =
        if on.is_empty() { Vec::new() } else { vec![names(on.iter().copied())] };
    on.extend(server.then(|| "the server".to_owned()));
    let since = found.iter().filter_map(|it| it.since).min();
    let since = since.map(|at| format!(", the oldest for {}", clock::age(now.seconds_since(at))));
    let things = if found.len() == 1 { "thing is" } else { "things are" };
    let blind = if status.online { "" } else { "; how the others stand now is not known" };
    Some(Shown::from(format!(
        "NOT WELL: {} {things} wrong{}: {}{blind}",
        found.len(),
        since.unwrap_or_default(),
        on.join(" and "),
    )))
}

/// Says that all is well, and of how much.
pub(super) fn well(status: &Status) -> Shown {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let files: BTreeSet<_> = status.targets.iter().map(|row| (&row.machine, &row.target)).collect();
    let asleep = status.machines.iter().filter(|it| it.sleeps && !it.awake);
    let asleep: Vec<&Name> = asleep.map(|it| &it.machine).collect();
    let asleep = match asleep[..] {
        [] => String::new(),
        _ => format!("; not looked at, as they sleep: {}", names(asleep.iter().copied())),
    };
    let (machines, files) = (count(status.machines.len(), "machine"), count(files.len(), "target"));
    format!("all is well: {machines}, {files}{asleep}").into()
}

/// Names machines, some of them.
fn names<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    let names: Vec<String> = names.map(ToString::to_string).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(MOST_NAMES)].join(", "))
}
