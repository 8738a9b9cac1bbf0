//! Encrypting drafts, each once: a draft that keeps its version and readers when an entry is
//! rebuilt keeps its blob.

use std::collections::HashMap;
use std::sync::Arc;

use shared::blob::{self, Place, Sealed};
use shared::hash::Hash;
use shared::keys::Recipient;
use shared::log::{self, Put};
use shared::signed::VaultId;

use super::cache::Cache;
use super::decide::{Draft, DraftPut};
use super::ledger::Ledger;
use super::offload;
use super::types::{Content, WriteError};

/// A caller's encrypted drafts, by their place among its drafts.
#[derive(Default)]
pub(super) struct Sealing(HashMap<usize, Done>);

struct Done {
    ver: u64,
    readers: Hash,
    sealed: Arc<Sealed>,
}

/// One version to encrypt.
struct Task {
    caller: usize,
    at: usize,
    vault: VaultId,
    put: DraftPut,
    readers: Hash,
    recipients: Vec<Recipient>,
}

type Finished = (usize, usize, Done);

impl Sealing {
    /// Returns the operation for a draft, if its blob is there.
    pub(super) fn get(&self, at: usize, put: &DraftPut) -> Option<Put> {
        let done = self.0.get(&at).filter(|done| done.ver == put.ver)?;
        Some(Put {
            path: put.path.clone(),
            ver: put.ver,
            blob: done.sealed.id,
            size: done.sealed.bytes.len() as u64,
            commit: done.sealed.commit,
            readers: done.readers,
        })
    }

    /// Returns the blobs.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Arc<Sealed>> {
        self.0.values().map(|done| Arc::clone(&done.sealed))
    }

    /// Puts what was encrypted into the cache of contents.
    pub(super) fn remember(&self, cache: &Cache, drafts: &[Draft]) {
        for (at, draft) in drafts.iter().enumerate() {
            if let (Draft::Put(put), Some(done)) = (draft, self.0.get(&at)) {
                let bytes = Arc::clone(&put.content);
                let content = Content { ver: put.ver, kind: put.kind, bytes };
                cache.put(done.sealed.id, content);
            }
        }
    }
}

/// Encrypts what is not encrypted yet, of each caller, unless something is over its limit.
pub(super) async fn seal_all(
    ledger: &Ledger,
    mut callers: Vec<(&mut Sealing, &[Draft])>,
) -> Result<(), WriteError> {
    let tasks = tasks(ledger, &mut callers);
    let (agreements, bytes) = tasks.iter().fold((0, 0), |(agreements, bytes), task| {
        (agreements + task.recipients.len(), bytes + task.put.content.len())
    });
    let parts = if offload::is_small(agreements, bytes) {
        vec![seal_part(tasks)]
    } else {
        let parts = offload::shared(tasks, seal_part).await;
        parts.ok_or_else(|| WriteError::Offline { reason: "the agent is stopping".into() })?
    };
    for part in parts {
        for (caller, at, done) in part? {
            callers[caller].0.0.insert(at, done);
        }
    }
    Ok(())
}

fn tasks(ledger: &Ledger, callers: &mut [(&mut Sealing, &[Draft])]) -> Vec<Task> {
    let folded = ledger.read();
    let state = &folded.state;
    let mut tasks = Vec::new();
    for (index, (sealing, drafts)) in callers.iter_mut().enumerate() {
        sealing.0.retain(|at, _| matches!(drafts.get(*at), Some(Draft::Put(_))));
        for (at, draft) in drafts.iter().enumerate() {
            let Draft::Put(put) = draft else { continue };
            let readers = log::readers_hash(state, &put.path);
            let done = sealing.0.get(&at);
            if done.is_none_or(|done| done.ver != put.ver || done.readers != readers) {
                let recipients = log::recipients(state, &put.path);
                let (vault, put) = (state.vault(), put.clone());
                tasks.push(Task { caller: index, at, vault, put, readers, recipients });
            }
        }
    }
    tasks
}

fn seal_part(tasks: Vec<Task>) -> Result<Vec<Finished>, WriteError> {
    let seal = |task: Task| {
        let Task { caller, at, vault, put, readers, recipients } = task;
        let place = Place { vault: &vault, path: &put.path, ver: put.ver };
        let sealed = blob::seal(place, put.kind, put.content.expose(), &recipients);
        let sealed = Arc::new(sealed.map_err(WriteError::Refused)?);
        Ok((caller, at, Done { ver: put.ver, readers, sealed }))
    };
    tasks.into_iter().map(seal).collect()
}
