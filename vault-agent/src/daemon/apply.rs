//! Acts on one target: fetches, renders, writes. Deciding what and when does not live here.

use std::path::Path;
use std::sync::Arc;

use shared::blob::Kind;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use shared::report::TargetState;

use super::hooks::Mask;
use super::plan::Versions;
use crate::engine::{Commit, Content, Engine, ReadError};
use host::account;
use host::files::git::GitGate;
use host::files::{self, Access, Exchanged, FileError, Found, Print, Replaced};
use machine::config::{Drift, Target};
use machine::render::{self, Field, Header, Layout, Rendered, block};

/// The largest file that a block is put into.
const LARGEST: u64 = 16 << 20;

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

/// Why a task failed; the file is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetFault {
    /// For the fleet view.
    pub(super) state: TargetState,
    /// What the matter is, for people: short, without any secret.
    pub(super) text: String,
    /// The way out.
    pub(super) hint: String,
    /// Whether trying again may help although nothing has changed in the vault.
    pub(super) passing: bool,
}

/// Does `task`; `print` is that of the file last written, if there is to be one.
pub(super) async fn run(
    engine: &Engine,
    gate: &Arc<GitGate>,
    target: &Arc<Target>,
    task: Task,
    print: Option<Print>,
) -> Result<Outcome, TargetFault> {
    // The versions may be on their way to the disk still: nothing is promised before they are
    // there.
    let commit = engine.commit();
    match task {
        Task::Write(versions) => {
            let contents = match fetch(engine, target, &versions).await {
                Ok(contents) => contents,
                Err(fault) => {
                    restore(engine, gate, target, &versions, commit).await;
                    return Err(fault);
                }
            };
            let (rendered, mask) = render(engine, target, contents).await?;
            let (gate, notes) = (Arc::clone(gate), rendered.warnings.clone());
            let absent = rendered.absent.clone();
            let write = move |target: &Target| write(&gate, target, rendered, &commit);
            let (replaced, print) = blocking(target, write).await?;
            let held = Held { versions, print: Some(print), notes, absent };
            Ok(match replaced {
                Replaced::Written => Outcome::Changed(held, mask),
                Replaced::Unchanged => Outcome::Unchanged(held, mask),
            })
        }
        Task::Compare(versions) => {
            let contents = fetch(engine, target, &versions).await?;
            let (Rendered { content, warnings: notes, absent }, mask) =
                render(engine, target, contents).await?;
            let found = blocking(target, move |target| {
                kept(&commit)?;
                let wanted = wanted(target, content, around(target)?.as_ref())?;
                let access = access(target)?;
                let found = files::compare(&target.path, wanted.expose(), access)?;
                Ok((found, Print::of(wanted.expose(), access)))
            });
            Ok(match found.await? {
                (Found::Same, print) => {
                    let print = Some(print);
                    Outcome::Unchanged(Held { versions, print, notes, absent }, mask)
                }
                (Found::Absent | Found::Differs, _) => Outcome::Differs(versions),
            })
        }
        Task::Remove(versions) => {
            let removed = blocking(target, move |target| remove(target, &commit)).await?;
            let (print, notes, absent) = (None, Vec::new(), Vec::new());
            let held = Held { versions, print, notes, absent };
            let outcome = if removed { Outcome::Changed } else { Outcome::Unchanged };
            Ok(outcome(held, Mask::default()))
        }
        Task::Look => {
            let seen = blocking(target, move |target| match print {
                Some(print) => Ok(print.is_of(&target.path)?),
                None => Ok(!files::exists(&target.path)?),
            });
            Ok(Outcome::Seen { same: seen.await? })
        }
    }
}

/// Runs `act` where it may wait for the disk.
async fn blocking<T: Send + 'static>(
    target: &Arc<Target>,
    act: impl FnOnce(&Target) -> Result<T, TargetFault> + Send + 'static,
) -> Result<T, TargetFault> {
    let target = Arc::clone(target);
    let act = move || {
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
        contents.push((path.clone(), content.map_err(|error| TargetFault::read(path, &error))?));
    }
    Ok(contents)
}

