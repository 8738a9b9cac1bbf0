//! Starting from a checkpoint in place of the entries before it, as a new machine does or one that
//! has slept longer than these are kept; and dropping the own ones (design/trust, *Checkpoints*).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::error::Code;
use shared::log::{Checkpoint, Number, Owners};
use shared::name::Name;
use tokio::time::sleep;

use super::intake;
use super::link::Ended;
use super::parts::Parts;
use crate::state::Failure;
use machine::local::Compaction;
use machine::remote::{Client, RemoteError, Shown, Started, Unproven};

/// How often it is looked whether own entries may go.
const LOOK: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

impl From<Unproven> for Ended {
    fn from(why: Unproven) -> Self {
        match why {
            Unproven::Lost(why) => Self::Lost(why),
            Unproven::Refused(error) => Self::Refused(error),
        }
    }
}

/// Starts from the checkpoint that this machine pins, where it has nothing of the log yet and the
/// server has that one or a newer one.
pub(super) async fn begin(parts: &Arc<Parts>, client: &Client) -> Result<(), Ended> {
    if parts.own.pins.checkpoint.is_none() || parts.ledger.read().born {
        return Ok(());
    }
    match client.checkpoint().await {
        Err(fault) if fault.is_without_checkpoint() => Ok(()),
        shown => start_from(parts, shown).await,
    }
}

/// Goes on from the server's newest checkpoint, as entries that this machine lacks were dropped
/// there. An owner whom it knows vouches for that; never goes it back.
pub(super) async fn go_on(parts: &Arc<Parts>, client: &Client) -> Result<(), Ended> {
    let shown = client.checkpoint().await;
    start_from(parts, shown).await
}

async fn start_from(parts: &Arc<Parts>, shown: Result<Shown, RemoteError>) -> Result<(), Ended> {
    let (owners, own) = {
        let folded = parts.ledger.read();
        let owners = folded.born.then(|| Owners::of(&folded.state));
        (owners, folded.born.then(|| folded.state.seq()))
    };
    let vault = parts.own.pins.vault;
    let pinned: Option<Checkpoint> = parts.own.pins.checkpoint;
    let started = shown?.believed(|id| *id == vault, pinned, owners).await?;
    let Started { state, .. } = &started;
    if let Some(own) = own.filter(|own| state.seq() <= *own) {
        let why = format!("one of entry {}, this machine has verified {own}", state.seq());
        return Err(Code::Checkpoint.because(why).into());
    }
    let seq = state.seq();
    parts.ledger.leap(started).await??;
    tracing::info!(seq, "started from a checkpoint");
    intake::gone_on(parts);
    Ok(())
}

/// Drops the own entries that the newest checkpoint stands for, once every machine that does not
/// sleep at times was seen behind it.
pub(super) async fn drop_passed(parts: &Parts) -> Result<(), Failure> {
    let Some(named) = due(parts) else { return Ok(()) };
    parts.ledger.begin_after(named).await?;
    tracing::info!(seq = named.seq, "the log begins after its newest checkpoint now");
    Ok(())
}

/// Returns the checkpoint that the log may begin after.
fn due(parts: &Parts) -> Option<Checkpoint> {
    let named = {
        let folded = parts.ledger.read();
        let named = folded.state.checkpoint().filter(|named| folded.begins < named.seq)?;
        folded.signed.filter(|head| head.seq > named.seq)?;
        named
    };
    behind(parts, named.seq).is_empty().then_some(named)
}

/// Returns the machines that do not sleep at times and were not seen past an entry yet.
fn behind(parts: &Parts, seq: u64) -> Vec<Name> {
    let seen = parts.reports.peers();
    let passed: BTreeSet<Number> = seen
        .iter()
        .map(|(_, peer)| &peer.seen)
        .filter(|seen| seen.seq > seq)
        .map(|seen| seen.machine)
        .collect();
    let folded = parts.ledger.read();
    let own = parts.own.find(&folded.state).map(|(number, _)| number);
    let awake = folded.state.machines().iter().filter(|(number, machine)| {
        machine.active && !machine.sleeps && Some(**number) != own && !passed.contains(number)
    });
    awake.map(|(_, machine)| machine.name.clone()).collect()
}

/// Tells what a checkpoint of the log as it is now would name, and how the newest one stands.
pub(super) async fn tell(parts: &Arc<Parts>) -> anyhow::Result<Compaction> {
    let own = Arc::clone(parts);
    let summed = tokio::task::spawn_blocking(move || {
        let folded = own.ledger.read();
        let state = &folded.state;
        (state.summed(), state.head(), state.checkpoint(), folded.begins())
    });
    let (now, head, newest, begins) = summed.await?;
    let behind = newest.map(|newest| behind(parts, newest.seq)).unwrap_or_default();
    let folded = parts.ledger.read();
    let asleep = folded.state.machines().values().filter(|it| it.active && it.sleeps);
    let asleep = asleep.map(|machine| machine.name.clone()).collect();
    Ok(Compaction { now, head, newest, begins, behind, asleep })
}

/// Drops, now and then, the own entries that a checkpoint stands for.
pub(super) async fn watch(parts: Arc<Parts>) {
    loop {
        if let Err(fault) = drop_passed(&parts).await {
            tracing::warn!(%fault, "entries before the newest checkpoint are not dropped");
        }
        sleep(LOOK).await;
    }
}
