//! One who is told: takes looks and pages of records, keeps what is owed, sends it, and tries again
//! what was not taken. Nobody waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::time::Time;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::backlog::Backlog;
use super::event::Message;
use super::fault::Fault;
use super::filter::{self, FAILING};
use super::lane::Lane;
use super::records::{self, Page};
use super::sinks::Outlet;
use super::track::Damping;
use super::watch::{Hurry, Look};
use crate::engine::Engine;
use host::clock;
use machine::config::Forward;
use machine::local::ForwardRow;

/// The longest wait before records are asked for again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long nothing must be taken before that is an alarm.
const PATIENCE_MICROS: u64 = 60_000_000;
/// The time between two questions for records, while there are none but of readers.
const PACE: Duration = Duration::from_secs(2);
const LONGEST_PACE: Duration = Duration::from_secs(60);
/// The time until what was missing on this host is looked for again.
const CHECK_AGAIN: Duration = Duration::from_secs(5);

/// How one who is told stands, for status and figures.
pub type Row = Arc<Mutex<ForwardRow>>;

/// Makes the row of one who was told nothing yet.
pub fn row(forward: &Forward) -> Row {
    Arc::new(Mutex::new(ForwardRow {
        name: forward.name.clone(),
        to: forward.to.word().to_owned(),
        sent: 0,
        queued: 0,
        dropped: 0,
        audit: 0,
        failing: None,
        why: None,
    }))
}

/// What a message is about; each kind goes its own way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alarm,
    Record,
}

/// The way, and whether all is there on this host that it takes.
type Checked = (Outlet, Result<(), Fault>);

/// What was sent: how many of them, and why no more.
struct Sent {
    outlet: Outlet,
    ids: Vec<String>,
    taken: usize,
    ended: Result<(), Fault>,
}

struct Worker {
    forward: Arc<Forward>,
    engine: Engine,
    backlog: Backlog,
    row: Row,
    /// Records that wait, and where they end: told once all of them are.
    page: Option<Page>,
    /// Not there while something is being sent, or looked for.
    outlet: Option<Outlet>,
    sending: JoinSet<Sent>,
    /// What is being sent, or was last.
    sent: Kind,
    /// Whether an alarm is to go before the next record.
    alarm_is_due: Arc<AtomicBool>,
    alarms: Lane,
    records: Lane,
    checking: JoinSet<Checked>,
    /// When it is looked for what telling takes, if it is.
    check_due: Option<Instant>,
    /// What this host lacks for it, as far as nothing was taken since.
    lacking: Option<(Time, String)>,
    /// Why the last test was not taken, as far as nothing was since.
    test_failed: Option<(Time, String)>,
    asking: JoinSet<Result<Page, Fault>>,
    /// Before this no records are asked for.
    ask_due: Instant,
    pace: Duration,
    asks_failed: u32,
    asks_failing: Option<(Time, String)>,
    surplus_told: bool,
}

