//! `vault scan --hosts`: what the hosts have found of the vault's values by their own scans, each
//! as it says, and the wish for new ones. No value is in any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use host::clock::age;
use host::hint::{Exit, Failure};
use host::progress::Progress;
use machine::local::{HostScan, HostScans, SCAN, ScanRequest, ScanWished};
use machine::scan::size;
use serde_json::{Value, json};
use shared::name::Name;
use shared::scan::{Find, Findings};
use shared::time::Time;

use super::finds::FOUND;
use crate::client::{Client, Error};
use crate::context::Global;
use crate::print::{self, Format, table};

/// How long hosts get to hear the wish: they hear of each other once in one or two minutes.
const HEARS: Duration = Duration::from_mins(4);
/// How long those that have heard it are waited for.
const SCANS: Duration = Duration::from_mins(15);
/// Time from one look to the next.
const PAUSE: Duration = Duration::from_secs(3);
/// Least seconds from one scan of a host to the next that is asked for.
const APART: u64 = 600;
/// A last scan is old once two more should have been made, and this many seconds have passed.
const SLACK: u64 = 3_600;
/// The same for hosts that scan only when they are asked to.
const WEEK: u64 = 7 * 86_400;

/// Shows what hosts have found; asks them to look again first if `now` is set.
///
/// # Errors
/// If no agent answers, this machine may not review, or a host is named that is none.
pub fn run(global: &Global, format: Format, names: &[Name], now: bool) -> Result<Exit> {
    let client = global.client()?;
    let mut scans = chosen(fetch(&client)?, names)?;
    if now {
        scans = ask(global, &client, names, scans)?;
    }
    let rows: Vec<Row<'_>> = scans.machines.iter().flat_map(rows).collect();
    match format {
        Format::Table if rows.is_empty() => {}
        Format::Table => global.term.line(shown(&rows, global.now()))?,
        other => {
            let hosts: Vec<Value> = scans.machines.iter().map(document).collect();
            let all = json!({ "told": scans.told, "hosts": hosts });
            global.term.document(print::data(other, &all)?)?;
        }
    }
    let mut whole = scans.told;
    if !scans.told {
        global.term.say("the server does not answer: this is what was last heard");
    }
    for host in &scans.machines {
        for line in remarks(host, global.now(), &mut whole) {
            global.term.say(line);
        }
    }
    let has_searched = scans.machines.iter().any(|host| host.findings.is_some());
    if has_searched {
        global.term.say(summary(&rows));
    }
    Ok(match (rows.is_empty(), whole) {
        (false, _) => FOUND,
        (true, true) => Exit::OK,
        (true, false) => Exit::REMOTE,
    })
}

/// Says what the rows amount to: a value may lie in many places.
fn summary(rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return "nothing found".to_owned();
    }
    let in_use: Vec<&Row<'_>> = rows.iter().filter(|row| !row.old).collect();
    let values: BTreeSet<_> = in_use.iter().map(|row| (&row.find.secret, &row.find.key)).collect();
    let places: BTreeSet<_> = in_use.iter().map(|row| (row.host, &row.find.place)).collect();
    let places = match places.len() {
        1 => "in 1 place".to_owned(),
        n => format!("in {n} places"),
    };
    match values.len() {
        0 => {
            "only old values: harmless if each was ended at its issuer; delete the places all the \
              same"
                .to_owned()
        }
        1 => format!("1 value is still in use, {places}: change it at its issuer, then here"),
        // Two keys may have one value.
        n => format!(
            "the values of {n} keys are still in use, {places}: change each at its issuer, then here"
        ),
    }
}

fn fetch(client: &Client) -> Result<HostScans> {
    client.get(SCAN, &[]).map_err(|error| match error {
        Error::Refused(refusal) if refusal.status == 404 => Failure::remote(
            "the server at this address knows no hosts: it is not one of our agents",
        )
        .hint("unset VAULT_ADDR to ask this machine's agent")
        .into(),
        other => anyhow::Error::from(other),
    })
}

/// Leaves the named hosts alone, all if none is named.
fn chosen(mut scans: HostScans, names: &[Name]) -> Result<HostScans> {
    let is_there = |name: &&Name| scans.machines.iter().any(|host| host.machine == **name);
    if let Some(missing) = names.iter().find(|name| !is_there(name)) {
        return Err(Failure::remote(format!("there is no machine `{missing}`"))
            .hint("`vault machine list` shows them")
            .into());
    }
    scans.machines.retain(|host| names.is_empty() || names.contains(&host.machine));
    Ok(scans)
}

