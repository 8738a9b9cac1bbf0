//! What a value has reached, on the screen and for scripts.

use serde_json::{Value, json};

use super::found::Found;
use super::reached::{File, Host, How, Now, Reader};
use super::steps::Step;
use crate::fleet::audit::when::seconds;
use crate::print::table;
use host::shown::Shown;
use machine::local::{Blast, ExposedKey, KeyNow, PastVersion};
use machine::who::Place;

/// Three tables: hosts and their files, who read it, what to do.
pub(super) fn table(found: &Found) -> Shown {
    let hosts: Vec<Vec<String>> = found.hosts.iter().flat_map(host_rows).collect();
    let readers = found
        .hosts
        .iter()
        .flat_map(|host| host.readers.iter().map(|reader| reader_row(&host.name, reader)));
    let readers: Vec<Vec<String>> = readers.collect();
    let steps = found.steps.iter().map(step_row).collect::<Vec<_>>();
    let all = [
        (&["HOST", "SINCE", "HOW", "FILE", "NOW"][..], hosts),
        (&["HOST", "READ BY", "READS", "LAST", "NOW"][..], readers),
        (&["TO DO", "WHAT"][..], steps),
    ];
    let mut shown = Shown::default();
    for (header, rows) in all.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        if !shown.is_empty() {
            shown.push(Shown::own("\n\n"));
        }
        shown.push(table::plain(header, &rows));
    }
    if shown.is_empty() { Shown::own("no host ever had it") } else { shown }
}

fn host_rows(host: &Host) -> Vec<Vec<String>> {
    let first = |now: String, file: String, since: String| {
        vec![host.name.clone(), since, how(host.how).to_owned(), file, now]
    };
    if host.files.is_empty() {
        return vec![first(standing(host), "-".to_owned(), seconds(host.since))];
    }
    let rows = host.files.iter().map(|file| {
        let since = file.since.map_or_else(|| seconds(host.since), seconds);
        let now = match (&host.removed, file.now) {
            (Some(_), Now::Unknown) => format!("may still hold it; {}", standing(host)),
            (Some(_), _) => standing(host),
            (None, _) if host.how == How::Tells => "-".to_owned(),
            (None, now) => told(now),
        };
        first(now, file.name.clone(), since)
    });
    rows.collect()
}

const fn how(how: How) -> &'static str {
    match how {
        How::Wrote => "wrote it",
        How::Copied => "has a copy",
        How::CouldRead => "could read it",
        How::Tells => "only tells so",
    }
}

fn standing(host: &Host) -> String {
    match (&host.removed, &host.quiet) {
        (Some(removed), _) => {
            let why = &removed.reason;
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            format!("removed {}{why}", seconds(removed.time))
        }
        (None, Some(Some(heard))) => format!("last heard {}", seconds(*heard)),
        (None, Some(None)) => "never heard".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

fn told(now: Now) -> String {
    match now {
        Now::Holds(ver) => format!("holds it (v{ver})"),
        Now::Changed(ver) => format!("has v{ver}"),
        Now::Gone(at) => format!("file removed {}", seconds(at)),
        Now::Left(at) => format!("another version since {}", seconds(at)),
        Now::Unknown => "not among its targets".to_owned(),
    }
}

fn reader_row(host: &str, Reader { who, reads, newer, .. }: &Reader) -> Vec<String> {
    let now =
        newer.map_or_else(|| "nothing newer".to_owned(), |(ver, _)| format!("has read v{ver}"));
    vec![host.to_owned(), who.clone(), reads.count.to_string(), seconds(reads.last), now]
}

fn step_row(Step { machine, what, command, .. }: &Step) -> Vec<String> {
    let machine = machine.clone().unwrap_or_else(|| "here".to_owned());
    let line = command.as_ref().map_or_else(String::new, |line| format!(": `{line}`"));
    vec![machine, format!("{what}{line}")]
}

/// Returns what scripts read.
pub(super) fn document(found: &Found) -> Value {
    let Blast {
        path,
        ver,
        newest,
        versions,
        keys,
        older,
        issuer,
        unread,
        unjudged,
        unsearched,
        begins,
        ..
    } = &found.blast;
    let version = |PastVersion { ver, by, time, .. }: &PastVersion| json!({ "version": ver, "by": by, "time": time.to_string() });
    let steps = found.steps.iter().map(|Step { kind, machine, what, command }| {
        json!({ "kind": kind, "machine": machine, "what": what, "command": command })
    });
    let told = &found.told;
    json!({
        "secret": path, "version": ver, "key": found.key, "newest": newest,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "keys": keys.iter().map(key).collect::<Vec<_>>(),
        "older": older, "issuer": issuer, "unread": unread, "unjudged": unjudged,
        "unsearched": unsearched, "begins": begins,
        "hosts": found.hosts.iter().map(host).collect::<Vec<_>>(),
        "steps": steps.collect::<Vec<_>>(),
        "in_use": found.is_in_use(),
        "reads_unknown": told.unknown,
        "reads_known_since": told.known_since().map(|at| at.to_string()),
    })
}

fn key(ExposedKey { key, now, copies, .. }: &ExposedKey) -> Value {
    let (state, since) = match now {
        KeyNow::InUse => ("in_use", None),
        KeyNow::Changed { ver, time } => ("changed", Some((ver, time))),
        KeyNow::Gone { ver, time } => ("gone", Some((ver, time))),
        KeyNow::Deleted => ("deleted", None),
    };
    json!({
        "key": key, "state": state, "since_version": since.map(|(ver, _)| ver),
        "since_time": since.map(|(_, time)| time.to_string()), "copies": copies,
    })
}

fn host(host: &Host) -> Value {
    let Host { name, since, how, removed, quiet, files, readers } = host;
    let removed = removed.as_ref().map(|removed| {
        json!({ "time": removed.time.to_string(), "by": removed.by, "reason": removed.reason })
    });
    let how = match how {
        How::Wrote => "wrote",
        How::Copied => "copied",
        How::CouldRead => "could_read",
        How::Tells => "tells",
    };
    let readers = readers.iter().map(|Reader { who, place, reads, newer }| {
        let (unit, container) = match place {
            Some(Place::Unit(unit)) => (Some(unit), None),
            Some(Place::Container(id)) => (None, Some(id)),
            None => (None, None),
        };
        json!({
            "who": who, "unit": unit, "container": container, "count": reads.count, "first": reads.first.to_string(),
            "last": reads.last.to_string(), "newer": newer.map(|(ver, _)| ver),
        })
    });
    json!({
        "machine": name, "since": since.to_string(), "how": how, "removed": removed,
        "connected": removed.is_none() && quiet.is_none(),
        "last_heard": quiet.flatten().map(|at| at.to_string()),
        "files": files.iter().map(file).collect::<Vec<_>>(),
        "readers": readers.collect::<Vec<_>>(),
    })
}

fn file(File { name, since, now, hook }: &File) -> Value {
    let (state, ver, at) = match now {
        Now::Holds(ver) => ("holds", Some(ver), None),
        Now::Changed(ver) => ("changed", Some(ver), None),
        Now::Gone(at) => ("removed", None, Some(at)),
        Now::Left(at) => ("changed", None, Some(at)),
        Now::Unknown => ("unknown", None, None),
    };
    json!({
        "file": name, "since": since.map(|at| at.to_string()), "state": state, "has": ver,
        "until": at.map(ToString::to_string), "hook": hook,
    })
}
