//! Reading the log in pages and following it. An entry reaches a follower either from a page or
//! live, never both: one goes live only at the very head.

use std::sync::PoisonError;

use bytes::Bytes;
use host::clock;
use host::store::StoreFailure;
use shared::audit::{Fact, Op, Outcome as AuditOutcome};
use shared::error::Code;
use shared::hash::Hash;
use shared::wire::v1::clone::CloneNotice;
use shared::wire::v1::log::Frame;

use crate::store::{Transaction, int, log, unwritable};

use super::hub::{Hub, Live, Place};
use super::{Caller, Outcome, Refusal, Vault, admitted};

/// Where the log ends.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its last entry.
    pub seq: u64,
    /// That entry's hash.
    pub hash: Hash,
}

/// What a follower that has read up to some entry finds.
pub enum Join {
    /// It stands at the head: later entries come by themselves.
    Live(Live),
    /// The log ends elsewhere.
    Behind(Head),
}

impl Vault {
    /// Lets a machine read the log up to where it ends now.
    pub async fn read_log(&self, mut caller: Caller) -> Result<Head, Refusal> {
        self.call(move |tx| enter(tx, &mut caller, Op::Log)).await
    }

    /// Lets a machine that has the entries up to `after` follow the log, till the place is dropped;
    /// `run` is which of its processes asks.
    pub async fn follow(
        &self,
        mut caller: Caller,
        after: u64,
        run: Option<Hash>,
    ) -> Result<(Head, Place, Join), Refusal> {
        let vault = self.clone();
        self.call(move |tx| {
            let hub = &vault.0.hub;
            let head = enter(tx, &mut caller, Op::Follow)?;
            if let Some(run) = run {
                vault.watch_for_clones(tx, &caller, run)?;
            }
            let place = hub.enter(caller);
            let join = go_live(hub, place.id, after, head)?;
            Ok((head, place, join))
        })
        .await
    }

    /// Puts on record that two processes use the caller's keys in turn, one record for each
    /// address.
    fn watch_for_clones(&self, tx: &mut Transaction, caller: &Caller, run: Hash) -> Outcome<()> {
        let (now, time) = (clock::since_boot(), tx.now());
        let found = {
            let mut clones = self.0.clones.lock().unwrap_or_else(PoisonError::into_inner);
            clones.follows(caller.number, run, &caller.addr, now, time)
        };
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
        self.call(move |tx| {
            let head = head(tx, &mut caller)?;
            go_live(&hub, id, after, head)
        })
        .await
    }

    /// Returns the records `from..=upto` as lines, some `room` bytes of them, and the last one's
    /// number.
    pub async fn page(
        &self,
        from: u64,
        upto: u64,
        room: usize,
    ) -> Result<(Bytes, Option<u64>), StoreFailure> {
        let read = self.0.reader.ask(move |conn| {
            let (mut text, mut last) = (Vec::new(), None);
            for stored in log::range(conn)?.query_map([int(from), int(upto)], log::read)? {
                let log::Stored { seq, envelope, .. } = stored?;
                let frame = match seq {
                    0 => Frame::Genesis(envelope),
                    _ => Frame::Entry { envelope, blobs: Vec::new() },
                };
                text.extend_from_slice(&line(&frame)?);
                last = Some(seq);
                if text.len() >= room {
                    break;
                }
            }
            Ok((text.into(), last))
        });
        read.await
    }
}

/// Records that a machine reads the log, and returns where it ends.
fn enter(tx: &mut Transaction, caller: &mut Caller, op: Op) -> Outcome<Head> {
    let head = head(tx, caller)?;
    tx.record(caller.fact(op))?;
    Ok(head)
}

fn head(tx: &Transaction, caller: &mut Caller) -> Outcome<Head> {
    let (state, _) = admitted(tx, caller)?;
    Ok(Head { seq: state.seq(), hash: state.head() })
}

fn go_live(hub: &Hub, id: u64, after: u64, head: Head) -> Outcome<Join> {
    if head.seq != after {
        return Ok(Join::Behind(head));
    }
    Ok(Join::Live(hub.go_live(id).ok_or(Refusal::Stranger)?))
}

/// Writes a frame as one line.
pub fn line(frame: &Frame) -> rusqlite::Result<Bytes> {
    let mut line = serde_json::to_vec(frame).map_err(unwritable)?;
    line.push(b'\n');
    Ok(line.into())
}
