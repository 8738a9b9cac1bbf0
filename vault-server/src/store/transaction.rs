//! The open transaction: the connection, with the folded state, the newest signed head and the
//! audit chain that memory keeps beside it. When it is committed is the writer's. No rule lives
//! here.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use shared::audit::{AuditHead, Fact};
use shared::error::Error;
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::{SignKey, VerifyKey};
use shared::log::{Applied, Entry, Number, Op, Refused, State, Undo};
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::shares::Share;

use super::folded::{Folded, is_folded, may_be_counted};
use super::log::{self, Stored};
use super::restored::{self, Restored};
use super::{Connection, Fault, Result, Tip, audit, checkpoint, unwritable};
use crate::meter::Meter;

/// What a queued piece of work operates on.
pub struct Transaction {
    pub(super) conn: Connection,
    pub(super) state: Option<State>,
    pub(super) audit: AuditHead,
    pub(super) now: Time,
    pub(super) undo: Vec<Undo>,
    pub(super) after: Vec<AfterCommit>,
    pub(super) wanted: Option<Wanted>,
    pub(super) signer: Arc<SignKey>,
    pub(super) head: Option<SignedHead>,
    pub(super) restored: Option<Restored>,
    /// How often what the database lacks was changed.
    pub(super) marks: u64,
    /// What the log lists may have changed since it was last made known.
    pub(super) relisted: bool,
    /// Whether entries of other servers, folded and not yet told to who follows, have changed who
    /// takes part; `None` if all were told.
    pub(super) untold: Option<bool>,
    pub(super) payer: Option<Payer>,
    pub(super) folded: Arc<Folded>,
}

/// Whose share records and bytes are taken of.
pub struct Payer {
    /// Who keeps the account.
    pub meter: Arc<Meter>,
    /// The machine.
    pub machine: Number,
    /// Whether all facts are counted that may be, as there is no room on the disk.
    pub is_tight: bool,
}

/// Blobs that are wanted back, and the versions they are of.
pub type Wanted = HashMap<Hash, (SecretPath, u64)>;

/// Something to do once the transaction is on disk.
type AfterCommit = Box<dyn FnOnce() + Send>;

