//! When hooks run: at once, one run at a time, bursts taken together, failures again after a while.
//!
//! Targets that name the same command in the same folder, the same unit or the same process share
//! one run. Running it lives in `run`, deciding that a target has changed in the daemon.

mod fault;
mod mask;
mod run;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::time::Time;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::backoff::backoff;
use super::order::Order;
use crate::metrics::METRICS;
use host::clock;
use machine::config::{Hook, HookAction, Target};

pub(super) use fault::HookFault;
pub(super) use mask::Mask;

/// The longest wait before a retry.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The least time between two runs of one hook, once [`BURST`] have come quickly: a storm of
/// changes is few runs.
const PACE: Duration = Duration::from_secs(1);

/// How many runs may follow each other without waiting.
const BURST: u32 = 3;

/// What is run: targets with equal keys share their runs.
pub(super) type HookKey = Arc<Key>;

/// A hook and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    hook: Hook,
    /// Where a command runs; nothing for units and processes.
    folder: Option<PathBuf>,
}

impl Key {
    /// Returns the key of a target that has a hook.
    pub(super) fn of(target: &Target) -> Option<HookKey> {
        let hook = target.on_change.clone()?;
        let folder = match hook.action {
            HookAction::Command(_) => target.path.parent().map(Path::to_owned),
            HookAction::Systemd { .. } | HookAction::Signal { .. } => None,
        };
        Some(Arc::new(Self { hook, folder }))
    }
}

/// Where somebody waits for the end of a run.
pub(super) type Waiter = oneshot::Sender<Result<(), String>>;

/// Everything known about one key while there is something to do.
#[derive(Default)]
struct Slot {
    /// The run under way.
    run: Option<Id>,
    /// Its targets, but for those that have another hook by now.
    running: BTreeSet<PathBuf>,
    /// Who waits for its end.
    watched_by: Vec<Waiter>,
    /// Who waits for the end of the next.
    wanted_by: Vec<Waiter>,
    /// Targets that changed since it began.
    waiting: BTreeSet<PathBuf>,
    /// Whether any of those changed during the run under way.
    news: bool,
    /// Values to mask.
    mask: Mask,
    /// How often a failure is tried again.
    retries: u32,
    /// Failures in a row.
    failures: u32,
    /// How often in a row this host could not start it.
    stalls: u32,
    /// When a failed hook is tried again.
    due: Option<Instant>,
}

/// The end of a run, for each target it was about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// The targets, each with whether the hook will run for it again.
    pub(super) targets: BTreeMap<PathBuf, bool>,
    /// What failed, if anything.
    pub(super) result: Result<(), String>,
    /// When it ran; not known of one that ended by a fault of this program.
    pub(super) span: Option<Span>,
}

/// When a run was started and when it had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) began: Time,
    pub(super) ended: Time,
}

/// One run that has ended.
pub(super) type Ran = (HookKey, Span, Result<(), HookFault>);

/// All hooks of this agent.
#[derive(Default)]
pub(super) struct Hooks {
    slots: HashMap<HookKey, Slot>,
    /// For hooks that have run lately, when the time for those runs is used up at one a [`PACE`].
    pace: HashMap<HookKey, Instant>,
    /// When [`Hooks::start`] has something to do again.
    pub(super) wake: Option<Instant>,
    pub(super) runs: JoinSet<Ran>,
}

impl Hooks {
    /// Notes that the file at `target` has changed; [`Hooks::start`] runs its hook, and again so
    /// often if it fails.
    pub(super) fn request(&mut self, key: &HookKey, target: &Path, mask: Mask, retries: u32) {
        let slot = self.slots.entry(Arc::clone(key)).or_default();
        slot.retries = if slot.waiting.is_empty() { retries } else { slot.retries.max(retries) };
        slot.waiting.insert(target.to_owned());
        slot.news = true;
        slot.mask.add(mask);
        // News is a new chance.
        slot.failures = 0;
        slot.stalls = 0;
        slot.due = None;
    }

    /// Has `waiter` told of the end of the next run, which was requested before.
    pub(super) fn tell(&mut self, key: &HookKey, waiter: Waiter) {
        self.slots.entry(Arc::clone(key)).or_default().wanted_by.push(waiter);
    }

