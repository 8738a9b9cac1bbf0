//! Tells others of alarms and audit records, unasked: each of `[[forward]]` has a task of its own,
//! so that one who does not answer holds up nobody. The layers, each using those below it only:
//!
//! 1. `mod.rs`: starts and ends the tasks as the configuration says
//! 2. `worker`: one who is told
//! 3. `watch`, `records`: what there is to tell
//! 4. `sinks`: the ways to tell it
//! 5. `backlog`, `filter`, `http`, `private`
//! 6. `track`, `tls`, `lane`
//! 7. `event`, `fault`

mod backlog;
mod event;
mod fault;
mod filter;
mod http;
mod lane;
mod private;
mod records;
mod sinks;
mod tls;
mod track;
mod watch;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::name::Name;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinHandle;

use crate::engine::Engine;
use event::{Event, Message};
use fault::Fault;
use host::clock;
use machine::config::{Config, Forward};
use machine::local::{ForwardRow, TestedRow};
use sinks::Outlet;
use watch::{Hurry, Look};
use worker::Row;

/// All who are told; clones share it.
#[derive(Clone)]
pub struct Forwarding {
    engine: Engine,
    configs: channel::Receiver<Arc<Config>>,
    told: Arc<Mutex<Vec<Told>>>,
}

/// One who is told: how it goes, and where to say that a test was sent, and what came of it.
#[derive(Clone)]
struct Told {
    row: Row,
    tests: mpsc::Sender<Result<(), Fault>>,
}

impl std::fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forwarding(..)")
    }
}

/// The task of one who is told.
struct Running {
    forward: Arc<Forward>,
    told: Told,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forwarding {
    /// Tells nobody yet.
    pub fn new(engine: Engine, configs: channel::Receiver<Arc<Config>>) -> Self {
        Self { engine, configs, told: Arc::default() }
    }

    /// Shows how it goes with each.
    pub fn rows(&self) -> Vec<ForwardRow> {
        self.lock().iter().map(|told| shown(&told.row)).collect()
    }

    /// Sends a message that says that it is a test to the one of that name, or to all, and returns
    /// what came of it; nothing where nobody is called so. What waits is tried at once then.
    pub async fn test(&self, name: Option<&str>) -> Vec<TestedRow> {
        let config = self.configs.borrow().clone();
        let is_it = |forward: &&Arc<Forward>| name.is_none_or(|name| name == forward.name.as_str());
        // By ways of their own, all at once: one that is stuck is no reason to wait.
        let start = |forward: &Arc<Forward>| {
            let mut outlet = Outlet::new(Arc::clone(forward), self.engine.clone());
            let message = Message::new(clock::now(), Event::Test);
            let sending = tokio::spawn(async move { outlet.send_all(&[message], || true).await.1 });
            (Arc::clone(forward), sending)
        };
        let started: Vec<_> = config.forwards.iter().filter(is_it).map(start).collect();
        let mut tested = Vec::with_capacity(started.len());
        for (forward, sending) in started {
            let sent = sending.await;
            let sent = sent.unwrap_or_else(|_| Err(Fault::new("the agent failed to send it")));
            let (name, to) = (forward.name.clone(), forward.to.word().to_owned());
            let told = self.lock().iter().find(|told| shown(&told.row).name == name).cloned();
            let waiting = told.map_or(0, |told| {
                // Another test that is not heard of yet has said the same.
                let _ = told.tests.try_send(sent.clone());
                shown(&told.row).queued
            });
            let failure = sent.err().map(|fault| fault.text);
            tested.push(TestedRow { name, to, failure, waiting });
        }
        tested
    }

    /// Tells those whom the configuration names, as it changes, until `shutdown` turns true.
    pub async fn run(self, mut shutdown: channel::Receiver<bool>) {
        let mut configs = self.configs.clone();
        let mut running: HashMap<Name, Running> = HashMap::new();
        let (looks, hurry) = (channel::Sender::new(None), Hurry::default());
        let mut looking: Option<JoinHandle<()>> = None;
        loop {
            let config = configs.borrow_and_update().clone();
            self.adopt(&config.forwards, &mut running, (&looks, &hurry)).await;
            let is_wanted = config.forwards.iter().any(|forward| forward.alarms);
            match &looking {
                None if is_wanted => {
                    let run = watch::run(self.engine.clone(), looks.clone(), hurry.followed());
                    looking = Some(tokio::spawn(run));
                }
                Some(task) if !is_wanted => {
                    task.abort();
                    looking = None;
                }
                Some(_) | None => {}
            }
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Ok(()) = configs.changed() => {}
            }
        }
        if let Some(task) = looking {
            task.abort();
        }
    }

    /// Ends the tasks of those who are not told any more, or otherwise, and starts others.
    async fn adopt(
        &self,
        forwards: &[Arc<Forward>],
        running: &mut HashMap<Name, Running>,
        (looks, hurry): (&channel::Sender<Option<Look>>, &Hurry),
    ) {
        let stays = |it: &Running| forwards.contains(&it.forward);
        for (name, _) in running.extract_if(|_, it| !stays(it)) {
            self.engine.clear_alarm_about(filter::FAILING, name.as_str());
        }
        let names: Vec<&str> = forwards.iter().map(|forward| forward.name.as_str()).collect();
        if let Err(why) = self.engine.forget_forwarded_but(&names).await {
            tracing::warn!("what was owed to others is not dropped: {why:#}");
        }
        for forward in forwards {
            running.entry(forward.name.clone()).or_insert_with(|| {
                let (forward, row) = (Arc::clone(forward), worker::row(forward));
                let (tests, tested) = mpsc::channel(1);
                let mut looks = looks.subscribe();
                // The last look serves who comes later, too.
                looks.mark_changed();
                let of = (forward.clone(), row.clone());
                let run = worker::run(of, self.engine.clone(), looks, hurry.share(), tested);
                Running { forward, told: Told { row, tests }, task: tokio::spawn(run) }
            });
        }
        let all = forwards.iter().filter_map(|forward| running.get(&forward.name));
        *self.lock() = all.map(|it| it.told.clone()).collect();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(row: &Row) -> ForwardRow {
    row.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
