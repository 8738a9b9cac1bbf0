//! Age files: parked by any active machine, given to those that may read their path.

use shared::audit::{self, Fact, Op};
use shared::blob::looks_like_age;
use shared::error::Code;
use shared::hash::Hash;
use shared::limits;
use shared::log::State;
use shared::time::Time;
use shared::wire::v1::shares::Share;

use crate::meter::STRANGERS;
use crate::store::{Transaction, blob};

use super::{Caller, Outcome, Refusal, Vault, admitted, deny, heal, refuse, replaced, restored};

/// How long an unreferenced blob stays, in microseconds.
const PARKED_FOR: u64 = 3_600_000_000;

impl Vault {
    /// Parks a blob until an entry references it.
    ///
    /// # Errors
    /// [`Refusal::Rule`] for its hash, size or header.
    pub async fn put_blob(
        &self,
        mut caller: Caller,
        id: Hash,
        bytes: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<(), Refusal> {
        let checked = check(id, bytes.as_ref());
        self.call(caller.number, move |tx| {
            admitted(tx, &mut caller)?;
            match checked {
                Ok(()) => park(tx, &caller, id, bytes.as_ref()),
                Err(why) => refuse(tx, caller.fact(Op::BlobPut), why),
            }
        })
        .await
    }

    /// Returns a blob once the delivery is recorded on disk.
    ///
    /// # Errors
    /// [`Refusal::Denied`] without a grant, [`Refusal::Absent`] without a blob,
    /// [`Refusal::Restored`] while the database is set back.
    pub async fn read_blob(&self, caller: Caller, id: Hash) -> Result<Vec<u8>, Refusal> {
        self.call(caller.number, move |tx| read(tx, caller, id)).await
    }

    /// Drops blobs that nobody referenced in time.
    pub(super) async fn drop_parked(&self) -> Result<(), Refusal> {
        self.call(STRANGERS, |tx| {
            blob::tame(tx.conn(), tx.now())?;
            let now = tx.now().as_micros();
            let then = Time::from_micros(now.saturating_sub(PARKED_FOR));
            let dropped = blob::drop_parked(tx.conn(), then)?;
            if dropped > 0 {
                tracing::info!(dropped, "unreferenced blobs dropped");
            }
            Ok(())
        })
        .await
    }
}

/// All a server can check.
fn check(id: Hash, bytes: &[u8]) -> shared::error::Result<()> {
    if bytes.len() > limits::BLOB {
        return Err(Code::Limits.because(format!("blob of {} bytes", bytes.len())));
    }
    if Hash::of(&[bytes]) != id {
        return Err(Code::BlobHash.because(format!("blob {}", id.short())));
    }
    if !looks_like_age(bytes) {
        return Err(Code::BlobOpen.because(format!("blob {} is not an age file", id.short())));
    }
    Ok(())
}

fn park(tx: &mut Transaction, caller: &Caller, id: Hash, bytes: &[u8]) -> Outcome<()> {
    let (fact, machine, now) = (caller.fact(Op::BlobPut), caller.number, tx.now());
    if blob::look(tx.conn(), &id)?.is_some() {
        return Ok(tx.record(fact)?);
    }
    if let Some(put) = heal::lost(tx, &id, bytes.len() as u64) {
        let seq = tx.state().map_or(0, State::seq);
        let readers = replaced::readers(tx.state(), &put);
        let place = blob::Place { seq, put: &put, readers: readers.as_deref() };
        blob::insert(tx.conn(), &id, Some(place), machine, now, bytes)?;
        tx.charge(Share::Blobs, bytes.len());
        return Ok(tx.record(Fact { path: Some(put.path), ver: Some(put.ver), ..fact })?);
    }
    // The oldest make room: an act that was interrupted, or has to be made anew as others were
    // quicker, must not stand in its own way for an hour.
    let parked = blob::parked(tx.conn(), machine)? + bytes.len() as u64;
    if parked > limits::PARKED_BLOBS as u64 {
        let most = limits::PARKED_BLOBS - bytes.len();
        blob::drop_surplus_parked(tx.conn(), machine, most as u64)?;
    }
    blob::insert(tx.conn(), &id, None, machine, now, bytes)?;
    tx.charge(Share::Blobs, bytes.len());
    Ok(tx.record(fact)?)
}

fn read(tx: &mut Transaction, mut caller: Caller, id: Hash) -> Outcome<Vec<u8>> {
    let (_, machine) = admitted(tx, &mut caller)?;
    let fact = caller.fact(Op::Read);
    let Some((path, ver)) = blob::look(tx.conn(), &id)?.and_then(|known| known.place) else {
        tx.record(Fact { result: audit::Outcome::Refused(Code::BlobAbsent), ..fact })?;
        return Err(Refusal::Absent(id).into());
    };
    let granted = machine.read.cover(&path);
    let fact = Fact { path: Some(path.clone()), ver: Some(ver), ..fact };
    if !granted {
        return deny(tx, fact, &caller, path.as_str());
    }
    if tx.restored().is_some() {
        // Its grants may be those of a past that an owner has ended.
        return restored::turn_away(tx, fact);
    }
    let bytes = blob::bytes(tx.conn(), &id)?.ok_or(Refusal::Absent(id))?;
    tx.record(fact)?;
    Ok(bytes)
}
