//! Reading the log in pages and following it. An entry reaches a follower either from a page or
//! live, never both: one goes live only at the very head.

use std::ops::ControlFlow;

use bytes::Bytes;
use shared::audit::Op;
use shared::hash::Hash;
use shared::wire::v1::log::Frame;

use crate::store::{Transaction, Unavailable, log};
use crate::watch::{Live, Place};

use super::{Caller, Outcome, Outlets, Refusal, Vault, admitted};

/// Where the log ends.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Its last entry.
    pub seq: u64,
    /// That entry's hash.
    pub hash: Hash,
}

/// A follower that was let in.
pub struct Following {
    /// Where the log ended then.
    pub head: Head,
    /// Its place; dropping it ends the following.
    pub place: Place,
    /// Later entries, if the follower stands at the head already.
    pub live: Option<Live>,
}

/// What a follower that has read up to some entry finds.
pub enum Join {
    /// It stands at the head: later entries come by themselves.
    Live(Live),
    /// The log has grown meanwhile.
    Behind(Head),
}

/// Lines of the log, ready to be sent.
#[derive(Debug)]
pub struct Page {
    /// `Frame`s with their line feeds.
    pub bytes: Bytes,
    /// Last entry among them; `None` if there is none.
    pub last: Option<u64>,
}

impl Vault {
    /// Lets a machine read the log up to where it ends now.
    ///
    /// # Errors
    /// [`Refusal::Stranger`], [`Refusal::Unavailable`].
    pub async fn read_log(&self, caller: &Caller) -> Result<Head, Refusal> {
        let caller = caller.clone();
        self.call(move |tx| {
            let head = match admitted(tx, &caller) {
                Ok((state, _)) => Head { seq: state.seq(), hash: state.head() },
                Err(refusal) => return Ok(Err(refusal)),
            };
            tx.record(caller.fact(Op::Log))?;
            Ok(Ok(head))
        })
        .await
    }

    /// Lets a machine that has the entries up to `after` follow the log.
    ///
    /// # Errors
    /// [`Refusal::Stranger`], [`Refusal::Unavailable`].
    pub async fn follow(&self, caller: &Caller, after: u64) -> Result<Following, Refusal> {
        let (outlets, caller) = (self.0.outlets.clone(), caller.clone());
        self.call(move |tx| follow(tx, &outlets, &caller, after)).await
    }

    /// Asks for later entries, having read those up to `after`.
    ///
    /// # Errors
    /// [`Refusal::Stranger`] also when told to go, [`Refusal::Unavailable`].
    pub async fn join(&self, caller: &Caller, id: u64, after: u64) -> Result<Join, Refusal> {
        let (hub, caller) = (self.0.outlets.hub.clone(), caller.clone());
        self.call(move |tx| {
            let head = match admitted(tx, &caller) {
                Ok((state, _)) => Head { seq: state.seq(), hash: state.head() },
                Err(refusal) => return Ok(Err(refusal)),
            };
            if head.seq != after {
                return Ok(Ok(Join::Behind(head)));
            }
            Ok(hub.go_live(id).map(Join::Live).ok_or(Refusal::Stranger))
        })
        .await
    }

    /// Returns the records `from..=upto`, some `room` bytes of them.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn page(&self, from: u64, upto: u64, room: usize) -> Result<Page, Unavailable> {
        self.0
            .reader
            .ask(move |conn| {
                let (mut text, mut last) = (Vec::new(), None);
                log::walk(conn, from, upto, |stored| -> rusqlite::Result<_> {
                    last = Some(stored.seq);
                    let frame = match stored.seq {
                        0 => Frame::Genesis(stored.envelope),
                        _ => Frame::Entry { envelope: stored.envelope, blobs: Vec::new() },
                    };
                    text.extend_from_slice(&line(&frame)?);
                    let full = text.len() >= room;
                    Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })?;
                Ok(Page { bytes: text.into(), last })
            })
            .await
    }
}

fn follow(
    tx: &mut Transaction,
    outlets: &Outlets,
    caller: &Caller,
    after: u64,
) -> Outcome<Following> {
    let head = match admitted(tx, caller) {
        Ok((state, _)) => Head { seq: state.seq(), hash: state.head() },
        Err(refusal) => return Ok(Err(refusal)),
    };
    tx.record(caller.fact(Op::Follow))?;
    let place = outlets.hub.enter(caller.name.clone(), caller.key, caller.addr.clone());
    let live = if after == head.seq { outlets.hub.go_live(place.id()) } else { None };
    Ok(Ok(Following { head, place, live }))
}

/// Writes a frame as one line.
pub(super) fn line(frame: &Frame) -> rusqlite::Result<Bytes> {
    let mut line = serde_json::to_vec(frame)
        .map_err(|why| rusqlite::Error::ToSqlConversionFailure(Box::new(why)))?;
    line.push(b'\n');
    Ok(line.into())
}
