//! Keeps every target right: `plan` decides, `apply` writes, `hooks` tells the programs, `guard`
//! watches, and this loop carries the news between them. Fetching and verifying is the engine's.

mod adopt;
mod answers;
mod apply;
mod asked;
mod backoff;
mod contact;
mod delivery;
mod fault;
mod guard;
mod hooks;
mod hung;
mod master;
mod order;
mod persist;
mod plan;
mod put;
mod record;
mod report;
mod slot;
mod stale;
mod telling;
mod troubles;
mod under_way;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::path::SecretPath;
use shared::report::TargetState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::engine::{Branch, Engine};
use host::clock;
use machine::config::{Config, Target};

use apply::{Before, Outcome};
use contact::Contact;
use fault::TargetFault;
use guard::{Guard, Touched};
use hooks::{Finished, HookKey, Hooks};
use master::Masters;
pub use master::{check as check_source, confirm as confirm_source};
use order::Order;
use put::Disk;
use record::{Record, Remembered};
use slot::{Slot, State};
use troubles::Troubles;

/// Targets written at once, but for those whose disk does not answer: as many of these on each file
/// system.
const MOST_JOBS: usize = 8;

/// How long the report may wait for writes under way.
const REPORT_AFTER: Duration = Duration::from_millis(100);

/// How long changes are gathered before the record is written: without them the next process looks
/// at the files once more.
const SAVE_AFTER: Duration = Duration::from_millis(500);

/// How long writes under way may take at the end.
const LAST_JOBS: Duration = Duration::from_secs(5);

/// How long `once` waits for versions that the log names and that have not come yet.
const ARRIVES: Duration = Duration::from_secs(10);

pub use asked::{Ask, NoRun, Targets};

/// The configuration in force, and where it came from; everybody who follows it sees a hot reload.
#[derive(Debug)]
pub struct Source {
    /// `agent.toml`.
    pub file: PathBuf,
    /// What it says, as last understood.
    pub config: watch::Sender<Arc<Config>>,
}

/// Keeps the targets of `source` right until `shutdown` is true; `state` is the agent's private
/// folder. Tells `settled` when the first pass over the targets is done, and answers what it is
/// asked.
pub async fn run(
    source: Source,
    state: &Path,
    engine: Engine,
    mut shutdown: watch::Receiver<bool>,
    settled: oneshot::Sender<()>,
    mut asked: mpsc::Receiver<Ask>,
) {
    let mut changes = engine.changes();
    let mut daemon = Daemon::begin(source, state, engine, Guard::new());
    let mut settled = Some(settled);
    loop {
        daemon.advance();
        daemon.tell_settled();
        if daemon.is_settled()
            && let Some(settled) = settled.take()
        {
            // Whoever asked may have stopped waiting.
            let _ = settled.send(());
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some(ask) = asked.recv() => daemon.answer(ask),
            Ok(()) = changes.changed() => daemon.refresh(),
            () = daemon.turn() => {}
        }
    }
    daemon.end().await;
}

/// Makes the targets of `config` right once, runs their hooks, and returns when nothing more can be
/// done now. Tells whether all of them are right and no hook has failed.
pub async fn once(config: Config, file: &Path, state: &Path, engine: Engine) -> bool {
    let source = Source { file: file.to_owned(), config: watch::Sender::new(Arc::new(config)) };
    let (mut changes, give_up) = (engine.changes(), Instant::now() + ARRIVES);
    let mut daemon = Daemon::begin(source, state, engine, Guard::off());
    loop {
        daemon.advance();
        let idle =
            daemon.hooks.idle() && daemon.masters.idle(Instant::now()) && !daemon.is_deciding();
        if daemon.is_settled() && idle && !(daemon.is_owed() && Instant::now() < give_up) {
            break;
        }
        tokio::select! {
            Ok(()) = changes.changed() => daemon.refresh(),
            () = daemon.turn() => {}
            () = tokio::time::sleep_until(give_up), if Instant::now() < give_up => {}
        }
    }
    daemon.end().await;
    daemon.slots.values().all(Slot::is_well) && daemon.masters.right()
}

/// The end of a task.
struct Done {
    target: Arc<Target>,
    result: Result<Outcome, TargetFault>,
}

