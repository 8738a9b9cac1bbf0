//! Taking records in: they are applied, their blobs opened, and everybody told who waits for them;
//! those of the stream, and this machine's own once the server has acknowledged them.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::ledger::{Delivery, Ledger, News};
use super::link::{Ended, Link};
use super::read::Reader;
use super::report::Reports;
use super::tasks::Tasks;
use super::ticks::Ticks;
use crate::state::Failure;

/// What it takes to take records in.
pub(super) struct Intake {
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) reader: Arc<Reader>,
    pub(super) reports: Arc<Reports>,
    pub(super) tasks: Arc<Tasks>,
    pub(super) ticks: Ticks,
}

impl Intake {
    /// Takes in what the stream brought; returns when it is on disk and open.
    ///
    /// # Errors
    /// For the first record that does not verify, after all before it, or if the database fails.
    pub(super) async fn take(self: &Arc<Self>, mut records: Vec<Delivery>) -> Result<(), Ended> {
        records.retain(|record| !self.ledger.read().is_head(record.position, &record.envelope));
        if records.is_empty() {
            return Ok(());
        }
        let receipt = self.ledger.ingest(records).await?;
        let lost = |_| Ended::Local(Failure::Closed);
        let News { arrived, missing, advanced, refused } =
            receipt.applied.await.map_err(lost)??;
        let opening = self.open(arrived);
        receipt.committed.await.map_err(lost)??;
        self.after(opening, advanced, missing).await;
        refused.map_or(Ok(()), |error| Err(Ended::Refused(error)))
    }

    /// Takes in an entry of this machine's own that the server has acknowledged; the stream brings
    /// it again and it is recognised. Returns when it is applied: the server has it on disk
    /// already.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn take_own(self: &Arc<Self>, record: Delivery) -> Result<(), Failure> {
        let receipt = self.ledger.ingest(vec![record]).await?;
        let news = receipt.applied.await.map_err(|_| Failure::Closed)??;
        if let Some(error) = &news.refused {
            self.link.refuse(error);
            self.link.down(&error.to_string());
        }
        let own = Arc::clone(self);
        let opening = self.open(news.arrived);
        self.tasks.spawn(async move {
            if let Ok(Ok(())) = receipt.committed.await {
                own.after(opening, news.advanced, news.missing).await;
            }
        });
        Ok(())
    }

    /// Opens blobs while the commit is under way. Those outside are told at once of what is open:
    /// what takes time can begin, what must not be undone waits for [`Ledger::commit`].
    fn open(&self, arrived: Vec<(super::blob::Due, shared::blob::Blob)>) -> Option<JoinHandle<()>> {
        let opening = self.reader.open_all(arrived);
        if opening.is_none() {
            self.ticks.tick();
        }
        opening
    }

    /// Tells everybody who waits for new entries, once they are on disk and open.
    async fn after(&self, opening: Option<JoinHandle<()>>, advanced: bool, missing: bool) {
        if let Some(opening) = opening {
            // A failure has raised its alarm.
            let _ = opening.await;
        }
        if advanced {
            self.link.still_synced();
            self.ticks.tick();
            self.reports.soon();
            self.snapshot_if_due();
        }
        if missing {
            self.reader.fetch_due.notify_one();
        }
    }

    /// Notes that the stream has reached the server's head.
    pub(super) fn caught_up(&self) {
        self.link.caught_up();
        self.ticks.tick();
        self.reader.fetch_due.notify_one();
        self.reports.soon();
        self.snapshot_if_due();
    }

    /// Writes a snapshot if many entries have come since the last.
    fn snapshot_if_due(&self) {
        if self.ledger.read().snapshot_is_due(self.link.is_caught_up()) {
            self.tasks.spawn(Arc::clone(&self.ledger).write_snapshot());
        }
    }
}
