//! Reading the log in pages and following it. An entry reaches a follower either from a page or
//! live, never both: one goes live only at the very head.

use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use host::clock;
use host::store::StoreFailure;
use shared::audit::{Fact, Op, Outcome as AuditOutcome};
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::log::Number;
use shared::wire::v1::clone::CloneNotice;
use shared::wire::v1::log::Frame;

use crate::store::{Fault, Result, Transaction, checkpoint, log, unwritable};

use super::clone::Clones;
use super::hub::{Hub, Live, Place};
use super::{Caller, Outcome, Refusal, Vault, admitted_to_log};

/// What a follower that has read up to some entry finds.
pub enum Join {
    /// It stands at the head: later entries come by themselves.
    Live(Live),
    /// The log ends elsewhere.
    Behind(SignedHead),
}

impl Vault {
    /// Lets a machine that has the entries up to `after` read the log up to where it ends now.
    ///
    /// # Errors
    /// [`Refusal::Compacted`] if some entries between were dropped.
    pub async fn read_log(&self, caller: Caller, after: u64) -> Result<SignedHead, Refusal> {
        let read = move |tx: &mut Transaction, _: Caller, head: SignedHead| {
            has_all(tx, after)?;
            Ok(head)
        };
        self.enter(caller, Op::Log, read).await
    }

    /// Lets a machine that has the entries up to `after` follow the log, till the place is dropped;
    /// `run` is which of its processes asks.
    ///
    /// # Errors
    /// [`Refusal::Compacted`] if some entries between were dropped.
    pub async fn follow(
        &self,
        caller: Caller,
        after: u64,
        run: Option<Hash>,
    ) -> Result<(SignedHead, Place, Join), Refusal> {
        let vault = self.clone();
        let follow = move |tx: &mut Transaction, caller: Caller, head: SignedHead| {
            if caller.is_owner() {
                return Err(Refusal::Stranger.into());
            }
            let hub = &vault.0.hub;
            has_all(tx, after)?;
            if let Some(run) = run {
                vault.watch_for_clones(tx, &caller, run)?;
            }
            let place = hub.enter(caller);
            let join = go_live(hub, place.id, after, head)?;
            Ok((head, place, join))
        };
        self.enter(caller, Op::Follow, follow).await
    }

    /// Records that a machine reads the log. On a full disk that is counted, and recorded later:
    /// the owner who is to make room has to see the log.
    pub(super) async fn enter<T: Send + 'static>(
        &self,
        caller: Caller,
        op: Op,
        go_on: impl Fn(&mut Transaction, Caller, SignedHead) -> Outcome<T> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        let number = caller.number;
        let enter = move |tx: &mut Transaction| {
            let mut caller = caller.clone();
            let head = head(tx, &mut caller)?;
            tx.record(caller.fact(op.clone()))?;
            go_on(tx, caller, head)
        };
        match self.call(number, enter.clone()).await {
            Err(Refusal::Unavailable(StoreFailure::Full)) => {
                self.in_turn(number, true, enter).await
            }
            entered => entered,
        }
    }

    pub(super) fn lock_clones(&self) -> MutexGuard<'_, Clones> {
        self.0.clones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts on record that two processes use the caller's keys in turn, one record for each
    /// address.
    fn watch_for_clones(&self, tx: &mut Transaction, caller: &Caller, run: Hash) -> Outcome<()> {
        let (now, time) = (clock::since_boot(), tx.now());
        let found = self.lock_clones().follows(caller.number, run, &caller.addr, now, time);
        let Some(CloneNotice { addresses: [first, second], .. }) = found else { return Ok(()) };
        let machine = &caller.name;
        tracing::warn!(%machine, %first, %second, "two processes use one machine's keys");
        self.0.metrics.clones.add(1);
        for addr in [first, second] {
            let result = AuditOutcome::Refused(Code::Clone);
            tx.record(Fact { addr: Some(addr), result, ..caller.fact(Op::Clone) })?;
        }
        Ok(())
    }

    /// Asks for later entries, having read those up to `after`.
    ///
    /// # Errors
    /// [`Refusal::Stranger`] also when told to go.
    pub async fn join(&self, mut caller: Caller, id: u64, after: u64) -> Result<Join, Refusal> {
        let hub = self.0.hub.clone();
        self.in_turn(caller.number, false, move |tx| {
            let head = head(tx, &mut caller)?;
            go_live(&hub, id, after, head)
        })
        .await
    }

    /// Returns the records `from..=upto` as lines, some `room` bytes of them with the signed head
    /// of the last one, and its number, for the machine that reads.
    pub async fn page(
        &self,
        machine: Number,
        from: u64,
        upto: u64,
        room: usize,
    ) -> Result<(Bytes, Option<u64>), StoreFailure> {
        let listed = self.0.store.end().ok_or(StoreFailure::Closed)?.listed;
        let key = self.0.key.clone();
        let read = self.ask(machine, move |conn| {
            let (mut text, mut last) = (Vec::new(), None);
            let mut due = from;
            log::range(conn, from, upto, |log::Stored { seq, hash, envelope }| {
                // Dropped meanwhile, before a reader that sleeps.
                if seq != due {
                    return Ok(ControlFlow::Break(()));
                }
                due += 1;
                let frame = match seq {
                    0 => Frame::Genesis(envelope),
                    _ => Frame::Entry { envelope, blobs: Vec::new() },
                };
                text.extend_from_slice(&line(&frame)?);
                last = Some((seq, hash));
                let full = text.len() >= room;
                let next = if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
                Ok::<_, Fault>(next)
            })?;
            if let Some((seq, hash)) = last {
                let head = listed.sign(seq, hash, &key).map_err(unwritable)?;
                text.extend_from_slice(&line(&Frame::Head(head))?);
            }
            Ok((text.into(), last.map(|(seq, _)| seq)))
        });
        read.await
    }
}

fn head(tx: &Transaction, caller: &mut Caller) -> Outcome<SignedHead> {
    admitted_to_log(tx, caller)?;
    Ok(tx.head().ok_or(Refusal::Stranger)?)
}

/// Demands that no entry after `after` was dropped.
fn has_all(tx: &Transaction, after: u64) -> Outcome<()> {
    match checkpoint::dropped(tx.conn())? {
        last if after < last => Err(Refusal::Compacted(last).into()),
        _ => Ok(()),
    }
}

fn go_live(hub: &Hub, id: u64, after: u64, head: SignedHead) -> Outcome<Join> {
    if head.seq != after {
        return Ok(Join::Behind(head));
    }
    Ok(Join::Live(hub.go_live(id).ok_or(Refusal::Stranger)?))
}

/// Writes a frame as one line.
pub fn line(frame: &Frame) -> Result<Bytes> {
    let mut line = serde_json::to_vec(frame).map_err(unwritable)?;
    line.push(b'\n');
    Ok(line.into())
}