struct Daemon {
    source: Source,
    /// What the process was started with: some of it stays in force until the next start.
    began: Arc<Config>,
    state: PathBuf,
    engine: Engine,
    guard: Guard,
    disk: Arc<Disk>,
    hooks: Hooks,
    order: Order,
    masters: Masters,
    slots: HashMap<PathBuf, Slot>,
    /// Targets with a task to start.
    queue: VecDeque<PathBuf>,
    jobs: JoinSet<Done>,
    /// How many of them wait for a disk that does not answer.
    hung_jobs: usize,
    /// By when the report is to be renewed, if it is behind.
    report_by: Option<Instant>,
    /// By when the record is to be written, if it is behind.
    save_by: Option<Instant>,
    saver: JoinSet<Option<Record>>,
    /// Whether the last record could not be written.
    save_failed: bool,
    /// Whether other versions may have to be retained.
    retain_due: bool,
    retainer: JoinSet<()>,
    /// What is told of files on its way to the disk.
    telling: JoinSet<()>,
    /// How old what this machine knows is.
    contact: Contact,
    /// When targets are to be judged by it again.
    weigh_by: Option<Instant>,
    /// How the engine's log last stood as a whole.
    branch: Branch,
    /// Since when what is the matter with which target.
    troubles: Troubles,
    /// The alarms that stand for targets, by code.
    alarms: BTreeMap<&'static str, String>,
    /// Who waits until no target that holds a secret is being written.
    waiting: Vec<(SecretPath, oneshot::Sender<()>)>,
    /// Targets that have left the configuration, as they were.
    left: HashMap<PathBuf, (Arc<Target>, Remembered)>,
}

impl Daemon {
    /// Starts what can be started, and brings report and record up to date.
    fn advance(&mut self) {
        let now = Instant::now();
        self.start_queued(now);
        let (slots, guard) = (&self.slots, &self.guard);
        // One run shall do for all targets of a hook that are still being written.
        let is_held = |key: &HookKey| {
            let is_it = |slot: &Slot| slot.is_active() && !slot.hung;
            slots.values().any(|slot| is_it(slot) && slot.key.as_ref() == Some(key))
        };
        self.hooks.start(now, &self.order, is_held);
        self.masters.start(&self.engine, now, |file| guard.is_open(file));
        if self.report_by.is_some_and(|by| by <= now || self.is_settled()) {
            self.report();
        }
        self.persist(now);
    }

    /// Tells whether no file is being written or about to be, but for those whose disk does not
    /// answer.
    fn is_settled(&self) -> bool {
        let is_hung = |path| self.slots.get(path).is_some_and(|slot| slot.hung);
        self.queue.iter().all(is_hung) && self.jobs.len() <= self.hung_jobs
    }

    /// Waits for the next event and takes it; loses nothing if it is dropped while it waits.
    async fn turn(&mut self) {
        let save_by = self.save_by.filter(|_| self.saver.is_empty());
        let slots = self.slots.values().flat_map(|slot| [slot.due, slot.look_due]);
        let due = [self.report_by, self.weigh_by, save_by]
            .into_iter()
            .chain([self.hooks.wake, self.masters.next_due(), self.next_hung(Instant::now())])
            .chain(slots)
            .flatten()
            .min();
        tokio::select! {
            Some(ended) = self.jobs.join_next_with_id() => match ended {
                Ok((id, done)) => self.done(id, done),
                Err(error) => self.crashed(error.id()),
            },
            Some(saved) = self.saver.join_next() => self.persisted(saved.unwrap_or_default()),
            Some(_) = self.retainer.join_next() => {}
            Some(_) = self.telling.join_next() => {}
            Some(ended) = self.hooks.runs.join_next() => {
                let finished = self.hooks.ended(ended, Instant::now());
                self.hook_ended(finished);
            }
            Some(ended) = self.masters.jobs.join_next() => {
                let now = Instant::now();
                let others = match ended {
                    Ok(ended) => self.masters.take(ended, now, clock::now()),
                    Err(error) => self.masters.crashed(error.id(), now),
                };
                if others {
                    self.watch();
                }
                self.changed();
            }
            touched = self.guard.touched() => self.touched(&touched),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.due(),
        }
    }

