//! Acts on one target: fetches, renders, writes. Deciding what and when does not live here.

use std::path::Path;
use std::sync::Arc;

use shared::blob::Kind;
use shared::path::SecretPath;
use shared::report::TargetState;

use super::fault::TargetFault;
use super::hooks::Mask;
use super::plan::Versions;
use super::put::{Disk, Put};
use crate::engine::{Commit, Content, Engine, ReadError};
use host::files::{self, Found, Print, Replaced};
use machine::config::{Drift, Target};
use machine::render::{self, Field, Header, Layout, Rendered};
use machine::written::real;

/// How much of the vault's id a file tells.
const VAULT_DIGITS: usize = 8;

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

/// What became of a task; the values are to be masked in the output of its hook.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The file was written or removed.
    Changed(Held, Mask),
    /// The file was right already.
    Unchanged(Held, Mask),
    /// The file does not hold these versions, and was left so.
    Differs(Versions),
    /// Whether the file is the one last written.
    Seen { same: bool },
}

/// What a file holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) versions: Versions,
    /// What the file is recognized by; `None` if there is to be none.
    pub(super) print: Option<Print>,
    /// What the owner should know of it although it is right.
    pub(super) notes: Vec<String>,
    /// Keys that it is to hold and that no secret has.
    pub(super) absent: Vec<String>,
}

/// What a slot knows of the file of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// The print of the file last written, if there is to be one.
    pub(super) print: Option<Print>,
    /// Whether the target was never written as it is configured now.
    pub(super) first: bool,
}

/// Does `task`.
pub(super) async fn run(
    engine: &Engine,
    disk: &Arc<Disk>,
    target: &Arc<Target>,
    task: Task,
    Before { print, first }: Before,
) -> Result<Outcome, TargetFault> {
    // The versions may be on their way to the disk still: nothing is promised before they are
    // there.
    let commit = engine.commit();
    match task {
        Task::Write(versions) => {
            let contents = match fetch(engine, target, &versions).await {
                Ok(contents) => contents,
                Err(fault) => {
                    restore(engine, disk, target, &versions, commit).await;
                    return Err(fault);
                }
            };
            let (rendered, mask) = render(engine, disk, target, contents).await?;
            let (writer, mut notes) = (Arc::clone(disk), rendered.warnings.clone());
            let absent = rendered.absent.clone();
            let write = move |target: &Target| writer.write(target, &rendered, first, &commit);
            let Put { replaced, print, notes: more } = blocking(disk, target, write).await?;
            notes.extend(more);
            let held = Held { versions, print: Some(print), notes, absent };
            Ok(match replaced {
                Replaced::Written => Outcome::Changed(held, mask),
                Replaced::Unchanged => Outcome::Unchanged(held, mask),
            })
        }
        Task::Compare(versions) => {
            let contents = fetch(engine, target, &versions).await?;
            let (rendered, mask) = render(engine, disk, target, contents).await?;
            let (reader, notes) = (Arc::clone(disk), rendered.warnings.clone());
            let absent = rendered.absent.clone();
            let compare = move |target: &Target| reader.compare(target, &rendered, first, &commit);
            Ok(match blocking(disk, target, compare).await? {
                (Found::Same, print) => {
                    let print = Some(print);
                    Outcome::Unchanged(Held { versions, print, notes, absent }, mask)
                }
                (Found::Absent | Found::Differs, _) => Outcome::Differs(versions),
            })
        }
        Task::Remove(versions) => {
            let remover = Arc::clone(disk);
            let remove = move |target: &Target| remover.remove(target, &commit);
            let removed = blocking(disk, target, remove).await?;
            let (print, notes, absent) = (None, Vec::new(), Vec::new());
            let held = Held { versions, print, notes, absent };
            let outcome = if removed { Outcome::Changed } else { Outcome::Unchanged };
            Ok(outcome(held, Mask::default()))
        }
        Task::Look => {
            let seen = blocking(disk, target, move |target| match print {
                Some(print) => Ok(print.is_of(&real(target)?)?),
                None => Ok(!files::exists(&real(target)?)?),
            });
            Ok(Outcome::Seen { same: seen.await? })
        }
    }
}

/// Runs `act` where it may wait for the disk.
async fn blocking<T: Send + 'static>(
    disk: &Disk,
    target: &Arc<Target>,
    act: impl FnOnce(&Target) -> Result<T, TargetFault> + Send + 'static,
) -> Result<T, TargetFault> {
    let target = Arc::clone(target);
    // As long as the thread is at it, whoever waits for the end.
    let at = disk.under_way.begin(&target.path);
    let act = move || {
        let _at = at;
        let _held = target.require_mount.as_deref().map(files::mount::hold).transpose()?;
        act(&target)
    };
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|_| Err(TargetFault::new(TargetState::Failed, "interrupted", "")))
}

