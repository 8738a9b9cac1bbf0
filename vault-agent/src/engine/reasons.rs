//! Whether a text that is to stand in audit records tells a value that lies here: the server keeps
//! records, and whoever reviews reads them. The server is not asked for other versions: that would
//! be a read of each.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, bail};
use shared::blob::Blob;
use shared::hash::Hash;
use shared::path::SecretPath;
use zeroize::Zeroizing;

use super::Engine;
use super::blob::Due;
use super::offload;
use super::parts::Parts;
use super::rights::may_read;
use super::scans::values_of;
use crate::state::{blobs, retained};
use machine::scan::told::Told;

/// Versions that are opened at a time, and their bytes.
const BATCH: (usize, u64) = (64, 4 << 20);

impl Engine {
    /// Tells whether a text tells a value of a secret that its writer may read: of any version
    /// whose ciphertext lies on this host. Of the secret that is `named` words and numbers count as
    /// well. `writer` tells those apart who may not read the same. One text at a time is looked at.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn tells_value(
        &self,
        text: &str,
        named: Option<&SecretPath>,
        writer: &str,
        may: impl Fn(&SecretPath) -> bool,
    ) -> Result<bool> {
        let path = named.map(SecretPath::as_str).unwrap_or_default();
        let own = Hash::of(&[text.as_bytes(), b"\0", path.as_bytes(), b"\0", writer.as_bytes()]);
        let mut harmless = self.parts.harmless.lock().await;
        if harmless.has(&own) {
            return Ok(false);
        }
        if tells(&self.parts, text, named, may).await? {
            return Ok(true);
        }
        harmless.add(own);
        Ok(false)
    }
}

async fn tells(
    parts: &Arc<Parts>,
    text: &str,
    named: Option<&SecretPath>,
    may: impl Fn(&SecretPath) -> bool,
) -> Result<bool> {
    let kept = parts.store.read(|conn| retained::list(conn)).await?;
    let mut due = due(parts, &kept, may);
    while !due.is_empty() {
        let (most, bytes) = BATCH;
        let mut sum = 0;
        let fits = due.iter().take(most).take_while(|due| {
            sum += due.size;
            sum <= bytes
        });
        let count = fits.count().max(1);
        let batch: Vec<Due> = due.drain(..count).collect();
        let read = parts.store.read(move |conn| {
            let with_blob = |due: Due| {
                let newest = blobs::read(conn, &due.path, due.blob)?;
                let blob = match newest {
                    Some(bytes) => Some(bytes),
                    None => retained::read(conn, &due.path, due.ver)?.map(|kept| kept.bytes),
                };
                Ok::<_, rusqlite::Error>((due, blob))
            };
            batch.into_iter().map(with_blob).collect::<Result<Vec<_>, _>>()
        });
        let read = read.await?;
        let (own, named) = (Arc::clone(parts), named.cloned());
        let text = Zeroizing::new(text.to_owned());
        let compare = move |part: Vec<(Due, Option<Vec<u8>>)>| {
            let told = Told::new(&text);
            part.into_iter().any(|(due, blob)| {
                is_told(&own, &told, &due, blob, named.as_ref() == Some(&due.path))
            })
        };
        let Some(found) = offload::shared(read, compare).await else { bail!("the agent ends") };
        if found.contains(&true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the versions that may be read and lie here: the newest of each secret, and those that
/// were retained or are in memory.
fn due(
    parts: &Parts,
    kept: &BTreeSet<(SecretPath, u64)>,
    may: impl Fn(&SecretPath) -> bool,
) -> Vec<Due> {
    let (folded, now) = (parts.ledger.read(), parts.time_for_ages());
    let state = &folded.state;
    let mut all = Vec::new();
    for (path, secret) in state.secrets() {
        if !may_read(state, &parts.own, path) || !may(path) {
            continue;
        }
        for (ver, version) in secret.versions().filter(|(_, version)| version.is_live(now)) {
            let lies_here = folded.held.get(path) == Some(&version.blob)
                || parts.cache.has(&version.blob)
                || kept.contains(&(path.clone(), ver));
            if lies_here {
                all.push(folded.due(path, ver, version));
            }
        }
    }
    all
}

/// Tells whether a version holds what is told; one that does not open here tells nothing.
fn is_told(
    parts: &Parts,
    told: &Told<'_>,
    due: &Due,
    blob: Option<Vec<u8>>,
    is_named: bool,
) -> bool {
    let content = parts.cache.get(&due.blob).or_else(|| {
        let blob = Blob::new(blob?);
        Some(due.check(&blob).and_then(|()| due.content(&parts.own.keys, &blob)))
    });
    let Some(Ok(content)) = content else { return false };
    let is_told = |value: &[u8]| if is_named { told.names(value) } else { told.tells(value) };
    values_of(&content).iter().any(|(_, value)| is_told(value))
}