impl Transaction {
    /// Begins with what the database holds; `signer` is the key that heads are signed with.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(
        conn: Connection,
        state: Option<State>,
        audit: AuditHead,
        signer: Arc<SignKey>,
    ) -> Result<Self> {
        let restored = restored::load(&conn)?;
        let now = Time::from_micros(0);
        let mut tx = Self {
            conn,
            state,
            audit,
            now,
            undo: Vec::new(),
            after: Vec::new(),
            wanted: None,
            signer,
            head: None,
            restored,
            marks: 0,
            relisted: true,
            untold: None,
            payer: None,
            folded: Arc::default(),
        };
        if let Some(Head { seq, head, .. }) = tx.state().map(State::place) {
            tx.sign_newest(seq, head)?;
        }
        Ok(tx)
    }

    /// Returns the folded state, with the entries of the open transaction.
    pub const fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Returns the audit chain's head, with the records of the open transaction.
    pub const fn audit(&self) -> AuditHead {
        self.audit
    }

    /// Returns the time at which the transaction was opened.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Returns the connection, for asking.
    pub const fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Returns the newest signed head. It goes out with this transaction's answers, once the entry
    /// is on disk and the head in its file.
    pub const fn head(&self) -> Option<SignedHead> {
        self.head
    }

    /// Returns the public half of the key that heads are signed with.
    pub fn own_key(&self) -> VerifyKey {
        self.signer.verify_key()
    }

    /// Signs the head that entry `seq`, just stored, has made: it is the newest now.
    pub fn sign_newest(&mut self, seq: u64, head: Hash) -> Result<SignedHead> {
        let signed = self.sign(seq, head)?;
        self.head = Some(signed);
        Ok(signed)
    }

    /// Signs the head that entry `seq` of the log made: a head says the same whenever it is signed.
    pub fn sign(&self, seq: u64, head: Hash) -> Result<SignedHead> {
        let state = self.state.as_ref().ok_or(Fault::Absent)?;
        let head = Head { epoch: state.epoch_at(seq), seq, head };
        head.sign(&self.signer, state.vault()).map_err(unwritable)
    }

    /// Returns what the database lacks, if it was set back.
    pub const fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Notes what the database lacks, or that it lacks nothing any more.
    pub fn set_restored(&mut self, restored: Option<Restored>) -> Result<()> {
        restored::save(&self.conn, restored.as_ref())?;
        self.restored = restored;
        self.marks += 1;
        Ok(())
    }

    /// Returns where the chains end, with what the open transaction has written.
    pub(super) fn tip(&self) -> Tip {
        let log = self.state.as_ref().map(|state| (state.seq(), state.head()));
        Tip { log, audit: self.audit, marks: self.marks }
    }

    /// Takes over what other servers have committed, which ends at `tip`. They have checked it as
    /// this one does.
    pub(super) fn follow(&mut self, tip: &Tip) -> Result<(), Overtaken> {
        if self.tip().log != tip.log {
            self.fold_on(tip)?;
            self.wanted = None;
            let place = self.state.as_ref().map(State::place);
            if let Some(Head { seq, head, .. }) = place {
                self.sign_newest(seq, head)?;
            }
        }
        // One that was sealed meanwhile is known to its segment.
        let known = audit::head_at(&self.conn, self.audit.n)?;
        if tip.audit.n < self.audit.n || known.is_some_and(|known| known != self.audit) {
            return Err(Overtaken::Lost { what: "audit record", n: self.audit.n });
        }
        if (self.audit, self.marks) != (tip.audit, tip.marks) {
            (self.audit, self.marks) = (tip.audit, tip.marks);
            self.restored = restored::load(&self.conn)?;
            self.relisted = true;
        }
        Ok(())
    }

    /// Folds the entries up to `tip` that other servers have written.
    fn fold_on(&mut self, tip: &Tip) -> Result<(), Overtaken> {
        let own = self.tip().log;
        let lost = || {
            let n = own.map_or(0, |(seq, _)| seq);
            Overtaken::Lost { what: "entry", n }
        };
        let begin = self.begin_later()?;
        let known = match (own, &begin) {
            (Some((seq, head)), None) => log::hash_at(&self.conn, seq)? == Some(head),
            (Some(_), Some(_)) | (None, _) => true,
        };
        let upto = tip.log.filter(|_| known).ok_or_else(lost)?.0;
        // Noted one by one: the connection may end in the middle, and this goes on from there.
        let changed = self.untold.get_or_insert(false);
        *changed |= begin.is_some();
        self.state = begin.or_else(|| self.state.take());
        let first = self.state.as_ref().map_or(0, |state| state.seq() + 1);
        let state = &mut self.state;
        log::range(&self.conn, first, upto, |Stored { seq, envelope, .. }| {
            match state {
                None => {
                    let founded = shared::log::start(&envelope);
                    *state = Some(founded.map_err(|why| Overtaken::Unknown(seq, why))?);
                    *changed = true;
                }
                Some(state) => {
                    let applied = shared::log::apply(state, &envelope);
                    let Applied { entry, .. } =
                        applied.map_err(|why| Overtaken::Unknown(seq, why.error))?;
                    *changed |= entry.ops.iter().any(changes_members);
                }
            }
            Ok::<_, Overtaken>(ControlFlow::Continue(()))
        })?;
        self.relisted = true;
        match self.tip().log == tip.log {
            true => Ok(()),
            false => Err(lost()),
        }
    }

    /// Returns the state that the log begins after, if the entry that this server is at, or those
    /// that come next, were dropped.
    fn begin_later(&self) -> Result<Option<State>, Overtaken> {
        let own = self.state.as_ref();
        let dropped = checkpoint::dropped(&self.conn)?;
        if dropped == 0 || own.is_some_and(|own| own.seq() > dropped) {
            return Ok(None);
        }
        let begin = checkpoint::start(&self.conn).map_err(Overtaken::Begin)?;
        match (own, &begin) {
            (Some(own), Some(begin))
                if own.vault() != begin.vault()
                    || (own.seq() == begin.seq() && own.head() != begin.head()) =>
            {
                Err(Overtaken::Lost { what: "entry", n: own.seq() })
            }
            (Some(_) | None, _) => Ok(begin),
        }
    }

    /// Takes the state of a new vault.
    pub fn found(&mut self, state: State) {
        self.state = Some(state);
    }

    /// Applies an entry to the state; returns it and the blobs it dropped. `None` without a vault.
    ///
    /// # Errors
    /// As [`shared::log::apply`]; the state is then as before.
    pub fn apply(&mut self, envelope: &Envelope) -> Option<Result<(Entry, Vec<Hash>), Refused>> {
        let state = self.state.as_mut()?;
        Some(shared::log::apply(state, envelope).map(|Applied { entry, dropped, undo }| {
            self.undo.push(undo);
            self.relisted |= entry.ops.iter().any(relists);
            (entry, dropped)
        }))
    }

    /// Takes the last [`Transaction::apply`] back.
    pub fn take_back(&mut self) {
        if let (Some(undo), Some(state)) = (self.undo.pop(), &mut self.state) {
            state.revert(undo);
        }
    }

    /// Notes which blobs are wanted back, and for which versions; `None` if that is to be found
    /// out. The versions may have changed since: the caller looks.
    pub fn want(&mut self, wanted: Option<Wanted>) {
        self.wanted = wanted;
    }

    /// Returns which blobs are wanted back, if that is known.
    pub const fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    /// Says whose share the next records and bytes are taken of; nobody's if `None`.
    pub fn bill(&mut self, payer: Option<Payer>) {
        self.payer = payer;
    }

    /// Takes an amount of the payer's share.
    pub fn charge(&self, share: Share, amount: usize) {
        if let Some(Payer { meter, machine, .. }) = &self.payer {
            meter.take(*machine, share, amount as u64);
        }
    }

    /// Gives back what was taken of the payer's share for nothing.
    pub fn give_back(&self, share: Share, amount: u64) {
        if let Some(Payer { meter, machine, .. }) = &self.payer {
            meter.give_back(*machine, share, amount);
        }
    }

    /// Appends an audit record. Only counted is a refusal like one that is on record already, and a
    /// fact whose payer is over its share of records, if that is enough for a fact of its kind.
    pub fn record(&mut self, fact: Fact) -> Result<()> {
        let refused = is_folded(&fact);
        if refused && self.folded.repeats(&fact) {
            return Ok(());
        }
        if let Some(Payer { meter, machine, is_tight }) = &self.payer {
            let countable = may_be_counted(&fact);
            if (*is_tight && countable) || !meter.records(*machine, &fact, countable) {
                self.folded.count(&fact);
                return Ok(());
            }
        }
        if !refused {
            return self.append(fact);
        }
        self.append(fact.clone())?;
        let folded = Arc::clone(&self.folded);
        self.after_commit(move || folded.is_on_record(fact));
        Ok(())
    }

    /// Appends the records of what was only counted, and starts to count anew.
    pub fn record_counted(&mut self) -> Result<()> {
        self.folded.take().into_iter().try_for_each(|fact| self.append(fact))
    }

    fn append(&mut self, fact: Fact) -> Result<()> {
        self.audit = audit::insert(&self.conn, self.audit, self.now, fact)?;
        Ok(())
    }

    /// Does something once the transaction is on disk, before its answers go out.
    pub fn after_commit(&mut self, act: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(act));
    }
}

