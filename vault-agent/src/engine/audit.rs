//! Asking for audit records, and verifying the whole chain against every head that verified records
//! have anchored, or an owner has resumed from. A verify goes on where a stopped one was: what it
//! knows is kept between its pieces.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::log::{Resumed, State};
use shared::time::Time;
use shared::wire::v1::audit::{AuditPage, AuditQuery, LeavesPage, LeavesQuery};
use tokio::time::Instant;

use super::chain::{Chain, Claim, claims, stands};
use super::parts::Parts;
use super::walk::{Walk, check_end, shown_up_to, take_leaves, take_record};
use crate::state::{facts, peers};
use host::clock;
use host::hint::hinted;
use host::shown::Shown;
use machine::local::{BadRecord, ResumedAt, VerifyFrom, VerifyResult, VerifyStep};
use machine::remote::{Client, RemoteError};

/// How long to wait for local accesses to be shipped first.
const PATIENCE: Duration = Duration::from_secs(2);
/// Records asked for at once.
const PAGE: u64 = 10_000;
/// How long a piece of a verify takes: then it says how far it is, and what it knows is kept.
const PIECE: Duration = Duration::from_millis(500);
/// How long a stopped verify is gone on with.
const STOPPED: Duration = Duration::from_hours(24);

/// Asks the server for records.
pub(super) async fn page(parts: &Parts, query: AuditQuery) -> Result<AuditPage> {
    let client = asked(parts).await?;
    // What was read here a moment ago belongs into the answer.
    parts.accesses.shipping.now(PATIENCE).await;
    Ok(client.audit(&query).await?)
}

/// A verify under way.
#[derive(Serialize, Deserialize)]
struct Run {
    begun: Time,
    /// The last resumption that the log had then.
    epoch: Option<Hash>,
    walk: Walk,
    /// The last record that the server named first: a chain that grows at every question would
    /// have no end.
    goal: Option<u64>,
    /// Up to which record leaves are walked: those that the server has archived, or all of them,
    /// without the right to read records.
    by_leaves: u64,
}

/// The head that the server claims, or the first fault before it.
type Walked = Result<AuditHead, BadRecord>;

/// Recomputes a piece of the chain and compares it with every anchored head.
pub(super) async fn verify(parts: &Parts, from: VerifyFrom) -> Result<VerifyStep> {
    let client = asked(parts).await?;
    let _turn = parts.verifying.lock().await;
    let (claims, epoch) = all_claims(parts).await?;
    let mut kept = match from {
        VerifyFrom::Anew => None,
        VerifyFrom::Stopped | VerifyFrom::Here => kept(parts).await?,
    };
    kept = kept.filter(|run| {
        let age = clock::now().apart(run.begun);
        run.epoch == epoch && u128::from(age) <= STOPPED.as_micros()
    });
    // What somebody names behind a verify under way waits for the next one: else a member could
    // keep one from ending.
    kept = kept.and_then(|mut run| {
        let is_whole = run.walk.add(claims.clone());
        (is_whole || from == VerifyFrom::Here).then_some(run)
    });
    let mut run = kept.unwrap_or_else(|| Run {
        begun: clock::now(),
        epoch,
        walk: Walk::through(claims),
        goal: None,
        by_leaves: 0,
    });
    let (until, mut ahead) = (Instant::now() + PIECE, None);
    let ended = loop {
        let asked = match ahead.take() {
            Some(page) => Some(page),
            None => ask(&client, run.walk.head.n, run.by_leaves).await?,
        };
        let Some(page) = asked else {
            run.by_leaves = u64::MAX;
            continue;
        };
        let walked;
        (run, walked, ahead) = step(&client, run, page, Instant::now() < until).await?;
        if walked.is_some() || (ahead.is_none() && Instant::now() >= until) {
            break walked;
        }
    };
    let (begun, checked, goal) = (run.begun, run.walk.head.n, run.goal.unwrap_or_default());
    let Some(walked) = ended else {
        parts.store.write(move |conn| facts::set(conn, facts::VERIFY, &run)).await?;
        return Ok(VerifyStep { begun, checked, goal, result: None });
    };
    parts.store.write(|conn| facts::unset(conn, facts::VERIFY)).await?;
    let bad = walked.and_then(|end| check_end(&run.walk, end)).err();
    let restored = parts.ledger.read().state.resumed().iter().map(resumed_at).collect();
    let Walk { head, compared: anchors, start: unkept, agreed, .. } = run.walk;
    let whole = if bad.is_some() { agreed } else { head.n };
    let result = VerifyResult { checked: whole, head, anchors, restored, bad, unkept };
    Ok(VerifyStep { begun, checked, goal, result: Some(result) })
}

/// Returns what is known of a verify that has not ended.
async fn kept(parts: &Parts) -> Result<Option<Run>> {
    let kept = parts.store.read(|conn| Ok(facts::get::<Run>(conn, facts::VERIFY))).await?;
    Ok(kept.unwrap_or_else(|why| {
        tracing::info!(why = %why, "a stopped verify is not gone on with: another program's");
        None
    }))
}

/// Returns every head that somebody has put his name to, and the epoch that the log is in.
async fn all_claims(parts: &Parts) -> Result<(Vec<Claim>, Option<Hash>)> {
    let anchored = parts.store.read(|conn| peers::anchors(conn, 0, u64::MAX)).await?;
    let known = parts.reports.audit().chain;
    let folded = parts.ledger.read();
    let state = &folded.state;
    // A later resumption may have gone on with less of the chain, or with none of it.
    let owners = state.resumed().iter();
    let owners = owners.filter(|it| stands(state, it.epoch, it.from.audit_n)).map(owner_claim);
    let own = own_claims(state, known);
    let claims = claims(state, anchored).into_iter().chain(owners).chain(own).collect();
    Ok((claims, state.resumed().last().map(|resumed| resumed.epoch)))
}