/// How far a host is with what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    Waits,
    Runs,
    Done,
}

/// Asks hosts to scan, and waits until they have.
fn ask(global: &Global, client: &Client, names: &[Name], scans: HostScans) -> Result<HostScans> {
    let mut asked: BTreeMap<Name, Option<Time>> = BTreeMap::new();
    for host in &scans.machines {
        let since = host.findings.as_ref().map(|known| global.now().seconds_since(known.begun));
        let name = &host.machine;
        match (host.scans, since) {
            // What to type is said below.
            (Some(false) | None, _) => {}
            (Some(true), _) if !host.awake => {
                let why = if host.sleeps { "it sleeps" } else { "it is not connected" };
                global.term.say(format!("{name}: not waited for: {why}"));
            }
            (Some(true), Some(ago)) if ago < APART && host.running.is_none() => {
                let (ago, left) = (age(ago), age(APART - ago));
                global.term.say(format!(
                    "{name}: scanned {ago} ago, and scans again in {left}: every 10 minutes at most"
                ));
            }
            (Some(true), _) => {
                let begun = host.findings.as_ref().map(|known| known.begun);
                asked.insert(name.clone(), begun);
            }
        }
    }
    if scans.machines.iter().any(|host| host.scans == Some(true)) {
        let request = ScanRequest { machines: names.to_vec() };
        let ScanWished { .. } = client.post(SCAN, &request)?;
    }
    let (begun, mut scans) = (Instant::now(), scans);
    let mut progress = Progress::start(&global.term, asked.len());
    loop {
        let far = |host: &HostScan| {
            let before = asked.get(&host.machine)?;
            let last = host.findings.as_ref().map(|known| known.begun);
            Some((
                host.machine.clone(),
                match (host.running, last == *before) {
                    (None, false) => Far::Done,
                    (Some(_), _) => Far::Runs,
                    (None, true) => Far::Waits,
                },
            ))
        };
        let all: Vec<(Name, Far)> = scans.machines.iter().filter_map(far).collect();
        let of = |far: Far| all.iter().filter(move |(_, is)| *is == far).map(|(name, _)| name);
        let (waits, runs) = (of(Far::Waits).count(), of(Far::Runs).count());
        let is_over =
            (waits == 0 || begun.elapsed() >= HEARS) && (runs == 0 || begun.elapsed() >= SCANS);
        if is_over {
            progress.end();
            for name in of(Far::Waits) {
                global.term.say(format!("{name}: has not begun to scan yet: look again later"));
            }
            return Ok(scans);
        }
        let next = of(Far::Runs).chain(of(Far::Waits)).next();
        let doing = if runs > 0 { "scans" } else { "is asked" };
        let text = next.map(|name| format!("{name} {doing}")).unwrap_or_default();
        progress.at(of(Far::Done).count(), asked.len(), &text);
        client.pause(PAUSE);
        scans = chosen(fetch(client)?, names)?;
    }
}

/// Values of one key in one place of one host.
struct Row<'a> {
    host: &'a Name,
    find: &'a Find,
    versions: Vec<u64>,
    old: bool,
    count: u64,
    since: Time,
}

fn rows(host: &HostScan) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for find in host.findings.iter().flat_map(|known| &known.finds) {
        let is_same = |row: &&mut Row<'_>| {
            row.old == find.old
                && (&row.find.place, &row.find.secret, &row.find.key)
                    == (&find.place, &find.secret, &find.key)
        };
        match rows.iter_mut().find(is_same) {
            Some(row) => {
                row.versions.push(find.ver);
                row.count = row.count.saturating_add(find.count);
                row.since = row.since.min(find.since);
            }
            None => rows.push(Row {
                host: &host.machine,
                find,
                versions: vec![find.ver],
                old: find.old,
                count: find.count,
                since: find.since,
            }),
        }
    }
    rows.sort_by(|a, b| (a.old, &a.find.place).cmp(&(b.old, &b.find.place)));
    rows
}

