//! Where the log ends as of the last commit, and what stands in it of those who sign and watch
//! heads: for all who must not wait for the writer.

use std::sync::Arc;

use shared::error::Result;
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::{SignKey, VerifyKey};
use shared::log::{Machine, Number, State};
use shared::signed::VaultId;

/// What a machine must be able to read to see audit records.
pub const AUDIT: &str = "sys/audit";

/// Tells whether a machine may.
pub fn may_read_audit(machine: &Machine) -> bool {
    AUDIT.parse().is_ok_and(|path| machine.read.cover(&path))
}

/// Where the log ends.
#[derive(Clone, Debug)]
pub struct End {
    /// The newest head: it may be given out.
    pub head: SignedHead,
    /// Whether the database was set back.
    pub restored: bool,
    /// Whether the blob of every kept version is known to be here.
    pub whole: bool,
    /// What the log lists.
    pub listed: Arc<Listed>,
}

/// What the log lists of servers, epochs and witnesses.
#[derive(Debug)]
pub struct Listed {
    /// The vault.
    pub vault: VaultId,
    /// The server's keys.
    pub keys: Vec<VerifyKey>,
    /// Active machines that may write everything.
    pub witnesses: Vec<Number>,
    /// Active machines that may read audit records.
    pub auditors: Vec<Number>,
    /// Entries that resumed, and the epochs that began with them.
    epochs: Vec<(u64, Hash)>,
    /// Epochs that the log does not know since owners have resumed without them.
    given_up: Vec<Hash>,
}

impl Listed {
    /// Lists what stands in a state, and the epochs that were given up.
    pub fn of(state: &State, given_up: Vec<Hash>) -> Self {
        let those = |holds: fn(&Machine) -> bool| {
            let active = state.machines().iter().filter(|(_, machine)| machine.active);
            active.filter(|(_, machine)| holds(machine)).map(|(number, _)| *number).collect()
        };
        Self {
            vault: state.vault(),
            keys: state.server().to_vec(),
            witnesses: those(|machine| {
                machine.write.as_slice().iter().any(|grant| grant.as_str() == "*")
            }),
            auditors: those(may_read_audit),
            epochs: state.resumed().iter().map(|resumed| (resumed.seq, resumed.epoch)).collect(),
            given_up,
        }
    }

    /// Returns the epoch of entry `seq`.
    pub fn epoch_at(&self, seq: u64) -> Hash {
        let until = self.epochs.iter().rev().find(|(from, _)| *from <= seq);
        until.map_or(self.vault, |(_, epoch)| *epoch)
    }

    /// Tells whether an epoch is known to be over.
    pub fn is_past(&self, epoch: &Hash) -> bool {
        let began = self.epochs.iter().map(|(_, epoch)| epoch).chain(&self.given_up);
        let known = std::iter::once(&self.vault).chain(began).any(|known| known == epoch);
        known && *epoch != self.epoch_at(u64::MAX)
    }

    /// Signs the head that entry `seq` made: a head says the same whenever it is signed.
    ///
    /// # Errors
    /// As [`Head::sign`].
    pub fn sign(&self, seq: u64, head: Hash, key: &SignKey) -> Result<SignedHead> {
        Head { epoch: self.epoch_at(seq), seq, head }.sign(key, self.vault)
    }
}
