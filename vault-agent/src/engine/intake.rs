//! Taking records in: they are applied, their blobs opened, and everybody told who waits for them;
//! those of the stream, and this machine's own once the server has acknowledged them.

use std::sync::Arc;

use shared::blob::Blob;
use shared::error::Error;
use shared::head::SignedHead;
use tokio::task::JoinHandle;

use super::blob::Due;
use super::fleet::Judged;
use super::folded::snapshot_is_due;
use super::ledger::{Delivery, unsigned};
use super::link::Ended;
use super::parts::Parts;
use super::{read, server};
use crate::state::Failure;

/// Takes in what the stream brought, up to a signed head; returns when it is on disk and open.
///
/// # Errors
/// For the first record or head that does not verify: nothing of the batch is taken then. Or if the
/// database fails.
pub(super) async fn take(parts: &Arc<Parts>, mut records: Vec<Delivery>) -> Result<(), Ended> {
    records.retain(|record| {
        let folded = parts.ledger.read();
        let is_signed = record.head.is_none() || record.head == folded.signed;
        !(is_signed && folded.is_head(record.position, &record.envelope))
    });
    if records.is_empty() {
        return Ok(());
    }
    let receipt = parts.ledger.ingest(records).await?;
    let lost = |_| Ended::Local(Failure::Closed);
    let news = receipt.applied.await.map_err(lost)???;
    let opening = open(parts, news.arrived);
    receipt.committed.await.map_err(lost)??;
    after(parts, opening, news.advanced, news.missing).await;
    Ok(())
}

/// Takes in an entry of this machine's own that the server has acknowledged with a signed head; the
/// stream brings both again and they are recognised. Returns when it is applied: the server has it
/// on disk already.
///
/// # Errors
/// If the head does not verify, or is not this entry's: the acknowledgement is not to be believed.
/// Or if the database fails.
pub(super) async fn take_own(
    parts: &Arc<Parts>,
    record: Delivery,
) -> Result<Result<(), Error>, Failure> {
    let receipt = parts.ledger.ingest(vec![record]).await?;
    let news = match receipt.applied.await.map_err(|_| Failure::Closed)?? {
        Ok(news) => news,
        Err(error) => return Ok(Err(error)),
    };
    let opening = open(parts, news.arrived);
    let own = Arc::clone(parts);
    parts.tasks.spawn(async move {
        if let Ok(Ok(())) = receipt.committed.await {
            after(&own, opening, news.advanced, news.missing).await;
        }
    });
    Ok(Ok(()))
}

/// Looks at a head that the server has signed in an answer: it may prove a fork, or show that there
/// are entries which the stream still owes.
pub(super) async fn shown(parts: &Parts, head: &SignedHead) -> Result<(), Failure> {
    match parts.ledger.judge(head).await? {
        Ok(Judged::Ahead) => parts.reports.ahead(*head),
        Ok(Judged::Unsigned) => parts.link.refuse(&unsigned(head)),
        Ok(Judged::Held | Judged::Left) => {}
        Err(error) => parts.link.refuse(&error),
    }
    Ok(())
}

/// Opens blobs while the commit is under way. Those outside are told at once of what is open:
/// what takes time can begin, what must not be undone waits for the commit.
fn open(parts: &Arc<Parts>, arrived: Vec<(Due, Blob)>) -> Option<JoinHandle<()>> {
    let opening = read::open_all(parts, arrived);
    if opening.is_none() {
        parts.ticks.send_replace(());
    }
    opening
}

/// Tells everybody who waits for new entries, once they are on disk and open.
async fn after(parts: &Arc<Parts>, opening: Option<JoinHandle<()>>, advanced: bool, missing: bool) {
    if let Some(opening) = opening {
        // A failure has raised its alarm.
        let _ = opening.await;
    }
    if advanced {
        // A restored server takes none before it is whole or resumed.
        parts.link.restored(false);
        parts.link.still_synced();
        tell(parts);
    }
    if missing {
        parts.fetch_due.notify_one();
    }
}

/// Notes that the stream has reached the server's head.
pub(super) fn caught_up(parts: &Arc<Parts>) {
    parts.ledger.unpin();
    let own = Arc::clone(parts);
    parts.tasks.spawn(async move {
        if let Err(fork) = server::settle(&own).await {
            own.link.refuse(&fork);
        }
    });
    parts.link.caught_up();
    tell(parts);
    parts.fetch_due.notify_one();
}

/// Tells everybody that the log goes on from a checkpoint.
pub(super) fn gone_on(parts: &Arc<Parts>) {
    tell(parts);
    parts.fetch_due.notify_one();
}

/// Tells of a new head, and writes a snapshot if many entries have come since the last.
fn tell(parts: &Arc<Parts>) {
    let whole = parts.link.is_caught_up();
    let (last, seq, own) = {
        let folded = parts.ledger.read();
        (folded.snapshot, folded.state.seq(), parts.own.check(&folded.state, whole))
    };
    parts.alarms.substituted(own.err());
    parts.ticks.send_replace(());
    parts.reports.reporting.soon();
    if snapshot_is_due(last, seq, whole) {
        parts.tasks.spawn(Arc::clone(&parts.ledger).write_snapshot());
    }
}
