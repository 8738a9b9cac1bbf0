//! One-off answers, on a host where no agent runs: of several at once, one at a time has the
//! database.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::engine::Engine;
use host::hint::hinted;
use machine::config::{self, Config};
use machine::paths::Paths;

use super::caller::Peer;
use super::context::Api;
use super::listen;
use super::places::Place;

/// How long an answer waits for the server before the cache must do.
const REACH: Duration = Duration::from_secs(20);
/// How long to stand in line.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers one connection over an engine of its own, for a host on which no agent runs. The server
/// is asked to catch up first, unless `offline`; where it cannot be reached, the cache answers.
/// Several at once take turns.
///
/// # Errors
/// If the turn does not come, or the identity, the configuration or the database cannot be read.
pub async fn answer_on(stream: UnixStream, paths: &Paths, offline: bool) -> Result<()> {
    let _turn = wait_for_turn(paths, PATIENCE)?;
    let engine = Engine::open(paths)?;
    let Config { server: addresses, api, .. } = Config::load_or_default(&paths.config)?;
    if !offline {
        // A server that accepts and says nothing must not keep the caller waiting.
        match timeout(REACH, engine.connect_once(&addresses)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::debug!("answering from the cache: {why:#}"),
            Err(_) => tracing::debug!("answering from the cache: the server does not answer"),
        }
    }
    // What is demanded of callers holds here, too.
    let config::Api { require_reason, ai_tools, .. } = api;
    let options = config::Api { require_reason, ai_tools, ..config::Api::default() };
    let api = Arc::new(Api::open(engine.clone(), paths, &options, None)?);
    let (_stop, shutdown) = watch::channel(false);
    listen::one(stream, api, Peer::inside(), shutdown, Place::alone()).await;
    if let Err(why) = engine.settle().await {
        tracing::debug!("local accesses are shipped later: {why:#}");
    }
    engine.close().await;
    Ok(())
}

/// Stands in line for `patience` at most; the system wakes whoever is next. The turn ends when the
/// file is closed, or with the process.
fn wait_for_turn(paths: &Paths, patience: Duration) -> Result<File> {
    let path = paths.turn();
    let shown = path.display();
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let file = options.open(&path).with_context(|| format!("opening `{shown}`"))?;
    let (sender, locked) = mpsc::channel();
    // Nothing bounds the call itself: where it never returns, the thread ends with the process.
    std::thread::Builder::new().name("turn".into()).spawn(move || {
        let locked = loop {
            match file.lock() {
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                locked => break locked,
            }
        };
        let _ = sender.send(locked.map(|()| file));
    })?;
    match locked.recv_timeout(patience) {
        Ok(file) => file.with_context(|| format!("locking `{shown}`")),
        Err(_) => bail!(hinted(
            format!(
                "other `vault` commands keep `{}` busy for more than {} s",
                paths.state.display(),
                patience.as_secs()
            ),
            "where an agent runs they need not wait for each other: `vault-agent install`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(state: &std::path::Path) -> Paths {
        Paths::resolve(Some(state.to_owned()), None).unwrap()
    }

    #[test]
    fn who_waits_is_next_and_nobody_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let first = wait_for_turn(&paths, PATIENCE).unwrap();
        let refused = wait_for_turn(&paths, Duration::from_millis(1)).unwrap_err().to_string();
        assert!(refused.contains("other `vault` commands keep"), "{refused}");
        let waiting = std::thread::spawn(move || wait_for_turn(&paths, PATIENCE).map(drop));
        drop(first);
        waiting.join().unwrap().unwrap();
    }
}
