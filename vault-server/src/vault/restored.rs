//! A database that was set back: how that is found out, what it refuses until then, and how it ends
//! (design/trust, *Life cycle*, restore). What comes back meanwhile is `heal`'s.

use std::sync::Arc;

use host::store::StoreFailure;
use shared::audit::{self, AuditHead, Fact};
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::random;
use shared::log::{Entry, Op, Resume, State};
use shared::wire::v1::log::AppendRequest;

use crate::meter::STRANGERS;
use crate::store::restored::{self as table, Cause, Restored};
use crate::store::{End, Result, Transaction, audit as chain, log};

use super::code::CodeFile;
use super::{Outcome, Peer, Refusal, Vault, give_up, refuse};

impl Vault {
    /// Compares the head in the file beside the database with the log, at start, before anybody is
    /// answered; and looks after the one-time code.
    pub async fn judge_file(&self, held: Option<SignedHead>) -> Result<(), StoreFailure> {
        let code = self.0.code.clone();
        let judged = self.0.store.call(move |tx| {
            if let Some(head) = held {
                let fact = Fact::new(audit::Op::Restored);
                judge(tx, &code, head, Cause::File, fact)?;
            }
            keep_code(tx, &code)
        });
        judged.await
    }

    /// Compares the head that a peer shows with a request for the log. One that this server has
    /// signed and the log lacks proves that the database was set back; anybody may show it.
    pub async fn judge_shown(&self, peer: &Peer, head: SignedHead) -> Result<(), Refusal> {
        let Some(end) = self.0.store.end() else { return Ok(()) };
        let End { listed, head: newest, .. } = &end;
        let same = (newest.epoch, newest.seq, newest.head) == (head.epoch, head.seq, head.head);
        if same || listed.is_past(&head.epoch) || !self.has_signed(&end, &head) {
            return Ok(());
        }
        if head.epoch == newest.epoch && head.seq < newest.seq {
            let found = self.0.reader.ask(move |conn| log::hash_at(conn, head.seq)).await?;
            if found == Some(head.head) {
                return Ok(());
            }
        }
        let fact = match self.caller(peer) {
            Some(caller) => caller.fact(audit::Op::Restored),
            None => peer.fact(audit::Op::Restored),
        };
        let code = self.0.code.clone();
        self.call(STRANGERS, move |tx| Ok(judge(tx, &code, head, Cause::Caller, fact)?)).await
    }

    /// Makes the one-time code anew if its file is gone. Of several servers one shows it: the
    /// others remove theirs, and one that is started makes another.
    pub(super) async fn look_after_code(&self) {
        if self.0.store.end().is_some_and(|end| end.restored) {
            let (code, shared) = (self.0.code.clone(), self.0.reader.is_shared());
            let look = move |tx: &mut Transaction| match tx.restored() {
                Some(restored) if shared && !code.holds(restored) => {
                    code.remove();
                    Ok(())
                }
                Some(_) | None => Ok(keep_code(tx, &code)?),
            };
            // A failure is in the log; the next minute tries again.
            let _ = self.call(STRANGERS, look).await;
        }
    }
}

/// Tells whether the log lacks a head that this server has signed.
fn lacks(tx: &Transaction, head: &SignedHead) -> Result<bool> {
    tx.state().map_or(Ok(false), |state| table::lacks(tx.conn(), state, head))
}

/// Notes that the database was set back if it lacks a head that this server has signed.
fn judge(
    tx: &mut Transaction,
    file: &CodeFile,
    head: SignedHead,
    cause: Cause,
    fact: Fact,
) -> Result<()> {
    if !lacks(tx, &head)? {
        return Ok(());
    }
    let present = tx.state().map(State::epoch);
    if tx.state().is_some_and(|state| !table::knows(state, &head.epoch)) {
        table::note_epoch(tx.conn(), &head.epoch)?;
    }
    let restored = match (tx.restored(), cause) {
        // What is known to be lacked vouches for this one too, and for the end of an epoch before
        // its own.
        (Some(Restored { cause: Cause::File, lacks, .. }), _)
            if (lacks.epoch == head.epoch && head.seq <= lacks.seq)
                || (lacks.epoch != head.epoch && present == Some(head.epoch)) =>
        {
            return Ok(());
        }
        (Some(Restored { cause: Cause::Caller, .. }), _) | (Some(_), Cause::File) => return Ok(()),
        (Some(known), Cause::Caller) => Restored { cause, lacks: head, ..*known },
        (None, _) => Restored { cause, lacks: head, code: Hash::from_bytes(*random::<32>()) },
    };
    tx.set_restored(Some(restored))?;
    tx.record(Fact { seq: Some(head.seq), ..fact })?;
    keep_code(tx, file)?;
    tracing::warn!(
        lacks = head.seq,
        by_caller = cause == Cause::Caller,
        code = %file.path().display(),
        "the database was set back: it takes lost entries only, until they are here or an owner \
         resumes with the one-time code in the file"
    );
    Ok(())
}

