//! One target as it stands: what its file holds, what is wrong, what comes next. Pure: events in,
//! decisions out.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::report::TargetState;
use shared::time::Time;
use tokio::time::Instant;

use super::apply::{Outcome, TargetFault, Task};
use super::contact::Reach;
use super::hooks::{HookKey, Key, Mask};
use super::plan::{Action, Hold, Known, Versions};
use super::record::{HookEnd, Remembered};
use host::account;
use host::files::Print;
use machine::config::{Drift, Target};
use verdict::Verdict;

/// The wait before a failed write is tried again; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long after one's own write the file is looked at: the first news of it is the write itself.
const ECHO: Duration = Duration::from_millis(50);

/// How often a file is put back within [`DRIFT_WINDOW`] before somebody else is left to win for a
/// while.
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
    /// The file stays as it is.
    Held(Hold),
    /// The last task failed.
    Failed(TargetFault),
    /// Somebody else has changed the file, and it is left so.
    Drifted,
    /// Another program keeps changing the file, and it is put back once in a while only.
    Contested,
}

/// One target.
pub(super) struct Slot {
    /// What the configuration says.
    pub(super) target: Arc<Target>,
    /// The file as its owner calls it.
    pub(super) name: String,
    /// What its hook is run as.
    pub(super) key: Option<HookKey>,
    /// How it stands.
    pub(super) state: State,
    /// Since when the file has had its versions.
    pub(super) since: Time,
    /// What the hook ended with.
    pub(super) hook: HookEnd,
    /// What the owner should know of a file that is right: keys that one secret overrides in
    /// another.
    pub(super) notes: Vec<String>,
    /// The task to start next.
    pub(super) next: Option<Task>,
    /// Whether it waits in the queue.
    pub(super) queued: bool,
    /// The number of the task under way.
    pub(super) busy: Option<u64>,
    /// When to plan again after a failure.
    pub(super) due: Option<Instant>,
    /// When to look at the file.
    pub(super) look_due: Option<Instant>,
    /// When the last write ended.
    wrote: Option<Instant>,
    /// Versions the file is known to hold; `None` as long as that is not certain.
    held: Option<Versions>,
    /// Versions the file held when last written or compared, before the start too.
    written: Option<Versions>,
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
    /// What the hook has said of versions; see there.
    verdict: Verdict,
}

/// What the end of a task calls for.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// Run the hook, with these values masked.
    pub(super) hook: Option<Mask>,
    /// Plan the target again: something else may have become due meanwhile.
    pub(super) plan: bool,
}

impl Slot {
    /// A target that is new to this process; `remembered` is what an earlier one knew.
    pub(super) fn new(target: Arc<Target>, remembered: Option<Remembered>) -> Self {
        let same = |remembered: &Remembered| {
            remembered.secrets.iter().map(|(path, _)| path).eq(&target.secrets)
        };
        let remembered = remembered.filter(same);
        let key = Key::of(&target);
        let verdict = Verdict::new(&target, remembered.as_ref());
        Self {
            name: account::tilde(&target.path, target.owner.as_deref()),
            key,
            target,
            state: State::New,
            since: remembered.as_ref().map(|remembered| remembered.since).unwrap_or_default(),
            hook: remembered.as_ref().map_or(HookEnd::None, |remembered| remembered.hook.clone()),
            notes: Vec::new(),
            next: None,
            queued: false,
            busy: None,
            due: None,
            look_due: None,
            wrote: None,
            held: None,
            written: remembered
                .map(|remembered| remembered.secrets.into_iter().map(|(_, ver)| ver).collect()),
            print: None,
            stale: false,
            failures: 0,
            tried: None,
            verified: false,
            restores: VecDeque::new(),
            reach: Reach::Fresh,
            verdict,
        }
    }

    /// The same file after its configuration has changed: to be compared anew, but no news for its
    /// hook.
    pub(super) fn changed(self, target: Arc<Target>) -> Self {
        let remembered = self.remembered();
        let Self { queued, busy, verified, reach, .. } = self;
        Self { queued, busy, verified, reach, ..Self::new(target, remembered) }
    }

    /// Tells whether the target is being written, or about to be.
    pub(super) fn is_active(&self) -> bool {
        self.queued || self.busy.is_some()
    }

