//! Reading: from memory, from the ciphertext on disk, from the server, in this order. A blob that
//! does not open leaves everything as it was and raises an alarm. And keeping the ciphertext of
//! versions that a target may go back to: past newer ones, past the number of versions that the log
//! keeps, and with the server away; the ledger drops what is destroyed, forgotten or not granted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::blob::Blob;
use shared::error::{Code, Error};
use shared::log::{Deletion, Secret, State, Version};
use shared::path::SecretPath;
use tokio::task::{JoinHandle, spawn_blocking};

use super::blob::Due;
use super::link::WAITS;
use super::offload;
use super::parts::Parts;
use super::rights::{find, may_retain};
use super::types::{Content, Latest, Own, ReadError};
use crate::state;
use crate::state::retained::Retained;
use machine::remote::{Client, RemoteError};

/// How often to look for versions that have become too old.
const AGES: Duration = Duration::from_secs(30);

/// How far a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// What this machine holds.
    Here,
    /// What the server holds as well.
    Server,
}

/// Tells whether nothing is known of any secret: the log was never followed.
fn is_unknown(state: &State, own: &Own) -> bool {
    state.seq() == 0 && own.find(state).is_none()
}

pub(super) fn latest(parts: &Parts, path: &SecretPath) -> Latest {
    let folded = parts.ledger.read();
    if is_unknown(&folded.state, &parts.own) {
        return Latest::Unknown;
    }
    match find(&folded.state, &parts.own, path, None, parts.time_for_ages()) {
        Ok((ver, version)) => {
            let (blob, held) = (&version.blob, folded.held.get(path));
            // Where opening has failed, the caller hears why, and gets the last content that
            // opened; so too while there is no server to ask.
            let ready = held == Some(blob)
                || parts.cache.has(blob)
                || (held.is_some() && (parts.cache.has_failed(blob) || !parts.link.is_caught_up()));
            Latest::Version { ver, ready }
        }
        Err(ReadError::Deleted { ver } | ReadError::Destroyed { ver }) => Latest::Deleted { ver },
        Err(ReadError::Denied) => Latest::NotReadable,
        Err(_) => Latest::Missing,
    }
}

/// Returns what is due for a version that may be read now, the newest if none is named.
fn due(parts: &Parts, path: &SecretPath, ver: Option<u64>) -> Result<Due, ReadError> {
    let folded = parts.ledger.read();
    let (ver, version) = find(&folded.state, &parts.own, path, ver, parts.time_for_ages())?;
    Ok(folded.due(path, ver, version))
}

pub(super) async fn content(
    parts: &Arc<Parts>,
    path: &SecretPath,
    ver: Option<u64>,
    reach: Reach,
) -> Result<Content, ReadError> {
    loop {
        let due = due(parts, path, ver)?;
        if let Some(known) = parts.cache.get(&due.blob) {
            return known.map_err(ReadError::Blob);
        }
        return match ciphertext(parts, &due, reach).await {
            Ok((blob, Reach::Here)) => open(parts, due, blob).await.map_err(ReadError::Blob),
            Ok((blob, Reach::Server)) => open_and_keep(parts, due, blob).await,
            // It has another blob meanwhile.
            Err(_) if !stands(&parts.ledger.read().state, &due) => continue,
            Err(fault) => Err(fault),
        };
    }
}

/// Tells whether a version still has this blob: it has another one once it is re-encrypted.
fn stands(state: &State, due: &Due) -> bool {
    let version = state.secret(&due.path).and_then(|secret| secret.version(due.ver));
    version.is_some_and(|version| version.blob == due.blob)
}

/// Opens a blob that the server gave; keeps its ciphertext if it opens and is its path's newest.
pub(super) async fn open_and_keep(
    parts: &Arc<Parts>,
    due: Due,
    blob: Blob,
) -> Result<Content, ReadError> {
    let content = open(parts, due.clone(), blob.clone()).await.map_err(ReadError::Blob)?;
    if due.newest {
        parts.ledger.hold(due, blob).await?;
    }
    Ok(content)
}

/// Returns the newest content of a path whose ciphertext is on this disk, although the newest
/// version cannot be had or does not open.
pub(super) async fn last_good(parts: &Arc<Parts>, path: &SecretPath) -> Option<Content> {
    let place = path.clone();
    let kept = parts.store.read(move |conn| state::blobs::last_good(conn, &place)).await;
    let (ver, kept) = kept.ok()??;
    if !may_retain(&parts.ledger.read().state, &parts.own, path, ver) {
        return None;
    }
    open_kept(parts, path, ver, kept).await.ok()
}

