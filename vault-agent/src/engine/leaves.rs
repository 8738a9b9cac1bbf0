//! Following the audit chain by itself: the leaves since the head last followed must lead to the
//! one that the server names now, and through every head that machines have anchored on the way.

use std::sync::Arc;

use anyhow::Result;
use shared::error::Error;
use shared::wire::v1::audit::LeavesQuery;
use tokio::time::Instant;

use super::chain::{Chain, claims};
use super::report::Reports;
use crate::state::facts;
use crate::state::peers;
use machine::remote::Client;

/// What a machine must be able to read to see audit records.
pub(super) const AUDIT_PATH: &str = "sys/audit";

/// Follows the chain whenever that is due, until the connection ends.
pub(super) async fn run(reports: Arc<Reports>, client: Client) {
    loop {
        reports.named.notified().await;
        let Some(chain) = due(&reports) else { continue };
        let ended = round(&reports, &client, chain).await;
        let broken = match ended {
            Ok(Ok(())) => Ok(false),
            Ok(Err(_)) if reports.link.is_restored() => Ok(false),
            Ok(Err(error)) => reports.accuse(&client, "", error.detail).await,
            Err(fault) => Err(fault),
        };
        let broken = broken.unwrap_or_else(|fault| {
            tracing::warn!(fault = format!("{fault:#}"), "the audit chain is not followed");
            false
        });
        reports.audit().rest(Instant::now(), broken);
    }
}

fn due(reports: &Reports) -> Option<Chain> {
    let path = AUDIT_PATH.parse().ok()?;
    let folded = reports.ledger.read();
    let is_reader = reports.own.find(&folded.state).is_some_and(|(_, own)| own.read.cover(&path));
    let machines = folded.state.machines().values();
    let readers = machines.filter(|machine| machine.active && machine.read.cover(&path));
    reports.audit().due(is_reader, readers.count() as u64, Instant::now())
}

/// Follows the chain to the head that was named last. The second result is what is wrong with it.
async fn round(
    reports: &Arc<Reports>,
    client: &Client,
    mut chain: Chain,
) -> Result<Result<(), Error>> {
    while chain.due() > 0 {
        let (after, until) = (chain.followed.n, chain.named.n);
        let page = client.leaves(LeavesQuery { after }).await?;
        let anchors = reports.store.read(move |conn| peers::anchors(conn, after, until)).await?;
        let claims = claims(&reports.ledger.read().state, anchors);
        // A page is some 100,000 hashes: other tasks of the thread do not wait for them.
        let walked = tokio::task::spawn_blocking(move || {
            let mut walked = chain;
            let on = walked.go_on(page.from, page.until.is_some());
            let followed = on.and_then(|()| walked.follow(&page.leaves, &claims));
            (walked, followed)
        });
        let (walked, followed) = walked.await?;
        if let Err(error) = followed {
            return Ok(Err(error));
        }
        reports.audit().followed(chain, walked.followed);
        chain = walked;
    }
    let known = reports.audit().chain;
    reports.store.write(move |conn| facts::set(conn, facts::AUDIT, &known)).await?;
    Ok(Ok(()))
}