    /// Returns all that a plan is made from.
    pub(super) fn known(&self) -> Known<'_> {
        let Verdict { good, bad, .. } = &self.verdict;
        let instead = bad.as_ref().map(|bad| &bad.versions).zip(good.as_ref());
        Known { target: &self.target, held: self.held.as_ref(), instead, reach: self.reach }
    }

    /// Returns the version of each secret in the file, as far as anybody knows.
    pub(super) fn versions(&self) -> impl Iterator<Item = Option<u64>> {
        let known = self.held.as_ref().or(self.written.as_ref());
        (0..self.target.secrets.len())
            .map(move |n| known.and_then(|known| known.get(n).copied().flatten()))
    }

    /// Returns how it stands, and what its owner should know, as the fleet view has it.
    pub(super) fn standing(&self) -> (TargetState, String) {
        let (state, detail) = self.state.standing();
        let detail = match (&self.state, &self.notes[..]) {
            (State::Right, [note]) => note.clone(),
            (State::Right, [note, more @ ..]) => format!("{note}; and {} more", more.len()),
            _ => detail,
        };
        (state, detail)
    }

    /// Returns what the next process should know.
    pub(super) fn remembered(&self) -> Option<Remembered> {
        let written = self.written.as_ref()?;
        Some(Remembered {
            path: self.target.path.clone(),
            secrets: self.target.secrets.iter().cloned().zip(written.iter().copied()).collect(),
            since: self.since,
            hook: self.hook.clone(),
            good: self.verdict.good.clone().filter(|good| good != written),
            bad: self.verdict.unsaved.as_ref().or(self.verdict.bad.as_ref()).cloned(),
        })
    }

    /// Takes what was planned.
    pub(super) fn plan(&mut self, action: Action) {
        self.due = None;
        match action {
            Action::Write(_, versions) => {
                self.begin(&versions);
                // Since this version was written somebody may have changed the file, and it is to
                // be left so.
                let only_look =
                    self.target.drift == Drift::Report && self.written.as_ref() == Some(&versions);
                self.next =
                    Some(if only_look { Task::Compare(versions) } else { Task::Write(versions) });
            }
            Action::Remove(_, versions) => {
                self.begin(&versions);
                self.next = Some(Task::Remove(versions));
            }
            Action::Hold(_, hold) => {
                self.next = None;
                self.state = State::Held(hold);
            }
            Action::Settled(_) => {
                if matches!(self.next, Some(Task::Write(_) | Task::Remove(_))) {
                    self.next = None;
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

    /// Takes the news that the file may have been changed: tells when to look at it, if not at
    /// once.
    pub(super) fn echo(&mut self, now: Instant) -> Option<Instant> {
        let recent = self.wrote.is_some_and(|wrote| now < wrote + ECHO);
        if !recent && self.busy.is_none() {
            return None;
        }
        // A look that is due already sees what has come until then.
        Some(*self.look_due.get_or_insert(now + ECHO))
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

    /// Takes the news that the template may be another: what the file holds is no longer known to
    /// be right.
    pub(super) fn template_changed(&mut self) {
        self.stale = self.busy.is_some();
        self.held = None;
        if self.target.drift == Drift::Report {
            self.written = None;
        }
    }

    /// Takes the end of a task.
    pub(super) fn done(
        &mut self,
        task: Task,
        result: Result<Outcome, TargetFault>,
        now: Instant,
        time: Time,
    ) -> Next {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(fault) => {
                self.failed(fault, now);
                return Next::default();
            }
        };
        match (task, outcome) {
            (Task::Write(versions) | Task::Compare(versions), Outcome::Written(print, mask)) => {
                self.log_written(&versions, now);
                self.wrote = Some(now);
                self.is_right(versions, Some(print), time);
                Next { hook: self.key.is_some().then_some(mask), plan: true }
            }
            (Task::Write(versions) | Task::Compare(versions), Outcome::Unchanged(print, mask)) => {
                let ended = self.hook == HookEnd::Ok
                    || (self.hook != HookEnd::Pending && self.verdict.has_gone_back_to(&versions));
                let hook_ran = self.written.as_ref() == Some(&versions) && ended;
                let needed = !self.verified && !hook_ran && self.key.is_some();
                self.is_right(versions, Some(print), time);
                if !needed && self.hook == HookEnd::Ok {
                    self.verdict.is_good(self.written.as_ref());
                }
                Next { hook: needed.then_some(mask), plan: true }
            }
            (Task::Remove(versions), Outcome::Removed) => {
                let why = match self.reach {
                    Reach::Lost => "the server has not been heard for longer than `max_stale`",
                    Reach::Fresh | Reach::Doubt => "its secrets are deleted",
                };
                tracing::warn!(file = %self.path().display(), "removed: {why}");
                self.is_right(versions, None, time);
                Next { hook: self.key.is_some().then(Mask::default), plan: true }
            }
            (Task::Remove(versions), _) => {
                self.is_right(versions, None, time);
                Next { hook: None, plan: true }
            }
            (Task::Write(versions) | Task::Compare(versions), _) => {
                tracing::warn!(file = %self.path().display(), "changed or removed by somebody else, and left so");
                self.held = Some(versions);
                self.state = State::Drifted;
                self.verified = true;
                Next { hook: None, plan: true }
            }
            (Task::Look, Outcome::Seen { same }) => {
                self.looked(same, now);
                Next::default()
            }
            (Task::Look, _) => Next::default(),
        }
    }

    /// Takes the end of a hook's run.
    pub(super) fn hook_ended(&mut self, result: &str, again: bool) {
        let end = HookEnd::from(result.to_owned());
        self.hook = if again && end == HookEnd::Ok { HookEnd::Pending } else { end };
        if again {
            return;
        }
        match result {
            "ok" => self.verdict.is_good(self.written.as_ref()),
            why => self.verdict.is_bad(&self.target, self.written.as_ref(), why),
        }
    }

    /// Tells whether the hook has failed, and nothing better has come since.
    pub(super) fn hook_has_failed(&self) -> bool {
        self.gone_back().is_some() || matches!(self.hook, HookEnd::Failed(_))
    }

    /// Tells whether the file is right, and nothing is the matter with its hook.
    pub(super) fn is_well(&self) -> bool {
        self.state == State::Right && !self.hook_has_failed() && self.hook != HookEnd::Pending
    }

    /// Notes that the hook is going to run.
    pub(super) fn hook_requested(&mut self) {
        self.hook = HookEnd::Pending;
    }

    fn path(&self) -> &Path {
        &self.target.path
    }

    fn is_right(&mut self, versions: Versions, print: Option<Print>, time: Time) {
        if self.written.as_ref() != Some(&versions) {
            self.since = time;
        }
        if self.key.is_none() {
            self.hook = HookEnd::None;
        }
        // A template that has changed meanwhile is rendered once more.
        self.held = (!std::mem::take(&mut self.stale)).then(|| versions.clone());
        self.written = Some(versions);
        self.print = print;
        self.state = State::Right;
        self.failures = 0;
        self.verified = true;
    }

    fn log_written(&mut self, versions: &Versions, now: Instant) {
        let path = self.path().display();
        if self.held.as_ref() == Some(versions) {
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
        let news = !matches!(&self.state, State::Failed(before) if *before == fault);
        if news {
            tracing::error!(file = %self.path().display(), hint = fault.hint, "{}", fault.show());
        }
        self.held = None;
        if fault.passing {
            let wait =
                FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_WAIT);
            self.due = Some(now + wait);
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

impl State {
    /// Returns the code of the alarm that people should see while it lasts.
    pub(super) fn alarm(&self) -> Option<&'static str> {
        match self {
            Self::Failed(_) => Some("E_TARGET"),
            Self::Drifted | Self::Contested => Some("E_DRIFT"),
            Self::Held(Hold::Silent) => Some("E_MAX_STALE"),
            Self::New | Self::Right | Self::Held(_) => None,
        }
    }

    /// Returns the state as the fleet view has it, and what there is to say about it.
    fn standing(&self) -> (TargetState, String) {
        let said = |state, text: &str| (state, text.to_owned());
        match self {
            Self::New => said(TargetState::Starting, ""),
            Self::Right => said(TargetState::Ok, ""),
            Self::Held(Hold::Missing(path)) => {
                (TargetState::Missing, format!("no secret `{path}`"))
            }
            Self::Held(Hold::Denied(path)) => (TargetState::Denied, format!("`{path}`")),
            Self::Held(Hold::Deleted(path)) => (TargetState::Kept, format!("`{path}` is deleted")),
            Self::Held(Hold::Waiting(path)) => {
                (TargetState::Waiting, format!("`{path}` has not arrived"))
            }
            Self::Held(Hold::Silent) => said(
                TargetState::TooOld,
                "the server has not been heard for longer than `max_stale`",
            ),
            Self::Failed(fault) => (fault.state, fault.text.clone()),
            Self::Drifted => said(TargetState::Drift, "changed by somebody else"),
            Self::Contested => said(TargetState::Drift, "another program keeps changing it"),
        }
    }

    /// Returns the state in one line.
    pub(super) fn show(&self) -> String {
        match self.standing() {
            (state, detail) if detail.is_empty() => state.to_string(),
            (state, detail) => format!("{state}: {detail}"),
        }
    }
}

mod settings;
mod standing;
mod verdict;

#[cfg(test)]
mod tests;