    /// Takes the end of a hook's run.
    fn hook_ended(&mut self, Finished { targets, result, span }: Finished) {
        for (path, again) in targets {
            if let Some(slot) = self.slots.get_mut(&path) {
                slot.hook_ended(&result, again);
                if let Some(span) = span {
                    slot.tell_hook(&result, again, span);
                    telling::tell(&mut self.telling, &self.engine, slot);
                }
                if slot.is_deciding() {
                    self.save_by = Some(Instant::now());
                }
            }
        }
        self.changed();
    }

    /// Plans the targets whose secrets have changed.
    fn refresh(&mut self) {
        self.weigh();
        self.follow_branch();
        self.retain_due |= self.source.config.borrow().scan.is_some();
        self.masters.changed(&self.engine, Instant::now());
        self.plan_changed(|_| true);
    }

    /// Tells whether the server is there and has not given everything yet that a target waits for.
    fn is_owed(&self) -> bool {
        let waits = |slot: &Slot| matches!(slot.state, State::Held(TargetState::Waiting, _));
        self.engine.away().is_none() && self.slots.values().any(waits)
    }

    /// Plans those of the targets that `are` such whose secrets have changed.
    fn plan_changed(&mut self, are: impl Fn(&Slot) -> bool) {
        let engine = self.engine.clone();
        self.plan_those(|slot| {
            let latest = slot.target.secrets.iter().map(|secret| engine.latest(secret));
            are(slot) && !latest.eq(slot.latest.iter().copied())
        });
    }

    /// Takes up that the vault has gone on without what this machine had, or that a fork stops
    /// updates, or does no more.
    fn follow_branch(&mut self) {
        let branch = self.engine.branch();
        let before = std::mem::replace(&mut self.branch, branch);
        if before == branch {
            return;
        }
        if before.overs != branch.overs {
            for slot in self.slots.values_mut() {
                slot.set_aside(|secret| self.engine.was_set_aside(secret));
            }
            self.masters.touched(None, Instant::now());
        }
        self.plan_those(|_| true);
    }

