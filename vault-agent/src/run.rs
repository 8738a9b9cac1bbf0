//! `vault-agent run` and `once`: the engine, the daemon and the local API, side by side.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use host::logging;
use host::shown::Shown;
use host::shutdown::{Shutdown, ShutdownArgs};
use host::systemd::notify;
use shared::name::Name;
use tokio::sync::{oneshot, watch};

use crate::api::{Credentials, Listeners, answer_on, serve};
use crate::daemon::{self, Source, Targets};
use crate::engine::{Engine, unfollowed};
use crate::forward::Forwarding;
use crate::join::rekey;
use crate::page::Page;
use crate::scan;
use host::hint::{self, Exit};
use host::term::Term;
use machine::config::Config;
use machine::identity::Pins;
use machine::paths::Paths;

/// How long being ready may wait for the first pass over the targets: a folder on a network that
/// hangs must not keep the rest of the host from starting.
const FIRST_PASS: Duration = Duration::from_secs(10);

/// How long being ready may wait for the first try to reach the server: a program that starts after
/// the agent finds it connected, and a server that is away delays nobody.
const FIRST_TRY: Duration = Duration::from_secs(1);

/// How long `once` waits for a server.
const REACH: Duration = Duration::from_secs(20);

/// Follow the vault until SIGTERM, SIGINT or SIGHUP
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    shutdown: ShutdownArgs,
}

/// Runs until a signal.
pub fn run(args: &Args, paths: &Paths) -> Result<()> {
    let config = Config::load_or_default(&paths.config)?;
    logging::start(config.log, "agent");
    // What takes long runs on other threads; a second one here would cost memory and wake-ups, and
    // gain nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        // Some may wait for disks that do not answer.
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ran = runtime.block_on(serve_all(args, paths, config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ran
}

async fn serve_all(args: &Args, paths: &Paths, config: Config) -> Result<()> {
    let end = Shutdown::listen(args.shutdown)?;
    // Keys that take over from here on are a matter of the next start.
    let have_taken_over = rekey::have_taken_over(paths);
    let engine = Engine::open(paths)?;
    // Not before: an agent that still runs with the keys of before has this one end here, and
    // whoever gives new keys has to see that none runs with them yet.
    if have_taken_over && let Err(why) = rekey::settle(paths) {
        tracing::warn!("what an exchange of keys has left stays: {why:#}");
    }
    let socket = config.credentials.as_ref().map(|all| all.socket.clone());
    let (stop, shutdown) = watch::channel(false);
    let file = std::path::absolute(&paths.config).unwrap_or_else(|_| paths.config.clone());
    let (options, ui) = (config.api.clone(), config.ui.clone());
    let source = Source { file, config: watch::Sender::new(Arc::new(config)) };
    let (targets, asked) = Targets::new(source.config.subscribe());
    let forwarding = Forwarding::new(engine.clone(), source.config.subscribe());
    let metrics = source.config.borrow().metrics.listen.clone();
    let page = Page::new(engine.clone(), ui, paths.state.clone(), shutdown.clone());
    let listeners = Listeners::bind(engine.clone(), paths, &options, Some(targets.clone())).await?;
    let listeners = listeners.with(forwarding.clone());
    let figures = tokio::spawn(listeners.figures().serve(metrics, shutdown.clone()));
    let forwarded = tokio::spawn(forwarding.run(shutdown.clone()));
    page.start().await;
    listeners.lead_to(page);
    let listen = listeners.address();
    let credentials = socket
        .map(|socket| socket.unwrap_or_else(|| paths.credentials()))
        .map(|socket| Credentials::bind(&socket, source.config.subscribe(), engine.clone()));
    let addresses = follow_addresses(source.config.subscribe());
    let (watched, own) = (source.config.subscribe(), vec![paths.state.clone()]);
    tokio::spawn(scan::run(engine.clone(), watched, own, shutdown.clone()));
    let (settled, first_pass) = oneshot::channel();
    tokio::spawn(follow_name(engine.clone(), paths.clone()));
    let first_try = engine.clone();
    let mut tended = tokio::spawn({
        let (state, engine, shutdown) = (paths.state.clone(), engine.clone(), shutdown.clone());
        async move { daemon::run(source, &state, engine, shutdown, settled, asked).await }
    });
    let api = tokio::spawn(serve(listeners, shutdown.clone()));
    let credentials = tokio::spawn(hand_out(credentials, shutdown.clone()));
    let mut sync = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run(addresses, shutdown).await }
    });
    // Either way the agent is ready: what is still wrong stands in its status.
    let _ = tokio::time::timeout(FIRST_PASS, first_pass).await;
    let _ = tokio::time::timeout(FIRST_TRY, first_try.tried()).await;
    notify::ready(listen);
    let watchdog = tokio::spawn(stay_alive(engine, targets));
    let ended = tokio::select! {
        () = end.wait() => Ok(()),
        ended = &mut sync => ended.context("the sync task failed"),
        // Whoever has started the agent starts it again: files must be kept right.
        ended = &mut tended => ended.context("the loop over the targets failed"),
    };
    notify::stopping();
    watchdog.abort();
    stop.send_replace(true);
    // Every loop ends; one that has failed has said so itself.
    if !sync.is_finished() {
        let _ = sync.await;
    }
    if !tended.is_finished() {
        let _ = tended.await;
    }
    let _ = tokio::join!(credentials, api, figures, forwarded);
    ended
}

/// Hands credentials to units, if there are any.
async fn hand_out(credentials: Option<Credentials>, shutdown: watch::Receiver<bool>) {
    if let Some(credentials) = credentials {
        credentials.serve(shutdown).await;
    }
}