fn shown(rows: &[Row<'_>], now: Time) -> host::shown::Shown {
    let cells = |row: &Row<'_>| {
        let Find { place, line, secret, key, readable, .. } = row.find;
        let line = if *line == 0 { String::new() } else { format!(":{line}") };
        let versions = row.versions.iter().map(|ver| format!("v{ver}")).collect::<Vec<_>>();
        let readable = readable
            .as_ref()
            .map(|about| format!(", others may read it ({about})"))
            .unwrap_or_default();
        let value = if row.old { "old: harmless if ended at its issuer" } else { "in use" };
        vec![
            row.host.to_string(),
            format!("{place}{line}"),
            secret.to_string(),
            key.to_string(),
            versions.join(" "),
            row.count.to_string(),
            format!("{} ago", age(now.seconds_since(row.since))),
            format!("{value}{readable}"),
        ]
    };
    let header = ["HOST", "PLACE", "SECRET", "KEY", "VERSION", "COUNT", "SINCE", "VALUE"];
    table::plain(&header, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// Says of a host what its rows do not; `whole` goes where not all was searched.
fn remarks(host: &HostScan, now: Time, whole: &mut bool) -> Vec<String> {
    let name = &host.machine;
    let mut lines = Vec::new();
    let mut lacks = |line: String| {
        *whole = false;
        lines.push(line);
    };
    match (host.scans, &host.findings) {
        (None, _) => lacks(format!("{name}: has not reported yet: `vault status` says why")),
        (Some(false), _) => lacks(format!(
            "{name}: does not scan: put a line `[scan]` into its `agent.toml`, then run \
             `vault-agent install` there"
        )),
        (Some(true), None) => {
            if let Some(why) = &host.unread {
                lacks(format!("{name}: what it has found cannot be read here: {why}"));
            } else if let Some(since) = host.running {
                lacks(format!("{name}: scans for {}", age(now.seconds_since(since))));
            } else {
                lacks(format!("{name}: has not scanned yet: `vault scan --hosts --now {name}`"));
            }
        }
        (Some(true), Some(known)) => {
            for missed in &known.missed {
                lacks(format!("{name}: not searched: {missed}"));
            }
            if known.more > 0 {
                lacks(format!("{name}: {} more finds are not told one by one", known.more));
            }
            if is_old(known, now) {
                let ago = age(now.seconds_since(known.ended));
                lacks(format!(
                    "{name}: its last scan is {ago} old: `vault scan --hosts --now {name}`"
                ));
            }
        }
    }
    if let Some(known) = &host.findings {
        let ago = age(now.seconds_since(known.ended));
        let Findings { files, bytes, values, secrets, left_out, .. } = known;
        let left_out = match left_out {
            0 => String::new(),
            n => format!("; {n} too short or easy to guess"),
        };
        lines.push(format!(
            "{name}: searched {files} files ({}) for {values} values of {secrets} secrets, {ago} ago{left_out}",
            size::shown(*bytes)
        ));
    }
    lines
}

fn is_old(known: &Findings, now: Time) -> bool {
    let most = known.every.map_or(WEEK, |every| every.saturating_mul(2).saturating_add(SLACK));
    now.seconds_since(known.ended) > most
}

/// Returns what scripts read of a host.
fn document(host: &HostScan) -> Value {
    let time = |time: Time| time.to_string();
    let find = |find: &Find| {
        json!({
            "place": find.place, "line": find.line, "secret": find.secret, "key": find.key,
            "version": find.ver, "old": find.old, "form": find.form, "count": find.count,
            "since": time(find.since), "readable": find.readable,
        })
    };
    let searched = host.findings.as_ref().map(|known| {
        json!({
            "begun": time(known.begun), "ended": time(known.ended), "every_seconds": known.every,
            "files": known.files, "bytes": known.bytes, "secrets": known.secrets,
            "values": known.values, "left_out": known.left_out, "missed": known.missed,
            "more": known.more,
        })
    });
    let finds = host.findings.iter().flat_map(|known| &known.finds).map(find);
    json!({
        "host": host.machine, "awake": host.awake, "sleeps": host.sleeps, "scans": host.scans,
        "running_since": host.running.map(time), "unread": host.unread, "searched": searched,
        "finds": finds.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    const MINUTE: u64 = 60_000_000;

    fn at(minutes: u64) -> Time {
        Time::from_micros(minutes * MINUTE)
    }

    fn find(place: &str, ver: u64, old: bool) -> Find {
        Find {
            place: place.parse().unwrap(),
            secret: "secret/stripe".parse().unwrap(),
            key: "API_KEY".parse().unwrap(),
            ver,
            old,
            form: "plain".parse().unwrap(),
            count: 2,
            line: 7,
            since: at(50),
            readable: (ver == 3).then(|| "jonas 0644".parse().unwrap()),
        }
    }

    fn host(scans: Option<bool>, findings: Option<Findings>) -> HostScan {
        HostScan {
            machine: "vps".parse().unwrap(),
            awake: true,
            sleeps: false,
            scans,
            running: None,
            findings,
            unread: None,
        }
    }

    #[test]
    fn values_in_use_come_first_and_old_ones_say_that_they_are() {
        let finds = vec![
            find("/home/jonas/.bash_history", 1, true),
            find("/home/jonas/.bash_history", 3, false),
            find("/home/jonas/.bash_history", 2, true),
        ];
        let known = Findings { finds, ended: at(99), ..Findings::default() };
        let host = host(Some(true), Some(known));
        insta::assert_snapshot!(shown(&rows(&host), at(100)), @r"
        HOST  PLACE                        SECRET         KEY      VERSION  COUNT  SINCE       VALUE
        vps   /home/jonas/.bash_history:7  secret/stripe  API_KEY  v3       2      50 min ago  in use, others may read it (jonas 0644)
        vps   /home/jonas/.bash_history:7  secret/stripe  API_KEY  v1 v2    4      50 min ago  old: harmless if ended at its issuer
        ");
    }

    #[test]
    fn a_value_in_several_places_is_one_value() {
        let said = |finds: Vec<Find>| {
            let known = Findings { finds, ended: at(99), ..Findings::default() };
            summary(&rows(&host(Some(true), Some(known))))
        };
        assert_eq!(said(Vec::new()), "nothing found");
        assert!(said(vec![find("/a", 1, true)]).starts_with("only old values"));
        let three = vec![find("/a", 3, false), find("/b", 3, false), find("/a", 1, true)];
        let expected = "1 value is still in use, in 2 places: change it at its issuer, then here";
        assert_eq!(said(three), expected);
        for (place, places) in [("/a", "in 1 place:"), ("/b", "in 2 places:")] {
            let other = Find { key: "OTHER".parse().unwrap(), ..find(place, 3, false) };
            let said = said(vec![find("/a", 3, false), other]);
            let expected = format!("the values of 2 keys are still in use, {places}");
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn where_no_host_scans_it_is_not_said_that_nothing_was_found() {
        for (findings, is_said) in [(None, false), (Some(Findings::default()), true)] {
            let scans = HostScans { told: true, machines: vec![host(Some(false), findings)] };
            let scans = serde_json::to_string(&scans).unwrap();
            let ran = World::agent(&[("GET /v1/agent/scan", 200, &scans)]).run("scan --hosts");
            assert_eq!((ran.exit, ran.err.contains("nothing found")), (2, is_said), "{}", ran.err);
        }
    }

    #[test]
    fn what_is_not_known_to_be_clean_is_said_with_what_to_type() {
        let check = |host: &HostScan, expected: &str| {
            let mut whole = true;
            let lines = remarks(host, at(100_000), &mut whole).join("\n");
            assert!(lines.contains(expected), "{lines}");
            whole
        };
        assert!(!check(&host(None, None), "has not reported"));
        assert!(!check(&host(Some(false), None), "put a line `[scan]` into its `agent.toml`"));
        assert!(!check(&host(Some(true), None), "`vault scan --hosts --now vps`"));
        let known = Findings { ended: at(99_990), every: Some(86_400), ..Findings::default() };
        assert!(check(&host(Some(true), Some(known.clone())), "10 min ago"));
        let old = Findings { ended: at(97_000), ..known.clone() };
        assert!(!check(&host(Some(true), Some(old)), "its last scan is 2 d old"));
        let missed = vec!["`/x`: Permission denied".parse().unwrap()];
        let missed = Findings { missed, ..known };
        assert!(!check(&host(Some(true), Some(missed)), "not searched: `/x`: Permission denied"));
    }
}
