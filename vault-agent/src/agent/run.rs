//! The daemon's life: engine, targets and local API started together, the service manager told
//! when they are ready, all of them ended in order on SIGTERM.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::api::{self, Listeners};
use crate::config::Config;
use crate::daemon::{self, Source};
use crate::engine::Engine;
use crate::paths::Paths;

/// How long the first look at the targets may hold up readiness.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// How long the first attempt to reach the server may: a write right after the start then does not fail.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// How long the end of one part may take.
const ENDING: Duration = Duration::from_secs(8);
/// What a target says before it was looked at.
const STARTING: &str = "starting";

/// The parts, and how to end them.
struct Parts {
    engine: JoinHandle<Result<()>>,
    daemon: JoinHandle<()>,
    api: JoinHandle<Result<()>>,
    addresses: JoinHandle<()>,
    /// Ends what uses the engine.
    stop: watch::Sender<bool>,
    /// Ends the engine.
    stop_engine: watch::Sender<bool>,
}

/// Runs the agent until it is told to end.
pub(super) async fn run(paths: &Paths, config: Config, exit_with_stdin: bool) -> Result<()> {
    let mut term = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let engine = Engine::open(paths)?;
    let listeners = Listeners::bind(engine.clone(), paths, &config.api).await?;
    let address = listeners.address();
    let mut parts = start(paths, config, &engine, listeners);
    let ended = async {
        tokio::select! {
            _ = term.recv() => Ok(()),
            _ = int.recv() => Ok(()),
            () = stdin_ended(exit_with_stdin) => Ok(()),
            ended = &mut parts.engine => ended.context("the engine has failed")?,
            ended = &mut parts.api => ended.context("the local API has failed")?,
        }
    };
    let (ready, alive) = (ready(&engine, address), stay_alive(&engine));
    let result = tokio::select! {
        result = ended => result,
        never = async { ready.await; alive.await } => never,
    };
    tracing::info!("stopping");
    tell(&[NotifyState::Stopping]);
    parts.end().await;
    result
}

fn start(paths: &Paths, config: Config, engine: &Engine, listeners: Listeners) -> Parts {
    let (stop, stopped) = watch::channel(false);
    let (stop_engine, engine_stopped) = watch::channel(false);
    let (list, addresses) = watch::channel(config.server.clone());
    let source =
        Source { file: paths.config.clone(), config: watch::Sender::new(Arc::new(config)) };
    let config = source.config.subscribe();
    let (for_engine, for_daemon) = (engine.clone(), engine.clone());
    let state = paths.state.clone();
    let until = stopped.clone();
    Parts {
        engine: tokio::spawn(async move { for_engine.run(addresses, engine_stopped).await }),
        daemon: tokio::spawn(async move { daemon::run(source, &state, for_daemon, until).await }),
        api: tokio::spawn(api::serve(listeners, stopped)),
        addresses: tokio::spawn(follow_addresses(config, list)),
        stop,
        stop_engine,
    }
}

/// Hands the list of addresses on whenever the configuration has another one.
async fn follow_addresses(
    mut config: watch::Receiver<Arc<Config>>,
    list: watch::Sender<Vec<String>>,
) {
    while config.changed().await.is_ok() {
        let server = config.borrow_and_update().server.clone();
        list.send_if_modified(|known| {
            let changed = *known != server;
            *known = server;
            changed
        });
    }
}

impl Parts {
    /// Ends targets and API first, so that the engine still takes what they leave behind.
    async fn end(self) {
        self.stop.send_replace(true);
        let users = async { tokio::join!(self.daemon, self.api) };
        if timeout(ENDING, users).await.is_err() {
            tracing::warn!("targets or connections take too long to end");
        }
        self.addresses.abort();
        self.stop_engine.send_replace(true);
        if !self.engine.is_finished() && timeout(ENDING, self.engine).await.is_err() {
            tracing::warn!("the engine takes too long to end");
        }
    }
}

/// Tells the service manager once the targets have been looked at; the socket listens already and
/// the cache is loaded. A server that does not answer is not waited for.
async fn ready(engine: &Engine, address: Option<SocketAddr>) {
    let mut targets = engine.targets();
    let looked = targets.wait_for(|targets| {
        targets.as_ref().is_some_and(|rows| rows.iter().all(|row| row.state != STARTING))
    });
    if timeout(FIRST_LOOK, looked).await.is_err() {
        tracing::warn!("some targets take long to look at");
    }
    let _ = timeout(FIRST_TRY, engine.tried()).await;
    tracing::info!("ready");
    match address {
        None => tell(&[NotifyState::Ready]),
        Some(address) => {
            let listen = format!("X_LISTEN={address}");
            tell(&[NotifyState::Ready, NotifyState::Custom(&listen)]);
        }
    }
}

/// Tells the watchdog, if there is one, that the state can still be looked at.
async fn stay_alive(engine: &Engine) -> Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval(limit / 2);
    loop {
        tick.tick().await;
        engine.state(|_| ());
        tell(&[NotifyState::Watchdog]);
    }
}

/// Waits until standard input ends, if that is to end the program; else for ever.
async fn stdin_ended(watched: bool) {
    if !watched {
        return std::future::pending().await;
    }
    let (gone, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = gone.send(());
    });
    let _ = told.await;
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(fault) = sd_notify::notify(state) {
        tracing::warn!(%fault, "the service manager cannot be told");
    }
}
