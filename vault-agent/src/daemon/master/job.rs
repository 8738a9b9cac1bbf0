//! Brings one master file and its secret in step: looks at both, and does what was decided. When to
//! do that is decided above.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::audit::Who;
use shared::blob::Kind;
use shared::hash::Hash;

use super::decide::{self, Action, Base, Vault};
use super::record::Record;
use super::{State, text};
use crate::engine::{Change, Engine, Latest, PutContent, ReadError, WriteError};
use host::clock;
use host::files::{self, Exchanged, FileError, Old, Read};
use machine::config::Source;
use machine::render::{self, Field, Variable};

/// Larger files hold no settings: what a secret may hold, with room for comments.
const MOST_BYTES: u64 = 2 << 20;

/// How often is started anew when file or vault change meanwhile.
const TRIES: usize = 8;

/// How long a file that was exchanged is watched for a program that had it open.
const GRACE: Duration = Duration::from_secs(1);

/// How a file stands after a job.
#[derive(Debug)]
pub(super) struct Done {
    /// How it stands.
    pub(super) state: State,
    /// Copies of edits that met a change made elsewhere, as long as they are there.
    pub(super) conflicts: Vec<PathBuf>,
}

/// One look at both, and what it came to.
enum Step {
    /// Something has changed meanwhile.
    Again,
    /// This is how it stands.
    End(State),
}

impl From<State> for Step {
    fn from(state: State) -> Self {
        Self::End(state)
    }
}

/// What a file says.
struct MasterFile {
    file: Read,
    variables: Vec<Variable>,
    digest: Hash,
}

/// What the vault says; the fields are empty if there are none.
struct Held {
    vault: Vault,
    fields: Vec<Field>,
}

/// Brings `source` in step.
pub(super) async fn run(engine: &Engine, record: &Arc<Record>, source: &Arc<Source>) -> Done {
    let mut state = State::trouble("keeps changing while it is read", "wait for its editor", true);
    for _ in 0..TRIES {
        if let Step::End(end) = step(engine, record, source).await {
            state = end;
            break;
        }
    }
    Done {
        state,
        conflicts: blocking(source, |source| conflicts(&source)).await.unwrap_or_default(),
    }
}

async fn step(engine: &Engine, record: &Arc<Record>, source: &Arc<Source>) -> Step {
    let salt = *record.salt();
    let found = blocking(source, move |source| look(&source, &salt)).await;
    let found = match found.unwrap_or_else(|| Err(State::interrupted())) {
        Ok(found) => found,
        Err(state) => return state.into(),
    };
    let held = match ask(engine, source, &salt).await {
        Ok(held) => held,
        Err(step) => return step,
    };
    // A file that is ahead of what this machine remembers after a power cut would look edited then.
    let commit = engine.commit();
    if blocking(source, move |_| commit.wait()).await != Some(true) {
        return Step::Again;
    }
    match decide::decide(record.base(source), found.digest, held.vault) {
        Action::Wait => State::Waiting("the vault cannot be asked".to_owned()).into(),
        Action::Settled(base) => settled(record, source, base).await.into(),
        Action::Deleted(base) => match settled(record, source, base).await {
            State::Right { .. } => State::Deleted.into(),
            other => other.into(),
        },
        Action::Publish { cas } => publish(engine, record, source, (&found, &held), cas).await,
        Action::WriteBack(base) => write_back(record, source, found, held, base, false).await,
        Action::Conflict(base) => write_back(record, source, found, held, base, true).await,
    }
}

