//! `vault status --wait PATH[@VERSION]`: returns once the machines that do not sleep and have the
//! secret in a target hold it, and their hooks have ended.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Result;
use shared::duration;
use shared::path::SecretPath;
use shared::report::{HookResult, TargetState};

use super::fetch::fetch;
use crate::client::Client;
use crate::context::Global;
use host::hint::{Exit, Failure};
use machine::local::{Status, TargetRow};

const PATIENCE: Duration = Duration::from_secs(60);
/// The first pause between two looks; each further one is longer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    path: SecretPath,
    /// The version; `None` for the newest one.
    version: Option<u64>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = |text: &str| text.strip_prefix('v').unwrap_or(text).parse().ok();
        let named = text.rsplit_once('@').and_then(|(path, ver)| Some((path, version(ver)?)));
        let (path, version) = named.map_or((text, None), |(path, ver)| (path, Some(ver)));
        let path = path.parse().map_err(|why: shared::error::Error| why.to_string())?;
        Ok(Self { path, version })
    }
}

/// Reads how long to wait.
pub(super) fn patience(text: &str) -> Result<Duration, String> {
    let micros = duration::parse_or_seconds(text).and_then(|micros| u64::try_from(micros).ok());
    micros.map(Duration::from_micros).ok_or_else(|| "expected a duration such as 60s".to_owned())
}

/// How far the machines are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Where it is, with its hook run.
    done: Vec<String>,
    /// Where it is not yet, and how it stands there.
    open: Vec<String>,
    /// Where its hook has failed.
    failed: Vec<String>,
    /// Machines that sleep, which nobody waits for.
    asleep: Vec<String>,
}

pub(super) fn run(
    global: &Global,
    client: &Client,
    wanted: &Wanted,
    patience: Option<Duration>,
) -> Result<Exit> {
    let (begun, patience) = (Instant::now(), patience.unwrap_or(PATIENCE));
    let mut pause = FIRST_PAUSE;
    let mut status = fetch(client)?;
    let path = &wanted.path;
    let newest = rows(&status, path).map(|row| row.wanted).max();
    let Some(newest) = newest else {
        let text = format!("no machine has `{path}` in a target");
        return Err(Failure::remote(text)
            .hint("`vault status` lists the targets; `vault-agent target add FILE SECRET` adds one")
            .into());
    };
    // Without the server nobody knows which version is the newest.
    let mut goal = wanted.version;
    loop {
        if goal.is_none() && status.online {
            goal = rows(&status, path).map(|row| row.wanted).max();
        }
        let version = goal.unwrap_or(newest);
        let Progress { done, open, failed, asleep } = progress(&status, path, version);
        let say_asleep = || {
            for line in &asleep {
                global.term.say(format!("not waited for, as it sleeps: {line}"));
            }
        };
        if !failed.is_empty() {
            let text = format!("`{path}` v{version}: the hook failed: {}", failed.join("; "));
            say_asleep();
            return Err(Failure::remote(text).hint("`vault status` says what to do").into());
        }
        if open.is_empty() && goal.is_some() {
            say_asleep();
            let all =
                if done.is_empty() { "nobody is awake for it".into() } else { done.join(", ") };
            global.term.line(format!("{path} v{version}: {all}"))?;
            return Ok(Exit::OK);
        }
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            say_asleep();
            if goal.is_none() {
                let text = format!(
                    "the server is away: whether `{path}` v{version} is the newest one \
                             is not known"
                );
                return Err(Failure::remote(text).hint("`vault status` says what to do").into());
            }
            let text = format!(
                "`{path}` v{version} is not everywhere after {} s: {}",
                patience.as_secs(),
                open.join("; ")
            );
            return Err(Failure::remote(text).hint("`vault status` says what to do").into());
        }
        #[expect(clippy::disallowed_methods, reason = "nobody tells that others have reported")]
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
        status = fetch(client)?;
    }
}

fn rows<'a>(status: &'a Status, path: &'a SecretPath) -> impl Iterator<Item = &'a TargetRow> {
    status.targets.iter().filter(move |row| row.secret == *path)
}

fn progress(status: &Status, path: &SecretPath, version: u64) -> Progress {
    let mut progress = Progress::default();
    for row in rows(status, path) {
        let TargetRow { machine, target, applied, hook, state, .. } = row;
        let sleeps = status.machines.iter().any(|it| it.machine == *machine && it.sleeps);
        let name = format!("{machine} {target}");
        let held = if *applied == 0 { "nothing".to_owned() } else { format!("v{applied}") };
        let is_there = *applied >= version
            && !row.outdated
            && matches!(state, TargetState::Ok | TargetState::Kept);
        let why = row.remark().map(|remark| format!(" ({remark})")).unwrap_or_default();
        match hook {
            _ if sleeps && !is_there => progress.asleep.push(format!("{name} holds {held}{why}")),
            _ if !is_there => progress.open.push(format!("{name} holds {held}{why}")),
            HookResult::None | HookResult::Ok => progress.done.push(name),
            HookResult::Pending => progress.open.push(format!("{name}: its hook runs")),
            HookResult::Failed | HookResult::RollingBack | HookResult::RolledBack => {
                progress.failed.push(format!("{name}{why}"));
            }
        }
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_an_at_sign() {
        let wanted =
            |text: &str| text.parse::<Wanted>().map(|it| (it.path.to_string(), it.version));
        let ok = |path: &str, version| Ok((path.to_owned(), version));
        assert_eq!(wanted("secret/app"), ok("secret/app", None));
        assert_eq!(wanted("secret/app@3"), ok("secret/app", Some(3)));
        assert_eq!(wanted("secret/app@v3"), ok("secret/app", Some(3)));
        assert_eq!(wanted("secret/a@b"), ok("secret/a@b", None));
        assert!(wanted("secret").is_err() && wanted("@3").is_err());
        assert_eq!(patience("90"), Ok(Duration::from_secs(90)));
        assert_eq!(patience("2m"), Ok(Duration::from_mins(2)));
        assert!(patience("soon").is_err() && patience("-1s").is_err());
    }
}
