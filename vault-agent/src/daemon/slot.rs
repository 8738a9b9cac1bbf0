//! One target as it stands: what its file holds, what is wrong, what comes next. Pure: events in,
//! decisions out.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::audit::Fact;
use shared::path::SecretPath;
use shared::report::TargetState;
use shared::time::Time;
use tokio::time::Instant;

use super::apply::{Held, Outcome, Task};
use super::backoff::backoff;
use super::contact::Reach;
use super::fault::TargetFault;
use super::hooks::{HookKey, Key, Mask, Waiter};
use super::plan::{self, Action, Known, Versions};
use super::record::{Bad, HookEnd, Remembered, Untold};
use crate::engine::Latest;
use host::account;
use host::files::Print;
use machine::config::{Drift, Target};
use verdict::Verdict;

/// The longest wait before a failed write is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long after one's own write the file is looked at: the first news of it is the write itself.
const ECHO: Duration = Duration::from_millis(50);

/// How often a file is put back within [`DRIFT_WINDOW`]; then somebody else wins for a while.
const MOST_RESTORES: usize = 5;

/// See [`MOST_RESTORES`].
const DRIFT_WINDOW: Duration = Duration::from_secs(60);

/// How a target stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not looked at since the start.
    New,
    /// The file is right.
    Right,
    /// The file stays as it is, for this reason.
    Held(TargetState, String),
    /// The last task failed.
    Failed(TargetFault),
    /// Somebody else has changed the file, and it is left so.
    Drifted,
    /// Another program keeps changing the file, and it is put back once in a while only.
    Contested,
}

/// One target.
pub(super) struct Slot {
    pub(super) target: Arc<Target>,
    /// The file as its owner calls it.
    pub(super) name: String,
    /// What its hook is run as.
    pub(super) key: Option<HookKey>,
    pub(super) state: State,
    /// How its secrets stood in the vault when it was last planned.
    pub(super) latest: Vec<Latest>,
    /// Since when the file has had its versions.
    pub(super) since: Time,
    /// What the hook ended with.
    pub(super) hook: HookEnd,
    /// What its owner should know of a file that is right: keys that are overridden.
    pub(super) notes: Vec<String>,
    /// Keys that the file is to hold and that no secret has.
    pub(super) absent: Vec<String>,
    /// The task to start next.
    pub(super) next: Option<Task>,
    /// Whether it waits in the queue.
    pub(super) queued: bool,
    /// The task under way.
    pub(super) busy: Option<tokio::task::Id>,
    /// Whether it waits for a disk that does not answer.
    pub(super) hung: bool,
    /// When to plan again after a failure.
    pub(super) due: Option<Instant>,
    /// When to look at the file.
    pub(super) look_due: Option<Instant>,
    /// When the last write ended.
    wrote: Option<Instant>,
    /// Versions the file is known to hold; `None` as long as that is not certain.
    held: Option<Versions>,
    /// Versions the file held when last written or compared, before the start too.
    pub(super) written: Option<Versions>,
    /// The print of the file as last written or found right; `None` if there is to be none.
    pub(super) print: Option<Print>,
    /// Whether the template has changed since the task under way began.
    stale: bool,
    failures: u32,
    /// The versions that were to be written when the failures began.
    tried: Option<Versions>,
    /// Whether the file has been compared since the start.
    verified: bool,
    restores: VecDeque<Instant>,
    /// Whether the server has been away for longer than the target may be without it.
    pub(super) reach: Reach,
    /// Which of its secrets the vault has taken back to a version before the file's.
    pub(super) aside: Vec<bool>,
    /// Whether a fork has stopped updates.
    pub(super) halted: bool,
    /// What the hook has said of versions.
    verdict: Verdict,
    /// Who waits for the end of a run of the hook that is to follow the next look at the file.
    pub(super) wanted_by: Vec<Waiter>,
    /// What is to be told of the versions in the file when the hook has ended.
    untold: Option<Untold>,
    /// What is to be told now.
    facts: Vec<Fact>,
}

