//! When hooks run: at once, one run at a time, bursts taken together, failures again after a while.
//!
//! Targets that name the same command in the same folder, the same unit or the same process share one run. Running it
//! lives in `run`, deciding that a target has changed in the daemon.

mod mask;
mod run;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{Hook, HookAction, Target};

pub(super) use mask::Mask;
use run::HookFault;

/// The wait before the first retry; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait before a retry.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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

/// Everything known about one key while there is something to do.
#[derive(Default)]
struct Slot {
    /// Targets of the run under way.
    running: BTreeSet<PathBuf>,
    /// Targets that changed since it began.
    waiting: BTreeSet<PathBuf>,
    /// Values to mask.
    mask: Mask,
    /// Failures in a row.
    failures: u32,
    /// When a failed hook is tried again.
    due: Option<Instant>,
}

/// The end of a run, for each target it was about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// The targets.
    pub(super) targets: BTreeSet<PathBuf>,
    /// `ok`, or what failed.
    pub(super) result: String,
    /// Whether it will be tried again.
    pub(super) again: bool,
}

/// All hooks of this agent.
#[derive(Default)]
pub(super) struct Hooks {
    slots: HashMap<HookKey, Slot>,
    /// Targets per key that are still being written: one run shall do for all of them.
    held: HashMap<HookKey, usize>,
    runs: JoinSet<(HookKey, Result<(), HookFault>)>,
}

impl Hooks {
    /// Keeps the hook from starting while one of its targets is being written.
    pub(super) fn hold(&mut self, key: &HookKey) {
        *self.held.entry(Arc::clone(key)).or_default() += 1;
    }

    /// Takes one [`Hooks::hold`] back.
    pub(super) fn release(&mut self, key: &HookKey) {
        let Some(count) = self.held.get_mut(key) else { return };
        *count -= 1;
        if *count == 0 {
            self.held.remove(key);
        }
    }

    /// Notes that the file at `target` has changed; [`Hooks::start`] runs its hook.
    pub(super) fn request(&mut self, key: &HookKey, target: &Path, mask: Mask) {
        let slot = self.slots.entry(Arc::clone(key)).or_default();
        slot.waiting.insert(target.to_owned());
        slot.mask.add(mask);
        // News is a new chance.
        slot.failures = 0;
        slot.due = None;
    }

    /// Starts what is due at `now`, not running and not held.
    pub(super) fn start(&mut self, now: Instant) {
        for (key, slot) in &mut self.slots {
            let due = slot.due.is_none_or(|due| due <= now);
            if slot.waiting.is_empty()
                || !slot.running.is_empty()
                || !due
                || self.held.contains_key(key)
            {
                continue;
            }
            slot.due = None;
            slot.running = std::mem::take(&mut slot.waiting);
            let (key, mask) = (Arc::clone(key), slot.mask.clone());
            let targets: Vec<String> =
                slot.running.iter().map(|path| path.display().to_string()).collect();
            tracing::info!(hook = %key.hook, targets = targets.join(" "), "hook started");
            self.runs.spawn(async move {
                let folder = key.folder.clone().unwrap_or_else(|| PathBuf::from("/"));
                let result = run::run(&key.hook, &folder, &mask).await;
                (key, result)
            });
        }
    }

    /// Returns when [`Hooks::start`] has something to do again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.due).min()
    }

    /// Tells whether nothing runs or is about to.
    pub(super) fn idle(&self) -> bool {
        self.slots
            .values()
            .all(|slot| slot.running.is_empty() && (slot.waiting.is_empty() || slot.due.is_some()))
    }

    /// Waits for the end of a run; never returns while nothing runs.
    pub(super) async fn finished(&mut self, now: impl FnOnce() -> Instant) -> Finished {
        loop {
            match self.runs.join_next().await {
                Some(Ok((key, result))) => return self.settle(&key, result, now()),
                // Runs are neither aborted nor do they panic while this is alive.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn settle(&mut self, key: &HookKey, result: Result<(), HookFault>, now: Instant) -> Finished {
        let Some(slot) = self.slots.get_mut(key) else {
            return Finished { targets: BTreeSet::new(), result: String::new(), again: false };
        };
        let targets = std::mem::take(&mut slot.running);
        let changed_meanwhile = !slot.waiting.is_empty();
        let Err(fault) = result else {
            slot.failures = 0;
            if !changed_meanwhile {
                self.slots.remove(key);
            }
            tracing::info!(hook = %key.hook, "hook done");
            return Finished { targets, result: "ok".to_owned(), again: changed_meanwhile };
        };
        let again = changed_meanwhile || slot.failures < key.hook.retries;
        if !again {
            self.slots.remove(key);
        } else {
            slot.waiting.extend(targets.iter().cloned());
            if !changed_meanwhile {
                slot.due = Some(now + wait(slot.failures));
                slot.failures += 1;
            }
        }
        tracing::warn!(hook = %key.hook, again, "hook failed: {fault}");
        Finished { targets, result: fault.to_string(), again }
    }
}

/// Returns how long to wait after the given number of earlier retries.
fn wait(retries: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(retries)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
