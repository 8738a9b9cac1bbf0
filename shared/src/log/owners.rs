//! Who may sign a checkpoint, for those who have not folded the log up to it: root and the admins,
//! by what root alone has signed since (design/trust, *Checkpoints*). A server may hold such an
//! entry back, as it may hold back all news; it can make none.

use std::collections::BTreeMap;

use crate::error::{Code, Result};
use crate::keys::VerifyKey;
use crate::limits;
use crate::name::{Actor, Name};
use crate::signed::{Envelope, Purpose, VaultId};

use super::entry::{Checkpoint, Entry, Op};
use super::state::State;

/// Root and the admins as of some entry.
#[derive(Clone, Debug)]
pub struct Owners {
    vault: VaultId,
    seq: u64,
    root: VerifyKey,
    admins: BTreeMap<Name, VerifyKey>,
}

impl Owners {
    /// Returns those of a state that was verified.
    pub fn of(state: &State) -> Self {
        let (root, admins) = (state.root.clone(), state.admins.clone());
        Self { vault: state.vault, seq: state.seq, root, admins }
    }

    /// Tells whether an entry changes who they are.
    pub fn are_changed_by(entry: &Entry) -> bool {
        let changes = |op: &Op| {
            matches!(op, Op::AdminAdd { .. } | Op::AdminRemove { .. } | Op::RootSet { .. })
        };
        entry.ops.iter().any(changes)
    }

    /// Takes up what an entry of root's changes; one that is known already is passed over.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_ACTOR`, `E_BADSIG`, `E_PARSE`: it is not root's.
    pub fn follow(&mut self, envelope: &Envelope) -> Result<()> {
        envelope.check_size(limits::BODY, "body")?;
        let entry: Entry = envelope.parse()?;
        if entry.seq <= self.seq {
            return Ok(());
        }
        if envelope.by != Actor::Root || entry.by != Actor::Root {
            return Err(Code::Actor.because(format!("entry {} is not root's", entry.seq)));
        }
        envelope.verify(&self.root, Purpose::Entry(self.vault))?;
        self.seq = entry.seq;
        for op in entry.ops {
            match op {
                Op::AdminAdd { name, key } => drop(self.admins.insert(name, key)),
                Op::AdminRemove { name } => drop(self.admins.remove(&name)),
                Op::RootSet { key } => self.root = key,
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns what an entry says that it vouches for, whoever has signed it.
    ///
    /// # Errors
    /// `E_LIMITS`, `E_PARSE`; `E_CHECKPOINT` if it is no checkpoint.
    pub fn claimed(envelope: &Envelope) -> Result<Checkpoint> {
        envelope.check_size(limits::BODY, "body")?;
        let entry: Entry = envelope.parse()?;
        match entry.ops.first() {
            Some(Op::Checkpoint(named)) if named.seq.checked_add(1) == Some(entry.seq) => {
                Ok(*named)
            }
            Some(_) | None => Err(Code::Checkpoint.because(format!("entry {} is none", entry.seq))),
        }
    }

    /// Returns what an entry vouches for, if one of them has signed it.
    ///
    /// # Errors
    /// `E_BADSIG`, `E_PARSE`, `E_ACTOR`; `E_CHECKPOINT` if it is no checkpoint, or nobody's who is
    /// known.
    pub fn vouched(&self, envelope: &Envelope) -> Result<Checkpoint> {
        envelope.check_size(limits::BODY, "body")?;
        let key = match &envelope.by {
            Actor::Root => Some(&self.root),
            Actor::Admin(name) => self.admins.get(name),
            Actor::Machine(_) => None,
        };
        let unknown = || {
            let why = format!("one by `{}`, who is no owner that is known here", envelope.by);
            Code::Checkpoint.because(why)
        };
        envelope.verify(key.ok_or_else(unknown)?, Purpose::Entry(self.vault))?;
        let entry: Entry = envelope.parse()?;
        if entry.by != envelope.by {
            let why = format!("envelope of `{}` holds `{}`", envelope.by, entry.by);
            return Err(Code::Actor.because(why));
        }
        Self::claimed(envelope)
    }
}