/// Returns the blob's bytes, whose size and hash are right, and where they were found.
pub(super) async fn ciphertext(
    parts: &Parts,
    due: &Due,
    reach: Reach,
) -> Result<(Blob, Reach), ReadError> {
    let (path, ver, blob) = (due.path.clone(), due.ver, due.blob);
    let kept = parts.store.read(move |conn| {
        if let Some(newest) = state::blobs::read(conn, &path, blob)? {
            return Ok(Some(newest));
        }
        let earlier = state::retained::read(conn, &path, ver)?;
        Ok(earlier.filter(|kept| kept.hash == blob).map(|kept| kept.bytes))
    });
    if let Some(kept) = kept.await?.map(Blob::new) {
        match due.check(&kept) {
            Ok(()) => return Ok((kept, Reach::Here)),
            Err(error) => tracing::warn!(%error, "the cached blob is damaged, asking anew"),
        }
    }
    let client = match reach {
        Reach::Here => Err("it is not to be asked".to_owned()),
        Reach::Server => parts.link.client(),
    };
    let client = client.map_err(|reason| ReadError::Offline { ver, reason })?;
    Ok((fetch(parts, &client, due).await?, Reach::Server))
}

/// Gets a blob from the server and checks its hash.
pub(super) async fn fetch(parts: &Parts, client: &Client, due: &Due) -> Result<Blob, ReadError> {
    let blob = match client.blob(due.blob).await {
        Ok(bytes) => {
            parts.link.restored(false);
            Blob::new(bytes)
        }
        Err(fault) => return Err(not_fetched(parts, due, fault)),
    };
    if let Err(error) = due.check(&blob) {
        return Err(refused(parts, due, error));
    }
    Ok(blob)
}

fn not_fetched(parts: &Parts, due: &Due, fault: RemoteError) -> ReadError {
    match fault {
        RemoteError::Refused(error) if error.code == Code::BlobAbsent => {
            // Held until the alarm is raised: an entry that ends it is applied before it, or after.
            let folded = parts.ledger.read();
            if !stands(&folded.state, due) {
                let reason = "it was re-encrypted meanwhile".to_owned();
                return ReadError::Offline { ver: due.ver, reason };
            }
            let detail = format!("version {} of `{}`", due.ver, due.path);
            refused(parts, due, Code::BlobAbsent.because(detail))
        }
        RemoteError::Refused(error) if error.code == Code::BlobSize => {
            let detail = format!("version {} of `{}`: {}", due.ver, due.path, error.detail);
            refused(parts, due, Code::BlobSize.because(detail))
        }
        // Who may read is the log's to say: its next entry may take the right away.
        RemoteError::Refused(error) if error.code == Code::Denied => {
            let reason = "it denies a version that the log lets this machine read".to_owned();
            ReadError::Offline { ver: due.ver, reason }
        }
        other if other.is_restored() => {
            parts.link.restored(true);
            ReadError::Offline { ver: due.ver, reason: WAITS.to_owned() }
        }
        other => ReadError::Offline { ver: due.ver, reason: other.to_string() },
    }
}

fn refused(parts: &Parts, due: &Due, error: Error) -> ReadError {
    parts.cache.miss(due.blob);
    alarm(parts, due, &error);
    ReadError::Blob(error)
}

/// Raises an alarm about a blob; its path is the subject, of which all are over once one opens.
fn alarm(parts: &Parts, due: &Due, error: &Error) {
    parts.alarms.raise(error.code.as_str(), due.path.as_str(), error.detail.clone());
}

/// Opens a blob off the async threads and keeps its content in memory.
pub(super) async fn open(parts: &Arc<Parts>, due: Due, blob: Blob) -> Result<Content, Error> {
    let parts = Arc::clone(parts);
    let opened = spawn_blocking(move || open_now(&parts, &due, &blob));
    opened.await.map_err(|_| Code::BlobOpen.because("the program is ending"))?
}

fn open_now(parts: &Parts, due: &Due, blob: &Blob) -> Result<Content, Error> {
    let opened = due.content(&parts.own.keys, blob);
    match &opened {
        Ok(content) => {
            parts.cache.put(due.blob, content.clone());
            is_good(parts, due);
        }
        Err(error) => {
            parts.cache.refuse(due.blob, error.clone());
            if error.code != Code::NotAReader {
                alarm(parts, due, error);
            }
        }
    }
    opened
}

/// Ends the alarms about a path, one of whose blobs opens.
fn is_good(parts: &Parts, due: &Due) {
    parts.alarms.clear_if(|_, subject| subject == due.path.as_str());
}

