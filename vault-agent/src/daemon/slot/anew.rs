//! What has a target looked at anew though nothing has changed in the vault: another configuration
//! or template, versions that the vault went on without, a run of its hook by hand, a fault of this
//! program. Pure.

use std::sync::Arc;

use shared::path::SecretPath;
use shared::time::Time;
use tokio::time::Instant;

use super::{Slot, State, TargetFault, Task, Verdict};
use crate::daemon::apply::Outcome;
use crate::daemon::asked::NoRun;
use crate::daemon::hooks::{Mask, Waiter};
use crate::daemon::plan::Versions;
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

    /// Takes the news that the template may be another: what the file holds is no longer known to
    /// be right.
    pub(in crate::daemon) fn template_changed(&mut self) {
        self.stale = self.busy.is_some();
        self.held = None;
        if self.target.drift == Drift::Report {
            self.written = None;
        }
    }

    /// Takes the news that the vault has gone on without some versions: those of the secrets that
    /// `are` such bear other contents from now on. What the file holds of them counts as version 0.
    pub(in crate::daemon) fn set_aside(&mut self, are: impl Fn(&SecretPath) -> bool) {
        let aside: Vec<bool> = self.target.secrets.iter().map(are).collect();
        if !aside.contains(&true) {
            return;
        }
        for (ver, _) in self.written.iter_mut().flatten().zip(aside).filter(|(_, aside)| *aside) {
            *ver = ver.and(Some(0));
        }
        self.stale = self.busy.is_some();
        (self.held, self.next, self.verdict) = (None, None, Verdict::default());
    }

    /// Has the file looked at, and the hook run once more if it is right then.
    ///
    /// # Errors
    /// If it is not right now.
    pub(in crate::daemon) fn run_hook(&mut self, told: Waiter) -> Result<(), NoRun> {
        let holds_any = |held: &Versions| held.iter().any(Option::is_some);
        if self.state != State::Right || !self.held.as_ref().is_some_and(holds_any) {
            return Err(NoRun::NotRight(self.show()));
        }
        self.wanted_by.push(told);
        // A task under way tells by its end whether another one is needed.
        if self.busy.is_none() {
            self.do_wished();
        }
        Ok(())
    }

    /// Has a look end in a run that somebody wishes for: a look alone would not.
    fn do_wished(&mut self) {
        if matches!(self.next, None | Some(Task::Look)) {
            self.next = self.wished().or_else(|| self.next.take());
        }
    }

    /// Returns the task that ends in the run that somebody wishes for, if anybody does.
    pub(super) fn wished(&self) -> Option<Task> {
        let versions = self.held.clone().filter(|_| !self.wanted_by.is_empty())?;
        Some(match self.target.drift {
            Drift::Restore => Task::Write(versions),
            Drift::Report => Task::Compare(versions),
        })
    }

    /// Tells those who wait for a run that none comes, unless a task is left that may bring it.
    pub(super) fn settle_wishes(&mut self) {
        if self.next.is_none() && self.busy.is_none() {
            // What they wait for ends without an answer.
            self.wanted_by.clear();
        }
    }

    /// Takes the end of a task; if the hook is to run, returns what to mask in its output, and who
    /// waits for its end.
    pub(in crate::daemon) fn done(
        &mut self,
        result: Result<Outcome, TargetFault>,
        now: Instant,
        time: Time,
    ) -> Option<(Mask, Vec<Waiter>)> {
        let is_look = matches!(result, Ok(Outcome::Seen { .. }));
        let mask = self.take(result, now, time);
        let run = mask.map(|mask| (mask, std::mem::take(&mut self.wanted_by)));
        if is_look {
            self.do_wished();
        }
        self.settle_wishes();
        run
    }

    /// Takes that a task has ended without a result, by a fault of this program.
    pub(in crate::daemon) fn crashed(&mut self, now: Instant) {
        self.failed(TargetFault::crashed(), now);
    }
}