/// Writes a new one-time code, unless its file holds the present one; removes the file of a used
/// one.
pub(super) fn keep_code(tx: &mut Transaction, file: &CodeFile) -> Result<()> {
    let Some(restored) = tx.restored().copied() else {
        file.remove();
        return Ok(());
    };
    if file.holds(&restored) {
        return Ok(());
    }
    match file.renew() {
        Ok(code) => tx.set_restored(Some(Restored { code, ..restored })),
        Err(error) => {
            let why = "the one-time code was not written; the next minute tries again";
            tracing::error!(%error, "{why}");
            Ok(())
        }
    }
}

/// Lets only an entry pass that resumes and brings the one-time code, while the database is set
/// back; `fact` is the record of a refusal.
pub(super) fn admits(tx: &mut Transaction, request: &AppendRequest, fact: Fact) -> Outcome<()> {
    let Some(restored) = tx.restored() else { return Ok(()) };
    let entry = serde_json::from_slice::<Entry>(&request.envelope.body).ok();
    if entry.as_ref().is_none_or(|entry| resume(entry).is_none()) {
        return turn_away(tx, fact);
    }
    if request.code.is_some_and(|code| restored.opens(&code)) {
        return Ok(());
    }
    give_up(tx, fact, audit::Outcome::Refused(Code::Claim), Refusal::Claim)
}

/// Refuses what a database that was set back does not do, on record.
pub(super) fn turn_away<T>(tx: &mut Transaction, fact: Fact) -> Outcome<T> {
    give_up(tx, fact, audit::Outcome::Restored, Refusal::Restored)
}

/// Returns what an entry resumes from, if it does.
fn resume(entry: &Entry) -> Option<&Resume> {
    match entry.ops.first() {
        Some(Op::Resume(resume)) => Some(resume),
        _ => None,
    }
}

/// Judges an entry that was just applied: one that resumes needs a database that was set back, and
/// names a place of its audit chain; `fact` is the record of a refusal.
pub(super) fn may_resume(
    tx: &mut Transaction,
    entry: &Entry,
    fact: impl FnOnce() -> Fact,
) -> Outcome<()> {
    let Some(Resume { audit_n, audit_head, .. }) = resume(entry) else { return Ok(()) };
    if tx.restored().is_none() {
        tx.take_back();
        return give_up(tx, fact(), audit::Outcome::Refused(Code::Claim), Refusal::Claim);
    }
    let resumed = AuditHead { n: *audit_n, hash: *audit_head };
    if chain::head_at(tx.conn(), *audit_n)? != Some(resumed) {
        tx.take_back();
        let why = format!("audit record {audit_n} with the value that the entry names");
        return refuse(tx, fact(), Code::Missing.because(why));
    }
    Ok(())
}

/// Ends the state with the entry that resumed.
pub(super) fn resumed(tx: &mut Transaction, file: &Arc<CodeFile>, entry: &Entry) -> Result<()> {
    if resume(entry).is_none() {
        return Ok(());
    }
    tracing::warn!(seq = entry.seq, by = %entry.by, "the vault was resumed");
    table::settle_epochs(tx.conn(), true)?;
    end(tx, file)
}

/// Ends the state once the log holds the head that the file beside the database told of.
pub(super) fn healed(tx: &mut Transaction, file: &Arc<CodeFile>) -> Result<()> {
    let Some(Restored { cause: Cause::File, lacks: head, .. }) = tx.restored().copied() else {
        return Ok(());
    };
    if lacks(tx, &head)? {
        return Ok(());
    }
    tracing::warn!(seq = head.seq, "all lost entries are back: the vault goes on");
    table::settle_epochs(tx.conn(), false)?;
    end(tx, file)
}

fn end(tx: &mut Transaction, file: &Arc<CodeFile>) -> Result<()> {
    tx.set_restored(None)?;
    let file = Arc::clone(file);
    tx.after_commit(move || file.remove());
    Ok(())
}
