//! Master files: `[[source]]` tables name files that people edit. A save is published as one
//! version, a change made elsewhere is written back, and an edit that meets one is kept beside the
//! file. When to look lives here; what to do is decided in `decide` and `shrunk`, what the text
//! becomes in `text`, and `job` acts.

mod confirmed;
mod decide;
mod job;
mod record;
mod shrunk;
mod state;
mod text;
mod verbs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shared::report::{HookResult, TargetReport, TargetState};
use shared::text::Text;
use shared::time::Time;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::backoff::backoff;
use crate::engine::{Engine, Latest};
use host::account;
use machine::config::Source;

use record::Record;
use state::State;
pub use verbs::{check, confirm};

/// How long a file must be left alone before a save is taken for complete: editors write more than
/// once.
const SETTLE: Duration = Duration::from_millis(500);

/// How long a file that is never left alone is waited for.
const LONGEST_SETTLE: Duration = Duration::from_secs(10);

/// The longest wait before a failure is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// One master file.
struct Master {
    source: Arc<Source>,
    /// The file as its owner calls it.
    name: String,
    state: State,
    /// The last version that file and vault both held, and since when.
    ver: u64,
    since: Time,
    conflicts: Vec<PathBuf>,
    /// The newest version as last looked at.
    latest: Option<Latest>,
    /// When to look next.
    due: Option<Instant>,
    /// When the changes began that are still to settle.
    touched: Option<Instant>,
    failures: u32,
    /// The look under way.
    busy: Option<Id>,
}

/// The end of a look at the file at `path`.
pub(super) struct Ended {
    path: PathBuf,
    state: State,
    conflicts: Vec<PathBuf>,
}

/// All master files of this agent.
pub(super) struct Masters {
    record: Arc<Record>,
    masters: BTreeMap<PathBuf, Master>,
    /// Looks under way.
    pub(super) jobs: JoinSet<Ended>,
}

impl Masters {
    /// Takes up what the last process remembered, in the state folder.
    pub(super) fn new(state: &Path) -> Self {
        let record = Arc::new(Record::load(state));
        Self { record, masters: BTreeMap::new(), jobs: JoinSet::new() }
    }

    /// Follows exactly `sources` from now on; those that have not changed are left alone.
    pub(super) fn set(&mut self, sources: &[Arc<Source>], now: Instant) {
        let mut before = std::mem::take(&mut self.masters);
        for source in sources {
            let known = before.remove(&source.path).filter(|known| known.source == *source);
            let master = known.unwrap_or_else(|| Master::new(source, &self.record, now));
            self.masters.insert(source.path.clone(), master);
        }
    }

