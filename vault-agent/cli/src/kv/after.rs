//! What a write has done, for people at a terminal: which keys it changed, and whose files have it
//! now. Asks for names only; what is not told is no reason to fail.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use shared::name::Name;
use shared::path::SecretPath;

use super::route::Route;
use super::secret::Secret;
use crate::client::Client;
use crate::context::Global;
use crate::print::Format;
use machine::local::{STATUS, Status, TargetRow};

/// How long the hosts that are awake are waited for, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);
/// Names that are listed.
const LISTED: usize = 8;

/// The keys of a secret.
pub type Keys = BTreeSet<String>;

/// Returns the keys that a secret has; `None` where nobody tells.
pub fn keys(client: &Client, route: &Route) -> Option<Keys> {
    let answer = client.ask(&route.api("subkeys"), &[("depth", "1".to_owned())]);
    let secret = Secret::of_read(answer.ok()?).ok()?;
    Some(secret?.part("subkeys")?.keys().cloned().collect())
}

/// Returns the version that the answer to a write tells.
pub fn version(answer: Option<&Secret>) -> Option<u64> {
    answer?.data.as_ref()?.get("version")?.as_u64()
}

/// A write that went in.
pub struct Written<'a> {
    pub route: &'a Route,
    /// The keys before it, where they are known.
    pub before: Option<&'a Keys>,
    /// What was written; null takes a key away.
    pub change: &'a Map<String, Value>,
    /// Whether that is all that the secret has now.
    pub whole: bool,
}

impl Written<'_> {
    /// Says what was done, where a person looks; `ver` is the new version, if that was told.
    pub fn say(&self, global: &Global, client: &Client, ver: Option<u64>) {
        if !global.term.err_is_tty || !matches!(global.format(), Ok(Format::Table)) {
            return;
        }
        let Self { route, before, change, whole } = self;
        let mut told = changed(*before, change, *whole);
        let path = route.logical().parse::<SecretPath>().ok();
        if let (true, Some(ver), Some(path)) = (client.is_here(), ver, path) {
            told.extend(places(client, &path, ver));
        }
        if !told.is_empty() {
            global.term.say(told.join("; "));
        }
    }
}

/// Tells what became of which keys.
fn changed(before: Option<&Keys>, change: &Map<String, Value>, whole: bool) -> Vec<String> {
    let is_there = |key: &&String| before.is_none_or(|before| before.contains(*key));
    let (set, null): (Vec<_>, Vec<_>) =
        change.iter().partition(|(_, value)| whole || !value.is_null());
    let (old, new): (Vec<&String>, Vec<&String>) =
        set.into_iter().map(|(key, _)| key).partition(is_there);
    let mut gone: Vec<&String> = null.into_iter().map(|(key, _)| key).filter(is_there).collect();
    if let (true, Some(before)) = (whole, before) {
        gone.extend(before.iter().filter(|key| !change.contains_key(*key)));
    }
    let verb = if whole { "wrote" } else { "changed" };
    let parts = [(verb, old), ("new", new), ("removed", gone)];
    let told = parts.into_iter().filter(|(_, keys)| !keys.is_empty());
    told.map(|(verb, keys)| format!("{verb} {}", listed(&keys))).collect()
}

fn listed(names: &[&String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(|name| name.as_str()).collect();
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

/// Tells whose files hold a version, after a while in which those that are awake take it.
fn places(client: &Client, path: &SecretPath, ver: u64) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let Ok(status) = client.get::<Status>(STATUS, &[]) else { return Vec::new() };
        let sleeps =
            |name: &Name| status.machines.iter().any(|it| it.machine == *name && it.sleeps);
        let places = Places::of(&status.targets, sleeps, path, ver);
        if places.late.is_empty() || Instant::now() >= until {
            return places.told(path);
        }
        client.pause(PAUSE);
    }
}

/// Hosts that have a secret in a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    done: BTreeSet<String>,
    late: BTreeSet<String>,
    /// Those that sleep at times and do so now.
    asleep: BTreeSet<String>,
}

