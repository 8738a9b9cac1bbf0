//! Keeps every target right: `plan` decides, `apply` writes, `hooks` tells the programs, `guard`
//! watches, and this loop carries the news between them. Fetching and verifying is the engine's.

mod adopt;
mod apply;
mod contact;
mod guard;
mod hooks;
mod master;
mod order;
mod persist;
mod plan;
mod record;
mod report;
mod slot;
mod stale;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::path::SecretPath;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::engine::{Engine, Latest};
use host::clock;
use host::files::git::GitGate;
use machine::config::{Config, Target};

use apply::{Outcome, TargetFault, Task};
use contact::Contact;
use guard::{Guard, Touched};
use hooks::{Finished, Hooks};
use master::{Ended, Masters};
use order::Order;
use record::Persisting;
use slot::{Slot, State};

/// Targets written at once: one that hangs does not hold up the others.
const MOST_JOBS: usize = 8;

/// How long the report may wait for writes under way.
const REPORT_AFTER: Duration = Duration::from_millis(100);

/// How long changes are gathered before the record is written.
const SAVE_AFTER: Duration = Duration::from_millis(200);

/// How long writes under way may take at the end.
const LAST_JOBS: Duration = Duration::from_secs(5);

/// The configuration in force, and where it came from; everybody who follows it sees a hot reload.
#[derive(Debug)]
pub struct Source {
    /// `agent.toml`.
    pub file: PathBuf,
    /// What it says, as last understood.
    pub config: watch::Sender<Arc<Config>>,
}

/// Keeps the targets of `source` right until `shutdown` is true; `state` is the agent's private
/// folder. Tells `settled` when the first pass over the targets is done, and answers whoever asks
/// whether this loop still turns.
pub async fn run(
    source: Source,
    state: &Path,
    engine: Engine,
    mut shutdown: watch::Receiver<bool>,
    settled: oneshot::Sender<()>,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut daemon = Daemon::new(source, state, engine, Guard::new());
    let mut changes = daemon.engine.changes();
    daemon.begin();
    let mut settled = Some(settled);
    loop {
        daemon.advance();
        if daemon.jobs.is_empty()
            && daemon.queue.is_empty()
            && let Some(settled) = settled.take()
        {
            // Whoever asked may have stopped waiting.
            let _ = settled.send(());
        }
        let event = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some(answer) = asked.recv() => {
                // Whoever asked may have stopped waiting.
                let _ = answer.send(());
                continue;
            }
            Ok(()) = changes.changed() => Event::Changes,
            event = daemon.event() => event,
        };
        daemon.take(event);
    }
    daemon.end().await;
}

/// Makes the targets of `config` right once, runs their hooks, and returns when nothing more can be
/// done now. Tells whether all of them are right and no hook has failed.
pub async fn once(config: Config, file: &Path, state: &Path, engine: Engine) -> bool {
    let source = Source { file: file.to_owned(), config: watch::Sender::new(Arc::new(config)) };
    let mut daemon = Daemon::new(source, state, engine, Guard::off());
    daemon.begin();
    loop {
        daemon.advance();
        let idle =
            daemon.hooks.idle() && daemon.masters.idle(Instant::now()) && !daemon.is_deciding();
        if daemon.jobs.is_empty() && daemon.queue.is_empty() && idle {
            break;
        }
        let event = daemon.event().await;
        daemon.take(event);
    }
    daemon.end().await;
    daemon.slots.values().all(Slot::is_well) && daemon.masters.right()
}

/// What the loop waits for.
enum Event {
    /// The vault has changed.
    Changes,
    /// A task has ended.
    Done(Done),
    /// A hook has ended.
    Hook(Finished),
    /// A look at a master file has ended.
    Master(Ended),
    /// Files may have been changed.
    Touched(Touched),
    /// The record is written, or cannot be.
    Persisted(bool),
    /// A wait is over.
    Due,
}

/// The end of a task.
struct Done {
    id: u64,
    target: Arc<Target>,
    task: Task,
    result: Result<Outcome, TargetFault>,
    /// What the owner should know of the file, unless it was only looked at.
    notes: Vec<String>,
}

struct Daemon {
    source: Source,
    /// Where the configuration is: its path, and where that leads if it is a link.
    own_files: [PathBuf; 2],
    state: PathBuf,
    engine: Engine,
    guard: Guard,
    gate: Arc<GitGate>,
    hooks: Hooks,
    order: Order,
    masters: Masters,
    slots: HashMap<PathBuf, Slot>,
    /// The targets of each secret, and its newest version as last planned with.
    secrets: HashMap<SecretPath, (Latest, Vec<PathBuf>)>,
    /// Targets with a task to start.
    queue: VecDeque<PathBuf>,
    jobs: JoinSet<Done>,
    /// When targets are to be planned again; outdated ones are passed over.
    timers: BTreeSet<(Instant, PathBuf)>,
    /// The number of the last task.
    tasks: u64,
    /// By when the report is to be renewed, if it is behind.
    report_by: Option<Instant>,
    /// By when the record is to be written, if it is behind.
    save_by: Option<Instant>,
    saver: JoinSet<bool>,
    persisting: Persisting,
    /// How old what this machine knows is; `None` before the start.
    contact: Option<Contact>,
    /// When targets are to be judged by it again.
    weigh_by: Option<Instant>,
    started: Instant,
    retainer: JoinSet<()>,
    /// The alarms that stand for targets, by code.
    alarms: BTreeMap<&'static str, String>,
}

