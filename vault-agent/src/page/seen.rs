//! How everybody stands, as the page shows it: asked for at most once a second however many look,
//! and never waited for long where an earlier answer is at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::time::Time;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::engine::Engine;
use host::clock;
use machine::findings::{Finding, findings};
use machine::local::{EntriesQuery, EntryTold, Status};

/// For how long an answer is good.
const FRESH: Duration = Duration::from_secs(1);
/// How long to wait for a better answer than the one at hand.
const BETTER: Duration = Duration::from_millis(60);
/// How long to wait for the first one.
const FIRST: Duration = Duration::from_secs(6);
/// Newest entries of the log that are told.
const ENTRIES: u64 = 5;

/// How everybody stood at a time.
#[derive(Debug)]
pub(super) struct Seen {
    /// When that was.
    pub(super) at: Time,
    /// How everybody stood.
    pub(super) status: Status,
    /// What was not as it should be, as the one judge says.
    pub(super) found: Vec<Finding>,
    /// The newest entries of the log, the newest first.
    pub(super) newest: Vec<EntryTold>,
    /// Up to which record the audit chain has been followed here.
    pub(super) verified: Option<u64>,
    asked: Instant,
}

/// What came of asking: the text is for people.
type Asked = Option<Result<Arc<Seen>, String>>;

/// Asks, and keeps the last answer.
#[derive(Debug)]
pub(super) struct Fleet {
    engine: Engine,
    last: watch::Sender<Asked>,
    busy: AtomicBool,
}

impl Fleet {
    /// Knows nothing yet.
    pub(super) fn new(engine: Engine) -> Arc<Self> {
        let (last, busy) = (watch::Sender::new(None), AtomicBool::new(false));
        Arc::new(Self { engine, last, busy })
    }

    /// Returns how everybody stands: as of a second ago at most, or as it was last known where the
    /// server takes its time.
    ///
    /// # Errors
    /// For people, if this machine's database cannot be read, or nothing is known in time.
    pub(super) async fn now(self: &Arc<Self>) -> Result<Arc<Seen>, String> {
        let mut news = self.last.subscribe();
        let known = news.borrow_and_update().clone();
        let at_hand = known.and_then(Result::ok);
        if let Some(seen) = at_hand.as_ref().filter(|seen| seen.asked.elapsed() < FRESH) {
            return Ok(seen.clone());
        }
        self.ask();
        let patience = if at_hand.is_some() { BETTER } else { FIRST };
        match (timeout(patience, news.changed()).await, at_hand) {
            (Ok(_), _) => {
                let told = news.borrow().clone();
                told.unwrap_or_else(|| Err("the agent is ending".to_owned()))
            }
            (Err(_), Some(seen)) => Ok(seen),
            (Err(_), None) => Err("the agent does not say in time how everybody stands".to_owned()),
        }
    }

    /// Asks in the background, unless that is under way.
    pub(super) fn ask(self: &Arc<Self>) {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let fleet = self.clone();
        tokio::spawn(async move {
            let asked = Instant::now();
            let told = look(&fleet.engine, asked).await.map(Arc::new);
            fleet.busy.store(false, Ordering::Release);
            fleet.last.send_replace(Some(told.map_err(|why| format!("{why:#}"))));
        });
    }
}

async fn look(engine: &Engine, asked: Instant) -> anyhow::Result<Seen> {
    let query = EntriesQuery { limit: Some(ENTRIES), ..EntriesQuery::default() };
    let (status, told) = tokio::join!(engine.fleet(), engine.entries(query));
    let (status, told) = (status?, told?);
    let found = findings(&status);
    let newest = told.entries.into_iter().rev().collect();
    let verified = engine.audit_followed();
    Ok(Seen { at: clock::now(), status, found, newest, verified, asked })
}
