//! Acts on one target: fetches, renders, writes. Deciding what and when does not live here.

use std::path::Path;
use std::sync::Arc;

use shared::blob::Kind;
use shared::path::SecretPath;
use shared::plaintext::Plaintext;
use shared::report::TargetState;

use super::hooks::Mask;
use super::plan::Versions;
use crate::engine::{Commit, Engine, ReadError};
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

/// What became of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The file was written; values to be masked in the output of its hook.
    Written(Print, Mask),
    /// The file was right already.
    Unchanged(Print, Mask),
    /// The file was removed.
    Removed,
    /// There was no file to remove.
    Gone,
    /// The file is not as it should be, and was left so.
    Differs,
    /// Whether the file is the one last written.
    Seen { same: bool },
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

/// Does `task`; what the owner should know of the file although it is right goes to `notes`.
/// `print` is that of the file last written, if there is to be one.
pub(super) async fn run(
    engine: &Engine,
    gate: &Arc<GitGate>,
    target: &Arc<Target>,
    task: Task,
    print: Option<Print>,
    notes: &mut Vec<String>,
) -> Result<Outcome, TargetFault> {
    // The versions may be on their way to the disk still: nothing is promised before they are
    // there.
    let commit = engine.commit();
    match task {
        Task::Write(versions) => {
            let (rendered, mask) = content(engine, target, &versions).await?;
            notes.clone_from(&rendered.warnings);
            let gate = Arc::clone(gate);
            let write = move |target: &Target| write(&gate, target, rendered, &commit);
            let written = blocking(target, write).await?;
            Ok(match written {
                (Replaced::Written, print) => Outcome::Written(print, mask),
                (Replaced::Unchanged, print) => Outcome::Unchanged(print, mask),
            })
        }
        Task::Compare(versions) => {
            let (rendered, mask) = content(engine, target, &versions).await?;
            notes.clone_from(&rendered.warnings);
            let found = blocking(target, move |target| {
                kept(&commit)?;
                let wanted = wanted(target, rendered.content, around(target)?.as_ref())?;
                let access = access(target)?;
                let found = files::compare(&target.path, wanted.expose(), access);
                let found = found.map_err(|error| TargetFault::file(&error))?;
                Ok((found, Print::of(wanted.expose(), access)))
            });
            Ok(match found.await? {
                (Found::Same, print) => Outcome::Unchanged(print, mask),
                (Found::Absent | Found::Differs, _) => Outcome::Differs,
            })
        }
        Task::Remove(_) => {
            let removed = blocking(target, move |target| remove(target, &commit)).await?;
            Ok(if removed { Outcome::Removed } else { Outcome::Gone })
        }
        Task::Look => {
            let seen = blocking(target, move |target| {
                let same = match print {
                    Some(print) => print.is_of(&target.path),
                    None => files::exists(&target.path).map(|exists| !exists),
                };
                same.map_err(|error| TargetFault::file(&error))
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
        let held = target.require_mount.as_deref().map(files::mount::hold).transpose();
        let _held = held.map_err(|error| TargetFault::file(&error))?;
        act(&target)
    };
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|_| {
        let (state, text) = (TargetState::Failed, "interrupted".to_owned());
        Err(TargetFault { state, text, hint: String::new(), passing: true })
    })
}

/// Fetches the secrets and renders the file, or its block.
async fn content(
    engine: &Engine,
    target: &Arc<Target>,
    versions: &Versions,
) -> Result<(Rendered, Mask), TargetFault> {
    let mut secrets: Vec<(SecretPath, Vec<Field>)> = Vec::with_capacity(versions.len());
    let mut named = Vec::with_capacity(versions.len());
    for (path, ver) in target.secrets.iter().zip(versions) {
        let Some(ver) = ver else { continue };
        let content =
            engine.earlier(path, *ver).await.map_err(|error| TargetFault::read(path, &error))?;
        let fields = match content.kind {
            Kind::Kv => render::fields(content.expose())
                .map_err(|error| TargetFault::shape(path, &error.to_string()))?,
            Kind::Raw => render::file(content.expose()),
        };
        named.push((path.clone(), *ver));
        secrets.push((path.clone(), fields));
    }
    let header = target.header.then(|| Header {
        vault: engine.vault().to_string().chars().take(VAULT_DIGITS).collect(),
        secrets: named,
        restores: target.drift == Drift::Restore,
    });
    let template = match &target.template_file {
        Some(_) => blocking(target, template).await?,
        None => target.template.clone().unwrap_or_default(),
    };
    let rules = target.rules(header.as_ref(), &template);
    let rendered =
        render::render(target.format, &secrets, &rules).map_err(|refused| TargetFault {
            state: TargetState::Refused,
            text: refused.to_string(),
            hint: refused.faults.first().map(|fault| fault.why.hint.to_owned()).unwrap_or_default(),
            passing: false,
        })?;
    let mask = if target.on_change.is_some() { Mask::of(&secrets) } else { Mask::default() };
    Ok((rendered, mask))
}

/// Returns the text of the target's template, empty if it has none.
fn template(target: &Target) -> Result<String, TargetFault> {
    let Some(file) = &target.template_file else {
        return Ok(target.template.clone().unwrap_or_default());
    };
    files::settings(file).map(|(_, text)| (*text).clone()).map_err(|error| TargetFault {
        state: TargetState::Failed,
        text: format!("cannot read template `{}`: {error}", file.display()),
        hint: "make the file, or change `template_file` of this target".to_owned(),
        passing: true,
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
        Layout::Block => block::put(old.map_or(&[], |old| old.content.expose()), &rendered)
            .map_err(TargetFault::block),
    }
}

/// Returns the file around a block.
fn around(target: &Target) -> Result<Option<files::Read>, TargetFault> {
    match target.layout {
        Layout::File => Ok(None),
        Layout::Block => {
            files::read(&target.path, LARGEST).map_err(|error| TargetFault::file(&error))
        }
    }
}

/// Writes the file, if git does not pick it up.
fn write(
    gate: &GitGate,
    target: &Target,
    rendered: Rendered,
    commit: &Commit,
) -> Result<(Replaced, Print), TargetFault> {
    gate.pass(&target.path, target.git).map_err(|error| TargetFault {
        state: TargetState::Refused,
        text: chain(&error),
        hint: error.hint(),
        passing: true,
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
    let fault = |error: FileError| TargetFault::file(&error);
    let (path, content) = (&target.path, wanted.expose());
    let print = Print::of(content, access);
    let Some(old) = old else {
        return Ok((files::replace_when(path, content, access, || kept(commit))?, print));
    };
    kept(commit)?;
    if files::compare(path, content, access).map_err(fault)? == Found::Same {
        return Ok((Replaced::Unchanged, print));
    }
    match files::exchange(path, old.content.expose(), content, access) {
        Ok(Exchanged::Done(_)) => Ok((Replaced::Written, print)),
        Ok(Exchanged::Moved) => Err(TargetFault {
            state: TargetState::Waiting,
            text: "the file is being edited".to_owned(),
            hint: "it is tried again in a moment".to_owned(),
            passing: true,
        }),
        Err(error) => Err(fault(error)),
    }
}

/// Removes the file, or its block; tells whether it was there.
fn remove(target: &Target, commit: &Commit) -> Result<bool, TargetFault> {
    kept(commit)?;
    if let Some(old) = around(target)? {
        let rest = block::take(old.content.expose());
        if let Some(rest) = rest.map_err(TargetFault::block)? {
            return Ok(put(target, &rest, Some(&old), commit)?.0 == Replaced::Written);
        }
    }
    files::remove(&target.path).map_err(|error| TargetFault::file(&error))
}

/// Waits until what the vault says is on this host's disk: a file must not be ahead of what the
/// agent knows after a power cut.
fn kept(commit: &Commit) -> Result<(), TargetFault> {
    if commit.wait() {
        return Ok(());
    }
    Err(TargetFault {
        state: TargetState::Failed,
        text: "the agent's database cannot be written".to_owned(),
        hint: "look at the agent's disk; the file is as it was".to_owned(),
        passing: true,
    })
}

/// Looks owner and group up.
fn access(target: &Target) -> Result<Access, TargetFault> {
    let unknown = |kind: &str, name: &str| TargetFault {
        state: TargetState::Failed,
        text: format!("{kind} `{name}` is not known on this host"),
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

impl From<FileError> for TargetFault {
    fn from(error: FileError) -> Self {
        Self::file(&error)
    }
}

impl TargetFault {
    fn read(path: &SecretPath, error: &ReadError) -> Self {
        let (state, text, hint) = match error {
            ReadError::Denied => {
                (TargetState::Denied, format!("`{path}`"), "ask an admin for `vault access set`")
            }
            ReadError::Offline { .. } => (
                TargetState::Waiting,
                format!("`{path}` is not in the cache"),
                "the server will be asked again",
            ),
            ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. } => {
                (TargetState::Waiting, format!("`{path}`: {error}"), "the next version settles it")
            }
            ReadError::Blob(error) => {
                (TargetState::Failed, format!("`{path}`: {error}"), error.code.hint())
            }
            ReadError::Local(_) => {
                (TargetState::Failed, format!("`{path}`: {error}"), "look at the agent's disk")
            }
        };
        Self { state, text, hint: hint.to_owned(), passing: true }
    }

    /// Returns state and text in one line.
    pub(super) fn show(&self) -> String {
        format!("{}: {}", self.state, self.text)
    }

    fn shape(path: &SecretPath, why: &str) -> Self {
        let hint = "write it with `vault kv put` or `vault import`".to_owned();
        Self { state: TargetState::Refused, text: format!("`{path}`: {why}"), hint, passing: false }
    }

    fn block(error: block::BrokenBlock) -> Self {
        Self {
            state: TargetState::Refused,
            text: error.to_string(),
            hint: "mend the markers, or remove them: the block is then written at the end"
                .to_owned(),
            passing: true,
        }
    }

    fn file(error: &FileError) -> Self {
        Self { state: TargetState::Failed, text: chain(error), hint: error.hint(), passing: true }
    }
}

/// Returns an error with its sources on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
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