/// Writes a file that is not there, as after a boot where it was in memory, with the last contents
/// that open, although newer versions do not: what starts with the host finds what it had before.
async fn restore(
    engine: &Engine,
    gate: &Arc<GitGate>,
    target: &Arc<Target>,
    versions: &Versions,
    commit: Commit,
) {
    if target.layout != Layout::File || !matches!(files::exists(&target.path), Ok(false)) {
        return;
    }
    let mut contents = Vec::with_capacity(versions.len());
    for (path, ver) in target.secrets.iter().zip(versions) {
        if ver.is_some() {
            let Some(content) = engine.last_good(path).await else { return };
            contents.push((path.clone(), content));
        }
    }
    let Ok((rendered, _)) = render(engine, target, contents).await else { return };
    let gate = Arc::clone(gate);
    let written = blocking(target, move |target| write(&gate, target, rendered, &commit)).await;
    let file = target.path.display();
    match written {
        Ok(_) => tracing::warn!(%file, "written with the last versions that open"),
        Err(fault) => tracing::warn!(%file, fault.text, "the last versions that open not written"),
    }
}

/// Renders the file, or its block.
async fn render(
    engine: &Engine,
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
        Some(file) => blocking(target, move |_| template(&file)).await?,
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

/// Returns what the file must hold if it holds `old`: of a block, what is around it stays.
fn wanted(
    target: &Target,
    rendered: Plaintext,
    old: Option<&files::Read>,
) -> Result<Plaintext, TargetFault> {
    match target.layout {
        Layout::File => Ok(rendered),
        Layout::Block => Ok(block::put(old.map_or(&[], |old| old.content.expose()), &rendered)?),
    }
}

/// Returns the file around a block.
fn around(target: &Target) -> Result<Option<files::Read>, FileError> {
    match target.layout {
        Layout::File => Ok(None),
        Layout::Block => files::read(&target.path, LARGEST),
    }
}

/// Writes the file, if git does not pick it up.
fn write(
    gate: &GitGate,
    target: &Target,
    rendered: Rendered,
    commit: &Commit,
) -> Result<(Replaced, Print), TargetFault> {
    gate.pass(&target.path, target.git).map_err(|error| {
        let hint = error.hint();
        TargetFault::new(TargetState::Refused, in_one_line(error), hint)
    })?;
    let old = around(target)?;
    let wanted = wanted(target, rendered.content, old.as_ref())?;
    let written = put(target, &wanted, old.as_ref(), commit)?;
    if written.0 == Replaced::Written {
        for warning in &rendered.warnings {
            tracing::warn!(file = %target.path.display(), "{warning}");
        }
    }
    Ok(written)
}

/// Makes the file hold `wanted`, unless it is not `old` any more: then its owner has just saved it.
fn put(
    target: &Target,
    wanted: &Plaintext,
    old: Option<&files::Read>,
    commit: &Commit,
) -> Result<(Replaced, Print), TargetFault> {
    let access = access(target)?;
    let (path, content) = (&target.path, wanted.expose());
    let print = Print::of(content, access);
    let Some(old) = old else {
        return Ok((files::replace_when(path, content, access, || kept(commit))?, print));
    };
    kept(commit)?;
    if files::compare(path, content, access)? == Found::Same {
        return Ok((Replaced::Unchanged, print));
    }
    match files::exchange(path, old.content.expose(), content, access)? {
        Exchanged::Done(_) => Ok((Replaced::Written, print)),
        Exchanged::Moved => {
            let (text, hint) = ("the file is being edited", "it is tried again in a moment");
            Err(TargetFault::new(TargetState::Waiting, text, hint))
        }
    }
}

/// Removes the file, or its block; tells whether it was there.
fn remove(target: &Target, commit: &Commit) -> Result<bool, TargetFault> {
    kept(commit)?;
    if let Some(old) = around(target)?
        && let Some(rest) = block::take(old.content.expose())?
    {
        return Ok(put(target, &rest, Some(&old), commit)?.0 == Replaced::Written);
    }
    Ok(files::remove(&target.path)?)
}

/// Waits until what the vault says is on this host's disk: a file must not be ahead of what the
/// agent knows after a power cut.
fn kept(commit: &Commit) -> Result<(), TargetFault> {
    if commit.wait() {
        return Ok(());
    }
    let hint = "look at the agent's disk; the file is as it was";
    Err(TargetFault::new(TargetState::Failed, "the agent's database cannot be written", hint))
}

/// Looks owner and group up.
fn access(target: &Target) -> Result<Access, TargetFault> {
    let unknown = |kind: &str, key: &str, name: &str| {
        let text = format!("{kind} `{name}` is not known on this host");
        let hint = format!("make the {kind}, or change `{key}` of this target");
        TargetFault::new(TargetState::Failed, text, hint)
    };
    let user = |name: &String| account::user(name).ok_or_else(|| unknown("user", "owner", name));
    let group = |name: &String| account::group(name).ok_or_else(|| unknown("group", "group", name));
    let owner = target.owner.as_ref().map(user).transpose()?;
    let gid = target.group.as_ref().map(group).transpose()?;
    let own_gid = owner.as_ref().map(|owner| owner.gid);
    Ok(Access { uid: owner.map(|owner| owner.uid), gid: gid.or(own_gid), mode: target.mode })
}

/// Clears away what a killed agent left beside a target.
pub(super) fn sweep(path: &Path) {
    if let Err(error) = files::sweep(path) {
        tracing::debug!(file = %path.display(), "{}", in_one_line(error));
    }
}

impl From<FileError> for TargetFault {
    fn from(error: FileError) -> Self {
        let hint = error.hint();
        Self::new(TargetState::Failed, in_one_line(error), hint)
    }
}

impl From<block::BrokenBlock> for TargetFault {
    fn from(error: block::BrokenBlock) -> Self {
        let hint = "mend the markers, or remove them: the block is then written at the end";
        Self::new(TargetState::Refused, error.to_string(), hint)
    }
}

impl TargetFault {
    /// A fault that may pass.
    fn new(state: TargetState, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { state, text: text.into(), hint: hint.into(), passing: true }
    }

    /// A task that has ended without a result.
    pub(super) fn crashed() -> Self {
        let hint = "the agent's log says where: please report it; it is tried again";
        Self::new(TargetState::Failed, "a fault in the agent itself", hint)
    }

    /// The same, to stay until something changes in the vault.
    fn lasting(self) -> Self {
        Self { passing: false, ..self }
    }

    fn read(path: &SecretPath, error: &ReadError) -> Self {
        use TargetState::{Denied, Failed, Waiting};
        let because = format!("`{path}`: {error}");
        let (state, text, hint) = match error {
            ReadError::Denied => {
                (Denied, format!("`{path}`"), "ask an admin for `vault access set`")
            }
            ReadError::Offline { .. } => {
                (Waiting, format!("`{path}` is not in the cache"), "the server will be asked again")
            }
            ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. } => {
                (Waiting, because, "the next version settles it")
            }
            ReadError::Blob(error) => (Failed, because, error.code.hint()),
            ReadError::Local(_) => (Failed, because, "look at the agent's disk"),
        };
        Self::new(state, text, hint)
    }
}

