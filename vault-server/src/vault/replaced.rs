//! Blobs that no version refers to any more: they stay for some days, so that a reader that is a
//! little behind in the log still gets what it knows of, but never past an act that was to end
//! somebody's access (design/trust, *Server*).

use std::collections::{HashMap, HashSet};

use shared::hash::Hash;
use shared::log::{self, Op, Put, State};
use shared::path::SecretPath;

use crate::store::{Result, Transaction, blob};

/// Returns the readers that a blob is encrypted to; `None` if they changed since it was made, and
/// nobody knows who they are.
pub(super) fn readers(state: Option<&State>, put: &Put) -> Option<String> {
    let readers = log::readers(state?, &put.path).join("\n");
    (Hash::of(&[readers.as_bytes()]) == put.readers).then_some(readers)
}

/// Takes the blobs that an entry has dropped: those stay for a while that everybody may still read
/// whom they are encrypted to. The others go at once, also those that stayed until now: whatever
/// is destroyed or forgotten, and what a machine or a kit could open that has lost the right to.
pub(super) fn retire(tx: &Transaction, ops: &[Op], dropped: &[Hash]) -> Result<()> {
    let (conn, now) = (tx.conn(), tx.now());
    let mut today = Today { state: tx.state(), readers: HashMap::new() };
    for id in dropped {
        let known = blob::placed(conn, id)?;
        if known.is_some_and(|known| today.may_stay(&known)) {
            blob::replace(conn, id, now)?;
        } else {
            blob::delete(conn, id)?;
        }
    }
    for op in ops {
        if let Op::Destroy(log::Versions { path, .. }) | Op::Forget { path } = op {
            blob::drop_replaced_of(conn, path)?;
        }
    }
    if ops.iter().any(may_end_access) {
        for known in blob::replaced(conn)? {
            if !today.may_stay(&known) {
                blob::delete(conn, &known.id)?;
            }
        }
    }
    Ok(())
}

/// Tells whether somebody may read less after this operation.
const fn may_end_access(op: &Op) -> bool {
    matches!(
        op,
        Op::MachineRemove { .. } | Op::MachineRekey(_) | Op::AccessSet(_) | Op::RecoverySet { .. }
    )
}

/// Who may read what today.
struct Today<'s> {
    state: Option<&'s State>,
    readers: HashMap<SecretPath, HashSet<String>>,
}

impl Today<'_> {
    /// Tells whether all whom a blob is encrypted to may still read its path.
    fn may_stay(&mut self, blob: &blob::Wrapped) -> bool {
        let (Some(state), Some(then)) = (self.state, &blob.readers) else { return false };
        if !self.readers.contains_key(&blob.path) {
            let today = log::readers(state, &blob.path).into_iter().collect();
            self.readers.insert(blob.path.clone(), today);
        }
        let today = self.readers.get(&blob.path);
        today.is_some_and(|today| then.split('\n').all(|reader| today.contains(reader)))
    }
}
