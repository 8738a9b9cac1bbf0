//! A secret's versions on the screen and for scripts.

use serde_json::{Value, json};
use shared::audit::HookRun;
use shared::time::Time;

use super::rows::{File, Known, Row, Stands, sum};
use crate::fleet::audit::when::seconds;
use crate::fleet::audit::words::hook_told;
use crate::fleet::told::Applied;
use crate::kv::history::History;
use crate::print::table;
use host::shown::Shown;
use machine::local::KeysChanged;

/// Names of keys that a cell has room for.
const NAMED: usize = 3;

/// A line for each version.
pub(super) fn table(history: &History, rows: &[Row<'_>], is_known: bool) -> Shown {
    let by = rows.iter().any(|row| row.version.by.is_some());
    let mut header = vec!["VERSION", "CREATED", "STATE"];
    header.extend(by.then_some("BY"));
    header.extend(is_known.then_some(["CHANGED", "APPLIED", "READS"]).into_iter().flatten());
    let rows = rows.iter().map(|row| {
        let version = row.version;
        let state = history.state(version).to_owned();
        let mut cells = vec![version.n.to_string(), version.created.clone(), state];
        cells.extend(by.then(|| version.by.clone().unwrap_or_default()));
        cells.extend(
            is_known.then(|| [changed(row), applied(row), reads(row)]).into_iter().flatten(),
        );
        cells
    });
    let rows: Vec<_> = rows.collect();
    let text = table::plain(&header, &rows);
    Shown::lines(text.lines().map(str::trim_end))
}

/// Names keys: `+` new, `~` changed, `-` gone.
fn changed(row: &Row<'_>) -> String {
    let Some(KeysChanged { added, changed, removed, .. }) = row.changed() else {
        return "?".to_owned();
    };
    let signed = |sign: &'static str, names: &[String]| {
        names.iter().map(|name| format!("{sign}{name}")).collect::<Vec<_>>()
    };
    let all = [signed("+", added), signed("~", changed), signed("-", removed)].concat();
    if all.is_empty() {
        return "nothing".to_owned();
    }
    let more = all.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", all[..all.len().min(NAMED)].join(" "))
}

/// Counts hosts that the version was encrypted to: `2 of 3 hosts`, and hooks that failed.
fn applied(row: &Row<'_>) -> String {
    let files: Vec<&File> = row.files.iter().filter(|file| !file.only_tells).collect();
    let hosts = |is: &dyn Fn(&File) -> bool| {
        let mut names: Vec<&str> =
            files.iter().filter(|file| is(file)).map(|file| file.machine.as_str()).collect();
        names.dedup();
        names.len()
    };
    let all = hosts(&|_| true);
    let lack = hosts(&|file| matches!(file.stands, Stands::Lacks(..)));
    let failed = files.iter().filter(|file| file.hook().is_some_and(|it| it.failed.is_some()));
    let failed = failed.count();
    let noun = if all == 1 { "host" } else { "hosts" };
    let has = match (all, lack) {
        (0, _) => "-".to_owned(),
        (all, 0) => format!("{all} {noun}"),
        (all, lack) => format!("{} of {all} {noun}", all.saturating_sub(lack)),
    };
    if failed > 0 { format!("{has}, {failed} hook failed") } else { has }
}

/// Counts reads by processes: `12 by python3 jonas in ghost.service on vps +2`.
fn reads(row: &Row<'_>) -> String {
    let readers: Vec<_> = row.readers.iter().filter(|reader| !reader.only_tells).collect();
    let count = sum(readers.iter().map(|reader| reader.reads.count));
    let Some(most) = readers.iter().max_by_key(|reader| reader.reads.count) else {
        return "-".to_owned();
    };
    let others = readers.len() - 1;
    let more = if others > 0 { format!(" +{others}") } else { String::new() };
    format!("{count} by {} on {}{more}", most.who, most.machine)
}

