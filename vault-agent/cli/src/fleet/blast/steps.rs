//! What to do after a leak, a line each: change the value at its issuer and here, then restart
//! those who may hold it in memory. Pure.

use host::shown::quoted;
use shared::report::HookResult;

use super::reached::{File, Host, How, Now, Reader};
use machine::local::{Blast, ExposedKey, KeyNow};
use machine::who::Place;

/// One thing to do.
pub(super) struct Step {
    /// A word for programs: `rotate`, `restart`, `wait` or `look`.
    pub(super) kind: &'static str,
    /// Where; nothing for what is done on this host.
    pub(super) machine: Option<String>,
    /// What, for people.
    pub(super) what: String,
    /// What to type there, if one line does it.
    pub(super) command: Option<String>,
}

/// Programs that show a value to somebody and are gone then.
const PASSING: [&str; 2] = ["vault ", "vault-agent "];

/// Returns what is to be done, in this order.
pub(super) fn steps(blast: &Blast, hosts: &[Host]) -> Vec<Step> {
    let mut steps = rotate(blast);
    for host in hosts {
        let name = || Some(host.name.clone());
        let look = match (&host.removed, host.how) {
            (Some(_), _) => Some("it was removed and may still have it: only the new value helps"),
            (None, How::Tells) => Some("it tells of the value, which never was encrypted to it"),
            (None, _) => None,
        };
        if let Some(what) = look {
            let what = what.to_owned();
            steps.push(Step { kind: "look", machine: name(), what, command: None });
            steps.extend(host.left_behind().map(|file| {
                let what = format!("its file {} may still hold it", file.name);
                Step { kind: "look", machine: name(), what, command: None }
            }));
            continue;
        }
        for reader in host.readers.iter().filter(|reader| reader.newer.is_none()) {
            steps.extend(restart(host, reader));
        }
        for file in &host.files {
            steps.extend(of_file(host, file));
        }
    }
    steps
}

/// Returns how each key gets another value.
fn rotate(blast: &Blast) -> Vec<Step> {
    let Blast { path, keys, is_file, issuer, .. } = blast;
    let at =
        issuer.as_ref().map_or_else(|| "its issuer".to_owned(), |issuer| format!("`{issuer}`"));
    let step = |what: String, command: String| {
        let (kind, machine) = ("rotate", None);
        Step { kind, machine, what, command: Some(command) }
    };
    let mut steps = Vec::new();
    for key in keys.iter().filter(|key| is_in_use(key)) {
        let ExposedKey { key, now, copies, .. } = key;
        let what = if *is_file { path.to_string() } else { format!("{key} of {path}") };
        if *now == KeyNow::InUse {
            steps.push(step(format!("change {what} at {at}, then"), command(path.as_str(), key)));
        }
        for copy in copies {
            let what =
                format!("the same value is {} of {}: change it there too", copy.key, copy.path);
            steps.push(step(what, command(copy.path.as_str(), &copy.key)));
        }
    }
    steps
}

/// Returns the line that asks for a new value, and shows none.
fn command(path: &str, key: &str) -> String {
    let path = quoted(path);
    if key.is_empty() || key.starts_with(['-', '@']) || key.contains('=') {
        return format!("vault kv edit {path}");
    }
    format!("vault kv patch {path} {}", quoted(key))
}

/// Returns how a process that read the value forgets it.
fn restart(host: &Host, Reader { who, place, .. }: &Reader) -> Option<Step> {
    let (what, command) = match place {
        Some(Place::Unit(unit)) => {
            (format!("restart {unit}"), Some(format!("systemctl restart {}", quoted(unit))))
        }
        Some(Place::Container(id)) => (format!("restart container {id}"), None),
        None if PASSING.iter().any(|program| who.starts_with(program)) => return None,
        None => (format!("restart {who}, if it still runs"), None),
    };
    Some(Step { kind: "restart", machine: Some(host.name.clone()), what, command })
}

/// Returns what follows for those who read the file.
fn of_file(host: &Host, File { name, now, hook, .. }: &File) -> Option<Step> {
    let (kind, what) = match (now, hook) {
        (Now::Holds(_), _) if host.quiet.is_some() => {
            ("wait", format!("{name} gets the new value when the host is back"))
        }
        (Now::Holds(_), HookResult::None) => {
            ("restart", format!("{name} has no hook: restart what reads it once it has changed"))
        }
        (Now::Holds(_), _) => ("wait", format!("{name} and its hook follow by themselves")),
        (Now::Unknown, _) => {
            ("look", format!("{name} is not among its targets now: look whether it is still there"))
        }
        (Now::Changed(_), HookResult::None) => {
            ("restart", format!("{name} has changed and has no hook: restart what reads it"))
        }
        (Now::Changed(_), HookResult::Pending) => {
            ("wait", format!("{name} has changed, and its hook has not ended"))
        }
        (Now::Changed(_), hook) if hook.is_trouble() => {
            ("look", format!("{name} has changed, but its hook has failed"))
        }
        (Now::Changed(_) | Now::Gone(_) | Now::Left(_), _) => return None,
    };
    Some(Step { kind, machine: Some(host.name.clone()), what, command: None })
}

/// Tells whether somebody has to change the value.
pub(super) fn is_in_use(key: &ExposedKey) -> bool {
    key.now == KeyNow::InUse || !key.copies.is_empty()
}
