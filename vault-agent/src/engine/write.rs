//! The writer: one task that batches local callers into one entry, encrypts, signs, saves the
//! request before it is sent, and sends the same bytes until they are answered (design/trust,
//! *Client*, write).

use std::sync::Arc;
use std::time::Duration;

use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::limits;
use shared::log::{self, Entry, Op, Refused};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use shared::wire::v1::log::Appended;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Inner;
use super::decide::{Bases, Draft, Not, decide};
use super::read::Reach;
use super::seal::{Sealing, seal_all};
use super::send::{Outgoing, Sent};
use super::types::{Change, PutContent, WriteError, Written};
use host::clock;

/// Callers that may wait.
pub(super) const QUEUE: usize = 256;
/// Bytes of content that share an entry, so that its blobs travel in one request.
const BATCH_BYTES: usize = 2 << 20;
/// How often an entry is rebuilt because the log moved on.
const REBUILDS: usize = 32;
/// How long to wait for the entries that a conflict speaks of.
const CATCH_UP: Duration = Duration::from_secs(5);

/// How long the first connection since the start, while it is being made, may keep a write waiting.
const FIRST_TRY: Duration = Duration::from_secs(3);
/// How long a later one may.
const NEXT_TRY: Duration = Duration::from_secs(1);

/// What the writer is asked for.
pub(super) enum Job {
    /// Changes of a local caller.
    Changes { changes: Vec<Change>, reply: oneshot::Sender<Result<Written, WriteError>> },
    /// An entry that an owner has signed.
    Owner { envelope: Envelope, reply: oneshot::Sender<Result<Appended, WriteError>> },
}

/// A caller whose changes are being written.
pub(super) struct Caller {
    changes: Vec<Change>,
    reply: oneshot::Sender<Result<Written, WriteError>>,
    pub(super) sealing: Sealing,
}

/// Drafts of all callers on one state.
struct Build {
    seq: u64,
    prev: Hash,
    time: Time,
    /// One for each caller.
    drafts: Vec<Vec<Draft>>,
}

impl Inner {
    pub(super) async fn write(&self, changes: Vec<Change>) -> Result<Written, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.queue_job(Job::Changes { changes, reply }, answer).await
    }

    pub(super) async fn submit(&self, envelope: Envelope) -> Result<Appended, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.queue_job(Job::Owner { envelope, reply }, answer).await
    }

    /// Has a connection made now, not at the end of a pause, and waits until it has caught up or failed: a write right
    /// after the start, or when the server is back, is not refused for some seconds' sake.
    async fn try_now(&self) {
        let mut link = self.link.subscribe();
        let (before, kept) = {
            let link = link.borrow();
            if link.caught_up || *self.halted.borrow() {
                return;
            }
            (link.tries, link.kept)
        };
        if kept {
            self.nudge.notify_one();
        } else if before > 0 {
            return;
        }
        let decided = link.wait_for(|link| link.caught_up || link.tries > before);
        // Whatever came of it, the caller looks at the link itself.
        let _ = timeout(if before == 0 { FIRST_TRY } else { NEXT_TRY }, decided).await;
    }

    async fn queue_job<T>(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<T, WriteError>>,
    ) -> Result<T, WriteError> {
        let stopping = || WriteError::Offline { reason: "the agent is stopping".into() };
        self.try_now().await;
        self.writing_client().map_err(|reason| WriteError::Offline { reason })?;
        self.writes.send(job).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// Serves callers until the engine ends.
pub(super) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<Job>) {
    let mut carried = None;
    loop {
        if inner.pending_entry().is_some() && inner.writing_client().is_ok() {
            super::send::resolve(&inner).await;
            continue;
        }
        let job = match carried.take() {
            Some(job) => Some(job),
            None => tokio::select! {
                job = queue.recv() => job,
                () = super::send::pending_and_online(&inner) => continue,
            },
        };
        match job {
            None => return,
            Some(Job::Owner { envelope, reply }) => {
                let _ = reply.send(super::owner::append(&inner, envelope).await);
            }
            Some(Job::Changes { changes, reply }) => {
                let (callers, next) = gather(changes, reply, &mut queue);
                carried = next;
                write_all(&inner, callers).await;
            }
        }
    }
}

