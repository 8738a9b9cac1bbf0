//! What has a target looked at anew though nothing has changed in the vault: another configuration,
//! a run of its hook by hand, a fault of this program. Pure.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Slot, State, TargetFault, Task};
use crate::daemon::asked::NoRun;
use crate::daemon::hooks::Waiter;
use crate::daemon::record::HookEnd;
use machine::config::{Drift, Target};

impl Slot {
    /// The same file after its configuration has changed: to be compared anew, but no news for its
    /// hook, unless another one is to tell now what the one before has not, or failed to.
    pub(in crate::daemon) fn changed(self, target: Arc<Target>) -> Self {
        let mut slot = Self::new(target, self.remembered());
        let is_told = matches!(self.hook, HookEnd::Ok | HookEnd::None);
        let Self { key, queued, busy, verified, reach, .. } = self;
        let verified = verified && (is_told || slot.key == key);
        if slot.key.is_none() {
            slot.hook = HookEnd::None;
        } else if slot.key != key && !is_told {
            slot.hook = HookEnd::Pending;
        }
        Self { queued, busy, verified, reach, ..slot }
    }

    /// Has the file looked at, and the hook run once more if it is right then.
    ///
    /// # Errors
    /// If it is not right now.
    pub(in crate::daemon) fn run_hook(&mut self, told: Waiter) -> Result<(), NoRun> {
        let held = self.held.as_ref().filter(|held| held.iter().any(Option::is_some));
        let Some(versions) = held.filter(|_| self.state == State::Right) else {
            return Err(NoRun::NotRight(self.show()));
        };
        // A look alone would end without a run.
        if matches!(self.next, None | Some(Task::Look)) {
            self.next = Some(match self.target.drift {
                Drift::Restore => Task::Write(versions.clone()),
                Drift::Report => Task::Compare(versions.clone()),
            });
        }
        self.wanted_by.push(told);
        Ok(())
    }

    /// Takes that a task has ended without a result, by a fault of this program.
    pub(in crate::daemon) fn crashed(&mut self, now: Instant) {
        self.failed(TargetFault::crashed(), now);
    }
}