/// Opens blobs that came along, starting at once; returns the task that still does if there are
/// many.
pub(super) fn open_all(parts: &Arc<Parts>, arrived: Vec<(Due, Blob)>) -> Option<JoinHandle<()>> {
    // What this machine wrote itself, or what took the place of another, is open already.
    let (open, arrived): (Vec<_>, Vec<_>) =
        arrived.into_iter().partition(|(due, _)| parts.cache.has(&due.blob));
    for (due, _) in open {
        is_good(parts, &due);
    }
    let bytes = arrived.iter().map(|(_, blob)| blob.bytes().len()).sum();
    let small = offload::is_small(arrived.len(), bytes);
    let parts = Arc::clone(parts);
    let open = move || {
        for (due, blob) in arrived {
            // A failure has raised its alarm; a later reader of the content hears it again.
            let _ = open_now(&parts, &due, &blob);
        }
    };
    if small {
        open();
        return None;
    }
    Some(spawn_blocking(open))
}

/// Keeps the ciphertext of exactly these versions; tells whether it has all of them.
pub(super) async fn retain(
    parts: &Arc<Parts>,
    wanted: BTreeSet<(SecretPath, u64)>,
) -> Result<bool, ReadError> {
    let kept = parts.store.read(|conn| state::retained::list(conn)).await?;
    let mut complete = true;
    for (path, ver) in wanted.difference(&kept) {
        complete &= retain_one(parts, path, *ver).await.is_ok();
    }
    let gone: Vec<_> = kept.difference(&wanted).cloned().collect();
    if !gone.is_empty() {
        let dropped = parts.store.write(move |conn| {
            gone.iter().try_for_each(|(path, ver)| state::retained::drop(conn, path, *ver))
        });
        dropped.await?;
    }
    Ok(complete)
}

async fn retain_one(parts: &Arc<Parts>, path: &SecretPath, ver: u64) -> Result<(), ReadError> {
    let due = due(parts, path, Some(ver))?;
    let (blob, _) = ciphertext(parts, &due, Reach::Server).await?;
    let (own, path) = (Arc::clone(parts), path.clone());
    let kept = due.retained(blob);
    let keep = parts.store.write(move |conn| {
        // The log may have moved on meanwhile.
        if may_retain(&own.ledger.read().state, &own.own, &path, ver) {
            state::retained::keep(conn, &path, ver, &kept)?;
        }
        Ok(())
    });
    Ok(keep.await?)
}

/// Returns the content of a version; one that the log has dropped for its age, or that the
/// server cannot be asked for, if its ciphertext was retained.
pub(super) async fn earlier(
    parts: &Arc<Parts>,
    path: &SecretPath,
    ver: u64,
) -> Result<Content, ReadError> {
    let fault = match content(parts, path, Some(ver), Reach::Server).await {
        Err(fault @ (ReadError::Missing | ReadError::Offline { .. })) => fault,
        settled => return settled,
    };
    if !may_retain(&parts.ledger.read().state, &parts.own, path, ver) {
        return Err(fault);
    }
    let place = path.clone();
    let kept = parts.store.read(move |conn| state::retained::read(conn, &place, ver)).await?;
    let Some(kept) = kept else { return Err(fault) };
    open_kept(parts, path, ver, kept).await
}

/// Opens the ciphertext of a version that the log may have dropped.
async fn open_kept(
    parts: &Arc<Parts>,
    path: &SecretPath,
    ver: u64,
    kept: Retained,
) -> Result<Content, ReadError> {
    let due = Due {
        path: path.clone(),
        ver,
        blob: kept.hash,
        newest: false,
        vault: parts.own.pins.vault,
        size: kept.bytes.len() as u64,
        commit: kept.promise,
        readers: Some(kept.readers),
    };
    if let Some(known) = parts.cache.get(&due.blob) {
        return known.map_err(ReadError::Blob);
    }
    open(parts, due, Blob::new(kept.bytes)).await.map_err(ReadError::Blob)
}

/// Ticks when a version has become too old: nothing in the log says so.
pub(super) async fn watch_ages(parts: Arc<Parts>) {
    let mut tick = tokio::time::interval(AGES);
    let mut before = parts.time_for_ages();
    loop {
        tick.tick().await;
        let now = parts.time_for_ages();
        let passed = |version: &Version| match version.deletion {
            Deletion::At(time) => before < time && time <= now,
            Deletion::No | Deletion::Since(_) => false,
        };
        let current = |secret: &Secret| secret.current().is_some_and(|(_, v)| passed(v));
        if parts.ledger.read().state.secrets().values().any(current) {
            parts.ticks.send_replace(());
        }
        before = now;
    }
}