/// What an owner who resumed has put his name to: the last record before the restore.
fn owner_claim(resumed: &Resumed) -> Claim {
    let head = AuditHead { n: resumed.from.audit_n, hash: resumed.from.audit_head };
    Claim { head, by: format!("`{}`, who resumed after a restore,", resumed.by) }
}

/// What this machine itself has been shown.
fn own_claims(state: &State, known: Option<Chain>) -> impl Iterator<Item = Claim> {
    let heads = known
        .into_iter()
        .flat_map(|chain| [chain.followed, chain.named].map(|head| (chain.epoch, head)));
    heads
        .filter(|(epoch, head)| stands(state, *epoch, head.n))
        .map(|(_, head)| Claim { head, by: "this machine".into() })
}

fn resumed_at(resumed: &Resumed) -> ResumedAt {
    ResumedAt { n: resumed.from.audit_n, time: resumed.time, by: resumed.by.clone() }
}

async fn asked(parts: &Parts) -> Result<Client> {
    // A server that is just back is no reason to refuse.
    parts.link.try_now().await;
    parts.link.client().map_err(|reason| {
        let address = parts.link.now().address.filter(|address| !reason.contains(address.as_str()));
        let tried = address.map(|address| format!("{address}: ")).unwrap_or_default();
        // Of several addresses each has a line.
        let why = format!("the audit log lives on the server, which cannot be asked: {tried}{reason}");
        hinted(
            Shown::text(why),
            "`vault status` says since when; `vault kv get` and `vault log` work without the server",
        )
    })
}

fn is_denied(fault: &RemoteError) -> bool {
    match fault {
        RemoteError::Status { status, .. } => *status == 403,
        RemoteError::Refused(error) => error.code == shared::error::Code::Denied,
        RemoteError::Conflict(_) | RemoteError::Lost(_) | RemoteError::Protocol(_) => false,
    }
}

/// What a server shows of the chain.
enum Page {
    Records(AuditPage),
    Leaves(LeavesPage),
}

/// Asks for what comes after record `after`: records, or the leaves of those that cannot be had.
/// `None` if this machine may not read records.
async fn ask(client: &Client, after: u64, by_leaves: u64) -> Result<Option<Page>, RemoteError> {
    if by_leaves > after {
        return client.leaves(LeavesQuery { after }).await.map(|page| Some(Page::Leaves(page)));
    }
    let query = AuditQuery { after, limit: Some(PAGE), ..AuditQuery::default() };
    match client.audit(&query).await {
        Err(fault) if is_denied(&fault) => Ok(None),
        page => page.map(|page| Some(Page::Records(page))),
    }
}

/// Walks a page; meanwhile asks for the next one, if the walk `goes_on`.
async fn step(
    client: &Client,
    mut run: Run,
    page: Page,
    goes_on: bool,
) -> Result<(Run, Option<Walked>, Option<Page>), RemoteError> {
    let before = run.walk.head.n;
    let (after, last) = match &page {
        Page::Records(page) => {
            let archived = page.archived.as_ref().map_or(0, |archived| archived.last);
            if archived > before {
                run.goal.get_or_insert(page.head.n);
                run.by_leaves = archived;
                return Ok((run, None, None));
            }
            (before.saturating_add(page.records.len() as u64), page.head.n)
        }
        Page::Leaves(page) => (page.from.n.saturating_add(page.leaves.len() as u64), page.head.n),
    };
    let goal = *run.goal.get_or_insert(last);
    let (by_leaves, is_end) = (run.by_leaves, after <= before || after >= goal.min(last));
    let next = async {
        // A fault is met again by who needs the page.
        if goes_on && !is_end { ask(client, after, by_leaves).await.ok().flatten() } else { None }
    };
    let walked = on_the_side(run, move |run| match &page {
        Page::Records(page) => records(run, page),
        Page::Leaves(page) => leaves(run, page),
    });
    let (walked, next) = tokio::join!(walked, next);
    walked.map(|(run, walked)| (run, walked, next))
}

/// Hashes where other tasks of the thread do not wait for it.
async fn on_the_side(
    mut run: Run,
    walk: impl FnOnce(&mut Run) -> Option<Walked> + Send + 'static,
) -> Result<(Run, Option<Walked>), RemoteError> {
    let walked = tokio::task::spawn_blocking(move || {
        let walked = walk(&mut run);
        (run, walked)
    });
    walked.await.map_err(|why| RemoteError::Protocol(why.to_string()))
}

/// Walks the records of a page.
fn records(run: &mut Run, page: &AuditPage) -> Option<Walked> {
    let (before, goal) = (run.walk.head.n, run.goal.unwrap_or_default());
    let walked = page.records.iter().try_for_each(|record| take_record(&mut run.walk, record));
    let n = run.walk.head.n;
    let is_end = walked.is_err() || n >= goal || n == before;
    is_end.then(|| walked.and_then(|()| shown_up_to(&run.walk, goal)).map(|()| page.head))
}

/// Walks the leaves of a page.
fn leaves(run: &mut Run, page: &LeavesPage) -> Option<Walked> {
    let before = run.walk.head.n;
    let goal = *run.goal.get_or_insert(page.head.n);
    if let Err(bad) = take_leaves(&mut run.walk, page) {
        return Some(Err(bad));
    }
    let n = run.walk.head.n;
    if n >= goal {
        return Some(Ok(page.head));
    }
    // Of what is archived there is a leaf of each record.
    let stuck = n < run.by_leaves && (n == before || n >= page.head.n);
    stuck.then(|| shown_up_to(&run.walk, run.by_leaves.min(goal)).map(|()| page.head))
}
