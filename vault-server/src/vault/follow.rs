//! Reading the log in pages and following it. An entry reaches a follower either from a page or
//! live, never both: one goes live only at the very head.

use bytes::Bytes;
use host::store::StoreFailure;
use shared::audit::Op;
use shared::head::SignedHead;
use shared::wire::v1::log::Frame;

use crate::store::{Transaction, int, log, unwritable};

use super::hub::{Hub, Live, Place};
use super::{Caller, Outcome, Refusal, Vault, admitted};

/// What a follower that has read up to some entry finds.
pub enum Join {
    /// It stands at the head: later entries come by themselves.
    Live(Live),
    /// The log ends elsewhere.
    Behind(SignedHead),
}

impl Vault {
    /// Lets a machine read the log up to where it ends now.
    pub async fn read_log(&self, mut caller: Caller) -> Result<SignedHead, Refusal> {
        self.call(move |tx| enter(tx, &mut caller, Op::Log)).await
    }

    /// Lets a machine that has the entries up to `after` follow the log, till the place is dropped.
    pub async fn follow(
        &self,
        mut caller: Caller,
        after: u64,
    ) -> Result<(SignedHead, Place, Join), Refusal> {
        let hub = self.0.hub.clone();
        self.call(move |tx| {
            let head = enter(tx, &mut caller, Op::Follow)?;
            let place = hub.enter(caller);
            let join = go_live(&hub, place.id, after, head)?;
            Ok((head, place, join))
        })
        .await
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

    /// Returns the records `from..=upto` as lines, some `room` bytes of them with the signed head
    /// of the last one, and its number.
    pub async fn page(
        &self,
        from: u64,
        upto: u64,
        room: usize,
    ) -> Result<(Bytes, Option<u64>), StoreFailure> {
        let listed = self.0.store.end().ok_or(StoreFailure::Closed)?.listed;
        let key = self.0.key.clone();
        let read = self.0.reader.ask(move |conn| {
            let (mut text, mut last) = (Vec::new(), None);
            for stored in log::range(conn)?.query_map([int(from), int(upto)], log::read)? {
                let log::Stored { seq, hash, envelope } = stored?;
                let frame = match seq {
                    0 => Frame::Genesis(envelope),
                    _ => Frame::Entry { envelope, blobs: Vec::new() },
                };
                text.extend_from_slice(&line(&frame)?);
                last = Some((seq, hash));
                if text.len() >= room {
                    break;
                }
            }
            if let Some((seq, hash)) = last {
                let head = listed.sign(seq, hash, &key).map_err(unwritable)?;
                text.extend_from_slice(&line(&Frame::Head(head))?);
            }
            Ok((text.into(), last.map(|(seq, _)| seq)))
        });
        read.await
    }
}

/// Records that a machine reads the log, and returns where it ends.
fn enter(tx: &mut Transaction, caller: &mut Caller, op: Op) -> Outcome<SignedHead> {
    let head = head(tx, caller)?;
    tx.record(caller.fact(op))?;
    Ok(head)
}

fn head(tx: &Transaction, caller: &mut Caller) -> Outcome<SignedHead> {
    admitted(tx, caller)?;
    Ok(tx.head().ok_or(Refusal::Stranger)?)
}

fn go_live(hub: &Hub, id: u64, after: u64, head: SignedHead) -> Outcome<Join> {
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