/// Reads and understands the file.
fn look(source: &Source, salt: &Hash) -> Result<MasterFile, State> {
    let file = files::read(&source.path, MOST_BYTES).map_err(|error| State::file(&error))?;
    let Some(file) = file else {
        return Err(State::trouble(
            "is missing; nothing was published",
            format!("make it with `vault export {}`", source.secret),
            false,
        ));
    };
    if file.access.mode & 0o002 != 0 {
        return Err(State::trouble(
            "may be written by everybody; nothing is published from it",
            format!("run `chmod o-w {}`", source.path.display()),
            true,
        ));
    }
    let variables = render::parse(file.content.expose()).map_err(|error| {
        State::trouble(format!("{error}; nothing was published"), error.hint(), false)
    })?;
    if variables.is_empty() {
        let hint = "save it with its variables; `vault kv delete` deletes a secret";
        return Err(State::trouble("holds no variable; nothing was published", hint, false));
    }
    let digest = text::digest(salt, &text::of_file(&variables));
    Ok(MasterFile { file, variables, digest })
}

/// Asks for the newest version of the secret.
async fn ask(engine: &Engine, source: &Source, salt: &Hash) -> Result<Held, Step> {
    let none = |vault| Ok(Held { vault, fields: Vec::new() });
    let ver = match engine.latest(&source.secret) {
        Latest::Missing => return none(Vault::Missing),
        Latest::Deleted { ver } => return none(Vault::Deleted(ver)),
        Latest::NotReadable if engine.away().is_some() => return none(Vault::Unknown),
        Latest::NotReadable => return Err(denied("read", source).into()),
        Latest::Version { ver, .. } => ver,
    };
    let content = match engine.content(&source.secret, Some(ver)).await {
        Ok(content) => content,
        Err(ReadError::Offline { .. }) => return none(Vault::Unknown),
        Err(ReadError::Denied) => return Err(denied("read", source).into()),
        Err(ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. }) => {
            return Err(Step::Again);
        }
        Err(error @ (ReadError::Blob(_) | ReadError::Local(_))) => {
            let text = format!("cannot be compared with `{}`: {error}", source.secret);
            return Err(State::trouble(text, "`vault status` has the alarm", true).into());
        }
    };
    let fields = match content.kind {
        Kind::Kv => render::fields(content.expose()).ok(),
        Kind::Raw => None,
    };
    let Some(fields) = fields else {
        let text = format!("cannot be the master of `{}`, which holds raw bytes", source.secret);
        return Err(State::trouble(text, "name a secret of keys and values", false).into());
    };
    let digest = text::digest(salt, &text::of_secret(&fields));
    Ok(Held { vault: Vault::Holds(ver, digest), fields })
}

/// Writes a new version.
async fn publish(
    engine: &Engine,
    record: &Arc<Record>,
    source: &Arc<Source>,
    (found, held): (&MasterFile, &Held),
    cas: u64,
) -> Step {
    let content = PutContent::Whole(text::content(&found.variables, &held.fields));
    let path = source.secret.clone();
    let put = Change::Put { path, kind: Kind::Kv, content, cas: Some(cas) };
    let who = Who::lossy(&format!("vault-agent for `{}`", source.path.display()));
    let written = match engine.write(who, vec![put]).await {
        Ok(written) => written,
        Err(WriteError::Cas { .. } | WriteError::Moved) => return Step::Again,
        Err(WriteError::Offline { reason }) => {
            return State::Waiting(format!(
                "an edit is published when the server is back: {reason}"
            ))
            .into();
        }
        Err(error @ WriteError::Unresolved) => return State::Waiting(error.to_string()).into(),
        Err(WriteError::Denied) => return denied("write", source).into(),
        Err(error) => {
            let text = format!("cannot be published as `{}`: {error}", source.secret);
            return State::trouble(text, "change the file, and save it again", true).into();
        }
    };
    let ver = written.versions.first().map_or(cas + 1, |(_, ver)| *ver);
    tracing::info!(file = %source.path.display(), "published as `{}` v{ver}", source.secret);
    settled(record, source, Base { ver, digest: found.digest }).await.into()
}