impl Slot {
    /// A target that is new to this process; `remembered` is what an earlier one knew.
    pub(super) fn new(target: Arc<Target>, remembered: Option<Remembered>) -> Self {
        let remembered = remembered.filter(|remembered| {
            remembered.secrets.iter().map(|(path, _)| path).eq(&target.secrets)
        });
        let verdict = Verdict::new(&target, remembered.as_ref());
        let (written, since, hook, untold) = match remembered {
            Some(known) => (Some(known.versions()), known.since, known.hook, known.untold),
            None => (None, Time::default(), HookEnd::None, None),
        };
        Self {
            name: account::tilde(&target.path, target.owner.as_deref()),
            key: Key::of(&target),
            target,
            state: State::New,
            latest: Vec::new(),
            since,
            hook,
            notes: Vec::new(),
            absent: Vec::new(),
            next: None,
            queued: false,
            busy: None,
            hung: false,
            due: None,
            look_due: None,
            wrote: None,
            held: None,
            written,
            print: None,
            stale: false,
            failures: 0,
            tried: None,
            verified: false,
            restores: VecDeque::new(),
            reach: Reach::Fresh,
            aside: Vec::new(),
            halted: false,
            verdict,
            wanted_by: Vec::new(),
            untold,
            facts: Vec::new(),
        }
    }

    /// Tells whether the target is being written, or about to be.
    pub(super) fn is_active(&self) -> bool {
        self.queued || self.busy.is_some()
    }