impl Daemon {
    fn new(source: Source, state: &Path, engine: Engine, guard: Guard) -> Self {
        Self {
            own_files: [source.file.clone(), source.file.clone()],
            source,
            state: state.to_owned(),
            engine,
            guard,
            gate: Arc::default(),
            hooks: Hooks::default(),
            order: Order::default(),
            masters: Masters::new(state),
            slots: HashMap::new(),
            secrets: HashMap::new(),
            queue: VecDeque::new(),
            jobs: JoinSet::new(),
            timers: BTreeSet::new(),
            tasks: 0,
            report_by: None,
            save_by: None,
            saver: JoinSet::new(),
            persisting: Persisting::default(),
            contact: None,
            weigh_by: None,
            started: Instant::now(),
            retainer: JoinSet::new(),
            alarms: BTreeMap::new(),
        }
    }

    /// Starts what can be started, and brings report and record up to date.
    fn advance(&mut self) {
        let now = Instant::now();
        self.start_queued();
        self.hooks.start(now, &self.order);
        let guard = &self.guard;
        self.masters.start(&self.engine, now, |file| guard.is_open(file));
        if self
            .report_by
            .is_some_and(|by| by <= now || (self.jobs.is_empty() && self.queue.is_empty()))
        {
            self.report();
        }
        self.persist(now);
    }

    /// Waits for the next event.
    async fn event(&mut self) -> Event {
        let by = [self.report_by, self.weigh_by, self.save_by.filter(|_| self.saver.is_empty())];
        let timer = self.timers.first().map(|(due, _)| *due);
        let due = by
            .into_iter()
            .chain([timer, self.hooks.next_due(), self.masters.next_due()])
            .flatten()
            .min();
        tokio::select! {
            Some(Ok(done)) = self.jobs.join_next() => Event::Done(done),
            Some(saved) = self.saver.join_next() => Event::Persisted(saved.unwrap_or(false)),
            Some(_) = self.retainer.join_next() => Event::Due,
            finished = self.hooks.finished(Instant::now) => Event::Hook(finished),
            ended = self.masters.ended() => Event::Master(ended),
            touched = self.guard.touched() => Event::Touched(touched),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Changes => self.refresh(),
            Event::Done(done) => self.done(done),
            Event::Hook(finished) => {
                for (path, again) in &finished.targets {
                    if let Some(slot) = self.slots.get_mut(path) {
                        slot.hook_ended(&finished.result, *again);
                        if slot.is_deciding() {
                            self.save_by = Some(Instant::now());
                        }
                    }
                }
                self.changed();
            }
            Event::Master(ended) => {
                if self.masters.take(ended, Instant::now(), clock::now()) {
                    self.watch();
                }
                self.changed();
            }
            Event::Touched(touched) => self.touched(&touched),
            Event::Persisted(saved) => self.persisted(saved),
            Event::Due => self.due(),
        }
    }

    /// Looks which secrets have changed, and plans their targets.
    fn refresh(&mut self) {
        self.weigh();
        self.masters.changed(&self.engine, Instant::now());
        let mut paths = BTreeSet::new();
        for (secret, (latest, targets)) in &mut self.secrets {
            let newest = self.engine.latest(secret);
            if newest != *latest {
                *latest = newest;
                paths.extend(targets.iter().cloned());
            }
        }
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        self.plan(&paths);
    }

    /// Plans the targets at `paths`, and queues what is to be done.
    fn plan(&mut self, paths: &[PathBuf]) {
        let slots = paths.iter().filter_map(|path| self.slots.get(path)).map(Slot::known);
        let latest = |secret: &SecretPath| {
            self.secrets.get(secret).map_or(Latest::Missing, |(latest, _)| *latest)
        };
        for action in plan::plan(slots, latest) {
            let path = action.target().path.clone();
            let Some(slot) = self.slots.get_mut(&path) else { continue };
            let before = slot.state.clone();
            slot.plan(action);
            if slot.state != before {
                self.changed();
            }
            self.enqueue(&path);
        }
    }

    /// Queues a target that has something to do and is not at it already.
    fn enqueue(&mut self, path: &Path) {
        let Some(slot) =
            self.slots.get_mut(path).filter(|slot| slot.next.is_some() && !slot.is_active())
        else {
            return;
        };
        slot.queued = true;
        if let Some(key) = &slot.key {
            self.hooks.hold(key);
        }
        self.queue.push_back(path.to_owned());
    }

