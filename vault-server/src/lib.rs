//! The vault's server: stores what it cannot read and orders what it cannot forge. Modules in the
//! order of their layers: `http`, `vault`, `store`; the program around them first.

/// The command line.
pub mod cli;
/// The configuration file and the environment.
pub mod config;
/// Making a server.
pub mod init;
/// Having systemd run the server.
pub mod install;

mod datadir;
mod http;
mod metrics;
mod store;
mod vault;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use host::hint::hinted;
use host::raw_keys::Acceptor;
use host::systemd::notify;
use tokio::net::TcpListener;
use tokio::sync::watch as channel;

use config::Config;
use datadir::DataDir;
use metrics::Metrics;
use store::{Reader, Store, Transaction, claim, schema, snapshot};
use vault::{Vault, directory};

/// Entries that one start may fold without writing a snapshot for the next.
const FOLDED: usize = 4096;

/// Runs a server on `listener` until `shutdown` ends; then stops accepting, ends the streams,
/// commits, and leaves the database ready for a quick start.
///
/// # Errors
/// If the data directory, the key or the database is refused, or the log is damaged.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let dir = DataDir::open(&config.data)?;
    let local = match config.metrics_listen {
        Some(addr) => Some(cli::bind(addr).await?),
        None => None,
    };
    let key = dir.read_key(config::credentials().as_deref())?;
    let acceptor = Acceptor::new(&key, config.limits.handshake())?;
    let listen = listener.local_addr().context("listener has no address")?;
    let file = dir.database();
    let vault = tokio::task::spawn_blocking(move || open(&file, key.verify_key()))
        .await
        .context("cannot open the database")??;
    let (stop, stopped) = channel::channel(false);
    let server = http::connection::Server {
        acceptor,
        router: http::router(vault.clone(), &config.limits, stopped.clone()),
        vault: vault.clone(),
        limits: config.limits,
    };
    let mut serving = tokio::spawn(http::connection::run(server, listener, stopped.clone()));
    if let Some(local) = local {
        tokio::spawn(http::local::run(vault.clone(), local, stopped));
    }
    tracing::info!(%listen, "ready");
    notify::ready(Some(listen));
    let mut served = None;
    tokio::select! {
        () = shutdown => {}
        ended = &mut serving => served = Some(ended),
        () = every_minute(&vault) => {}
        () = stay_alive(&vault) => {}
    }
    tracing::info!("stopping");
    notify::stopping();
    stop.send_replace(true);
    let served = match served {
        Some(ended) => ended,
        None => serving.await,
    };
    vault.close().await;
    drop(dir);
    served.context("connections ended badly")
}

async fn every_minute(vault: &Vault) {
    let minute = Duration::from_secs(60);
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + minute, minute);
    loop {
        tick.tick().await;
        vault.every_minute().await;
    }
}

/// Tells the watchdog, if there is one, that the writer still answers.
async fn stay_alive(vault: &Vault) {
    let Some(every) = notify::watchdog() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        if vault.ping().await.is_ok() {
            notify::alive();
        }
    }
}

/// Opens the database, folds what the snapshot does not hold, starts the writer.
fn open(file: &std::path::Path, key: shared::keys::VerifyKey) -> Result<Vault> {
    let conn = schema::open(file)?;
    let (state, folded) = snapshot::fold(&conn)
        .with_context(|| format!("database `{}` cannot be used", file.display()))?;
    let audit = store::audit::head(&conn).context("cannot read the audit chain")?;
    let machines = directory(state.as_ref());
    if let Some(state) = &state {
        tracing::info!(seq = state.seq(), folded, audit = audit.n, "log loaded");
    } else if !claim::is_open(&conn).context("cannot read the claim code")? {
        // As `init` left it, there would be a code: what was in here is lost.
        let why = format!("database `{}` holds neither a vault nor a setup code", file.display());
        let way = "put a copy of its files from before back, or make a new server with \
                   `vault-server init` in another directory";
        return Err(hinted(why, way));
    } else {
        tracing::info!("no vault yet: `vault init` with the setup line founds it");
    }
    if folded > FOLDED
        && let Some(state) = &state
    {
        snapshot::save(&conn, state).context("cannot write a snapshot")?;
    }
    let metrics = Arc::new(Metrics::default());
    let unsaved = if folded > FOLDED { 0 } else { folded };
    let store = Store::start(Transaction::new(conn, state, audit), unsaved, Arc::clone(&metrics))?;
    Ok(Vault::new(store, Reader::new(file.to_owned()), machines, key, metrics))
}