    /// Returns the files to watch.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.masters
            .values()
            .flat_map(|master| std::iter::once(&master.source.path).chain(&master.conflicts))
            .map(PathBuf::as_path)
    }

    /// Takes the news that a file may have been changed; all of them without a name.
    pub(super) fn touched(&mut self, path: Option<&Path>, now: Instant) {
        for master in self.masters.values_mut() {
            if path.is_none_or(|path| path == master.source.path) {
                let begun = *master.touched.get_or_insert(now);
                master.due = Some((now + SETTLE).min(begun + LONGEST_SETTLE));
            } else if path.is_some_and(|path| master.conflicts.iter().any(|copy| copy == path)) {
                master.due.get_or_insert(now);
            }
        }
    }

    /// Takes the news that the vault, or the connection to it, may have changed.
    pub(super) fn changed(&mut self, engine: &Engine, now: Instant) {
        for master in self.masters.values_mut() {
            let latest = Some(engine.latest(&master.source.secret));
            let waiting = matches!(master.state, State::Waiting(_)) && engine.away().is_none();
            if master.latest != latest || waiting {
                master.latest = latest;
                // An edit that is still being made is waited for all the same.
                master.due.get_or_insert(now);
            }
        }
    }

    /// Starts what is due; a file that a program is writing is waited for.
    pub(super) fn start(&mut self, engine: &Engine, now: Instant, is_open: impl Fn(&Path) -> bool) {
        for (path, master) in &mut self.masters {
            if master.busy.is_some() || master.due.is_none_or(|due| due > now) {
                continue;
            }
            if is_open(path) {
                master.due = Some(now + SETTLE);
                continue;
            }
            (master.due, master.touched) = (None, None);
            let (engine, record) = (engine.clone(), Arc::clone(&self.record));
            let source = Arc::clone(&master.source);
            let look = self.jobs.spawn(async move {
                let (state, conflicts) = job::run(&engine, &record, &source).await;
                Ended { path: source.path.clone(), state, conflicts }
            });
            master.busy = Some(look.id());
        }
    }

    /// Takes that a look has ended without a result, by a fault of this program: it is made again,
    /// and the files to watch are the same.
    pub(super) fn crashed(&mut self, look: Id, now: Instant) -> bool {
        for master in self.masters.values_mut().filter(|master| master.busy == Some(look)) {
            master.busy = None;
            master.due = Some(now + backoff(master.failures, LONGEST_WAIT));
            master.failures += 1;
        }
        false
    }

    /// Takes the end of a look; tells whether other files are to be watched now.
    pub(super) fn take(&mut self, ended: Ended, now: Instant, time: Time) -> bool {
        let Ended { path, state, conflicts } = ended;
        let Some(master) = self.masters.get_mut(&path) else { return false };
        master.busy = None;
        master.end(state, now, time);
        let before = std::mem::replace(&mut master.conflicts, conflicts);
        master.conflicts != before
    }

    /// Returns when the next file is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.masters
            .values()
            .filter(|master| master.busy.is_none())
            .filter_map(|master| master.due)
            .min()
    }

    /// Tells whether nothing is under way or due at `now`.
    pub(super) fn idle(&self, now: Instant) -> bool {
        self.jobs.is_empty()
            && self.masters.values().all(|master| master.due.is_none_or(|due| due > now))
    }

    /// Tells whether every file is in step, and no edit waits for its owner.
    pub(super) fn right(&self) -> bool {
        self.masters.values().all(|master| {
            master.conflicts.is_empty()
                && matches!(master.state, State::Right { .. } | State::Deleted)
        })
    }

    /// Returns the rows of the fleet view.
    pub(super) fn rows(&self) -> impl Iterator<Item = TargetReport> {
        self.masters.values().map(|master| {
            let (state, detail) = match &master.state {
                State::New => (TargetState::Starting, ""),
                State::Right { .. } => (TargetState::Ok, ""),
                State::Deleted => (TargetState::Kept, "its secret is deleted"),
                State::Waiting(why) => (TargetState::Waiting, &**why),
                State::Held { text, .. } | State::Trouble { text, .. } => {
                    (TargetState::Failed, &**text)
                }
            };
            TargetReport {
                name: Text::lossy(&format!("{} (source)", master.name)),
                path: master.source.secret.clone(),
                ver: master.ver,
                state,
                since: master.since,
                hook: HookResult::None,
                detail: Text::lossy(detail),
            }
        })
    }

    /// Returns the alarms that stand, by code.
    pub(super) fn alarms(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.masters.values().flat_map(|master| {
            let path = master.source.path.display();
            let trouble = match &master.state {
                State::Trouble { text, hint, .. } => {
                    Some(("E_SOURCE", format!("`{path}` {text} (hint: {hint})")))
                }
                State::Held { text, hint } => {
                    Some(("E_SOURCE_SHRUNK", format!("`{path}` {text} (hint: {hint})")))
                }
                State::New | State::Right { .. } | State::Deleted | State::Waiting(_) => None,
            };
            let kept = master.conflicts.iter().map(move |copy| {
                let copy = copy.display();
                let text = format!(
                    "`{path}` was edited here while its secret changed elsewhere: the edit is kept \
                     in `{copy}` (hint: save what it should hold in `{path}`, then delete the copy)"
                );
                ("E_CONFLICT", text)
            });
            trouble.into_iter().chain(kept)
        })
    }
}

impl Master {
    fn new(source: &Arc<Source>, record: &Record, now: Instant) -> Self {
        let base = record.base(source);
        Self {
            source: Arc::clone(source),
            name: account::tilde(&source.path, None),
            state: State::New,
            ver: base.map_or(0, |base| base.ver),
            since: Time::default(),
            conflicts: Vec::new(),
            latest: None,
            due: Some(now),
            touched: None,
            failures: 0,
            busy: None,
        }
    }

    fn end(&mut self, state: State, now: Instant, time: Time) {
        if let State::Right { ver } = state
            && (ver != self.ver || self.state == State::New)
        {
            (self.ver, self.since) = (ver, time);
        }
        if let State::Held { text, hint } | State::Trouble { text, hint, .. } = &state
            && self.state != state
        {
            tracing::error!(file = %self.source.path.display(), hint, "{text}");
        }
        if let State::Trouble { passing, .. } = &state {
            if *passing && self.due.is_none() {
                self.due = Some(now + backoff(self.failures, LONGEST_WAIT));
                self.failures += 1;
            }
        } else {
            self.failures = 0;
        }
        self.state = state;
    }
}

#[cfg(test)]
mod tests;
