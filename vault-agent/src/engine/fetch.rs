//! Getting the blobs that did not come along with their entries: after a longer absence, a new
//! grant, or a failure.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::blob::Due;
use super::parts::Parts;
use super::read;
use super::types::ReadError;
use machine::remote::Client;

/// Requests under way at once.
const AT_ONCE: usize = 8;
/// When to ask again for what could not be had.
const AGAIN: Duration = Duration::from_secs(30);

/// Gets what is missing whenever something may be, until the connection ends.
pub(super) async fn run(parts: Arc<Parts>, client: Client) {
    loop {
        parts.fetch_due.notified().await;
        while !round(&parts, &client).await {
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = parts.fetch_due.notified() => {}
            }
        }
    }
}

/// Gets everything missing once; tells whether nothing is missing any more.
async fn round(parts: &Arc<Parts>, client: &Client) -> bool {
    if !parts.link.is_caught_up() {
        return true;
    }
    let missing = parts.ledger.read().missing(&parts.own).into_iter();
    let mut waiting = missing.filter(|due| !parts.cache.is_refused(&due.blob));
    let mut running = JoinSet::new();
    let mut complete = true;
    loop {
        while running.len() < AT_ONCE
            && let Some(due) = waiting.next()
        {
            running.spawn(one(Arc::clone(parts), client.clone(), due));
        }
        let Some(done) = running.join_next().await else { break };
        complete &= done.unwrap_or(false);
        parts.ticks.send_replace(());
    }
    complete
}

/// Gets, keeps and opens one blob. One that does not open will not open later either.
async fn one(parts: Arc<Parts>, client: Client, due: Due) -> bool {
    match read::fetch(&parts, &client, &due).await {
        Ok(blob) => !matches!(
            read::open_and_keep(&parts, due, blob).await,
            Err(ReadError::Local(_) | ReadError::Offline { .. })
        ),
        Err(fault) => {
            tracing::debug!(path = %due.path, ver = due.ver, %fault, "blob not fetched");
            false
        }
    }
}
