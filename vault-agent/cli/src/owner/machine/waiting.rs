//! Waiting until a machine that was just added is right, by its own signed report.

use std::time::{Duration, Instant};

use anyhow::Result;
use shared::name::Name;
use shared::report::{HookResult, TargetState};

use crate::client::Client;
use crate::context::Global;
use host::shown::Shown;
use machine::findings::findings;
use machine::local::{STATUS, Status, TargetRow};

/// How long it may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What is waited for.
pub struct Expected<'a> {
    /// The machine.
    pub name: &'a Name,
    /// What it is to have.
    pub what: What<'a>,
}

/// What a machine is to have.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// Nothing: it has no file.
    Nothing,
    /// This file.
    File(&'a Kept),
    /// These files, each by the names by which the machine may report it, and whatever else it
    /// reports.
    All(&'a [Vec<String>]),
}

/// A file that is kept right.
pub struct Kept {
    /// As the person calls it.
    pub shown: String,
    /// The names by which the machine reports it.
    pub names: Vec<String>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    /// All is right: what the machine has.
    Right(Shown),
    /// What is missing, and what to do about it.
    Missing(Shown, String),
}

/// Tells whether a machine follows the vault now, as the server says.
///
/// # Errors
/// If no agent answers here.
pub fn is_awake(name: &Name, global: &Global) -> Result<bool> {
    let status: Status = global.client()?.get(STATUS, &[])?;
    Ok(status.machines.iter().any(|it| it.machine == *name && it.awake))
}

/// Looks until the machine is right, or the time is over.
///
/// # Errors
/// If no agent answers here.
pub fn wait(expected: &Expected<'_>, client: &Client) -> Result<Waited> {
    let begun = Instant::now();
    loop {
        let status: Status = client.get(STATUS, &[])?;
        let now = look(expected, &status);
        let is_over = match &now {
            Waited::Right(_) => true,
            Waited::Missing(..) => has_failed(expected, &status) || begun.elapsed() >= PATIENCE,
        };
        if is_over {
            return Ok(now);
        }
        client.pause(PAUSE);
    }
}

/// Tells how it stands.
fn look(expected: &Expected<'_>, status: &Status) -> Waited {
    let Expected { name, what } = expected;
    let missing = |what: String, todo: &str| Waited::Missing(what.into(), todo.to_owned());
    let standing = status.machines.iter().find(|it| it.machine == **name);
    if !standing.is_some_and(|it| it.awake) {
        let todo =
            "look at what its agent says, below; mostly the server is not reached from there";
        return missing(format!("the agent of `{name}` has not reached the server"), todo);
    }
    let rows = rows(expected, status);
    let has_reported = match what {
        What::Nothing => true,
        What::File(_) => !rows.is_empty(),
        // Under the number that came with its keys.
        What::All(files) => {
            let is_there = |names: &Vec<String>| rows.iter().any(|row| names.contains(&row.target));
            standing.is_some_and(|it| it.seen_at.is_some()) && files.iter().all(is_there)
        }
    };
    if !has_reported {
        let todo = "look at what its agent says, below";
        let what = match what {
            What::File(Kept { shown, .. }) => format!(" `{shown}`"),
            What::Nothing | What::All(_) => String::new(),
        };
        return missing(format!("`{name}` has not reported{what} yet"), todo);
    }
    if let Some(open) = rows.iter().find(|row| !is_right(row)) {
        let found = findings(status).into_iter().find(|it| {
            it.machine.as_ref() == Some(*name) && it.target.as_ref() == Some(&open.target)
        });
        let todo = found.map_or_else(|| "`vault status` says how it goes on".into(), |it| it.todo);
        let remark = open.remark().unwrap_or_else(|| match open.wanted {
            0 => format!("there is no secret `{}`", open.secret),
            wanted => format!("it holds v{} instead of v{wanted}", open.applied),
        });
        let shown = match what {
            What::File(Kept { shown, .. }) => shown,
            What::Nothing | What::All(_) => &open.target,
        };
        return missing(format!("`{shown}` on `{name}` is not right: {remark}"), &todo);
    }
    let shown = match what {
        What::File(Kept { shown, .. }) => shown,
        What::Nothing => {
            return Waited::Right("it follows the vault, and has no target".into());
        }
        What::All(files) => {
            let files = match files.len() {
                0 => "has no target".to_owned(),
                1 => "its file is as it should be".to_owned(),
                more => format!("its {more} files are as they should be"),
            };
            return Waited::Right(format!("it follows the vault, and {files}").into());
        }
    };
    let versions = rows.iter().map(|row| format!("v{}", row.applied)).collect::<Vec<_>>();
    let hook = match rows.iter().any(|row| row.hook == HookResult::Ok) {
        true => ", hook ok",
        false => "",
    };
    Waited::Right(format!("{shown} {}{hook}", versions.join(" ")).into())
}

/// Tells whether it will not become right by waiting.
fn has_failed(expected: &Expected<'_>, status: &Status) -> bool {
    rows(expected, status).iter().any(|row| {
        row.applied > 0 && matches!(row.hook, HookResult::Failed | HookResult::RolledBack)
            || matches!(row.state, TargetState::Foreign)
    })
}

fn rows<'a>(expected: &Expected<'_>, status: &'a Status) -> Vec<&'a TargetRow> {
    let is_it = |row: &&TargetRow| {
        row.machine == *expected.name
            && match expected.what {
                What::Nothing => false,
                What::File(Kept { names, .. }) => names.contains(&row.target),
                What::All(_) => true,
            }
    };
    status.targets.iter().filter(is_it).collect()
}

fn is_right(row: &TargetRow) -> bool {
    row.wanted > 0
        && row.applied == row.wanted
        && !row.outdated
        && matches!(row.state, TargetState::Ok | TargetState::Kept)
        && matches!(row.hook, HookResult::None | HookResult::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status in which `vps` follows, and reports one row with these fields.
    fn status(awake: bool, row: Option<(u64, u64, HookResult, TargetState)>) -> Status {
        let rows = row.map(|(wanted, applied, hook, state)| TargetRow {
            machine: "vps".parse().unwrap(),
            target: "~/J-Jeco/.env".to_owned(),
            secret: "secret/a".parse().unwrap(),
            wanted,
            fresh: false,
            applied,
            hook,
            seen_at: None,
            awake,
            outdated: false,
            state,
            since: None,
            detail: String::new(),
        });
        let vault = shared::hash::Hash::ZERO;
        let text = serde_json::json!({
            "machine": "rtx1080", "vault": vault, "seq": 1, "head": vault, "online": true,
            "server": null, "synced_at": null, "alarms": [], "targets": rows.as_slice(),
            "machines": [{
                "machine": "vps", "sleeps": false, "awake": awake, "silent": false,
                "seen_at": row.map(|_| 1), "added": 0, "read": [], "write": [],
            }],
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_machine_is_right_by_its_own_report() {
        let name = "vps".parse().unwrap();
        let file = "/home/jonas/J-Jeco/.env".to_owned();
        let names = vec![file.clone(), "~/J-Jeco/.env".to_owned()];
        let kept = Kept { shown: names[1].clone(), names };
        let expected = Expected { name: &name, what: What::File(&kept) };
        let bare = Expected { name: &name, what: What::Nothing };
        let files = vec![kept.names.clone()];
        let all = Expected { name: &name, what: What::All(&files) };
        let (ok, none) = (TargetState::Ok, HookResult::None);
        for (expected, status, said) in [
            (
                &expected,
                status(true, Some((2, 2, HookResult::Ok, ok))),
                "~/J-Jeco/.env v2, hook ok",
            ),
            (&expected, status(true, Some((2, 2, none, ok))), "~/J-Jeco/.env v2"),
            (&expected, status(true, Some((2, 1, none, ok))), "it holds v1 instead of v2"),
            (&expected, status(true, Some((2, 2, HookResult::Failed, ok))), "hook failed"),
            (&expected, status(true, Some((0, 0, none, TargetState::Ok))), "there is no secret"),
            (&expected, status(true, None), "`vps` has not reported `~/J-Jeco/.env` yet"),
            (&expected, status(false, None), "the agent of `vps` has not reached the server"),
            (&bare, status(true, None), "it follows the vault, and has no target"),
            (&all, status(true, None), "`vps` has not reported yet"),
            (&all, status(true, Some((2, 1, none, ok))), "it holds v1 instead of v2"),
            (&all, status(true, Some((2, 2, none, ok))), "and its file is as it should be"),
        ] {
            let (text, right) = match look(expected, &status) {
                Waited::Right(text) => (text, true),
                Waited::Missing(text, todo) => {
                    assert!(!todo.is_empty());
                    (text, false)
                }
            };
            assert!(text.contains(said), "{text}");
            let is_right = text.starts_with('~') || text.starts_with("it follows");
            assert_eq!(right, is_right, "{text}");
        }
    }
}
