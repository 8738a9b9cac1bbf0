//! Answers what others ask the loop over the targets.

use std::path::Path;

use tokio::sync::oneshot;

use super::Daemon;
use super::asked::{Ask, NoRun};
use super::hooks::Waiter;
use super::slot::Slot;

/// Writers of secrets that may wait for targets at a time; others do not wait.
const MOST_WAITING: usize = 256;

impl Daemon {
    /// Takes a question; whoever asked may have stopped waiting for its answer.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Alive(answer) => drop(answer.send(())),
            Ask::Settled(secret, answer) => {
                // The version that was just written may not have been heard of yet.
                self.plan_changed(|slot| slot.target.secrets.contains(&secret));
                self.waiting.retain(|(_, waits)| !waits.is_closed());
                if self.waiting.len() < MOST_WAITING {
                    self.waiting.push((secret, answer));
                }
            }
            Ask::RunHook(path, accepted, told) => self.run_hook(&path, accepted, told),
        }
    }

    /// Answers those who wait for targets that are settled now.
    pub(super) fn tell_settled(&mut self) {
        let slots = &self.slots;
        let settled = self.waiting.extract_if(.., |(secret, _)| {
            let is_written = |slot: &Slot| slot.is_active() && !slot.hung;
            !slots.values().any(|slot| is_written(slot) && slot.target.secrets.contains(secret))
        });
        for (_, answer) in settled {
            let _ = answer.send(());
        }
    }

    /// Has a target's file looked at, for the values that its hook must not print, and the hook run
    /// then.
    fn run_hook(
        &mut self,
        path: &Path,
        accepted: oneshot::Sender<Result<(), NoRun>>,
        told: Waiter,
    ) {
        let runs = match self.slots.get_mut(path) {
            None => Err(NoRun::NoTarget(path.to_owned())),
            Some(slot) if slot.key.is_none() => Err(NoRun::NoHook(path.to_owned())),
            Some(slot) => slot.run_hook(told),
        };
        let runs = runs.map(|()| self.enqueue(path));
        let _ = accepted.send(runs);
    }
}
