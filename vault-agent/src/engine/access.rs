//! Local accesses, and what is told of target files: on disk before the answer, many in one commit,
//! alike ones merged; shipped to the audit log in batches and dropped when the server has them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rusqlite::Connection;
use shared::audit::{Fact, Op};
use shared::hash::Hash;
use shared::time::Time;
use shared::wire::v1::audit::{ACCESSES, AccessReply, AccessRequest};
use tokio::runtime::Handle;
use tokio::sync::{MutexGuard as Turn, oneshot};
use tokio::time::sleep;

use super::debounced::Debounced;
use super::link::Link;
use crate::state::{self, Database, Failure, Outcome, Store};
use host::clock;
use host::store::Job;
use machine::remote::Client;

/// Accesses in one commit from which on the next one waits for those that are being looked at.
const MANY: usize = 8;
/// How long after an access it is shipped: later ones join in.
const AFTER: Duration = Duration::from_millis(500);
/// How often to try when nothing new waits.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of one batch, before they are written as JSON.
const BATCH: usize = 1 << 20;
/// Accesses that a report takes along, and their bytes.
const ALONG: (u64, usize) = (64, 64 << 10);
/// Rows after which the table is checked against its bound.
const CHECK: usize = 5000;

type Recorded = oneshot::Sender<Result<(), Failure>>;

/// Local accesses on their way to the audit log.
pub(super) struct Accesses {
    /// Tells this run of the agent from all others.
    run: Hash,
    waiting: Mutex<Waiting>,
    pub(super) shipping: Debounced,
    /// Whose turn it is to ship: a batch that came twice is known as such only next to the first.
    turn: tokio::sync::Mutex<()>,
    store: Arc<Store>,
    pub(super) link: Arc<Link>,
}

/// Some of the oldest accesses, which a report takes along: that a file was written is told with
/// the report that says so, without a request more.
pub(super) struct Along<'a>(Option<(AccessRequest, Turn<'a, ()>)>);

impl Along<'_> {
    /// Returns them, if there are any.
    pub(super) fn request(&self) -> Option<AccessRequest> {
        self.0.as_ref().map(|(request, _)| request.clone())
    }
}

/// Accesses that wait for the next commit.
#[derive(Default)]
struct Waiting {
    rows: HashMap<Fact, (Time, u64)>,
    answers: Vec<Recorded>,
    /// Whether a commit is on its way that will take them along.
    queued: bool,
    /// Whether the last commit took many along.
    busy: bool,
    /// Whether any of them is to be shipped soon.
    urgent: bool,
    since_check: usize,
}

impl Accesses {
    pub(super) fn new(run: Hash, store: Arc<Store>, link: Arc<Link>) -> Self {
        let (waiting, shipping, turn) = (Mutex::default(), Debounced::default(), <_>::default());
        Self { run, waiting, shipping, turn, store, link }
    }

    /// Notes accesses; they are on disk when this returns. What is told of target files waits for
    /// the report that follows, or for others.
    pub(super) async fn record(self: &Arc<Self>, accesses: Vec<Fact>) -> Result<(), Failure> {
        if accesses.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let (queue_now, busy) = {
            let mut waiting = self.lock();
            waiting.urgent |= accesses.iter().any(|access| access.op != Op::LocalApplied);
            for access in accesses {
                waiting.rows.entry(access).or_insert_with(|| (clock::now(), 0)).1 += 1;
            }
            waiting.answers.push(answer);
            (!std::mem::replace(&mut waiting.queued, true), waiting.busy)
        };
        if queue_now && (busy || self.store.try_submit(self.job()).is_err()) {
            // A task of its own: who asked may go away, those who joined in are still to be
            // answered.
            tokio::spawn(Arc::clone(self).commit());
        }
        answered.await.map_err(|_| Failure::Closed)?
    }

    /// Has the waiting accesses written once every request that is there has been looked at: they
    /// share a commit.
    async fn commit(self: Arc<Self>) {
        tokio::task::yield_now().await;
        if let Err(fault) = self.store.submit(self.job()).await {
            let mut waiting = self.lock();
            waiting.queued = false;
            send(std::mem::take(&mut waiting.answers), &Err(fault));
        }
    }

    fn job(self: &Arc<Self>) -> Job<Database> {
        let (own, runtime) = (Arc::clone(self), Handle::current());
        Box::new(move |open| own.write(open.map(|database| &**database), runtime))
    }

