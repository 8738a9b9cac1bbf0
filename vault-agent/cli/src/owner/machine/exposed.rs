//! `vault machine exposed`: a line for each key that a machine could read: whether it did, and
//! whether the key has another value since.

mod reads;

use anyhow::Result;
use serde_json::{Value, json};
use shared::time::Time;

use self::reads::Reads;
use crate::context::Global;
use crate::print::{Format, ranges, table};
use host::hint::Exit;
use host::shown::Shown;
use machine::local::{Borne, EXPOSURE, Exposed, ExposedKey, Exposure, KeyNow, Removed};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine, by a name that it bears or bore, or by its number; it may be removed
    #[arg(value_name = "NAME|NUMBER")]
    machine: String,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let format = global.format()?;
    let client = global.client()?;
    let exposure: Exposure = client.get(EXPOSURE, &[("machine", args.machine.clone())])?;
    let reads = Reads::of(&exposure.names, &client)?;
    let rows = rows(&exposure.secrets);
    let unread = rows.iter().filter(|row| row.is_unread()).count();
    let in_use = rows.iter().filter(|row| row.is_in_use()).count();
    let left = in_use + unread;
    for line in standing(&exposure) {
        global.term.say(line);
    }
    if rows.is_empty() {
        global.term.say(match exposure.begins {
            None => "nothing was ever encrypted to it",
            Some(_) => "nothing that was kept at the checkpoint or came since was encrypted to it",
        });
    }
    if !rows.is_empty() || format != Format::Table {
        let document = document(&exposure, &rows, &reads, left);
        global.show(format, || shown(&rows, &reads), &document)?;
    }
    for note in reads.notes() {
        global.term.say(note);
    }
    if in_use > 0 {
        global.term.say(format!(
            "{} still in use: change each at its issuer, then write the new value here",
            keys(in_use, rows.len())
        ));
    }
    if unread > 0 {
        let secrets = if unread == 1 { "secret" } else { "secrets" };
        global.term.say(format!(
            "{unread} {secrets} could not be judged here: ask on a host that may read all"
        ));
    }
    if exposure.unsearched > 0 && !rows.is_empty() {
        let secrets = if exposure.unsearched == 1 { "secret was" } else { "secrets were" };
        global.term.say(format!(
            "{} {secrets} not looked through for copies: they are not on this host",
            exposure.unsearched
        ));
    }
    if left > 0 {
        return Ok(Exit::REMOTE);
    }
    match (rows.is_empty(), exposure.unsearched) {
        (true, _) => {}
        (false, 0) => global.term.say("none of its keys is in use any more"),
        // Each of its own keys is judged; where else they may lie, nobody here knows.
        (false, _) => global.term.say(
            "none of its keys is in use in what was looked through: whether one was copied to the \
             rest, a host that may read all says",
        ),
    }
    Ok(Exit::OK)
}

fn keys(in_use: usize, all: usize) -> String {
    let keys = if all == 1 { "key" } else { "keys" };
    format!("{in_use} of {all} {keys} {}", if in_use == 1 { "is" } else { "are" })
}

/// Says how the machine stands in the vault.
fn standing(exposure: &Exposure) -> Vec<String> {
    let Exposure { number, names, removed, namesakes, begins, .. } = exposure;
    let name = names.last().map_or("-", |borne| borne.name.as_str());
    let mut lines = vec![match removed {
        None => format!("`{name}` (number {number}) is a machine of this vault"),
        Some(Removed { entry, time, by, reason, .. }) => {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("`{name}` (number {number}) was removed by {by} in entry {entry}, {time}{why}")
        }
    }];
    let before = names.iter().filter(|borne| borne.name.as_str() != name);
    let before: Vec<String> = before.map(|borne| format!("`{}`", borne.name)).collect();
    if !before.is_empty() {
        lines.push(format!("it was called {} before", before.join(", ")));
    }
    if let Some(begins) = begins {
        lines.push(format!(
            "a checkpoint stands for the log up to entry {begins}: of the time before, all that is \
             kept and that it was granted counts as read"
        ));
    }
    for other in namesakes {
        lines.push(format!("another machine bore that name: `vault machine exposed {other}`"));
    }
    lines
}

/// One key, or a secret of which no key is known.
struct Row<'a> {
    secret: &'a Exposed,
    key: Option<&'a ExposedKey>,
}