/// Takes along whoever waits already, as far as one entry carries.
fn gather(
    changes: Vec<Change>,
    reply: oneshot::Sender<Result<Written, WriteError>>,
    queue: &mut mpsc::Receiver<Job>,
) -> (Vec<Caller>, Option<Job>) {
    let mut count = changes.len();
    let mut bytes = weight(&changes);
    let mut callers = vec![Caller { changes, reply, sealing: Sealing::default() }];
    loop {
        match queue.try_recv() {
            Ok(Job::Changes { changes, reply }) => {
                count += changes.len();
                bytes += weight(&changes);
                if count > limits::OPS || bytes > BATCH_BYTES {
                    return (callers, Some(Job::Changes { changes, reply }));
                }
                callers.push(Caller { changes, reply, sealing: Sealing::default() });
            }
            Ok(owner @ Job::Owner { .. }) => return (callers, Some(owner)),
            Err(_) => return (callers, None),
        }
    }
}

fn weight(changes: &[Change]) -> usize {
    let bytes = |change: &Change| match change {
        Change::Put { content: PutContent::Whole(bytes), .. } => bytes.len(),
        _ => 1024,
    };
    changes.iter().map(bytes).sum()
}

/// Writes a batch; one that turns out too large, or is refused as a whole, is cut in halves.
async fn write_all(inner: &Arc<Inner>, callers: Vec<Caller>) {
    let mut batches = vec![callers];
    while let Some(mut callers) = batches.pop() {
        if let Err(fault) = write_batch(inner, &mut callers).await {
            if callers.len() > 1 && matches!(fault, WriteError::TooLarge | WriteError::Refused(_)) {
                let second = callers.split_off(callers.len() / 2);
                batches.extend([second, callers]);
            } else {
                callers.into_iter().for_each(|caller| caller.answer(Err(fault.clone())));
            }
        }
    }
}

impl Caller {
    fn answer(self, result: Result<Written, WriteError>) {
        let _ = self.reply.send(result);
    }
}

/// Writes one entry for the callers, building it again whenever the log has moved on. Callers
/// that were answered are taken off; an error is everybody's who is left.
async fn write_batch(inner: &Arc<Inner>, callers: &mut Vec<Caller>) -> Result<(), WriteError> {
    let mut bases = Bases::new();
    for _ in 0..REBUILDS {
        inner.writing_client().map_err(|reason| WriteError::Offline { reason })?;
        callers.retain(|caller| !caller.reply.is_closed());
        let Some(build) = drafted(inner, callers, &mut bases).await else { continue };
        if callers.is_empty() {
            return Ok(());
        }
        seal_all(inner, callers, &build.drafts).await?;
        let Some(ops) = checked(inner, callers, &build) else { continue };
        if ops.is_empty() {
            answer_all(callers, &build, build.seq - 1);
            return Ok(());
        }
        let outgoing = signed(inner, callers, &build, ops)?;
        match super::send::send(inner, outgoing).await? {
            Sent::Done(appended) => {
                answer_all(callers, &build, appended.seq);
                return Ok(());
            }
            Sent::Conflict { seq } => caught_up_to(inner, seq).await?,
            Sent::Refused(error) => return Err(refused(error)),
            Sent::Full => return Err(WriteError::Full),
            Sent::Unresolved => return Err(WriteError::Unresolved),
        }
    }
    Err(WriteError::Offline { reason: "the log moves on faster than entries can be built".into() })
}