    fn write(self: Arc<Self>, open: Result<&Connection, Failure>, runtime: Handle) -> Outcome {
        let (rows, answers, check, urgent) = {
            let mut waiting = self.lock();
            waiting.queued = false;
            let urgent = std::mem::take(&mut waiting.urgent);
            waiting.busy = waiting.answers.len() >= MANY;
            waiting.since_check += waiting.rows.len();
            let check = waiting.since_check >= CHECK;
            if check {
                waiting.since_check = 0;
            }
            let rows = std::mem::take(&mut waiting.rows);
            (rows, std::mem::take(&mut waiting.answers), check, urgent)
        };
        let accesses: Vec<Fact> = rows.into_iter().map(counted).collect();
        let written = open.and_then(|conn| {
            state::access::insert(conn, self.run, &accesses)?;
            Ok(if check { state::access::bound(conn, self.run)? } else { 0 })
        });
        match written {
            Ok(lost) => {
                if lost > 0 {
                    tracing::error!(lost, "local accesses given up: the server is away too long");
                }
                Outcome::Keep(Box::new(move |committed| {
                    answer(&runtime, answers, committed);
                    if urgent {
                        self.shipping.soon();
                    }
                }))
            }
            Err(fault) => {
                answer(&runtime, answers, Err(fault.clone()));
                Outcome::Undo(fault)
            }
        }
    }

    /// Returns some of the oldest accesses for a report to take along; none while they are being
    /// shipped.
    pub(super) async fn along(&self) -> Result<Along<'_>, Failure> {
        let Ok(turn) = self.turn.try_lock() else { return Ok(Along(None)) };
        let (most, bytes) = ALONG;
        let request = self.store.read(move |conn| state::access::oldest(conn, most, bytes)).await?;
        Ok(Along((!request.reads.is_empty()).then_some((request, turn))))
    }

    /// Takes what the server says of those that a report took along; if it says nothing of them, it
    /// gets them in a request of their own.
    pub(super) async fn went_along(
        &self,
        along: Along<'_>,
        reply: Option<AccessReply>,
    ) -> Result<(), Failure> {
        let Some((request, _turn)) = along.0 else { return Ok(()) };
        let after = request.first + request.reads.len() as u64;
        if reply.is_some_and(|reply| reply.next >= after) {
            self.store.write(move |conn| state::access::shipped(conn, after)).await?;
        } else {
            self.shipping.soon();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers from the thread of the database: a task does it for many, as each that is woken from
/// there takes a system call.
fn answer(runtime: &Handle, answers: Vec<Recorded>, committed: Result<(), Failure>) {
    if answers.len() > 1 {
        runtime.spawn(async move { send(answers, &committed) });
    } else {
        send(answers, &committed);
    }
}

fn send(answers: Vec<Recorded>, committed: &Result<(), Failure>) {
    for answer in answers {
        let _ = answer.send(committed.clone());
    }
}

fn counted((access, (first, count)): (Fact, (Time, u64))) -> Fact {
    // What tells of something earlier says when itself.
    let at = access.at.or(Some(first));
    Fact { at, count: Some(count).filter(|count| *count > 1), ..access }
}

/// Ships what waits whenever something does, until the connection ends.
pub(super) async fn run(accesses: Arc<Accesses>, client: Client) {
    loop {
        let ticket = accesses.shipping.next(AFTER, IDLE).await;
        if !accesses.link.is_caught_up() {
            continue;
        }
        match ship(&accesses, &client).await {
            Ok(()) => accesses.shipping.done(ticket),
            Err(fault) => {
                tracing::warn!(%fault, "local accesses not shipped");
                sleep(AFTER).await;
            }
        }
    }
}

/// Ships everything that waits now.
async fn ship(Accesses { store, turn, .. }: &Accesses, client: &Client) -> Result<()> {
    let _turn = turn.lock().await;
    loop {
        let request = store.read(|conn| state::access::oldest(conn, ACCESSES as u64, BATCH));
        let request = request.await?;
        if request.reads.is_empty() {
            return Ok(());
        }
        let after = request.first + request.reads.len() as u64;
        let next = client.access(&request).await?.next;
        anyhow::ensure!(next >= after, "the server takes no local accesses: it wants {next}");
        store.write(move |conn| state::access::shipped(conn, after)).await?;
    }
}
