//! Brings one master file and its secret in step: looks at both, and does what was decided. When to
//! do that is decided above.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::audit::Who;
use shared::blob::Kind;
use shared::hash::Hash;
use shared::plaintext::Plaintext;

use super::decide::{self, Action, Base, Vault};
use super::record::Record;
use super::{State, confirmed, shrunk, text};
use crate::engine::{Change, Engine, Latest, PutContent, ReadError, WriteError};
use host::clock;
use host::files::{self, Access, Exchanged, FileError, Old, Read};
use machine::config::Source;
use machine::render::{self, Field, Variable};

/// Larger files hold no settings: what a secret may hold, with room for comments.
const MOST_BYTES: u64 = 2 << 20;

/// How often is started anew when file or vault change meanwhile.
const TRIES: usize = 8;

/// How long a file that was exchanged is watched for a program that had it open.
const GRACE: Duration = Duration::from_secs(1);

/// How the file stands, an error too; `None` if something has changed meanwhile, and both are to be
/// looked at anew.
type Step = Result<Option<State>, State>;

/// What a file says.
pub(super) struct MasterFile {
    file: Read,
    pub(super) variables: Vec<Variable>,
    pub(super) digest: Hash,
}

impl MasterFile {
    fn is_whole(&self) -> bool {
        self.file.content.expose().ends_with(b"\n")
    }
}

/// What the vault says; the fields are empty if there are none.
struct Held {
    vault: Vault,
    fields: Vec<Field>,
}

/// Brings `source` in step; returns how it stands, and the copies beside it of edits that met a
/// change made elsewhere.
pub(super) async fn run(
    engine: &Engine,
    record: &Arc<Record>,
    source: &Arc<Source>,
) -> (State, Vec<PathBuf>) {
    let mut state = State::trouble("keeps changing while it is read", "wait for its editor", true);
    for _ in 0..TRIES {
        if let Ok(Some(end)) | Err(end) = step(engine, record, source).await {
            state = end;
            break;
        }
    }
    let copies = blocking(source, |source| Ok(conflicts(source))).await;
    (state, copies.unwrap_or_default())
}

async fn step(engine: &Engine, record: &Arc<Record>, source: &Arc<Source>) -> Step {
    let salt = record.salt;
    let found = blocking(source, move |source| look(source, &salt)).await?;
    let Some(held) = ask(engine, source, &salt).await? else { return Ok(None) };
    // A file that is ahead of what this machine remembers after a power cut would look edited then.
    let commit = engine.commit();
    if !blocking(source, move |_| Ok(commit.wait())).await? {
        return Ok(None);
    }
    let decided = decide::decide(record.base(source), found.digest, held.vault);
    match if engine.is_set_aside(&source.secret) { decide::aside(decided) } else { decided } {
        Action::Keep(Base { ver, .. }) => {
            let text = format!(
                "holds what the vault went on without; `{}` is at version {ver} there",
                source.secret
            );
            let hint = "save it with a change to publish it, or run `vault-agent set-aside --clear` \
                        to have the vault's";
            Err(State::trouble(text, hint, false))
        }
        Action::Wait => Err(State::Waiting("the vault cannot be asked".to_owned())),
        // A file that has lost the end of its last line and nothing else has not been edited.
        Action::Settled(base) => {
            let whole = found.is_whole() || record.was_whole(source);
            settled(record, source, base, whole).await
        }
        Action::Deleted(base) => {
            let whole = found.is_whole() || record.was_whole(source);
            settled(record, source, base, whole).await?;
            Ok(Some(State::Deleted))
        }
        Action::Publish { cas } => {
            hold(engine, record, source, (&found, &held)).await?;
            publish(engine, record, source, (&found, &held), cas).await
        }
        Action::WriteBack(base) => write_back(record, source, found, held, base, false).await,
        Action::Conflict(base) => write_back(record, source, found, held, base, true).await,
    }
}