    /// Starts the tasks of queued targets, but for those that come after one which is not done yet,
    /// and those whose last good versions are not written down yet.
    fn start_queued(&mut self) {
        let mut behind = VecDeque::new();
        while self.jobs.len() < MOST_JOBS {
            let Some(path) = self.queue.pop_front() else { break };
            let is_active = |path: &Path| self.slots.get(path).is_some_and(Slot::is_active);
            let slot = self.slots.get(&path);
            let is_kept =
                self.persisting.failed || slot.is_none_or(|slot| slot.unsaved_good().is_none());
            if !is_kept || self.order.any_before(&path, is_active) {
                behind.push_back(path);
            } else {
                self.start(&path);
            }
        }
        behind.append(&mut self.queue);
        self.queue = behind;
    }

    /// Starts the next task of a queued target.
    fn start(&mut self, path: &Path) {
        let Some(slot) = self.slots.get_mut(path).filter(|slot| slot.queued) else { return };
        slot.queued = false;
        let Some(task) = slot.next.take() else {
            if let Some(key) = &slot.key {
                self.hooks.release(key);
            }
            return;
        };
        self.tasks += 1;
        let id = self.tasks;
        slot.busy = Some(id);
        let (engine, gate, target, print) =
            (self.engine.clone(), Arc::clone(&self.gate), Arc::clone(&slot.target), slot.print);
        self.jobs.spawn(async move {
            let mut notes = Vec::new();
            let result = apply::run(&engine, &gate, &target, task.clone(), print, &mut notes).await;
            Done { id, target, task, result, notes }
        });
    }

    /// Takes the end of a task.
    fn done(&mut self, done: Done) {
        let path = done.target.path.clone();
        let Some(slot) = self.slots.get_mut(&path).filter(|slot| slot.busy == Some(done.id)) else {
            return;
        };
        slot.busy = None;
        let mut plan = true;
        if Arc::ptr_eq(&slot.target, &done.target) {
            let (looked, before) = (done.task == Task::Look, slot.state.clone());
            if !looked {
                slot.notes = done.notes;
            }
            let next = slot.done(done.task, done.result, Instant::now(), clock::now());
            plan = next.plan;
            if let (Some(mask), Some(key)) = (next.hook, slot.key.clone()) {
                slot.hook_requested();
                self.hooks.request(&key, &path, mask, slot.retries());
            }
            if let Some(due) = slot.due {
                self.timers.insert((due, path.clone()));
            }
            if !looked || slot.state != before {
                self.changed();
            }
        }
        if let Some(key) = self.slots.get(&path).and_then(|slot| slot.key.as_ref()) {
            self.hooks.release(key);
        }
        if plan {
            self.plan(std::slice::from_ref(&path));
        }
        self.enqueue(&path);
    }

    /// Looks at files that may have changed.
    fn touched(&mut self, touched: &Touched) {
        if touched.moved {
            self.watch();
        }
        if touched.all || self.own_files.iter().any(|file| touched.files.contains(file)) {
            self.reload();
        }
        self.follow_templates(touched);
        let every: Vec<PathBuf> = self.slots.keys().filter(|_| touched.all).cloned().collect();
        let now = Instant::now();
        if touched.all || touched.mounted {
            self.masters.touched(None, now);
        }
        if touched.mounted {
            self.retry();
        }
        for path in every.iter().chain(&touched.files) {
            self.masters.touched(Some(path), now);
            let Some(slot) = self.slots.get_mut(path) else { continue };
            match slot.echo(now) {
                Some(due) => drop(self.timers.insert((due, path.clone()))),
                None => self.look(path),
            }
        }
    }

    /// Looks at a target's file.
    fn look(&mut self, path: &Path) {
        if self.slots.get_mut(path).is_some_and(Slot::touched) {
            self.plan(&[path.to_owned()]);
        }
        self.enqueue(path);
    }

    /// Plans the targets that could not be written.
    fn retry(&mut self) {
        let failed = self.slots.iter().filter(|(_, slot)| matches!(slot.state, State::Failed(_)));
        let failed: Vec<PathBuf> = failed.map(|(path, _)| path.clone()).collect();
        self.plan(&failed);
    }

    /// Plans the targets whose wait is over.
    fn due(&mut self) {
        let now = Instant::now();
        if self.weigh_by.is_some_and(|by| by <= now) {
            self.weigh();
        }
        while let Some((due, _)) = self.timers.first().filter(|(due, _)| *due <= now) {
            let due = *due;
            let Some((_, path)) = self.timers.pop_first() else { return };
            let Some(slot) = self.slots.get(&path) else { continue };
            let (plan, look) = (slot.due == Some(due), slot.look_due == Some(due));
            if look {
                self.look(&path);
            }
            if plan {
                self.plan(std::slice::from_ref(&path));
            }
        }
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
            while let Some(done) = self.jobs.join_next().await {
                if let Ok(done) = done {
                    self.done(done);
                }
            }
        };
        let _ = tokio::time::timeout(LAST_JOBS, writes).await;
        self.report();
        self.persist_last().await;
    }
}