    /// Returns all that a plan is made from.
    fn known(&self) -> Known<'_> {
        let Verdict { good, bad, .. } = &self.verdict;
        Known {
            target: &self.target,
            latest: &self.latest,
            held: self.held.as_ref(),
            instead: bad.as_ref().map(|bad| &bad.versions).zip(good.as_ref()),
            reach: self.reach,
            aside: &self.aside,
            written: self.written.as_ref(),
            halted: self.halted,
        }
    }

    /// Returns the version of each secret in the file, as far as anybody knows.
    pub(super) fn versions(&self) -> impl Iterator<Item = Option<u64>> {
        let known = self.held.as_ref().or(self.written.as_ref());
        (0..self.target.secrets.len())
            .map(move |n| known.and_then(|known| known.get(n).copied().flatten()))
    }

    /// Returns what the next process should know.
    pub(super) fn remembered(&self) -> Option<Remembered> {
        let written = self.written.as_ref()?;
        // What has gone well for what the file holds follows from that.
        let is_told = |good: &Versions| good == written && self.hook == HookEnd::Ok;
        Some(Remembered {
            path: self.target.path.clone(),
            secrets: self.target.secrets.iter().cloned().zip(written.iter().copied()).collect(),
            since: self.since,
            hook: self.hook.clone(),
            good: self.verdict.good.clone().filter(|good| !is_told(good)),
            bad: self.verdict.unsaved.as_ref().or(self.verdict.bad.as_ref()).cloned(),
            untold: self.untold.clone(),
        })
    }

    /// Plans the target by the newest versions of its secrets.
    pub(super) fn plan(&mut self, latest: impl Fn(&SecretPath) -> Latest) {
        self.due = None;
        self.latest = self.target.secrets.iter().map(latest).collect();
        match plan::decide(self.known()) {
            Action::Write(versions) => {
                self.begin(&versions);
                // Since this version was written somebody may have changed the file, and it is to
                // be left so.
                let only_look =
                    self.target.drift == Drift::Report && self.written.as_ref() == Some(&versions);
                self.next =
                    Some(if only_look { Task::Compare(versions) } else { Task::Write(versions) });
            }
            Action::Remove(versions) => {
                self.begin(&versions);
                self.next = Some(Task::Remove(versions));
            }
            Action::Hold(state, why) => {
                self.next = None;
                self.settle_wishes();
                self.state = State::Held(state, why);
            }
            Action::Settled => {
                if matches!(self.next, Some(Task::Write(_) | Task::Remove(_))) {
                    self.next = self.wished();
                }
                if !matches!(self.state, State::Drifted | State::Contested) {
                    self.state = State::Right;
                }
            }
        }
    }

    /// Starts to count failures anew if these versions have not been tried before.
    fn begin(&mut self, versions: &Versions) {
        if self.tried.as_ref() != Some(versions) {
            self.tried = Some(versions.clone());
            self.failures = 0;
        }
    }

    /// Takes the news that the file may have been changed; tells whether to look at it at once.
    pub(super) fn echo(&mut self, now: Instant) -> bool {
        let recent = self.wrote.is_some_and(|wrote| now < wrote + ECHO);
        let waits = recent || self.busy.is_some();
        if waits {
            // A look that is due already sees what has come until then.
            self.look_due.get_or_insert(now + ECHO);
        }
        !waits
    }

    /// Takes that it is time to look at the file, which may have been changed; tells whether to
    /// plan again.
    pub(super) fn touched(&mut self) -> bool {
        self.look_due = None;
        // A file under way may have been changed right behind the writer's back.
        if (self.held.is_some() || self.busy.is_some()) && self.next.is_none() {
            self.next = Some(Task::Look);
        }
        // What kept the file from being written may be gone.
        matches!(self.state, State::Failed(_))
    }

    /// Takes the end of a task; if the hook is to run, returns what to mask in its output.
    fn take(
        &mut self,
        result: Result<Outcome, TargetFault>,
        now: Instant,
        time: Time,
    ) -> Option<Mask> {
        let (held, mask, found) = match result {
            Err(fault) => {
                self.failed(fault, now);
                return None;
            }
            Ok(Outcome::Seen { same }) => {
                self.looked(same, now);
                return None;
            }
            Ok(Outcome::Differs(versions)) => {
                tracing::warn!(file = %self.path().display(), "changed or removed by somebody else, and left so");
                self.held = Some(versions);
                self.state = State::Drifted;
                self.verified = true;
                return None;
            }
            Ok(Outcome::Changed(held, mask)) => {
                self.log_changed(&held, now);
                self.wrote = Some(now);
                (held, Some(mask), false)
            }
            Ok(Outcome::Unchanged(held, mask)) => {
                let ended = self.hook == HookEnd::Ok
                    || (self.hook != HookEnd::Pending
                        && self.verdict.has_gone_back_to(&held.versions));
                let has_run = self.written.as_ref() == Some(&held.versions) && ended;
                let is_new = !self.verified && held.print.is_some();
                let is_due = (is_new && !has_run) || !self.wanted_by.is_empty();
                (held, is_due.then_some(mask), true)
            }
        };
        let before = self.written.clone();
        self.is_right(held, time);
        let mask = mask.filter(|_| self.key.is_some());
        if self.key.is_none() {
            self.hook = HookEnd::None;
        } else if mask.is_some() {
            self.hook = HookEnd::Pending;
        } else if self.hook == HookEnd::Ok {
            self.verdict.is_good(self.written.as_ref());
        }
        self.has_got(before.as_ref(), found, time);
        mask
    }

    /// Takes the end of a hook's run, and whether it will run again.
    pub(super) fn hook_ended(&mut self, result: &Result<(), String>, again: bool) {
        self.hook = match result {
            Ok(()) if again => HookEnd::Pending,
            Ok(()) => HookEnd::Ok,
            Err(why) => HookEnd::Failed(why.clone()),
        };
        match result {
            _ if again => {}
            Ok(()) => self.verdict.is_good(self.written.as_ref()),
            Err(why) => self.verdict.is_bad(&self.target, self.written.as_ref(), why),
        }
    }

    /// Tells whether the hook has failed, and nothing better has come since.
    pub(super) fn hook_has_failed(&self) -> bool {
        self.gone_back().is_some() || matches!(self.hook, HookEnd::Failed(_))
    }

    /// Tells whether the file is right and lacks nothing, and nothing is the matter with its hook.
    pub(super) fn is_well(&self) -> bool {
        let holds_all = self.state == State::Right && self.absent.is_empty();
        holds_all && !self.hook_has_failed() && self.hook != HookEnd::Pending
    }

    /// Tells whether there is news that is to be written down at once.
    pub(super) fn is_deciding(&self) -> bool {
        self.has_unsaved_bad() || self.has_unsaved_good() || self.gone_back().is_some()
    }

    /// Returns the versions that the file has been taken back from.
    pub(super) fn gone_back(&self) -> Option<&Bad> {
        let written = self.written.as_ref()?;
        self.verdict.bad.as_ref().filter(|_| self.verdict.has_gone_back_to(written))
    }

    /// Returns how often the hook is to be tried again: with an older version than the newest,
    /// never.
    pub(super) fn retries(&self) -> u32 {
        match (self.gone_back(), &self.target.on_change) {
            (None, Some(hook)) => hook.retries,
            (Some(_), _) | (_, None) => 0,
        }
    }

    /// Tells whether versions are to be gone back from, once that is on disk.
    pub(super) fn has_unsaved_bad(&self) -> bool {
        self.verdict.unsaved.is_some()
    }

    /// Tells whether the hook has just found versions good that are to be gone back to: until that
    /// is on disk nothing newer is to be written, or a kill would leave nothing to go back to.
    pub(super) fn has_unsaved_good(&self) -> bool {
        // Of a file that is to be rendered anew nothing is remembered.
        self.verdict.good_is_new && self.target.rollback_on_failure && self.written.is_some()
    }

    /// Takes the news that `remembered` is on disk; tells whether to plan again.
    pub(super) fn saved(&mut self, remembered: &Remembered) -> bool {
        let Verdict { good, bad, .. } = Verdict::new(&self.target, Some(remembered));
        self.verdict.good_is_new &= self.verdict.good != good;
        let due = bad.is_some() && self.verdict.unsaved == bad;
        if due {
            self.verdict.bad = self.verdict.unsaved.take();
        }
        due
    }

    /// Returns the versions whose ciphertext is to be kept, as the file may go back to them.
    pub(super) fn retained(&self) -> impl Iterator<Item = (SecretPath, u64)> + '_ {
        let good = self.verdict.good.iter().filter(|_| self.target.rollback_on_failure).flatten();
        let named = self.target.secrets.iter().zip(good);
        named.filter_map(|(path, ver)| Some((path.clone(), (*ver)?)))
    }

    fn path(&self) -> &Path {
        &self.target.path
    }

    fn is_right(&mut self, Held { versions, print, notes, absent }: Held, time: Time) {
        if self.written.as_ref() != Some(&versions) {
            self.since = time;
        }
        // A template that has changed meanwhile is rendered once more.
        self.held = (!std::mem::take(&mut self.stale)).then(|| versions.clone());
        self.written = Some(versions);
        self.print = print;
        (self.notes, self.absent) = (notes, absent);
        self.state = State::Right;
        self.failures = 0;
        self.verified = true;
    }

    fn log_changed(&mut self, Held { versions, print, .. }: &Held, now: Instant) {
        let path = self.path().display();
        if print.is_none() {
            let why =
                if self.reach == Reach::Lost { plan::SILENT } else { "its secrets are deleted" };
            tracing::warn!(file = %path, "removed: {why}");
        } else if self.held.as_ref() == Some(versions) {
            tracing::warn!(file = %path, "changed or removed by somebody else, and put back");
            self.restores.push_back(now);
        } else {
            let named = self.target.secrets.iter().zip(versions);
            let named: Vec<String> = named
                .filter_map(|(secret, ver)| ver.map(|ver| format!("{secret} v{ver}")))
                .collect();
            match self.verdict.bad.as_ref().filter(|_| self.verdict.has_gone_back_to(versions)) {
                None => tracing::info!(file = %path, "written: {}", named.join(", ")),
                Some(bad) => {
                    tracing::warn!(file = %path, "rolled back to {}: {}", named.join(", "), bad.why);
                }
            }
        }
    }

    fn failed(&mut self, fault: TargetFault, now: Instant) {
        if !matches!(&self.state, State::Failed(before) if *before == fault) {
            let TargetFault { state, text, hint, .. } = &fault;
            tracing::error!(file = %self.path().display(), hint, "{state}: {text}");
        }
        self.held = None;
        if fault.passing {
            self.due = Some(now + backoff(self.failures, LONGEST_WAIT));
            self.failures += 1;
        }
        self.state = State::Failed(fault);
    }

    /// Takes the news whether the file is the one last written.
    fn looked(&mut self, same: bool, now: Instant) {
        // One that was left as somebody had changed it may be right again.
        let settled = same && self.state != State::Drifted;
        let Some(versions) = self.held.clone().filter(|_| !settled && self.next.is_none()) else {
            return;
        };
        if versions.iter().all(Option::is_none) {
            // Whoever makes a file where ours was removed may keep it.
            return;
        }
        if self.target.drift == Drift::Report {
            self.next = Some(Task::Compare(versions));
            return;
        }
        while self.restores.front().is_some_and(|first| now.duration_since(*first) > DRIFT_WINDOW) {
            self.restores.pop_front();
        }
        match self.restores.front() {
            Some(first) if self.restores.len() >= MOST_RESTORES => {
                tracing::warn!(file = %self.path().display(), "another program keeps changing it: put back once a minute");
                self.due = Some(*first + DRIFT_WINDOW);
                self.held = None;
                self.state = State::Contested;
            }
            _ => self.next = Some(Task::Write(versions)),
        }
    }
}

mod anew;
mod applied;
mod settings;
mod verdict;

#[cfg(test)]
mod tests;