/// Tells one until it is aborted or there are no more looks.
pub async fn run(
    (forward, row): (Arc<Forward>, Row),
    engine: Engine,
    mut looks: watch::Receiver<Option<Look>>,
    mut hurry: Hurry,
    mut tests: mpsc::Receiver<Result<(), Fault>>,
) {
    let backlog = load(&engine, forward.name.as_str()).await;
    let now = Instant::now();
    let mut worker = Worker {
        outlet: Some(Outlet::new(Arc::clone(&forward), engine.clone())),
        forward,
        engine,
        backlog,
        row,
        page: None,
        sending: JoinSet::new(),
        sent: Kind::Alarm,
        alarm_is_due: Arc::default(),
        alarms: Lane::new(now),
        records: Lane::new(now),
        checking: JoinSet::new(),
        check_due: Some(now),
        lacking: None,
        test_failed: None,
        asking: JoinSet::new(),
        ask_due: now,
        pace: PACE,
        asks_failed: 0,
        asks_failing: None,
        surplus_told: false,
    };
    if !worker.forward.alarms {
        // What was owed under an earlier configuration is not wanted any more.
        worker.backlog.tracker.keep(|_| false);
    }
    loop {
        worker.show();
        worker.send();
        worker.check();
        worker.ask();
        let is_waiting = worker.forward.alarms && worker.backlog.tracker.is_waiting();
        hurry.set(is_waiting);
        let wake = worker.wake();
        tokio::select! {
            changed = looks.changed() => {
                if changed.is_err() {
                    return;
                }
                let look = looks.borrow_and_update().clone();
                if let Some(look) = look.filter(|_| worker.forward.alarms) {
                    worker.look(&look).await;
                }
            }
            Some(sent) = worker.sending.join_next() => worker.sent(sent.ok()).await,
            Some(checked) = worker.checking.join_next() => worker.checked(checked.ok()),
            Some(test) = tests.recv() => worker.tested(test),
            Some(page) = worker.asking.join_next() => worker.asked(page.ok()).await,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
}

async fn load(engine: &Engine, name: &str) -> Backlog {
    let kept = match engine.forwarded(name).await {
        Ok(kept) => kept,
        Err(why) => {
            tracing::error!("what is owed to `{name}` cannot be read: {why:#}");
            None
        }
    };
    let parsed = kept.map(|text| serde_json::from_str(&text));
    match parsed.transpose() {
        Ok(backlog) => backlog.unwrap_or_default(),
        Err(why) => {
            tracing::error!("what is owed to `{name}` is begun anew: {why}");
            Backlog::default()
        }
    }
}

impl Worker {
    /// Takes a look: what begins and ends is owed from now on.
    async fn look(&mut self, look: &Look) {
        let name = self.forward.name.as_str();
        let only = &self.forward.only;
        let tracker = &mut self.backlog.tracker;
        tracker.keep(|id| filter::is_told(only, name, id));
        let seen = look.seen.iter().filter(|it| filter::is_told(only, name, &it.id)).cloned();
        let Forward { begins_after: begins, ends_after: ends, .. } = *self.forward;
        let damping = Damping { begins, ends };
        let step = tracker.step(look.at, seen.collect(), |id| look.knows(id), damping);
        let was_told = std::mem::replace(&mut self.surplus_told, step.surplus > 0);
        if step.surplus > 0 && !was_told {
            tracing::warn!(forward = name, surplus = step.surplus, "more is wrong than is told");
        }
        for event in step.events {
            self.backlog.push(Message::new(look.at, event));
        }
        if step.changed {
            self.keep().await;
        }
    }

    /// Keeps what is owed, so that the next process knows it.
    async fn keep(&self) {
        let name = self.forward.name.as_str();
        let kept = match serde_json::to_string(&self.backlog) {
            Ok(text) => self.engine.keep_forwarded(name, text).await,
            Err(why) => Err(why.into()),
        };
        if let Err(why) = kept {
            tracing::error!("what is owed to `{name}` is not kept: {why:#}");
        }
    }

    /// Sends the next of what is owed and due: alarms one by one before records.
    fn send(&mut self) {
        let now = Instant::now();
        let alarm = self.backlog.queue.front().filter(|_| self.alarms.due() <= now);
        self.alarm_is_due.store(alarm.is_some(), Ordering::Relaxed);
        let page = self.page.as_ref().filter(|_| self.records.due() <= now);
        let (kind, messages) = match (alarm, page) {
            (Some(first), _) => (Kind::Alarm, vec![first.clone()]),
            (None, Some(page)) => (Kind::Record, page.messages.clone()),
            (None, None) => return,
        };
        let Some(mut outlet) = self.outlet.take() else { return };
        self.sent = kind;
        let alarm_is_due = Arc::clone(&self.alarm_is_due);
        self.sending.spawn(async move {
            let goes_on = || !alarm_is_due.load(Ordering::Relaxed);
            let (taken, ended) = outlet.send_all(&messages, goes_on).await;
            let ids = messages.into_iter().map(|message| message.id).collect();
            Sent { outlet, ids, taken, ended }
        });
    }

    /// Takes the end of sending.
    async fn sent(&mut self, sent: Option<Sent>) {
        let Some(Sent { outlet, ids, taken, ended }) = sent else {
            // A fault of this program is a failure as any other.
            self.outlet = Some(Outlet::new(Arc::clone(&self.forward), self.engine.clone()));
            self.failed(&Fault::new("the agent failed to send it"), 0, None);
            return;
        };
        self.outlet = Some(outlet);
        let (gone, next) = ids.split_at(taken);
        self.lock().sent += gone.len() as u64;
        gone.iter().for_each(|id| self.forget(id));
        if taken > 0 {
            self.lanes().1.others_taken();
        }
        match ended {
            Ok(()) => self.succeeded(),
            Err(fault) => self.failed(&fault, taken, next.first().map(String::as_str)),
        }
        if self.page.as_ref().is_some_and(|page| page.messages.is_empty()) {
            self.pass_page();
        }
        self.keep().await;
    }

    /// Returns the lane of what was sent, and the other one.
    const fn lanes(&mut self) -> (&mut Lane, &mut Lane) {
        match self.sent {
            Kind::Alarm => (&mut self.alarms, &mut self.records),
            Kind::Record => (&mut self.records, &mut self.alarms),
        }
    }

    /// Looks whether all is there that telling takes: an alarm must not be the first to find out.
    fn check(&mut self) {
        if self.check_due.is_none_or(|due| due > Instant::now()) {
            return;
        }
        let Some(mut outlet) = self.outlet.take() else { return };
        self.check_due = None;
        self.checking.spawn(async move {
            let ready = outlet.ready().await;
            (outlet, ready)
        });
    }

    fn checked(&mut self, checked: Option<Checked>) {
        let (outlet, ready) = checked.unwrap_or_else(|| {
            let outlet = Outlet::new(Arc::clone(&self.forward), self.engine.clone());
            (outlet, Err(Fault::new("the agent failed to look whether it can be told")))
        });
        self.outlet = Some(outlet);
        if ready.is_ok() && self.lacking.is_some() {
            // What waits has waited for just that.
            self.alarms.hasten(Instant::now());
            self.records.hasten(Instant::now());
        }
        self.lacking = ready.err().map(|fault| (since(self.lacking.take()), fault.text));
        self.check_due = self.lacking.is_some().then(|| Instant::now() + CHECK_AGAIN);
    }

    /// Takes what came of a test, and has all that waits tried at once, as a person has tried the
    /// way.
    fn tested(&mut self, test: Result<(), Fault>) {
        let now = Instant::now();
        let taken = test.is_ok();
        match test {
            Ok(()) => {
                self.lock().sent += 1;
                self.note_taken();
            }
            Err(fault) => self.test_failed = Some((since(self.test_failed.take()), fault.text)),
        }
        let is_idle = [self.backlog.queue.is_empty(), self.page.is_none()];
        for (lane, is_idle) in [&mut self.alarms, &mut self.records].into_iter().zip(is_idle) {
            if taken && is_idle {
                lane.taken(now);
            } else if taken {
                lane.others_taken();
            }
            lane.hasten(now);
        }
        self.ask_due = now;
    }

    /// Drops a message that is not owed any more.
    fn forget(&mut self, id: &str) {
        match (self.sent, &mut self.page) {
            (Kind::Alarm, _) => self.backlog.taken(id),
            (Kind::Record, Some(page)) => {
                page.messages.retain(|message| message.id != id);
                let record = id.strip_prefix("audit-").and_then(|n| n.parse().ok());
                self.backlog.cursor = record.or(self.backlog.cursor);
            }
            (Kind::Record, None) => {}
        }
    }

    fn pass_page(&mut self) {
        if let Some(page) = self.page.take() {
            self.backlog.cursor = Some(page.cursor);
        }
    }

    fn succeeded(&mut self) {
        self.note_taken();
        if self.lanes().0.taken(Instant::now()) {
            tracing::info!(forward = %self.forward.name, "messages are taken again");
        }
        self.backlog.tell_dropped(clock::now());
    }

    /// Notes that the way works.
    fn note_taken(&mut self) {
        (self.lacking, self.check_due, self.test_failed) = (None, None, None);
    }

    /// Notes that a message was not taken, and drops it if it never will be.
    fn failed(&mut self, fault: &Fault, taken: usize, id: Option<&str>) {
        let name = self.forward.name.clone();
        let lane = self.lanes().0;
        if lane.failing().is_none() {
            tracing::warn!(forward = %name, "not told: {fault}");
        }
        let is_given_up = lane.failed(fault, taken, (Instant::now(), clock::now()));
        let Some(id) = id.filter(|_| is_given_up) else { return };
        tracing::error!(forward = %name, "a message is given up: {fault}");
        match self.sent {
            Kind::Alarm => self.backlog.give_up(id),
            Kind::Record => {
                self.forget(id);
                self.backlog.dropped(None);
            }
        }
    }

    /// Asks for records, if they are wanted and none wait.
    fn ask(&mut self) {
        let is_free = self.page.is_none() && self.asking.is_empty();
        if !self.forward.audit || !is_free || Instant::now() < self.ask_due {
            return;
        }
        let (engine, forward) = (self.engine.clone(), Arc::clone(&self.forward));
        let cursor = self.backlog.cursor;
        self.asking.spawn(async move { records::page(&engine, &forward.only, cursor).await });
    }

    async fn asked(&mut self, page: Option<Result<Page, Fault>>) {
        let page = page.unwrap_or_else(|| Err(Fault::new("the agent failed to ask for records")));
        match page {
            Ok(page) => {
                self.asks_failed = 0;
                self.asks_failing = None;
                self.pace = if page.idle { (self.pace * 2).min(LONGEST_PACE) } else { PACE };
                let pause = if page.more { Duration::ZERO } else { self.pace };
                self.ask_due = Instant::now() + pause;
                let is_empty = page.messages.is_empty();
                self.page = Some(page);
                if is_empty {
                    self.pass_page();
                    self.keep().await;
                }
            }
            Err(fault) => {
                let wait = Duration::from_secs(2 << self.asks_failed.min(5)).min(LONGEST_WAIT);
                self.ask_due = Instant::now() + wait;
                self.asks_failed += 1;
                self.asks_failing = Some((since(self.asks_failing.take()), fault.text));
            }
        }
    }

    /// Returns when there is something to do of itself.
    fn wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let is_free = self.outlet.is_some();
        let alarm_due = self.alarms.due();
        // While records are being sent, it has them stop.
        let send_alarm = !self.backlog.queue.is_empty() && (is_free || alarm_due > now);
        let send_records = self.page.is_some() && is_free;
        let asks = self.forward.audit && self.page.is_none() && self.asking.is_empty();
        let alarm = self.trouble().map(|(since, _)| {
            let passed = clock::now().as_micros().saturating_sub(since.as_micros());
            now + Duration::from_micros(PATIENCE_MICROS.saturating_sub(passed))
        });
        let alarm = alarm.filter(|at| *at > now);
        let dues = [
            send_alarm.then_some(alarm_due),
            send_records.then_some(self.records.due()),
            asks.then_some(self.ask_due),
            self.check_due.filter(|_| is_free),
            alarm,
        ];
        dues.into_iter().flatten().min()
    }

    /// Returns since when and why nothing can be told: no alarms, or no records. Without the server
    /// that is away there are no records, and an alarm of its own says so.
    fn trouble(&self) -> Option<&(Time, String)> {
        let asks = self.asks_failing.as_ref().filter(|_| self.engine.away().is_none());
        self.alarms.failing().or(self.unusable()).or_else(|| self.records.failing()).or(asks)
    }

    /// Returns since when and why nothing would be taken, as a test or a look has shown.
    fn unusable(&self) -> Option<&(Time, String)> {
        self.test_failed.as_ref().or(self.lacking.as_ref())
    }

    /// Shows how it goes, and raises the alarm if it has gone badly for long.
    fn show(&self) {
        let trouble = self.trouble();
        let waiting = self.page.as_ref().map_or(0, |page| page.messages.len());
        {
            let mut row = self.lock();
            row.queued = (self.backlog.queue.len() + waiting) as u64;
            row.dropped = self.backlog.dropped;
            row.audit = self.backlog.cursor.unwrap_or(0);
            (row.failing, row.why) = (trouble.map(|it| it.0), trouble.map(|it| it.1.clone()));
        }
        let name = self.forward.name.as_str();
        let is_long = |since: &Time| {
            clock::now().as_micros().saturating_sub(since.as_micros()) >= PATIENCE_MICROS
        };
        // What is not there on this host does not come by waiting.
        match trouble.filter(|(since, _)| is_long(since) || self.lacking.is_some()) {
            Some((_, why)) => {
                let lost = match self.backlog.untold {
                    0 => String::new(),
                    some => format!("; {some} messages dropped"),
                };
                let what = match self.alarms.failing().or(self.unusable()) {
                    None if self.forward.alarms => "no audit records",
                    Some(_) | None => "nothing",
                };
                let text = format!(
                    "`{name}` is told {what}: {why}{lost} (hint: `vault-agent forward test {name}` \
                     tries it at once)"
                );
                self.engine.alarm_about(FAILING, name, text);
            }
            None => self.engine.clear_alarm_about(FAILING, name),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ForwardRow> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns since when something is so that was so before, or is from now on.
fn since(before: Option<(Time, String)>) -> Time {
    before.map_or_else(clock::now, |(since, _)| since)
}