/// Holds a save that looks like the rest of a file, unless its owner has said that it is meant.
async fn hold(
    engine: &Engine,
    record: &Arc<Record>,
    source: &Arc<Source>,
    (found, held): (&MasterFile, &Held),
) -> Result<(), State> {
    let (before, now) = (text::of_secret(&held.fields), text::of_file(&found.variables));
    let was_whole = record.was_whole(source);
    let Some(lost) = shrunk::shrunk(&before, &now, found.is_whole(), was_whole) else {
        return Ok(());
    };
    let (state, base, digest) = (record.state.clone(), record.base(source), found.digest);
    let is_meant = move |source: &Source| Ok(confirmed::is(&state, source, base, &digest));
    if blocking(source, is_meant).await? {
        return Ok(());
    }
    let file = source.path.display();
    let stays = match engine.latest(&source.secret) {
        Latest::Version { ver, .. } => format!("`{}` stays at version {ver}", source.secret),
        Latest::Unknown | Latest::Missing | Latest::Deleted { .. } | Latest::NotReadable => {
            "nothing was published".to_owned()
        }
    };
    Err(State::Held {
        text: format!("{lost}; it is held: {stays}"),
        hint: format!("save it whole, or, if it is meant, run `vault-agent source confirm {file}`"),
    })
}

/// Reads and understands the file.
pub(super) fn look(source: &Source, salt: &Hash) -> Result<MasterFile, State> {
    let Some(file) = files::read(&source.path, MOST_BYTES)? else {
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
        State::trouble(format!("{error}; nothing was published"), error.why.hint, false)
    })?;
    if variables.is_empty() {
        let hint = "save it with its variables; `vault kv delete` deletes a secret";
        return Err(State::trouble("holds no variable; nothing was published", hint, false));
    }
    let digest = text::digest(salt, &text::of_file(&variables));
    Ok(MasterFile { file, variables, digest })
}

/// Asks for the newest version of the secret; `None` if that changes meanwhile.
async fn ask(engine: &Engine, source: &Source, salt: &Hash) -> Result<Option<Held>, State> {
    let none = |vault| Ok(Some(Held { vault, fields: Vec::new() }));
    let ver = match engine.latest(&source.secret) {
        Latest::Missing => return none(Vault::Missing),
        Latest::Deleted { ver } => return none(Vault::Deleted(ver)),
        Latest::Unknown => return none(Vault::Unknown),
        Latest::NotReadable if engine.away().is_some() => return none(Vault::Unknown),
        Latest::NotReadable => return Err(denied("read", source)),
        Latest::Version { ver, .. } => ver,
    };
    let content = match engine.content(&source.secret, Some(ver)).await {
        Ok(content) => content,
        Err(ReadError::Offline { .. }) => return none(Vault::Unknown),
        Err(ReadError::Denied) => return Err(denied("read", source)),
        Err(ReadError::Missing | ReadError::Deleted { .. } | ReadError::Destroyed { .. }) => {
            return Ok(None);
        }
        Err(error @ (ReadError::Blob(_) | ReadError::Local(_))) => {
            let text = format!("cannot be compared with `{}`: {error}", source.secret);
            return Err(State::trouble(text, "`vault status` has the alarm", true));
        }
    };
    let fields = match content.kind {
        Kind::Kv => render::fields(content.expose()).ok(),
        Kind::Raw => None,
    };
    let Some(fields) = fields else {
        let text = format!("cannot be the master of `{}`, which holds raw bytes", source.secret);
        return Err(State::trouble(text, "name a secret of keys and values", false));
    };
    let digest = text::digest(salt, &text::of_secret(&fields));
    Ok(Some(Held { vault: Vault::Holds(ver, digest), fields }))
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
        Err(WriteError::Cas { .. } | WriteError::Moved) => return Ok(None),
        Err(WriteError::Offline { reason }) => {
            let why = format!("an edit is published when the server is back: {reason}");
            return Err(State::Waiting(why));
        }
        Err(
            error @ (WriteError::Unresolved | WriteError::Postponed { .. } | WriteError::Halted),
        ) => {
            return Err(State::Waiting(error.to_string()));
        }
        Err(WriteError::Denied) => return Err(denied("write", source)),
        Err(error) => {
            let text = format!("cannot be published as `{}`: {error}", source.secret);
            return Err(State::trouble(text, "change the file, and save it again", true));
        }
    };
    let ver = written.versions.first().map_or(cas + 1, |(_, ver)| *ver);
    tracing::info!(file = %source.path.display(), "published as `{}` v{ver}", source.secret);
    settled(record, source, Base { ver, digest: found.digest }, found.is_whole()).await
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
        return Err(State::trouble(text, "compare it with `vault kv get`", false));
    };
    let whole = merged.expose().ends_with(b"\n");
    let exchanged = blocking(source, move |source| {
        let Read { content, access, .. } = &found.file;
        if conflict {
            keep(source, content, *access)?;
        }
        let exchanged = files::exchange(&source.path, content.expose(), merged.expose(), *access)?;
        Ok((exchanged, found.file))
    });
    let (old, before) = match exchanged.await? {
        (Exchanged::Done(old), before) => (old, before),
        (Exchanged::Moved, _) => return Ok(None),
    };
    tracing::info!(file = %source.path.display(), "now holds `{}` v{}", source.secret, base.ver);
    let state = settled(record, source, base, whole).await;
    // A program that had opened the file before may only now write into what it takes for the file.
    tokio::time::sleep(GRACE).await;
    blocking(source, move |source| late(source, &old, &before)).await?;
    state
}