/// Returns an error with its sources on one line.
pub(super) fn in_one_line(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::config::Config;

    #[test]
    fn nothing_changes_for_what_is_not_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join(".env");
        files::replace(&path, b"A=old\n", Access::PRIVATE).unwrap();
        let config =
            format!("[[target]]\npath = \"{}\"\nsecrets = [\"secret/a\"]\n", path.display());
        let config = Config::parse(&config, Path::new("agent.toml")).unwrap();
        let target = &config.targets[0];
        let old = || files::read(&path, LARGEST).unwrap().unwrap();
        let (new, lost, kept) =
            (Plaintext::new(b"A=new\n".to_vec()), Commit::ended(false), Commit::ended(true));
        let refused = [
            put(target, &new, None, &lost).map(drop).unwrap_err(),
            put(target, &new, Some(&old()), &lost).map(drop).unwrap_err(),
            put(target, &Plaintext::new(b"A=old\n".to_vec()), None, &lost).map(drop).unwrap_err(),
            remove(target, &lost).map(drop).unwrap_err(),
        ];
        for fault in refused {
            assert!(fault.passing && fault.text.contains("database cannot be written"));
            assert_eq!(old().content.expose(), b"A=old\n");
        }
        assert_eq!(put(target, &new, None, &kept).unwrap().0, Replaced::Written);
        assert_eq!(old().content.expose(), b"A=new\n");
    }
}
