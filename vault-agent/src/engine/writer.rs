//! How a write goes its way, from top to bottom: callers are queued, gathered into one batch, their
//! changes decided, the contents sealed, the entry signed, sent and recorded, the callers answered
//! (design/trust, *Client*, write). Deciding, sealing and sending live below.

mod caller;
mod refused;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use shared::audit::{Asker, Fact, Outcome};
use shared::error::{Code, Error};
use shared::limits;
use shared::log::{self, Entry, Op, Refused};
use shared::signed::{Envelope, Purpose};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout_at};

use caller::{Build, Caller, facts, record, written};

use super::decide::{Bases, Draft, Not, decide};
use super::owner;
use super::parts::Parts;
use super::read::{self, Reach};
use super::seal::{Sealing, seal_all};
use super::send::{self, Outgoing, Sent};
use super::timing;
use super::types::{Change, PutContent, WriteError, Written};
use host::clock;
use machine::local::Submitted;

/// Callers that may wait.
const QUEUE: usize = 256;
/// Bytes of content that share an entry, so that its blobs travel in one request.
const BATCH_BYTES: usize = 2 << 20;
/// How often an entry is rebuilt because the log moved on.
const REBUILDS: usize = 32;

/// The queue of the writer.
pub(super) struct Writer {
    changes: mpsc::Sender<Caller>,
    acts: mpsc::Sender<Act>,
    /// The other ends, until the writer is started.
    queues: Mutex<Option<(mpsc::Receiver<Caller>, mpsc::Receiver<Act>)>>,
}

/// An entry that an owner has signed: it goes first, and waits for nothing that is kept.
struct Act {
    envelope: Envelope,
    reply: oneshot::Sender<Result<Submitted, WriteError>>,
}