fn rows(secrets: &[Exposed]) -> Vec<Row<'_>> {
    let rows = secrets.iter().flat_map(|secret| {
        let whole = secret.keys.is_empty().then_some(Row { secret, key: None });
        secret.keys.iter().map(move |key| Row { secret, key: Some(key) }).chain(whole)
    });
    rows.collect()
}

impl Row<'_> {
    /// Tells whether somebody has to change it.
    fn is_in_use(&self) -> bool {
        self.key.is_some_and(|key| key.now == KeyNow::InUse || !key.copies.is_empty())
    }

    /// Says where else its values lie today.
    fn elsewhere(&self) -> String {
        let Some((first, rest)) = self.key.and_then(|key| key.copies.split_first()) else {
            return String::new();
        };
        let more = if rest.is_empty() { String::new() } else { format!(" +{}", rest.len()) };
        format!("{} {}{more}", first.path, first.key)
    }

    /// Tells whether nobody here knows.
    const fn is_unread(&self) -> bool {
        self.secret.unread.is_some()
    }

    fn versions(&self) -> &[u64] {
        self.key.map_or(&self.secret.versions, |key| &key.versions)
    }

    /// Says what has become of it, as a word for programs and in words for people, and since when.
    fn now(&self) -> (&'static str, String, Option<(u64, Time)>) {
        let since = |ver: u64, time: Time| Some((ver, time));
        let place = self.elsewhere();
        match self.key.map(|key| key.now) {
            Some(KeyNow::InUse) if place.is_empty() => ("in_use", "still in use".to_owned(), None),
            Some(KeyNow::InUse) => ("in_use", format!("still in use, and in {place}"), None),
            Some(_) if !place.is_empty() => ("copied", format!("still in use in {place}"), None),
            Some(KeyNow::Changed { ver, time }) => {
                ("changed", format!("changed in v{ver}"), since(ver, time))
            }
            Some(KeyNow::Gone { ver, time }) => {
                ("gone", format!("gone since v{ver}"), since(ver, time))
            }
            None if self.secret.unread.is_some() => ("unknown", "not known".to_owned(), None),
            None if self.secret.empty => ("empty", "no keys".to_owned(), None),
            Some(KeyNow::Deleted) | None => ("deleted", "deleted".to_owned(), None),
        }
    }
}

fn shown(rows: &[Row<'_>], reads: &Reads) -> Shown {
    let cells = |row: &Row<'_>| {
        vec![
            row.secret.path.to_string(),
            row.key.map_or_else(|| "-".to_owned(), |key| key.key.clone()),
            row.now().1,
            ranges(row.versions()),
            row.secret.issuer.clone().unwrap_or_else(|| "-".to_owned()),
            reads.shown(&row.secret.path, row.versions()),
        ]
    };
    let header = ["SECRET", "KEY", "VALUE", "COULD READ", "ISSUER", "DID READ"];
    let mut table = table::plain(&header, &rows.iter().map(cells).collect::<Vec<_>>());
    for secret in rows.iter().filter(|row| row.key.is_none()).map(|row| row.secret) {
        if let Some(why) = &secret.unread {
            table.push(Shown::own("\n"));
            table.push(format!("{}: {why}", secret.path));
        }
    }
    table
}

