//! Encrypting drafts, each once: a draft that keeps its version and readers
//! when an entry is rebuilt keeps its blob.

use std::collections::HashMap;
use std::sync::Arc;

use shared::blob::{self, Place, Sealed};
use shared::hash::Hash;
use shared::keys::Recipient;
use shared::log::{self, Put};
use shared::signed::VaultId;

use super::Inner;
use super::decide::{Draft, DraftPut};
use super::types::{Content, WriteError};
use super::work;
use super::write::Caller;

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
    pub(super) fn blobs(&self) -> impl Iterator<Item = (Hash, Arc<Sealed>)> {
        self.0.values().map(|done| (done.sealed.id, Arc::clone(&done.sealed)))
    }

    /// Puts what was encrypted into the cache of contents.
    pub(super) fn remember(&self, inner: &Inner, drafts: &[Draft]) {
        for (at, draft) in drafts.iter().enumerate() {
            if let (Draft::Put(put), Some(done)) = (draft, self.0.get(&at)) {
                let bytes = Arc::clone(&put.content);
                let content = Content { ver: put.ver, kind: put.kind, bytes };
                inner.cache().put(done.sealed.id, content);
            }
        }
    }

    fn needs(&self, at: usize, put: &DraftPut, readers: Hash) -> bool {
        self.0.get(&at).is_none_or(|done| done.ver != put.ver || done.readers != readers)
    }
}

/// Encrypts what is not encrypted yet.
///
/// # Errors
/// If a content or blob is over its limit.
pub(super) async fn seal_all(
    inner: &Arc<Inner>,
    callers: &mut [Caller],
    drafts: &[Vec<Draft>],
) -> Result<(), WriteError> {
    let tasks = tasks(inner, callers, drafts);
    let (agreements, bytes) = tasks.iter().fold((0, 0), |(agreements, bytes), task| {
        (agreements + task.recipients.len(), bytes + task.put.content.len())
    });
    let parts = if work::is_small(agreements, bytes) {
        vec![seal_part(tasks)]
    } else {
        let parts = work::shared(tasks, seal_part).await;
        parts.ok_or_else(|| WriteError::Offline { reason: "the agent is stopping".into() })?
    };
    for part in parts {
        for (caller, at, done) in part? {
            callers[caller].sealing.0.insert(at, done);
        }
    }
    Ok(())
}

fn tasks(inner: &Inner, callers: &mut [Caller], drafts: &[Vec<Draft>]) -> Vec<Task> {
    let ledger = inner.ledger();
    let state = &ledger.state;
    let mut tasks = Vec::new();
    for (index, (caller, drafts)) in callers.iter_mut().zip(drafts).enumerate() {
        caller.sealing.0.retain(|at, _| matches!(drafts.get(*at), Some(Draft::Put(_))));
        for (at, draft) in drafts.iter().enumerate() {
            let Draft::Put(put) = draft else { continue };
            let readers = log::readers_hash(state, &put.path);
            if caller.sealing.needs(at, put, readers) {
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