/// A line for each host and file of each version.
pub(super) fn hosts(rows: &[Row<'_>]) -> Shown {
    let cells = rows.iter().flat_map(|row| {
        let version = row.version.n.to_string();
        row.files.iter().map(move |file| [vec![version.clone()], cells(file)].concat())
    });
    let cells: Vec<_> = cells.collect();
    if cells.is_empty() {
        return Shown::text("no host tells of a file that got one of these versions");
    }
    table::plain(&["VERSION", "HOST", "FILE", "SINCE", "HOOK"], &cells)
}

fn cells(file: &File) -> Vec<String> {
    let (since, hook) = match &file.stands {
        Stands::Got(Applied { at, hook, .. }) => {
            (seconds(*at), hook.as_ref().map_or("-".to_owned(), ended))
        }
        Stands::Has => ("it has it".to_owned(), "-".to_owned()),
        Stands::Lacks(0, why) => ("not yet".to_owned(), why.clone().unwrap_or("-".to_owned())),
        Stands::Lacks(ver, why) => {
            (format!("not yet: has v{ver}"), why.clone().unwrap_or("-".to_owned()))
        }
    };
    vec![host(&file.machine, file.only_tells), file.file.clone(), since, hook]
}

/// Names a host, and says if the signed log contradicts it.
fn host(machine: &str, only_tells: bool) -> String {
    if only_tells { format!("{machine}, only tells so") } else { machine.to_owned() }
}

/// Says when and how a hook ended.
fn ended(hook: &HookRun) -> String {
    let told = hook_told(hook);
    let told = told.strip_prefix("hook ").unwrap_or(&told);
    match hook.took() {
        Some(_) => format!("{told}, {}", seconds(hook.ended)),
        None => told.to_owned(),
    }
}

/// All that is known of one version.
pub(super) fn whole(history: &History, row: &Row<'_>) -> Shown {
    let version = row.version;
    let by = match (&version.by, &row.process) {
        (Some(by), Some(process)) => format!(" by {by}: {process}"),
        (Some(by), None) => format!(" by {by}"),
        (None, _) => String::new(),
    };
    let state = history.state(version);
    let state = if state.is_empty() { String::new() } else { format!(", {state}") };
    let changed = match (row.changed(), row.past.and_then(|past| past.unread.as_ref())) {
        (Some(keys), _) => {
            let since = keys.since.map(|ver| format!(", since v{ver}")).unwrap_or_default();
            let named = names(keys);
            format!("{}{since}", if named.is_empty() { "nothing".to_owned() } else { named })
        }
        (None, Some(why)) => format!("not known: {why}"),
        (None, None) => "not known".to_owned(),
    };
    let facts = [
        ("version", format!("{}{state}", version.n)),
        ("created", format!("{}{by}", version.created)),
        ("changed", changed),
        ("copies", format!("{} came to machines", row.copies)),
    ];
    let facts = facts.map(|(name, text)| vec![name.to_owned(), text]);
    let mut shown = table::columns(&facts, "  ");
    let files: Vec<_> = row.files.iter().map(cells).collect();
    if !files.is_empty() {
        shown.push(Shown::own("\n\n"));
        shown.push(table::plain(&["HOST", "FILE", "SINCE", "HOOK"], &files));
    }
    let readers = row.readers.iter().map(|reader| {
        let (count, last) = (reader.reads.count.to_string(), seconds(reader.reads.last));
        vec![host(&reader.machine, reader.only_tells), reader.who.clone(), count, last]
    });
    let readers: Vec<_> = readers.collect();
    if !readers.is_empty() {
        shown.push(Shown::own("\n\n"));
        shown.push(table::plain(&["HOST", "READ BY", "READS", "LAST"], &readers));
    }
    shown
}

fn names(KeysChanged { added, changed, removed, .. }: &KeysChanged) -> String {
    let parts = [("added", added), ("changed", changed), ("removed", removed)];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(did, names)| format!("{did} {}", names.join(", "))).collect::<Vec<_>>().join("; ")
}

/// Returns a version for scripts; what is not known is left out.
pub(super) fn document(history: &History, row: &Row<'_>, known: Option<&Known>) -> Value {
    let mut document = history.document(row.version);
    let Some(known) = known else { return document };
    let told = &known.told;
    document["process"] = json!(row.process);
    document["keys"] = json!(row.changed());
    document["keys_unknown"] = json!(row.past.and_then(|past| past.unread.as_ref()));
    document["hosts"] = row.files.iter().map(file).collect();
    if told.unknown.is_none() {
        let readers = row.readers.iter().map(|reader| {
            json!({
                "machine": reader.machine, "only_tells": reader.only_tells, "who": reader.who,
                "count": reader.reads.count,
                "first": reader.reads.first.to_string(), "last": reader.reads.last.to_string(),
            })
        });
        document["readers"] = readers.collect();
        document["copies"] = json!(row.copies);
    }
    document["reads_unknown"] = json!(told.unknown);
    document["reads_known_since"] = json!(told.known_since().map(|at| at.to_string()));
    document
}

fn file(file: &File) -> Value {
    let (state, at, has, why) = match &file.stands {
        Stands::Got(applied) => ("applied", Some(applied.at), None, None),
        Stands::Has => ("applied", None, None, None),
        Stands::Lacks(ver, why) => ("waits", None, Some(*ver), why.as_ref()),
    };
    json!({
        "machine": file.machine, "only_tells": file.only_tells, "file": file.file, "state": state,
        "at": at.map(|at| at.to_string()), "has": has, "why": why,
        "hook": file.hook().map(hook),
    })
}

/// Returns a run of a hook for scripts.
pub fn hook(HookRun { began, ended, failed }: &HookRun) -> Value {
    let [began, ended] = [began, ended].map(Time::to_string);
    json!({ "began": began, "ended": ended, "failed": failed })
}

impl File {
    fn hook(&self) -> Option<&HookRun> {
        match &self.stands {
            Stands::Got(applied) => applied.hook.as_ref(),
            Stands::Has | Stands::Lacks(..) => None,
        }
    }
}