/// Writes the name down that the vault calls this machine by, whenever an owner has changed it:
/// what is done on this host names it so.
async fn follow_name(engine: Engine, paths: Paths) {
    let mut changes = engine.changes();
    let mut known = None;
    loop {
        let name = engine.name();
        if known.as_ref() != Some(&name) {
            let (called, paths) = (name.clone(), paths.clone());
            let written = tokio::task::spawn_blocking(move || write_name(called, &paths));
            match written.await {
                Ok(Ok(())) => known = Some(name),
                Ok(Err(why)) => tracing::warn!("the new name is not written down: {why:#}"),
                Err(_) => return,
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn write_name(name: Name, paths: &Paths) -> Result<()> {
    match Pins::load(paths)? {
        Some(pins) if pins.name != name => pins.rename(name, paths),
        Some(_) | None => Ok(()),
    }
}

/// Turns configurations into server addresses.
fn follow_addresses(mut configs: watch::Receiver<Arc<Config>>) -> watch::Receiver<Vec<String>> {
    let (sender, receiver) = watch::channel(configs.borrow_and_update().server.clone());
    tokio::spawn(async move {
        while configs.changed().await.is_ok() {
            let now = configs.borrow_and_update().server.clone();
            sender.send_if_modified(|addresses| {
                let changed = *addresses != now;
                *addresses = now;
                changed
            });
        }
        // The last configuration holds to the end.
        sender.closed().await;
    });
    receiver
}

/// Tells the watchdog, if there is one, that the loop over the targets and the engine still answer.
async fn stay_alive(engine: Engine, targets: Targets) {
    let Some(every) = notify::watchdog() else { return };
    while_answered(every, &targets, || {
        let _seq = engine.state(shared::log::State::seq);
        notify::alive();
    })
    .await;
}

/// Asks a loop again and again, and calls `alive` after each answer. Waits for one as long as it
/// takes.
async fn while_answered(every: Duration, targets: &Targets, alive: impl Fn()) {
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        if !targets.are_tended().await {
            return;
        }
        alive();
    }
}

/// Answers one program on standard input, which is a socket, until it hangs up.
pub fn answer(paths: &Paths, offline: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        let stream = std::os::unix::net::UnixStream::from(input);
        stream.set_nonblocking(true).context("standard input is no socket")?;
        answer_on(tokio::net::UnixStream::from_std(stream)?, paths, offline).await
    })
}

/// Syncs, makes every target right, runs the hooks, reports, and ends.
pub fn once(paths: &Paths, term: &Term) -> Result<Exit> {
    let config = Config::load_or_default(&paths.config)?;
    logging::start(config.log, "agent");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ran = runtime.block_on(async {
        let engine = Engine::open(paths)?;
        let reached = tokio::time::timeout(REACH, engine.connect_once(&config.server)).await;
        let online = matches!(reached, Ok(Ok(())));
        match reached {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                let why = unfollowed(&format!("{why:#}"));
                let why = format!("{why}; the files are made right from the cache");
                term.say(Shown::lines(why.lines()));
            }
            Err(_) => term
                .say("the server does not answer in time: the files are made right from the cache"),
        }
        let right = daemon::once(config, &paths.config, &paths.state, engine.clone()).await;
        if online && let Err(why) = engine.settle().await {
            term.say(hint::shown(&why));
        }
        engine.close().await;
        Ok(if right { Exit::OK } else { Exit::REMOTE })
    });
    // A disk that does not answer is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ran
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use clap::Parser as _;
    use host::files;
    use machine::identity::MachineKeys;
    use shared::hash::Hash;

    use crate::daemon::Ask;

    use super::*;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    /// What still runs with the keys of before has the next one end; the command that gave the new
    /// ones goes on by the note.
    #[tokio::test]
    async fn an_agent_that_cannot_start_leaves_the_note_of_new_keys() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(Some(dir.path().join("state")), None).unwrap();
        MachineKeys::create(&paths).unwrap();
        let (vault, name, server) = (Hash::ZERO, "vps".parse().unwrap(), Vec::new());
        let pins = Pins { vault, server, name, addresses: Vec::new(), checkpoint: None };
        pins.store(&paths).unwrap();
        let note = paths.identity().join("rekeyed.json");
        files::write_private(&note, b"\"a line\"").unwrap();
        files::write_private(&paths.database(), b"").unwrap();
        let other = rusqlite::Connection::open(paths.database()).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let Alone { args } = Alone::parse_from(["run"]);
        let ended = serve_all(&args, &paths, Config::default()).await.unwrap_err();
        assert!(format!("{ended:#}").contains("is in use by another process"), "{ended:#}");
        assert!(note.exists());
    }

    #[tokio::test]
    async fn a_loop_that_does_not_answer_is_not_called_alive() {
        let config = watch::Sender::new(Arc::default());
        let (targets, mut asked) = Targets::new(config.subscribe());
        let told = Cell::new(0);
        let every = Duration::from_millis(1);
        let watchdog = while_answered(every, &targets, || told.set(told.get() + 1));
        let busy = async {
            for _ in 0..3 {
                let Some(Ask::Alive(answer)) = asked.recv().await else { panic!("asked") };
                answer.send(()).unwrap();
            }
            // It hangs now: nobody is told, however often it would be time to.
            let unanswered = asked.recv().await.unwrap();
            let mut due = tokio::time::interval(Duration::from_millis(1));
            for _ in 0..20 {
                due.tick().await;
            }
            assert_eq!(told.get(), 3);
            drop(unanswered);
        };
        tokio::join!(watchdog, busy);
        assert_eq!(told.get(), 3);
    }
}