    /// Starts what is due at `now`, not running, not held while its targets are being written, and
    /// not behind another hook in `order`.
    pub(super) fn start(
        &mut self,
        now: Instant,
        order: &Order,
        is_held: impl Fn(&HookKey) -> bool,
    ) {
        self.wake = None;
        self.pace.retain(|_, used_up| *used_up > now);
        let ahead = if order.is_empty() { HashMap::new() } else { self.ahead(now) };
        let is_behind = |path: &PathBuf, key: &HookKey| {
            order.any_before(path, |before| ahead.get(before).is_some_and(|other| other != key))
        };
        for (key, slot) in &mut self.slots {
            if slot.waiting.is_empty() || slot.run.is_some() {
                continue;
            }
            let free = PACE * (BURST - 1);
            let paced = self.pace.get(key).filter(|used_up| **used_up > now + free);
            let paced = paced.map(|used_up| *used_up - free);
            if let Some(due) = slot.due.max(paced).filter(|due| *due > now) {
                self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
                continue;
            }
            // Asked last: it looks through all targets.
            if is_held(key) {
                continue;
            }
            let (behind, ready): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(&mut slot.waiting)
                .into_iter()
                .partition(|path| is_behind(path, key));
            slot.waiting = behind;
            if ready.is_empty() {
                continue;
            }
            slot.due = None;
            slot.news = false;
            slot.running = ready;
            slot.watched_by = std::mem::take(&mut slot.wanted_by);
            *self.pace.entry(Arc::clone(key)).or_insert(now) += PACE;
            let (key, mask) = (Arc::clone(key), slot.mask.clone());
            let targets: Vec<String> =
                slot.running.iter().map(|path| path.display().to_string()).collect();
            tracing::info!(hook = %key.hook, targets = targets.join(" "), "hook started");
            let run = self.runs.spawn(async move {
                let folder = key.folder.clone().unwrap_or_else(|| PathBuf::from("/"));
                let (began, timer) = (clock::now(), Instant::now());
                let result = run::run(&key.hook, &folder, &mask).await;
                METRICS.hook_ran(result.is_ok(), timer.elapsed());
                (key, Span { began, ended: clock::now() }, result)
            });
            slot.run = Some(run.id());
        }
    }

    /// Returns the targets whose hooks run or are about to, each with its hook. One that waits
    /// after a failure holds nobody up.
    fn ahead(&self, now: Instant) -> HashMap<PathBuf, HookKey> {
        let mut ahead = HashMap::new();
        for (key, slot) in &self.slots {
            let waiting = slot.waiting.iter().filter(|_| slot.due.is_none_or(|due| due <= now));
            for path in slot.running.iter().chain(waiting) {
                ahead.insert(path.clone(), Arc::clone(key));
            }
        }
        ahead
    }

    /// Forgets what is to be run for targets that do not have that hook any more. A run under way
    /// ends by itself, is not tried again, and says nothing about them.
    pub(super) fn forget_others(&mut self, hooks: &HashMap<&Path, &HookKey>) {
        let used: HashSet<&HookKey> = hooks.values().copied().collect();
        self.slots.retain(|key, slot| {
            let has = |path: &PathBuf| hooks.get(path.as_path()) == Some(&key);
            slot.waiting.retain(has);
            slot.running.retain(has);
            if slot.waiting.is_empty() {
                slot.wanted_by.clear();
                (slot.due, slot.news, slot.failures) = (None, false, 0);
            }
            used.contains(key) || slot.run.is_some()
        });
    }

    /// Tells whether nothing runs or is about to.
    pub(super) fn idle(&self) -> bool {
        self.slots
            .values()
            .all(|slot| slot.run.is_none() && (slot.waiting.is_empty() || slot.due.is_some()))
    }

    /// Takes the end of a run.
    pub(super) fn ended(&mut self, ended: Result<Ran, JoinError>, now: Instant) -> Finished {
        let (key, span, result) = match ended {
            Ok((key, span, result)) => (key, Some(span), result),
            // A fault of this program is a failure as any other: its targets wait for an end.
            Err(error) => {
                let key = self.slots.iter().find(|(_, slot)| slot.run == Some(error.id()));
                let Some((key, _)) = key else {
                    return Finished { targets: BTreeMap::new(), result: Ok(()), span: None };
                };
                (
                    Arc::clone(key),
                    None,
                    Err(HookFault::from("the agent failed to run it".to_owned())),
                )
            }
        };
        Finished { span, ..self.settle(&key, result, now) }
    }

    fn settle(&mut self, key: &HookKey, result: Result<(), HookFault>, now: Instant) -> Finished {
        let slot = self.slots.entry(Arc::clone(key)).or_default();
        slot.run = None;
        let ran = std::mem::take(&mut slot.running);
        let mut again = false;
        match &result {
            Ok(()) => {
                slot.stalls = 0;
                tracing::info!(hook = %key.hook, "hook done");
            }
            Err(fault) => {
                // That it could not be started says nothing about the hook.
                let may = fault.not_begun || slot.failures < slot.retries;
                again = slot.news || (may && !ran.is_empty());
                tracing::warn!(hook = %key.hook, again, "hook failed: {fault}");
            }
        }
        if !again {
            slot.failures = 0;
        } else {
            slot.waiting.extend(ran.iter().cloned());
            if !slot.news {
                let not_begun = result.as_ref().is_err_and(|fault| fault.not_begun);
                let count = if not_begun { &mut slot.stalls } else { &mut slot.failures };
                slot.due = Some(now + backoff(*count, LONGEST_WAIT));
                *count += 1;
            }
        }
        let again = |path: PathBuf| {
            let again = slot.waiting.contains(&path);
            (path, again)
        };
        let targets = ran.into_iter().map(again).collect();
        let result = result.map_err(|fault| fault.text);
        for waiter in slot.watched_by.drain(..) {
            // Whoever waited may have stopped.
            let _ = waiter.send(result.clone());
        }
        // What a failed hook must not print stays unprinted when the file before it is put back.
        if slot.waiting.is_empty() && result.is_ok() {
            self.slots.remove(key);
        }
        Finished { targets, result, span: None }
    }
}

#[cfg(test)]
mod tests;