/// Why this server cannot go on where others have left off.
#[derive(Debug, thiserror::Error)]
pub enum Overtaken {
    /// The database cannot be read.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The database lacks what this server has committed.
    #[error("the database lacks {what} {n}, which this server has committed")]
    Lost {
        /// What is lacking.
        what: &'static str,
        /// Its number.
        n: u64,
    },
    /// The log begins after a state that cannot be read.
    #[error("{0:#}")]
    Begin(anyhow::Error),
    /// Another server has written what this program does not take.
    #[error("entry {0}, which another server has written, is not taken: {1}")]
    Unknown(u64, Error),
}

/// Tells whether an operation may change who takes part, or who signs.
pub const fn changes_members(op: &Op) -> bool {
    matches!(
        op,
        Op::MachineAdd(_)
            | Op::MachineRename { .. }
            | Op::MachineRekey(_)
            | Op::MachineRemove { .. }
            | Op::AdminAdd { .. }
            | Op::AdminRemove { .. }
            | Op::RootSet { .. }
    )
}

/// Tells whether an operation may change what [`Listed`] says.
const fn relists(op: &Op) -> bool {
    matches!(
        op,
        Op::MachineAdd(_)
            | Op::MachineRekey(_)
            | Op::MachineRemove { .. }
            | Op::AccessSet(_)
            | Op::ServerSet { .. }
            | Op::Resume(_)
    )
}
