//! Checkpoints: keeping the state that an owner vouches for, handing it out, and dropping the
//! entries that it stands for (design/trust, *Checkpoints*).

use bytes::Bytes;
use host::store::StoreFailure;
use shared::audit::Op;
use shared::head::SignedHead;
use shared::log::{Checkpoint, Number};
use shared::signed::Envelope;
use shared::wire::v1::checkpoint::Vouched;

use crate::meter::STRANGERS;
use crate::store::{Fault, Result, Transaction, checkpoint, log, unwritable};

use super::{Caller, Outcome, Refusal, Vault};

impl Vault {
    /// Lets a machine start from the newest checkpoint: who vouches for it, as one line, and which
    /// it is.
    ///
    /// # Errors
    /// [`Refusal::NoCheckpoint`] if there is none.
    pub async fn checkpoint(&self, caller: Caller) -> Result<(Bytes, Checkpoint), Refusal> {
        let look = |tx: &mut Transaction, _: Caller, _: SignedHead| vouched(tx);
        self.enter(caller, Op::Log, look).await
    }

    /// Returns the next bytes of a checkpoint's state, from piece `from` on, and how many pieces
    /// they are; none at its end, or once a newer one has taken its place.
    pub async fn state(
        &self,
        machine: Number,
        seq: u64,
        from: u64,
        room: usize,
    ) -> Result<(Bytes, u64), StoreFailure> {
        let read = self.ask(machine, move |conn| checkpoint::pieces(conn, seq, from, room));
        let pieces = read.await?;
        Ok((pieces.concat().into(), pieces.len() as u64))
    }

    /// Drops the entries that the newest checkpoint stands for, once every machine that does not
    /// sleep at times has reported from behind it; goes on where it was stopped. A failure is in
    /// the log; the next time tries again.
    pub async fn drop_entries(&self) {
        let vault = self.clone();
        let begun = self.call(STRANGERS, move |tx| Ok(vault.begin_later(tx)?)).await;
        let mut going = begun.is_ok();
        while going {
            let dropped = self.call(STRANGERS, |tx| Ok(checkpoint::drop_some(tx.conn())?)).await;
            going = dropped.is_ok_and(|dropped| dropped > 0);
        }
    }

    /// Has the log begin after the newest checkpoint if nobody needs what is before it.
    fn begin_later(&self, tx: &Transaction) -> Result<()> {
        let Some(named) = checkpoint::newest(tx.conn())? else { return Ok(()) };
        let (Some(state), None) = (tx.state(), tx.restored()) else { return Ok(()) };
        if checkpoint::dropped(tx.conn())? >= named.seq {
            return Ok(());
        }
        let awake =
            state.machines().iter().filter(|(_, machine)| machine.active && !machine.sleeps);
        let has_passed = |number: &Number| {
            let last = self.0.reported.last(*number);
            last.is_some_and(|(seen, _)| {
                seen.seq > named.seq && seen.epoch == state.epoch_at(seen.seq)
            })
        };
        if awake.map(|(number, _)| number).all(has_passed) {
            checkpoint::begin_after(tx.conn(), named.seq)?;
            tracing::info!(seq = named.seq, "the log begins after its newest checkpoint now");
        }
        Ok(())
    }
}

fn vouched(tx: &Transaction) -> Outcome<(Bytes, Checkpoint)> {
    let conn = tx.conn();
    let named = checkpoint::newest(conn)?.ok_or(Refusal::NoCheckpoint)?;
    let record = |seq: u64| -> Outcome<Envelope> {
        let stored = log::at(conn, seq)?.ok_or(Fault::Absent)?;
        Ok(stored.envelope)
    };
    let (genesis, entry) = (record(0)?, record(named.seq + 1)?);
    let line = Vouched { genesis, owners: checkpoint::owners(conn, named.seq)?, entry };
    let mut line = serde_json::to_vec(&line).map_err(unwritable)?;
    line.push(b'\n');
    Ok((line.into(), named))
}

/// Keeps the state that an entry vouches for, which was applied just now: the one before it.
pub(super) fn keep_state(
    tx: &mut Transaction,
    envelope: &Envelope,
    named: Checkpoint,
) -> Result<()> {
    tx.take_back();
    let saved = tx.state().map_or(Ok(()), |state| checkpoint::save(tx.conn(), state, named));
    match tx.apply(envelope) {
        Some(Ok(_)) => saved,
        Some(Err(why)) => Err(unwritable(why)),
        None => Err(Fault::Absent),
    }
}
