//! Taking records in: they are applied, their blobs opened, and everybody told who waits for them;
//! those of the stream, and this machine's own once the server has acknowledged them.

use std::sync::Arc;

use shared::blob::Blob;
use tokio::task::JoinHandle;

use super::blob::Due;
use super::folded::snapshot_is_due;
use super::ledger::{Delivery, News};
use super::link::Ended;
use super::parts::Parts;
use super::read;
use crate::state::Failure;

/// Takes in what the stream brought; returns when it is on disk and open.
///
/// # Errors
/// For the first record that does not verify, after all before it, or if the database fails.
pub(super) async fn take(parts: &Arc<Parts>, mut records: Vec<Delivery>) -> Result<(), Ended> {
    records.retain(|record| !parts.ledger.read().is_head(record.position, &record.envelope));
    if records.is_empty() {
        return Ok(());
    }
    let receipt = parts.ledger.ingest(records).await?;
    let lost = |_| Ended::Local(Failure::Closed);
    let News { arrived, missing, advanced, refused } = receipt.applied.await.map_err(lost)??;
    let opening = open(parts, arrived);
    receipt.committed.await.map_err(lost)??;
    after(parts, opening, advanced, missing).await;
    refused.map_or(Ok(()), |error| Err(Ended::Refused(error)))
}

/// Takes in an entry of this machine's own that the server has acknowledged; the stream brings it
/// again and it is recognised. Returns when it is applied: the server has it on disk already.
pub(super) async fn take_own(parts: &Arc<Parts>, record: Delivery) -> Result<(), Failure> {
    let receipt = parts.ledger.ingest(vec![record]).await?;
    let news = receipt.applied.await.map_err(|_| Failure::Closed)??;
    if let Some(error) = &news.refused {
        parts.link.refuse(error);
        parts.link.down(&error.to_string());
    }
    let opening = open(parts, news.arrived);
    let own = Arc::clone(parts);
    parts.tasks.spawn(async move {
        if let Ok(Ok(())) = receipt.committed.await {
            after(&own, opening, news.advanced, news.missing).await;
        }
    });
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
        parts.link.still_synced();
        tell(parts);
    }
    if missing {
        parts.fetch_due.notify_one();
    }
}

/// Notes that the stream has reached the server's head.
pub(super) fn caught_up(parts: &Arc<Parts>) {
    parts.link.caught_up();
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
