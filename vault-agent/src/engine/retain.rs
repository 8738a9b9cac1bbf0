//! Keeping the ciphertext of versions that a target may go back to: past newer ones, past the
//! number of versions that the log keeps, and with the server away. The ledger drops what is
//! destroyed, forgotten or no longer granted.

use std::collections::BTreeSet;
use std::sync::Arc;

use shared::blob::Blob;
use shared::path::SecretPath;

use super::blob::Due;
use super::parts::Parts;
use super::read::{self, Reach};
use super::rights::may_retain;
use super::types::{Content, ReadError};
use crate::state::retained;

/// Keeps the ciphertext of exactly these versions; tells whether it has all of them.
pub(super) async fn retain(
    parts: &Arc<Parts>,
    wanted: BTreeSet<(SecretPath, u64)>,
) -> Result<bool, ReadError> {
    let kept = parts.store.read(|conn| retained::list(conn)).await?;
    let mut complete = true;
    for (path, ver) in wanted.difference(&kept) {
        complete &= retain_one(parts, path, *ver).await.is_ok();
    }
    let gone: Vec<_> = kept.difference(&wanted).cloned().collect();
    if !gone.is_empty() {
        let dropped = parts.store.write(move |conn| {
            gone.iter().try_for_each(|(path, ver)| retained::drop(conn, path, *ver))
        });
        dropped.await?;
    }
    Ok(complete)
}

async fn retain_one(parts: &Arc<Parts>, path: &SecretPath, ver: u64) -> Result<(), ReadError> {
    let due = read::due(parts, path, Some(ver))?;
    let blob = read::ciphertext(parts, &due, Reach::Server).await?;
    let (own, path) = (Arc::clone(parts), path.clone());
    let kept = due.retained(blob);
    let keep = parts.store.write(move |conn| {
        // The log may have moved on meanwhile.
        if may_retain(&own.ledger.read().state, &own.own.name, &path, ver) {
            retained::keep(conn, &path, ver, &kept)?;
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
    let fault = match read::content(parts, path, Some(ver), Reach::Server).await {
        Err(fault @ (ReadError::Missing | ReadError::Offline { .. })) => fault,
        settled => return settled,
    };
    if !may_retain(&parts.ledger.read().state, &parts.own.name, path, ver) {
        return Err(fault);
    }
    let place = path.clone();
    let kept = parts.store.read(move |conn| retained::read(conn, &place, ver)).await?;
    let Some(kept) = kept else { return Err(fault) };
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
    read::open(parts, due, Blob::new(kept.bytes)).await.map_err(ReadError::Blob)
}