/// Drafts the changes of all callers on today's state; answers those that cannot be. `None` if
/// it has to be done again, with more contents loaded or fewer callers.
async fn drafted(
    inner: &Arc<Inner>,
    callers: &mut Vec<Caller>,
    bases: &mut Bases,
) -> Option<Build> {
    let (seq, prev, decided) = {
        let ledger = inner.ledger();
        let changes = callers.iter().map(|caller| caller.changes.as_slice());
        let decided = decide(&ledger.state, &inner.name, changes, bases);
        (ledger.state.seq() + 1, ledger.state.head(), decided)
    };
    let mut drafts = Vec::with_capacity(callers.len());
    let mut wanted = Vec::new();
    let mut waiting = std::mem::take(callers).into_iter();
    for (decision, caller) in decided.into_iter().zip(&mut waiting) {
        match decision {
            Ok(drafted) => {
                drafts.push(drafted);
                callers.push(caller);
            }
            Err(Not::Allowed(fault)) => caller.answer(Err(fault)),
            Err(Not::Loaded(path)) => {
                wanted.push(path);
                callers.push(caller);
            }
        }
    }
    if wanted.is_empty() {
        return Some(Build { seq, prev, time: clock::now(), drafts });
    }
    for path in wanted {
        let content = inner.content(&path, None, Reach::Server).await;
        bases.insert(path, content);
    }
    None
}

/// Turns drafts into operations and tries them on the state; `None` if the state has moved on or
/// a caller had to be answered.
fn checked(inner: &Inner, callers: &mut Vec<Caller>, build: &Build) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    let mut owners = Vec::new();
    for (index, (caller, drafts)) in callers.iter().zip(&build.drafts).enumerate() {
        for (at, draft) in drafts.iter().enumerate() {
            ops.push(match draft {
                Draft::Op(op) => Op::clone(op),
                Draft::Put(put) => Op::Put(caller.sealing.get(at, put)?),
            });
            owners.push(index);
        }
    }
    let mut ledger = inner.ledger_mut();
    if ledger.state.head() != build.prev {
        return None;
    }
    if ops.is_empty() || ops.len() > limits::OPS {
        return Some(ops);
    }
    let by = Actor::Machine(inner.name.clone());
    let tried = log::attempt(&mut ledger.state, &by, build.time, &ops, |_| ());
    drop(ledger);
    match tried {
        Ok(()) => Some(ops),
        Err(Refused { op, error }) => {
            let owner = op.and_then(|at| owners.get(at)).copied().unwrap_or(0);
            callers.remove(owner).answer(Err(refused(error)));
            None
        }
    }
}

fn refused(error: Error) -> WriteError {
    match error.code {
        Code::Denied | Code::UnknownActor => WriteError::Denied,
        _ => WriteError::Refused(error),
    }
}

/// Builds and signs the entry.
fn signed(
    inner: &Inner,
    callers: &[Caller],
    build: &Build,
    ops: Vec<Op>,
) -> Result<Outgoing, WriteError> {
    let by = Actor::Machine(inner.name.clone());
    if ops.len() > limits::OPS {
        return Err(WriteError::TooLarge);
    }
    let entry = Entry { seq: build.seq, prev: build.prev, time: build.time, by: by.clone(), ops };
    let purpose = Purpose::Entry(inner.pins.vault);
    let envelope =
        Envelope::sign(&inner.keys.sign, by, purpose, &entry).map_err(WriteError::Refused)?;
    if envelope.body.len() > limits::BODY {
        return Err(WriteError::TooLarge);
    }
    let blobs = callers.iter().flat_map(|caller| caller.sealing.blobs()).collect();
    // What was written here need not be decrypted here.
    for (caller, drafts) in callers.iter().zip(&build.drafts) {
        caller.sealing.remember(inner, drafts);
    }
    Ok(Outgoing { seq: build.seq, hash: envelope.hash(purpose), envelope, blobs })
}

fn answer_all(callers: &mut Vec<Caller>, build: &Build, seq: u64) {
    for (caller, drafts) in callers.drain(..).zip(&build.drafts) {
        let versions = drafts.iter().filter_map(|draft| match draft {
            Draft::Put(put) => Some((put.path.clone(), put.ver)),
            Draft::Op(_) => None,
        });
        let versions = versions.collect();
        caller.answer(Ok(Written { seq, time: build.time, versions }));
    }
}

/// Waits until the stream has brought the entries that a conflict spoke of.
async fn caught_up_to(inner: &Arc<Inner>, seq: u64) -> Result<(), WriteError> {
    let mut applied = inner.applied.subscribe();
    let waited = timeout(CATCH_UP, applied.wait_for(|_| inner.ledger().seq() >= seq)).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(WriteError::Offline {
            reason: format!("the server speaks of entry {seq} but does not send it"),
        }),
    }
}