/// Returns what scripts read.
fn document(exposure: &Exposure, rows: &[Row<'_>], reads: &Reads, left: usize) -> Value {
    let Exposure { number, names, removed, namesakes, unsearched, begins, .. } = exposure;
    let name = |borne: &Borne| {
        json!({
            "name": borne.name, "since": borne.since.to_string(),
            "until": borne.until.map(|at| at.to_string()),
        })
    };
    let removed = removed.as_ref().map(|removed| {
        json!({
            "entry": removed.entry, "time": removed.time.to_string(), "by": removed.by,
            "reason": removed.reason,
        })
    });
    let keys = rows.iter().map(|row| {
        let (state, _, since) = row.now();
        let read = reads.last(&row.secret.path, row.versions());
        json!({
            "secret": row.secret.path, "key": row.key.map(|key| &key.key), "state": state,
            "since_version": since.map(|(ver, _)| ver),
            "since_time": since.map(|(_, time)| time.to_string()),
            "versions": row.versions(), "issuer": row.secret.issuer, "why": row.secret.unread,
            "read_version": read.and_then(|(ver, _)| ver),
            "read_time": read.map(|(_, time)| time.to_string()),
            "copies": row.key.map(|key| &key.copies[..]).unwrap_or_default(),
        })
    });
    json!({
        "machine": names.last().map(|borne| &borne.name), "number": number,
        "names": names.iter().map(name).collect::<Vec<_>>(), "removed": removed,
        "namesakes": namesakes, "keys": keys.collect::<Vec<_>>(), "left": left,
        "unsearched": unsearched, "begins": begins,
        "reads_unknown": reads.unknown,
        "reads_known_since": reads.known_since().map(|at| at.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::reads::{SLACK, second};
    use super::*;
    use crate::testing::{World, now};
    use machine::local::Copied;

    fn key(key: &str, versions: &[u64], now: KeyNow) -> ExposedKey {
        ExposedKey { key: key.to_owned(), versions: versions.to_vec(), now, copies: Vec::new() }
    }

    fn secret(path: &str, versions: &[u64], keys: Vec<ExposedKey>) -> Exposed {
        let (path, versions) = (path.parse().unwrap(), versions.to_vec());
        Exposed { path, versions, issuer: None, unread: None, keys, empty: false }
    }

    /// A machine that was removed, and three secrets of which it could read something.
    fn exposure(left: bool) -> Exposure {
        let (ver, time) = (3, now());
        let mut keys = vec![key("A", &[1, 2], KeyNow::Changed { ver, time })];
        let mut app = secret("secret/app", &[1, 2], Vec::new());
        let mut secrets = Vec::new();
        if left {
            keys.push(key("B", &[2], KeyNow::InUse));
            let copy =
                |key: &str| Copied { path: "secret/copy".parse().unwrap(), key: key.to_owned() };
            let copies = vec![copy("D"), copy("E")];
            keys.push(ExposedKey { copies, ..key("D", &[1], KeyNow::Changed { ver, time }) });
            let unread = Some("this machine may not read it".to_owned());
            secrets.push(Exposed { unread, ..secret("secret/other", &[7], Vec::new()) });
        }
        keys.push(key("C", &[1], KeyNow::Gone { ver, time }));
        (app.keys, app.issuer) = (keys, Some("openai".to_owned()));
        secrets.extend([app, secret("secret/old", &[1], Vec::new())]);
        let borne = |name: &str, since, until| Borne { name: name.parse().unwrap(), since, until };
        let (reason, by) = ("stolen".to_owned(), "admin:jonas".parse().unwrap());
        Exposure {
            number: 2,
            names: vec![
                borne("vps", Time::from_micros(1), Some(Time::from_micros(2))),
                borne("web", Time::from_micros(2), Some(now())),
            ],
            removed: Some(Removed { number: 2, entry: 9, time: now(), by, reason, goes_on: None }),
            namesakes: vec![4],
            secrets,
            unsearched: u64::from(left),
            begins: None,
        }
    }

    fn asked(left: bool, audit: (u16, &str)) -> World {
        asked_of(&exposure(left), audit)
    }

    fn asked_of(exposure: &Exposure, audit: (u16, &str)) -> World {
        let exposure = serde_json::to_string(exposure).unwrap();
        let query = |name: &str, since: u64, until: u64| {
            format!(
                "GET /v1/agent/audit?limit=10000&since={since}&until={until}&machine={name}&op=read"
            )
        };
        let [vps, web] = [query("vps", 0, 2 + SLACK), query("web", 0, now().as_micros() + SLACK)];
        World::agent(&[
            ("GET /v1/agent/exposure?machine=web", 200, &exposure),
            (&vps, audit.0, audit.1),
            (&web, audit.0, audit.1),
            ("GET /v1/agent/audit?limit=1", 200, &begins(Time::from_micros(1))),
        ])
    }

    /// The first record that the server has.
    fn begins(time: Time) -> String {
        let (hash, time) = ("00".repeat(32), time.as_micros());
        let record =
            json!({ "n": 1, "nonce": hash, "time": time, "op": "genesis", "result": "ok" });
        let head = json!({ "n": 9, "hash": hash });
        json!({ "records": [record.to_string()], "more": true, "head": head }).to_string()
    }

    fn records() -> String {
        let nonce = "00".repeat(32);
        let record = |n: u64, ver: u64, result: &str| {
            format!(
                concat!(
                    r#"{{"n":{},"nonce":"{}","time":{},"machine":"web","op":"read","#,
                    r#""path":"secret/app","ver":{},"result":"{}"}}"#,
                ),
                n,
                nonce,
                now().as_micros() - n,
                ver,
                result,
            )
        };
        let records = [record(1, 2, "ok"), record(2, 1, "ok"), record(3, 1, "denied")];
        let head = format!(r#"{{"n":3,"hash":"{nonce}"}}"#);
        let records = serde_json::to_string(&records).unwrap();
        format!(r#"{{"records":{records},"more":false,"head":{head}}}"#)
    }

    #[test]
    fn each_key_has_a_line_until_none_is_left() {
        let records = records();
        insta::assert_snapshot!(asked(true, (200, &records)).run("machine exposed web").shown());
        let done = asked(false, (200, &records)).run("machine exposed web");
        assert_eq!(done.exit, 0, "{}", done.shown());
        assert!(done.err.ends_with("none of its keys is in use any more\n"), "{}", done.err);
        let json = asked(true, (200, &records)).run("machine exposed web -format=json");
        insta::assert_snapshot!(json.out);
    }

    #[test]
    fn what_was_not_looked_through_is_not_said_to_hold_none_of_its_keys() {
        let some = Exposure { unsearched: 3, ..exposure(false) };
        let run = asked_of(&some, (200, &records())).run("machine exposed web");
        assert_eq!(run.exit, 0, "{}", run.shown());
        let told = "3 secrets were not looked through for copies: they are not on this host\n\
                    none of its keys is in use in what was looked through: whether one was copied \
                    to the rest, a host that may read all says\n";
        assert!(run.err.ends_with(told), "{}", run.err);
        assert!(!run.err.contains("any more"), "{}", run.err);
    }

    #[test]
    fn without_the_audit_log_nobody_says_that_it_was_not_read() {
        let refused = r#"{"errors":["this machine has no read grant on `sys/audit`\nhint: x"]}"#;
        let run = asked(true, (403, refused)).run("machine exposed web");
        assert_eq!(run.exit, 2);
        assert!(run.out.contains("not known") && !run.out.contains("  no\n"), "{}", run.out);
        let note = "what it did read is not known: this machine has no read grant on `sys/audit`\n";
        assert!(run.err.contains(note), "{}", run.err);
    }

    #[test]
    fn of_the_time_before_the_audit_log_begins_nobody_says_that_it_was_not_read() {
        let empty =
            json!({ "records": [], "more": false, "head": { "n": 9, "hash": "00".repeat(32) } });
        let (empty, until) = (empty.to_string(), now().as_micros() + SLACK);
        let ran = |came: Time, more: &str| {
            let borne = Borne { name: "web".parse().unwrap(), since: came, until: Some(now()) };
            let exposure = Exposure { names: vec![borne], ..exposure(true) };
            let since = came.as_micros().saturating_sub(SLACK);
            let reads = format!(
                "GET /v1/agent/audit?limit=10000&since={since}&until={until}&machine=web&op=read"
            );
            let world = World::agent(&[
                ("GET /v1/agent/exposure?machine=web", 200, &json!(exposure).to_string()),
                (&reads, 200, &empty),
                ("GET /v1/agent/audit?limit=1", 200, &begins(now())),
            ]);
            world.run(&format!("machine exposed web{more}"))
        };
        let told = ran(Time::from_micros(1), "");
        let cell = format!("not known before {}", second(now()));
        assert!(told.out.contains(&cell) && !told.out.contains("  no\n"), "{}", told.shown());
        let note = format!("before {} is not known: the server's audit log begins then", now());
        assert!(told.err.contains(&note), "{}", told.err);
        let document = ran(Time::from_micros(1), " -format=json").out;
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["reads_known_since"], now().to_string());
        // Clocks may differ by as much.
        let told = ran(Time::from_micros(now().as_micros() - SLACK), "");
        assert!(
            told.out.contains("  no\n") && !told.out.contains("not known before"),
            "{}",
            told.out
        );
    }

    #[test]
    fn a_secret_without_keys_is_not_called_deleted() {
        let there = Exposed { empty: true, ..secret("secret/void", &[1], Vec::new()) };
        let gone = Exposed { empty: false, ..there.clone() };
        assert_eq!(rows(&[there])[0].now(), ("empty", "no keys".to_owned(), None));
        assert_eq!(rows(&[gone])[0].now().0, "deleted");
    }
}