impl Places {
    fn of(rows: &[TargetRow], sleeps: impl Fn(&Name) -> bool, path: &SecretPath, ver: u64) -> Self {
        let mut all = Self::default();
        for row in rows.iter().filter(|row| row.secret == *path) {
            let TargetRow { machine, applied, awake, outdated, .. } = row;
            let place = match *applied >= ver && !outdated && row.is_right() {
                true => &mut all.done,
                false if !awake && sleeps(machine) => &mut all.asleep,
                false => &mut all.late,
            };
            place.insert(machine.to_string());
        }
        // A host is done when all of its files are.
        all.done.retain(|host| !all.late.contains(host) && !all.asleep.contains(host));
        all
    }

    fn told(&self, path: &SecretPath) -> Vec<String> {
        let names = |hosts: &BTreeSet<String>| listed(&hosts.iter().collect::<Vec<_>>());
        let mut told = Vec::new();
        if !self.done.is_empty() {
            told.push(format!("in the files of {}", names(&self.done)));
        }
        if !self.late.is_empty() {
            let late = names(&self.late);
            told.push(format!("not yet in those of {late} (`vault status --wait {path}` waits)"));
        }
        if !self.asleep.is_empty() {
            let sleep = if self.asleep.len() == 1 { "sleeps" } else { "sleep" };
            told.push(format!("{} {sleep}", names(&self.asleep)));
        }
        if told.is_empty() {
            told.push("in the file of no host".to_owned());
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::report::{HookResult, TargetState};

    use super::*;

    #[test]
    fn keys_are_told_by_what_became_of_them() {
        let check = |before: Option<&[&str]>, change: Value, whole: bool, expected: &str| {
            let before: Option<Keys> =
                before.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
            let change = change.as_object().unwrap();
            assert_eq!(changed(before.as_ref(), change, whole).join("; "), expected);
        };
        check(Some(&["A", "B"]), json!({ "A": "x" }), false, "changed A");
        check(Some(&["A"]), json!({ "A": null, "B": "x" }), false, "new B; removed A");
        check(Some(&["A", "B"]), json!({ "A": "x", "C": null }), true, "wrote A; new C; removed B");
        check(Some(&[]), json!({ "A": "x" }), true, "new A");
        check(None, json!({ "A": "x", "B": "y" }), true, "wrote A, B");
        let many: Map<String, Value> = (0..10).map(|n| (format!("K{n}"), json!("x"))).collect();
        check(None, many.into(), false, "changed K0, K1, K2, K3, K4, K5, K6, K7 and 2 more");
    }

    #[test]
    fn hosts_are_told_by_how_their_files_stand() {
        let row = |machine: &str, applied: u64, awake: bool| TargetRow {
            machine: machine.parse().unwrap(),
            target: "/srv/.env".to_owned(),
            secret: "secret/a".parse().unwrap(),
            wanted: 2,
            fresh: true,
            applied,
            hook: HookResult::None,
            seen_at: None,
            awake,
            outdated: false,
            state: TargetState::Ok,
            since: None,
            detail: String::new(),
        };
        let path = "secret/a".parse().unwrap();
        let told = |rows: &[TargetRow]| {
            let sleeps = |name: &Name| name.as_str() != "vps";
            Places::of(rows, sleeps, &path, 2).told(&path).join("; ")
        };
        assert_eq!(told(&[]), "in the file of no host");
        assert_eq!(
            told(&[row("vps", 2, true), row("rtx1080", 2, true), row("thinkpad", 1, false)]),
            "in the files of rtx1080, vps; thinkpad sleeps"
        );
        let two = [row("vps", 2, true), row("vps", 1, false)];
        assert_eq!(told(&two), "not yet in those of vps (`vault status --wait secret/a` waits)");
        assert_eq!(
            told(&[row("vps", 1, true), row("nas", 1, false), row("pad", 1, false)]),
            "not yet in those of vps (`vault status --wait secret/a` waits); nas, pad sleep"
        );
    }
}
