//! Who waits for a write, what it was decided to become, and how it is recorded and answered.

use shared::audit::{self, Asker, Fact, Outcome};
use shared::hash::Hash;
use shared::log::Op;
use shared::path::SecretPath;
use shared::time::Time;
use tokio::sync::oneshot;

use crate::engine::decide::Draft;
use crate::engine::parts::Parts;
use crate::engine::seal::Sealing;
use crate::engine::types::{Change, WriteError, Written};

/// Somebody whose changes are being written.
pub(super) struct Caller {
    /// For the audit log.
    pub(super) by: Asker,
    pub(super) changes: Vec<Change>,
    pub(super) reply: oneshot::Sender<Result<Written, WriteError>>,
    pub(super) sealing: Sealing,
    /// Entries with these changes that the server has refused.
    pub(super) refused: Vec<Attempt>,
}

/// Drafts of all callers on one state.
pub(super) struct Build {
    pub(super) seq: u64,
    pub(super) prev: Hash,
    pub(super) time: Time,
    /// One for each caller.
    pub(super) drafts: Vec<Vec<Draft>>,
}

/// A refused entry, as far as it is one caller's.
pub(super) struct Attempt {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) time: Time,
    pub(super) drafts: Vec<Draft>,
}

impl Caller {
    pub(super) fn answer(self, result: Result<Written, WriteError>) {
        let _ = self.reply.send(result);
    }
}

pub(super) fn written(seq: u64, time: Time, drafts: &[Draft]) -> Written {
    let versions = drafts.iter().filter_map(|draft| match draft {
        Draft::Put(put) => Some((put.path.clone(), put.ver)),
        Draft::Op(_) => None,
    });
    Written { seq, time, versions: versions.collect() }
}

/// Has it on record who wrote what; the answers may go out when this returns.
pub(super) async fn record(parts: &Parts, facts: Vec<Fact>) -> Result<(), WriteError> {
    let recorded = parts.accesses.record(facts).await;
    let but = "the change may be in the log, but it cannot be recorded who made it";
    recorded.map_err(|fault| WriteError::Local(format!("{but}: {fault}")))
}

/// Returns what somebody did to secrets by their drafts.
pub(super) fn facts(by: &Asker, drafts: &[Draft], result: &Outcome) -> Vec<Fact> {
    let facts = drafts.iter().flat_map(touched).map(|(op, path, ver)| Fact {
        path: Some(path.clone()),
        ver,
        result: result.clone(),
        ..Fact::new(op).by(by)
    });
    facts.collect()
}

/// Returns what a draft does to which version, where it is about a secret.
fn touched(draft: &Draft) -> Vec<(audit::Op, &SecretPath, Option<u64>)> {
    let op = match draft {
        Draft::Put(put) => {
            let op = if put.merged { audit::Op::LocalPatch } else { audit::Op::LocalPut };
            return vec![(op, &put.path, Some(put.ver))];
        }
        Draft::Op(op) => &**op,
    };
    let (what, at) = match op {
        Op::Delete(at) => (audit::Op::LocalDelete, at),
        Op::Undelete(at) => (audit::Op::LocalUndelete, at),
        Op::Destroy(at) => (audit::Op::LocalDestroy, at),
        Op::MetaSet(meta) => return vec![(audit::Op::LocalMetaSet, &meta.path, None)],
        Op::Forget { path } => return vec![(audit::Op::LocalForget, path, None)],
        // No secret's, and no local caller's: the server records them with their entry.
        Op::Put(_)
        | Op::Rewrap(_)
        | Op::MountSet(_)
        | Op::MountDrop { .. }
        | Op::AdminAdd { .. }
        | Op::AdminRemove { .. }
        | Op::RootSet { .. }
        | Op::RecoverySet { .. }
        | Op::ServerSet { .. }
        | Op::AddressesSet { .. }
        | Op::MachineAdd(_)
        | Op::MachineRename { .. }
        | Op::MachineRekey(_)
        | Op::MachineSet { .. }
        | Op::MachineRemove { .. }
        | Op::AccessSet(_)
        | Op::Resume(_)
        | Op::Checkpoint(_)
        | Op::FormatSet { .. } => return Vec::new(),
    };
    at.versions.iter().map(|ver| (what.clone(), &at.path, Some(*ver))).collect()
}