    /// Plans the targets that `are` such.
    fn plan_those(&mut self, are: impl Fn(&Slot) -> bool) {
        let such = self.slots.iter().filter(|(_, slot)| are(slot));
        for path in such.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.plan(&path);
        }
    }

    /// Plans a target, and queues what is to be done.
    fn plan(&mut self, path: &Path) {
        let Some(slot) = self.slots.get_mut(path) else { return };
        let before = slot.state.clone();
        slot.halted = self.branch.halted;
        slot.aside =
            slot.target.secrets.iter().map(|secret| self.engine.is_set_aside(secret)).collect();
        slot.plan(|secret| self.engine.latest(secret));
        if slot.state != before {
            self.changed();
        }
        self.enqueue(path);
    }

    /// Queues a target that has something to do and is not at it already.
    fn enqueue(&mut self, path: &Path) {
        if let Some(slot) = self.slots.get_mut(path)
            && slot.next.is_some()
            && !slot.is_active()
        {
            slot.queued = true;
            self.queue.push_back(path.to_owned());
        }
    }

    /// Starts the tasks of queued targets, but for those that come after one which is not done yet,
    /// those whose last good versions are not written down yet, and those on a disk that hangs.
    fn start_queued(&mut self, now: Instant) {
        let hung = self.mark_hung(now);
        self.hung_jobs = hung.tasks;
        for path in std::mem::take(&mut self.queue) {
            let is_active = |path: &Path| self.slots.get(path).is_some_and(Slot::is_active);
            let is_unsaved = self.slots.get(&path).is_some_and(Slot::has_unsaved_good);
            let is_held_up = |slot: &Slot| hung.holds_up(&slot.target);
            if self.jobs.len().saturating_sub(hung.tasks) >= MOST_JOBS
                || self.slots.get(&path).is_some_and(is_held_up)
                || (is_unsaved && !self.save_failed)
                || self.order.any_before(&path, is_active)
            {
                self.queue.push_back(path);
            } else {
                self.start(&path);
            }
        }
    }

    /// Starts the next task of a queued target.
    fn start(&mut self, path: &Path) {
        let Some(slot) = self.slots.get_mut(path).filter(|slot| slot.queued) else { return };
        slot.queued = false;
        let Some(task) = slot.next.take() else { return };
        let before = Before { print: slot.print, first: slot.written.is_none() };
        let (engine, disk, target) =
            (self.engine.clone(), Arc::clone(&self.disk), Arc::clone(&slot.target));
        let job = self.jobs.spawn(async move {
            let result = apply::run(&engine, &disk, &target, task, before).await;
            Done { target, result }
        });
        slot.busy = Some(job.id());
    }

    /// Takes the end of a task.
    fn done(&mut self, id: Id, Done { target, result }: Done) {
        let path = &target.path;
        let Some(slot) = self.slots.get_mut(path).filter(|slot| slot.busy == Some(id)) else {
            return;
        };
        slot.busy = None;
        let mut plan = true;
        if Arc::ptr_eq(&slot.target, &target) {
            plan = !matches!(result, Err(_) | Ok(Outcome::Seen { .. }));
            let before = slot.state.clone();
            delivery::count(&self.engine, slot, &result);
            let run = slot.done(result, Instant::now(), clock::now());
            telling::tell(&mut self.telling, &self.engine, slot);
            if let (Some((mask, wanted_by)), Some(key)) = (run, &slot.key) {
                self.hooks.request(key, path, mask, slot.retries());
                wanted_by.into_iter().for_each(|told| self.hooks.tell(key, told));
            }
            if plan || slot.state != before {
                self.changed();
            }
        }
        if plan {
            self.plan(path);
        }
        self.enqueue(path);
    }

    /// Takes that a task has ended without a result, by a fault of this program: it is tried again.
    fn crashed(&mut self, id: Id) {
        if let Some(slot) = self.slots.values_mut().find(|slot| slot.busy == Some(id)) {
            slot.busy = None;
            slot.crashed(Instant::now());
            let path = slot.target.path.clone();
            self.changed();
            self.enqueue(&path);
        }
    }

    /// Looks at files that may have changed.
    fn touched(&mut self, touched: &Touched) {
        if touched.moved {
            self.watch();
        }
        if touched.all || touched.files.contains(&self.source.file) {
            self.reload();
        }
        self.follow_templates(touched);
        let now = Instant::now();
        if touched.all || touched.mounted {
            self.masters.touched(None, now);
        }
        if touched.mounted {
            // What kept files from being written may be gone.
            self.plan_those(|slot| matches!(slot.state, State::Failed(_)));
        }
        let every: Vec<PathBuf> = self.slots.keys().filter(|_| touched.all).cloned().collect();
        for path in every.iter().chain(&touched.files) {
            self.masters.touched(Some(path), now);
            if self.slots.get_mut(path).is_some_and(|slot| slot.echo(now)) {
                self.look(path);
            }
        }
    }

    /// Looks at a target's file.
    fn look(&mut self, path: &Path) {
        if self.slots.get_mut(path).is_some_and(Slot::touched) {
            self.plan(path);
        }
        self.enqueue(path);
    }

    /// Plans, or looks at, the targets whose wait is over.
    fn due(&mut self) {
        let now = Instant::now();
        let is_over = |by: Option<Instant>| by.is_some_and(|by| by <= now);
        if is_over(self.weigh_by) {
            self.weigh();
        }
        let such = self.slots.iter().filter(|(_, slot)| is_over(slot.look_due));
        for path in such.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.look(&path);
        }
        self.plan_those(|slot| is_over(slot.due));
    }

    /// Notes that report and record are behind.
    fn changed(&mut self) {
        let now = Instant::now();
        self.report_by.get_or_insert(now + REPORT_AFTER);
        self.save_by.get_or_insert(now + SAVE_AFTER);
    }

    /// Lets writes under way end, stops hooks, and leaves report and record up to date.
    async fn end(&mut self) {
        let writes = async {
            while let Some(done) = self.jobs.join_next_with_id().await {
                match done {
                    Ok((id, done)) => self.done(id, done),
                    Err(error) => self.crashed(error.id()),
                }
            }
        };
        let _ = tokio::time::timeout(LAST_JOBS, writes).await;
        self.report();
        while self.telling.join_next().await.is_some() {}
        self.persist_last().await;
    }
}