/// Fetches the secrets.
async fn fetch(
    engine: &Engine,
    target: &Target,
    versions: &Versions,
) -> Result<Vec<(SecretPath, Content)>, TargetFault> {
    let mut contents = Vec::with_capacity(versions.len());
    for (path, ver) in target.secrets.iter().zip(versions) {
        let Some(ver) = ver else { continue };
        let content = engine.earlier(path, *ver).await;
        contents.push((path.clone(), content.map_err(|error| unread(path, &error))?));
    }
    Ok(contents)
}

/// Writes a file that is not there, as after a boot where it was in memory, with the last contents
/// that open, although newer versions do not: what starts with the host finds what it had before.
async fn restore(
    engine: &Engine,
    disk: &Arc<Disk>,
    target: &Arc<Target>,
    versions: &Versions,
    commit: Commit,
) {
    let is_there = blocking(disk, target, |target| Ok(files::exists(&real(target)?)?)).await;
    if target.layout != Layout::File || !matches!(is_there, Ok(false)) {
        return;
    }
    let mut contents = Vec::with_capacity(versions.len());
    for (path, ver) in target.secrets.iter().zip(versions) {
        if ver.is_some() {
            let Some(content) = engine.last_good(path).await else { return };
            contents.push((path.clone(), content));
        }
    }
    let Ok((rendered, _)) = render(engine, disk, target, contents).await else { return };
    let writer = Arc::clone(disk);
    let write = move |target: &Target| writer.write(target, &rendered, true, &commit);
    let written = blocking(disk, target, write).await;
    let file = target.path.display();
    match written {
        Ok(_) => tracing::warn!(%file, "written with the last versions that open"),
        Err(fault) => tracing::warn!(%file, fault.text, "the last versions that open not written"),
    }
}

/// Renders the file, or its block.
async fn render(
    engine: &Engine,
    disk: &Disk,
    target: &Arc<Target>,
    contents: Vec<(SecretPath, Content)>,
) -> Result<(Rendered, Mask), TargetFault> {
    let mut secrets: Vec<(SecretPath, Vec<Field>)> = Vec::with_capacity(contents.len());
    let mut named = Vec::with_capacity(contents.len());
    for (path, content) in contents {
        let fields = match content.kind {
            Kind::Kv => render::fields(content.expose()).map_err(|error| {
                let hint = "write it with `vault kv put` or `vault import`";
                TargetFault::new(TargetState::Refused, format!("`{path}`: {error}"), hint).lasting()
            })?,
            Kind::Raw => render::file(content.expose()),
        };
        named.push((path.clone(), content.ver));
        secrets.push((path, fields));
    }
    let header = target.header.then(|| Header {
        vault: engine.vault().to_string().chars().take(VAULT_DIGITS).collect(),
        secrets: named,
        restores: target.drift == Drift::Restore,
    });
    let template = match target.template_file.clone() {
        Some(file) => blocking(disk, target, move |_| template(&file)).await?,
        None => target.template.clone().unwrap_or_default(),
    };
    let rules = target.rules(header.as_ref(), &template);
    let rendered = render::render(target.format, &secrets, &rules).map_err(|refused| {
        let hint = refused.faults.first().map_or("", |fault| fault.why.hint);
        TargetFault::new(TargetState::Refused, refused.to_string(), hint).lasting()
    })?;
    let mask = if target.on_change.is_some() { Mask::of(&secrets) } else { Mask::default() };
    Ok((rendered, mask))
}

/// Reads a template.
fn template(file: &Path) -> Result<String, TargetFault> {
    files::settings(file).map(|(_, text)| (*text).clone()).map_err(|error| {
        let text = format!("cannot read template `{}`: {error}", file.display());
        let hint = "make the file, or change `template_file` of this target";
        TargetFault::new(TargetState::Failed, text, hint)
    })
}

/// Says why a secret cannot be read.
fn unread(path: &SecretPath, error: &ReadError) -> TargetFault {
    use TargetState::{Denied, Failed, Waiting};
    let because = format!("`{path}`: {error}");
    let (state, text, hint) = match error {
        ReadError::Denied => (Denied, format!("`{path}`"), "ask an admin for `vault access set`"),
        ReadError::Offline { .. } => {
            (Waiting, format!("`{path}` is not in the cache"), "the server will be asked again")
        }
        ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. } => {
            (Waiting, because, "the next version settles it")
        }
        ReadError::Blob(error) => (Failed, because, error.code.hint()),
        ReadError::Local(_) => (Failed, because, "look at the agent's disk"),
    };
    TargetFault::new(state, text, hint)
}