/// Writes what the vault holds into the file; an edit that this would overwrite is kept in a copy
/// first.
async fn write_back(
    record: &Arc<Record>,
    source: &Arc<Source>,
    found: MasterFile,
    held: Held,
    base: Base,
    conflict: bool,
) -> Step {
    let Some(merged) = text::merged(found.file.content.expose(), &found.variables, &held.fields)
    else {
        let text = format!("cannot hold `{}` v{}", source.secret, base.ver);
        return State::trouble(text, "compare it with `vault kv get`", false).into();
    };
    let exchanged = blocking(source, move |source| {
        if conflict {
            keep(&source, &found.file)?;
        }
        let before = found.file.content.expose();
        let exchanged = files::exchange(&source.path, before, merged.expose(), found.file.access)?;
        Ok::<_, FileError>((exchanged, found))
    });
    let (old, found) = match exchanged.await {
        Some(Ok((Exchanged::Done(old), found))) => (old, found),
        Some(Ok((Exchanged::Moved, _))) => return Step::Again,
        Some(Err(error)) => return State::file(&error).into(),
        None => return State::interrupted().into(),
    };
    tracing::info!(file = %source.path.display(), "now holds `{}` v{}", source.secret, base.ver);
    let state = settled(record, source, base).await;
    // A program that had opened the file before may only now write into what it takes for the file.
    tokio::time::sleep(GRACE).await;
    match blocking(source, move |source| late(&source, &old, &found.file)).await {
        Some(Ok(())) => state.into(),
        Some(Err(error)) => State::file(&error).into(),
        None => State::interrupted().into(),
    }
}

/// Keeps an edit beside the file.
fn keep(source: &Source, edit: &Read) -> Result<(), FileError> {
    let tag = tag(clock::now());
    let copy = files::copy_aside(&source.path, &tag, edit.content.expose(), edit.access)?;
    tracing::warn!(file = %source.path.display(), "edited here and changed elsewhere: the edit is kept in `{}`", copy.display());
    Ok(())
}

/// Keeps what was written into the old file after it was exchanged.
fn late(source: &Source, old: &Old, before: &Read) -> Result<(), FileError> {
    let edited = old.edited(before.content.expose());
    let edited = edited.map_err(|source_error| FileError::Io {
        doing: "read the former",
        path: source.path.clone(),
        source: source_error,
    })?;
    match edited {
        Some(content) => keep(source, &Read { content, access: before.access }),
        None => Ok(()),
    }
}

/// Returns what a copy's name ends in, e.g. `.conflict-20261125T185311Z`.
fn tag(now: shared::time::Time) -> String {
    let seconds = shared::time::Time::from_micros(now.as_secs() * 1_000_000);
    format!(".conflict-{}", seconds.to_string().replace(['-', ':'], ""))
}

/// Lists the copies that stand beside the file.
fn conflicts(source: &Source) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (source.path.parent(), source.path.file_name()) else {
        return Vec::new();
    };
    let start = format!("{}.conflict-", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut found: Vec<PathBuf> = names
        .filter(|name| name.to_string_lossy().starts_with(&start))
        .map(|name| folder.join(name))
        .collect();
    found.sort();
    found
}

/// Notes that both are in step.
async fn settled(record: &Arc<Record>, source: &Arc<Source>, base: Base) -> State {
    let record = Arc::clone(record);
    match blocking(source, move |source| record.set(&source, base)).await {
        Some(Ok(())) => State::Right { ver: base.ver },
        Some(Err(error)) => {
            State::trouble(format!("cannot be remembered: {error:#}"), "look at the disk", true)
        }
        None => State::interrupted(),
    }
}

/// Runs `act` where it may wait for the disk; `None` if the program is ending.
async fn blocking<T: Send + 'static>(
    source: &Arc<Source>,
    act: impl FnOnce(Arc<Source>) -> T + Send + 'static,
) -> Option<T> {
    let source = Arc::clone(source);
    tokio::task::spawn_blocking(move || act(source)).await.ok()
}

fn denied(what: &str, source: &Source) -> State {
    let text = format!("cannot follow `{}`: this machine may not {what} it", source.secret);
    State::trouble(text, "ask an admin for `vault access set`", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_named_after_the_second() {
        let time = shared::time::Time::from_micros(1_798_761_599_999_999);
        assert_eq!(tag(time), ".conflict-20261231T235959Z");
    }
}