/// Keeps an edit beside the file.
fn keep(source: &Source, edit: &Plaintext, access: Access) -> Result<(), FileError> {
    let copy = files::copy_aside(
        &source.path,
        &files::tag(".conflict-", clock::now()),
        edit.expose(),
        access,
    )?;
    tracing::warn!(file = %source.path.display(), "edited here and changed elsewhere: the edit is kept in `{}`", copy.display());
    Ok(())
}

/// Keeps what was written into the old file after it was exchanged.
fn late(source: &Source, old: &Old, before: &Read) -> Result<(), State> {
    let edited = old.edited(before.content.expose()).map_err(|error| FileError::Io {
        doing: "read the former",
        path: source.path.clone(),
        source: error,
    })?;
    if let Some(edit) = edited {
        keep(source, &edit, before.access)?;
    }
    Ok(())
}

/// Lists the copies that stand beside the file.
fn conflicts(source: &Source) -> Vec<PathBuf> {
    let start = format!("{}.conflict-", source.path.display());
    let entries = source.path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let is_copy = |path: &PathBuf| path.to_string_lossy().starts_with(&start);
    let mut copies: Vec<PathBuf> = paths.filter(is_copy).collect();
    copies.sort();
    copies
}

/// Notes that both are in step.
async fn settled(record: &Arc<Record>, source: &Arc<Source>, base: Base, whole: bool) -> Step {
    let record = Arc::clone(record);
    let set = move |source: &Source| {
        record.set(source, base, whole).map_err(|error| {
            State::trouble(format!("cannot be remembered: {error:#}"), "look at the disk", true)
        })
    };
    blocking(source, set).await?;
    Ok(Some(State::Right { ver: base.ver }))
}

/// Runs `act` where it may wait for the disk.
async fn blocking<T: Send + 'static>(
    source: &Arc<Source>,
    act: impl FnOnce(&Source) -> Result<T, State> + Send + 'static,
) -> Result<T, State> {
    let source = Arc::clone(source);
    let done = tokio::task::spawn_blocking(move || act(&source)).await;
    done.unwrap_or_else(|_| Err(State::Waiting("the agent is stopping".to_owned())))
}

fn denied(what: &str, source: &Source) -> State {
    let text = format!("cannot follow `{}`: this machine may not {what} it", source.secret);
    State::trouble(text, "ask an admin for `vault access set`", true)
}
