//! News of the audit log for a screen that shows its end: whether a record came that belongs there.
//! What looking itself puts on record is no news.

use std::time::Duration;

use shared::audit::{Op, Record};
use tokio::time::sleep;

use crate::engine::Engine;
use host::clock;

use super::href::Fields;
use super::records::read;
use super::views::audit::Filter;

/// Until the server is asked again where it could not be.
const AGAIN: Duration = Duration::from_secs(5);

/// The end of the log, as far as a filter lets it through.
pub(super) struct Tail {
    engine: Engine,
    filter: Filter,
    /// The last record that was looked at.
    after: u64,
}

impl Tail {
    /// Follows the log from where an address says; `None` for one that cannot be meant.
    pub(super) fn read(engine: Engine, query: &Fields) -> Option<Self> {
        let filter = Filter::read(query);
        let after = query.get("after")?.parse().ok()?;
        filter.news(after, clock::now()).map(|_| Self { engine, filter, after })
    }

    /// Waits for some seconds; tells whether a record came.
    pub(super) async fn came(&mut self) -> bool {
        let Some(query) = self.filter.news(self.after, clock::now()) else { return false };
        let found = self.engine.audit(query).await.and_then(read);
        let Ok(records) = found else {
            sleep(AGAIN).await;
            return false;
        };
        self.after = records.last().map_or(self.after, |record| record.n);
        let own = self.engine.name();
        let is_look = |record: &Record| {
            record.fact.op == Op::AuditRead && record.fact.machine.as_ref() == Some(&own)
        };
        records.iter().any(|record| !is_look(record) && self.filter.keeps(record))
    }
}
