//! Acts on one target: fetches, renders, writes. Deciding what and when does not live here.

use std::path::Path;
use std::sync::Arc;

use shared::blob::Kind;
use shared::path::SecretPath;

use super::hooks::Mask;
use super::plan::Versions;
use crate::account;
use crate::config::Target;
use crate::engine::{Engine, ReadError};
use crate::files::git::GitGate;
use crate::files::{self, Access, FileError, Found, Replaced, Stamp};
use crate::render::{self, Field, Rendered, Rules};

/// One thing to do with one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Make the file hold these versions.
    Write(Versions),
    /// Remove the file.
    Remove(Versions),
    /// See whether the file holds these versions.
    Compare(Versions),
    /// See whether the file is the one last written.
    Look,
}

/// What became of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The file was written; values to be masked in the output of its hook.
    Written(Stamp, Mask),
    /// The file was right already.
    Unchanged(Stamp, Mask),
    /// The file was removed.
    Removed,
    /// There was no file to remove.
    Gone,
    /// The file is not as it should be, and was left so.
    Differs,
    /// What is there now, without looking inside.
    Seen(Option<Stamp>),
}

/// Why a task failed; the file is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// For the fleet view: short, without any secret.
    pub(super) state: String,
    /// The way out.
    pub(super) hint: String,
    /// Whether trying again may help although nothing has changed in the vault.
    pub(super) passing: bool,
}

/// Does `task`.
pub(super) async fn run(
    engine: &Engine,
    gate: &Arc<GitGate>,
    target: &Arc<Target>,
    task: Task,
) -> Result<Outcome, Fault> {
    match task {
        Task::Write(versions) => {
            let (rendered, mask) = content(engine, target, &versions).await?;
            let gate = Arc::clone(gate);
            let written = blocking(target, move |target| write(&gate, target, &rendered)).await?;
            Ok(match written {
                Replaced::Written(stamp) => Outcome::Written(stamp, mask),
                Replaced::Unchanged(stamp) => Outcome::Unchanged(stamp, mask),
            })
        }
        Task::Compare(versions) => {
            let (rendered, mask) = content(engine, target, &versions).await?;
            let found = blocking(target, move |target| {
                let access = access(target)?;
                files::compare(&target.path, rendered.content.expose(), access)
                    .map_err(|error| Fault::file(&error))
            });
            Ok(match found.await? {
                Found::Same(stamp) => Outcome::Unchanged(stamp, mask),
                Found::Absent | Found::Differs => Outcome::Differs,
            })
        }
        Task::Remove(_) => {
            let removed = blocking(target, |target| {
                files::remove(&target.path).map_err(|error| Fault::file(&error))
            })
            .await?;
            Ok(if removed { Outcome::Removed } else { Outcome::Gone })
        }
        Task::Look => {
            let seen = blocking(target, |target| {
                files::stamp(&target.path).map_err(|error| Fault::file(&error))
            })
            .await?;
            Ok(Outcome::Seen(seen))
        }
    }
}

/// Runs `act` where it may wait for the disk.
async fn blocking<T: Send + 'static>(
    target: &Arc<Target>,
    act: impl FnOnce(&Target) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let target = Arc::clone(target);
    let done = tokio::task::spawn_blocking(move || act(&target)).await;
    done.unwrap_or_else(|_| {
        Err(Fault { state: "failed: interrupted".to_owned(), hint: String::new(), passing: true })
    })
}

/// Fetches the secrets and renders the file.
async fn content(
    engine: &Engine,
    target: &Target,
    versions: &Versions,
) -> Result<(Rendered, Mask), Fault> {
    let mut secrets: Vec<(SecretPath, Vec<Field>)> = Vec::with_capacity(versions.len());
    for (path, ver) in target.secrets.iter().zip(versions) {
        let Some(ver) = ver else { continue };
        let content =
            engine.content(path, Some(*ver)).await.map_err(|error| Fault::read(path, &error))?;
        let fields = match content.kind {
            Kind::Kv => render::fields(content.expose())
                .map_err(|error| Fault::shape(path, &error.to_string()))?,
            Kind::Raw => return Err(Fault::shape(path, "holds raw bytes, not keys and values")),
        };
        secrets.push((path.clone(), fields));
    }
    let rules = Rules {
        keys: target.keys.as_deref(),
        allow_names: &target.allow_names,
        allow_newlines: target.allow_newlines,
    };
    let rendered = render::render(target.format, &secrets, &rules).map_err(|refused| Fault {
        state: format!("refused: {refused}"),
        hint: refused.faults.first().map(|fault| fault.hint().to_owned()).unwrap_or_default(),
        passing: false,
    })?;
    let mask = if target.on_change.is_some() { Mask::of(&secrets) } else { Mask::default() };
    Ok((rendered, mask))
}

/// Writes the file, if git does not pick it up.
fn write(gate: &GitGate, target: &Target, rendered: &Rendered) -> Result<Replaced, Fault> {
    gate.pass(&target.path, target.git).map_err(|error| Fault {
        state: format!("refused: {}", chain(&error)),
        hint: error.hint(),
        passing: true,
    })?;
    let written = files::replace(&target.path, rendered.content.expose(), access(target)?)
        .map_err(|error| Fault::file(&error))?;
    if matches!(written, Replaced::Written(_)) {
        for warning in &rendered.warnings {
            tracing::warn!(file = %target.path.display(), "{warning}");
        }
    }
    Ok(written)
}

/// Looks owner and group up.
fn access(target: &Target) -> Result<Access, Fault> {
    let unknown = |kind: &str, name: &str| Fault {
        state: format!("failed: {kind} `{name}` is not known on this host"),
        hint: format!(
            "make the {kind}, or change `{}` of this target",
            if kind == "user" { "owner" } else { kind }
        ),
        passing: true,
    };
    let owner = match &target.owner {
        Some(name) => Some(account::user(name).ok_or_else(|| unknown("user", name))?),
        None => None,
    };
    let gid = match &target.group {
        Some(name) => Some(account::group(name).ok_or_else(|| unknown("group", name))?),
        None => owner.as_ref().map(|owner| owner.gid),
    };
    Ok(Access { uid: owner.map(|owner| owner.uid), gid, mode: target.mode })
}

/// Clears away what a killed agent left beside a target.
pub(super) fn sweep(path: &Path) {
    if let Err(error) = files::sweep(path) {
        tracing::debug!(file = %path.display(), "{}", chain(&error));
    }
}

impl Fault {
    fn read(path: &SecretPath, error: &ReadError) -> Self {
        let (state, hint) = match error {
            ReadError::Denied => {
                (format!("denied: `{path}`"), "ask an admin for `vault access set`".to_owned())
            }
            ReadError::Offline { .. } => (
                format!("waiting: `{path}` is not in the cache"),
                "the server will be asked again".to_owned(),
            ),
            ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. } => {
                (format!("waiting: `{path}`: {error}"), "the next version settles it".to_owned())
            }
            ReadError::Blob(error) => {
                (format!("failed: `{path}`: {error}"), error.code.hint().to_owned())
            }
            ReadError::Local(_) => {
                (format!("failed: `{path}`: {error}"), "look at the agent's disk".to_owned())
            }
        };
        Self { state, hint, passing: true }
    }

    fn shape(path: &SecretPath, why: &str) -> Self {
        let hint = "write it with `vault kv put` or `vault import`".to_owned();
        Self { state: format!("refused: `{path}`: {why}"), hint, passing: false }
    }

    fn file(error: &FileError) -> Self {
        Self { state: format!("failed: {}", chain(error)), hint: error.hint(), passing: true }
    }
}

/// Returns an error with its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