impl Writer {
    /// Makes a writer that still has to be started.
    pub(super) fn new() -> Self {
        let ((changes, callers), (acts, signed)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        Self { changes, acts, queues: Mutex::new(Some((callers, signed))) }
    }

    /// Writes a caller's changes in one entry, or none of them.
    pub(super) async fn write(
        &self,
        parts: &Parts,
        changes: Vec<Change>,
        by: Asker,
    ) -> Result<Written, WriteError> {
        let (sealing, refused) = (Sealing::default(), Vec::new());
        queue(parts, &self.changes, |reply| Caller { by, changes, reply, sealing, refused }).await
    }

    /// Submits an entry that an owner has signed.
    pub(super) async fn submit(
        &self,
        parts: &Parts,
        envelope: Envelope,
    ) -> Result<Submitted, WriteError> {
        queue(parts, &self.acts, |reply| Act { envelope, reply }).await
    }
}

async fn queue<J, T>(
    parts: &Parts,
    jobs: &mpsc::Sender<J>,
    job: impl FnOnce(oneshot::Sender<Result<T, WriteError>>) -> J,
) -> Result<T, WriteError> {
    let stopping = || WriteError::Offline { reason: "the agent is stopping".into() };
    parts.link.try_now().await;
    parts.link.writing_client()?;
    let (reply, answer) = oneshot::channel();
    jobs.send(job(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| if jobs.is_closed() { stopping() } else { lost() })?
}

/// What a caller is told whose change has ended by a fault of this program.
fn lost() -> WriteError {
    WriteError::Local(
        "the write ended without an answer: read the secret before writing again".into(),
    )
}

/// Runs a job as a task of its own, which ends with this one: a fault in it is that of its callers
/// alone, and the next are served.
async fn contained(job: impl Future<Output = ()> + Send + 'static) {
    let mut only = JoinSet::new();
    only.spawn(job);
    if let Some(Err(fault)) = only.join_next().await {
        tracing::error!("a write has ended without an answer: {fault}");
    }
}

/// Serves callers until the engine ends; only the first of these tasks does.
pub(super) async fn run(parts: Arc<Parts>, writer: Arc<Writer>) {
    let queues = writer.queues.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((mut queue, mut acts)) = queues else { return };
    let mut carried = None;
    loop {
        if send::must_resolve(&parts) {
            let (waits, acted) = beside_acts(&parts, &mut acts, send::resolve(&parts)).await;
            // After an act, there may be nothing left to wait for.
            if let Some((reason, again)) = waits.filter(|_| !acted) {
                let offline = || WriteError::Offline { reason: reason.clone() };
                carried.take().into_iter().for_each(|one: Caller| one.answer(Err(offline())));
                refuse_changes(&parts, &mut queue, &mut acts, &reason, again).await;
            }
            continue;
        }
        tokio::select! {
            biased;
            act = acts.recv() => match act {
                Some(act) => act.submit(&parts).await,
                None => return,
            },
            () = send::pending_and_online(&parts) => {}
            first = next(&mut carried, &mut queue) => match first {
                Some(first) => {
                    let callers;
                    (callers, carried) = gather(first, &mut queue);
                    let writing = parts.clone();
                    let work = contained(async move { write_all(&writing, callers).await });
                    beside_acts(&parts, &mut acts, work).await;
                }
                None => return,
            },
        }
    }
}

/// Does a piece of work, and meanwhile submits what owners sign: a server that does not answer the
/// one must not have the other wait. The work stands still until the act is answered; then it finds
/// that the log has moved on, or that an entry is kept. Tells whether there was an act.
async fn beside_acts<T>(
    parts: &Arc<Parts>,
    acts: &mut mpsc::Receiver<Act>,
    work: impl Future<Output = T>,
) -> (T, bool) {
    let mut work = pin!(work);
    let mut acted = false;
    loop {
        tokio::select! {
            done = &mut work => return (done, acted),
            Some(act) = acts.recv() => {
                act.submit(parts).await;
                acted = true;
            }
        }
    }
}

/// Refuses the changes of local callers for some time: they would wait behind an entry that the
/// server does not take now. An owner's act ends it, as it may be what the server waits for.
async fn refuse_changes(
    parts: &Arc<Parts>,
    queue: &mut mpsc::Receiver<Caller>,
    acts: &mut mpsc::Receiver<Act>,
    reason: &str,
    time: Duration,
) {
    let until = Instant::now() + time;
    let mut applied = parts.ledger.applied();
    while parts.pending.newest().is_some() {
        tokio::select! {
            biased;
            Some(act) = acts.recv() => return act.submit(parts).await,
            caller = timeout_at(until, queue.recv()) => match caller {
                Ok(Some(caller)) => {
                    caller.answer(Err(WriteError::Offline { reason: reason.to_owned() }));
                }
                Ok(None) | Err(_) => return,
            },
            // It may have come with the log.
            Ok(()) = applied.changed() => {}
        }
    }
}

/// Returns who was taken from the queue already, or else who waits there.
async fn next(carried: &mut Option<Caller>, queue: &mut mpsc::Receiver<Caller>) -> Option<Caller> {
    match carried.take() {
        Some(caller) => Some(caller),
        None => queue.recv().await,
    }
}

/// Takes along the callers that wait already, as far as one entry carries.
fn gather(first: Caller, queue: &mut mpsc::Receiver<Caller>) -> (Vec<Caller>, Option<Caller>) {
    let mut count = first.changes.len();
    let mut bytes = weight(&first.changes);
    let mut callers = vec![first];
    while let Ok(next) = queue.try_recv() {
        count += next.changes.len();
        bytes += weight(&next.changes);
        if count > limits::OPS || bytes > BATCH_BYTES {
            return (callers, Some(next));
        }
        callers.push(next);
    }
    (callers, None)
}

fn weight(changes: &[Change]) -> usize {
    let bytes = |change: &Change| match change {
        Change::Put { content: PutContent::Whole(bytes), .. } => bytes.len(),
        _ => 1024,
    };
    changes.iter().map(bytes).sum()
}

/// Writes a batch; one that turns out too large, or is refused as a whole, is cut in halves.
async fn write_all(parts: &Arc<Parts>, callers: Vec<Caller>) {
    let mut batches = vec![callers];
    while let Some(mut callers) = batches.pop() {
        if let Err(fault) = write_batch(parts, &mut callers).await {
            let may_be_one = match &fault {
                WriteError::TooLarge => true,
                // The time is that of all.
                WriteError::Refused(error) => error.code != Code::Clock,
                _ => false,
            };
            if callers.len() > 1 && may_be_one {
                let second = callers.split_off(callers.len() / 2);
                batches.extend([second, callers]);
            } else {
                callers.into_iter().for_each(|caller| caller.answer(Err(fault.clone())));
            }
        }
    }
}

impl Build {
    /// Returns what the callers, who are those of the drafts, did to secrets.
    fn facts(&self, callers: &[Caller], result: &Outcome) -> Vec<Fact> {
        let drafts = callers.iter().zip(&self.drafts);
        drafts.flat_map(|(caller, drafts)| facts(&caller.by, drafts, result)).collect()
    }
}

impl Act {
    async fn submit(self, parts: &Arc<Parts>) {
        let _ = self.reply.send(owner::append(parts, self.envelope).await);
    }
}

/// Writes one entry for the callers, building it again whenever the log has moved on. Callers
/// that were answered are taken off; an error is everybody's who is left.
async fn write_batch(parts: &Arc<Parts>, callers: &mut Vec<Caller>) -> Result<(), WriteError> {
    let mut bases = Bases::new();
    // Whether an entry was refused for its time: it may have waited, or gone by another's clock.
    let mut untimely = false;
    for _ in 0..REBUILDS {
        if refused::settle(parts, callers).await? && callers.is_empty() {
            return Ok(());
        }
        parts.link.writing_client()?;
        callers.retain(|caller| !caller.reply.is_closed());
        let Some(mut build) = drafted(parts, callers, &mut bases).await else { continue };
        if refused::settle(parts, callers).await? {
            continue;
        }
        if untimely {
            build.time = clock::now();
        }
        if callers.is_empty() {
            return Ok(());
        }
        let sealings = callers.iter_mut().map(|caller| &mut caller.sealing);
        let sealings = sealings.zip(build.drafts.iter().map(Vec::as_slice)).collect();
        seal_all(&parts.ledger, sealings).await?;
        let Some(ops) = checked(parts, callers, &build) else { continue };
        if ops.is_empty() {
            answer_all(callers, &build, build.seq - 1);
            return Ok(());
        }
        if parts.pending.newest().is_some() {
            // The other half of a batch, or an owner's act, has been left without an answer.
            return Err(WriteError::Offline { reason: "it owes an answer to a change".into() });
        }
        let outgoing = signed(parts, callers, &build, ops)?;
        let hash = outgoing.envelope.hash(Purpose::Entry(parts.own.pins.vault));
        match send::send(parts, outgoing).await {
            Ok(Sent::Done(submitted)) => {
                record(parts, build.facts(callers, &Outcome::Ok)).await?;
                answer_all(callers, &build, submitted.seq);
                return Ok(());
            }
            Ok(Sent::Conflict) => {}
            Err(WriteError::Refused(error)) => {
                refused::note(callers, &build, hash);
                if error.code != Code::Clock || untimely {
                    refused::settle(parts, callers).await?;
                    return Err(refused(error));
                }
                untimely = true;
            }
            Err(fault @ (WriteError::Unresolved | WriteError::Postponed { .. })) => {
                record(parts, build.facts(callers, &Outcome::Unavailable)).await?;
                return Err(fault);
            }
            Err(fault) => return Err(fault),
        }
    }
    Err(WriteError::Offline { reason: "the log moves on faster than entries can be built".into() })
}

/// Drafts the changes of all callers on today's state; answers those that cannot be. `None` if
/// it has to be done again, with more contents loaded or fewer callers.
async fn drafted(
    parts: &Arc<Parts>,
    callers: &mut Vec<Caller>,
    bases: &mut Bases,
) -> Option<Build> {
    let (seq, prev, before, decided) = {
        let folded = parts.ledger.read();
        let changes = callers.iter().map(|caller| caller.changes.as_slice());
        let decided = decide(&folded.state, &parts.own, changes, bases);
        (folded.state.seq() + 1, folded.state.head(), folded.state.time(), decided)
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
        let time = timing::of_entry(clock::now(), before);
        return Some(Build { seq, prev, time, drafts });
    }
    for path in wanted {
        let content = read::content(parts, &path, None, Reach::Server).await;
        bases.insert(path, content);
    }
    None
}

/// Turns drafts into operations and tries them on the state; `None` if the state has moved on or
/// a caller had to be answered.
fn checked(parts: &Parts, callers: &mut Vec<Caller>, build: &Build) -> Option<Vec<Op>> {
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
    let tried = parts.ledger.attempt(|folded| {
        let by = parts.own.actor(&folded.state);
        if folded.state.head() != build.prev {
            return None;
        }
        if ops.is_empty() || ops.len() > limits::OPS {
            return Some(Ok(()));
        }
        Some(log::attempt(&mut folded.state, &by, build.time, &ops, |_| ()))
    })?;
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

fn signed(
    parts: &Parts,
    callers: &[Caller],
    build: &Build,
    ops: Vec<Op>,
) -> Result<Outgoing, WriteError> {
    let by = parts.own.actor(&parts.ledger.read().state);
    if ops.len() > limits::OPS {
        return Err(WriteError::TooLarge);
    }
    let entry = Entry { seq: build.seq, prev: build.prev, time: build.time, by: by.clone(), ops };
    let purpose = Purpose::Entry(parts.own.pins.vault);
    let envelope =
        Envelope::sign(&parts.own.keys.sign, by, purpose, &entry).map_err(WriteError::Refused)?;
    if envelope.body.len() > limits::BODY {
        return Err(WriteError::TooLarge);
    }
    let blobs = callers.iter().flat_map(|caller| caller.sealing.blobs()).collect();
    // What was written here need not be decrypted here.
    for (caller, drafts) in callers.iter().zip(&build.drafts) {
        caller.sealing.remember(&parts.cache, drafts);
    }
    Ok(Outgoing { seq: build.seq, envelope, blobs })
}

fn answer_all(callers: &mut Vec<Caller>, build: &Build, seq: u64) {
    for (caller, drafts) in callers.drain(..).zip(&build.drafts) {
        caller.answer(Ok(written(seq, build.time, drafts)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_in_a_job_is_its_callers_alone() {
        let (reply, answer) = oneshot::channel::<()>();
        contained(async move {
            let _held = reply;
            panic!("a fault");
        })
        .await;
        assert!(answer.await.is_err());
        let (reply, answer) = oneshot::channel();
        contained(async move { reply.send(7).unwrap() }).await;
        assert_eq!(answer.await, Ok(7));
    }
}
