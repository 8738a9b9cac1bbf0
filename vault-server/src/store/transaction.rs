//! What a queued piece of work operates on: the open transaction, the folded state and the audit
//! chain, all three taken back together if the commit fails. No rule lives here.

use std::collections::HashMap;

use rusqlite::Connection;
use shared::audit::{AuditHead, Fact};
use shared::hash::Hash;
use shared::log::{Applied, Entry, Refused, State};
use shared::path::SecretPath;
use shared::signed::Envelope;
use shared::time::Time;

use super::audit;

/// How to take back what was done to the state.
enum Step {
    Founded,
    Applied(shared::log::Undo),
}

/// Something to do once the transaction is on disk.
type AfterCommit = Box<dyn FnOnce() + Send>;

/// The open transaction, and what memory keeps of those before it.
pub struct Transaction {
    conn: Connection,
    state: Option<State>,
    audit: AuditHead,
    now: Time,
    undo: Vec<Step>,
    after: Vec<AfterCommit>,
    wanted: HashMap<Hash, (SecretPath, u64)>,
}

/// A point that a transaction can be taken back to.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    undo: usize,
    after: usize,
    audit: AuditHead,
}

impl Transaction {
    /// Begins with what the database holds.
    #[must_use]
    pub fn new(conn: Connection, state: Option<State>, audit: AuditHead) -> Self {
        let now = Time::from_micros(0);
        let (undo, after, wanted) = (Vec::new(), Vec::new(), HashMap::new());
        Self { conn, state, audit, now, undo, after, wanted }
    }

    /// Returns the folded state, with the entries of the open transaction.
    #[must_use]
    pub const fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Returns the audit chain's head, with the records of the open transaction.
    #[must_use]
    pub const fn audit(&self) -> AuditHead {
        self.audit
    }

    /// Returns the time at which the transaction was opened.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Returns the connection, for asking.
    #[must_use]
    pub const fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Takes the state of a new vault.
    pub fn found(&mut self, state: State) {
        self.state = Some(state);
        self.undo.push(Step::Founded);
    }

    /// Applies an entry to the state; returns it and the blobs it dropped. `None` without a vault.
    ///
    /// # Errors
    /// As [`shared::log::apply`]; the state is then as before.
    pub fn apply(&mut self, envelope: &Envelope) -> Option<Result<(Entry, Vec<Hash>), Refused>> {
        let state = self.state.as_mut()?;
        Some(shared::log::apply(state, envelope).map(|Applied { entry, dropped, undo }| {
            self.undo.push(Step::Applied(undo));
            (entry, dropped)
        }))
    }

    /// Takes the last [`Transaction::apply`] or [`Transaction::found`] back.
    pub fn take_back(&mut self) {
        match self.undo.pop() {
            Some(Step::Founded) => self.state = None,
            Some(Step::Applied(undo)) => {
                if let Some(state) = &mut self.state {
                    state.revert(undo);
                }
            }
            None => {}
        }
    }

    /// Notes which blobs are wanted back, and for which versions. What became of the versions since
    /// is for whoever asks to find out.
    pub fn want(&mut self, wanted: HashMap<Hash, (SecretPath, u64)>) {
        self.wanted = wanted;
    }

    /// Returns the version that a blob is wanted back for.
    #[must_use]
    pub fn wanted(&self, id: &Hash) -> Option<&(SecretPath, u64)> {
        self.wanted.get(id)
    }

    /// Appends an audit record.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn record(&mut self, fact: Fact) -> rusqlite::Result<()> {
        self.audit = audit::insert(&self.conn, self.audit, self.now, fact)?;
        Ok(())
    }

    /// Does something once the transaction is on disk, before its answers go out.
    pub fn after_commit(&mut self, act: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(act));
    }

    pub(super) const fn open_at(&mut self, now: Time) {
        self.now = now;
    }

    pub(super) const fn mark(&self) -> Mark {
        Mark { undo: self.undo.len(), after: self.after.len(), audit: self.audit }
    }

    pub(super) fn back_to(&mut self, mark: Mark) {
        while self.undo.len() > mark.undo {
            self.take_back();
        }
        self.after.truncate(mark.after);
        self.audit = mark.audit;
    }

    /// Ends a transaction that is on disk; returns how many entries it brought.
    pub(super) fn committed(&mut self) -> usize {
        for act in self.after.drain(..) {
            act();
        }
        let entries = self.undo.len();
        self.undo.clear();
        entries
    }
}
