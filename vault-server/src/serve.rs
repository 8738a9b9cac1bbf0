//! A running server: from the listener that is open to the end of the last connection.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use host::clock;
use host::hint::hinted;
use host::raw_keys::Acceptor;
use host::systemd::notify;
use shared::keys::{SignKey, VerifyKey};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as channel};

use crate::backup::{self, Made};
use crate::config::{self, Config};
use crate::datadir::DataDir;
use crate::http;
use crate::meter::Meter;
use crate::metrics::Metrics;
use crate::store::headfile::HeadFile;
use crate::store::reserve::Reserve;
use crate::store::{self, Reader, Source, Store, Transaction, claim, report, snapshot};
use crate::vault::{CodeFile, Disk, Members, Reported, Retention, Signers, Vault, directory};

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
    let source = Source::of(&config.data, &config.store)?;
    let dir = match source.is_shared() {
        true => DataDir::open_without_database(&config.data)?,
        false => DataDir::open(&config.data)?,
    };
    let local = match config.metrics_listen {
        Some(addr) => Some(bind(addr).await?),
        None => None,
    };
    let known = source.clone();
    // What asks a database may wait.
    let take = move || dir.take_next(|| listed(&known)).map(|taken| (dir, taken));
    let (dir, taken) = tokio::task::spawn_blocking(take).await.context("cannot take the key")??;
    if taken {
        tracing::warn!("the server has another key from now on");
    }
    let key = dir.read_key(config::credentials().as_deref())?;
    let handshake = Duration::from_secs(config.limits.handshake_seconds);
    let acceptor = Acceptor::new(&key, handshake)?;
    let listen = listener.local_addr().context("listener has no address")?;
    let (data, backups) = (config.data.clone(), config.backup.clone());
    let code = CodeFile::new(dir.resume_code());
    let meter = Meter::new(&config.limits, config.shares);
    let retention = Retention { folder: dir.archive(), audit: config.audit.clone() };
    let heads = HeadFile::open(&dir.head())?;
    let held = heads.held();
    let (woken, mut wakes) = mpsc::channel(1);
    let from = source.clone();
    let open = move || open(&from, heads, code, Arc::new(key), meter, retention);
    let vault = tokio::task::spawn_blocking(open).await.context("cannot open the database")??;
    vault.judge_file(held).await.context("cannot compare the signed head with the log")?;
    // Kept until the end.
    let _listener = source.listen(woken)?;
    let (stop, stopped) = channel::channel(false);
    let (connected, limits) = (vault.clone(), (config.limits, config.shares));
    let mut serving =
        tokio::spawn(http::connection::run(connected, acceptor, limits, listener, stopped.clone()));
    if let Some(local) = local {
        tokio::spawn(http::local::run(vault.clone(), local, stopped));
    }
    tracing::info!(%listen, "ready");
    notify::ready(Some(listen));
    let (mut served, mut broken) = (None, None);
    tokio::select! {
        () = shutdown => {}
        ended = &mut serving => served = Some(ended),
        () = every_minute(&vault) => {}
        () = save_reports(&vault) => {}
        () = stay_alive(&vault) => {}
        () = back_up(&vault, &source, data, backups) => {}
        () = catch_up(&vault, &mut wakes) => {}
        why = vault.broken() => broken = Some(why),
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
    if let Some(why) = broken {
        let way = "start it again: it begins with what the database holds, and asks the machines for \
                   what that lacks";
        return Err(hinted(why, way));
    }
    served.context("connections ended badly")
}

/// Takes over what other servers write to the same database.
async fn catch_up(vault: &Vault, wakes: &mut mpsc::Receiver<(u64, u64)>) {
    while let Some((seq, audit)) = wakes.recv().await {
        vault.catch_up(seq, audit).await;
    }
    std::future::pending::<()>().await;
}

/// Does what is due once a minute, from the start on: a stopped server may have left something.
async fn every_minute(vault: &Vault) {
    let mut tick = tokio::time::interval(Duration::from_secs(60));
    loop {
        tick.tick().await;
        vault.every_minute().await;
    }
}

/// Reports are saved this often: the writer has better things to do than to write each down at
/// once.
const SAVING: Duration = Duration::from_secs(5);

async fn save_reports(vault: &Vault) {
    loop {
        tokio::time::sleep(SAVING).await;
        vault.save_reports().await;
        vault.drop_entries().await;
    }
}

/// How soon a backup that has failed is tried again.
const AGAIN: Duration = Duration::from_mins(10);

/// Makes the backups of the configuration when they are due.
async fn back_up(vault: &Vault, source: &Source, data: PathBuf, set: config::Backup) {
    let Some(dir) = set.dir else { return std::future::pending().await };
    let (every, keep) = (Duration::from_micros(set.every), set.keep as usize);
    let mut tick = tokio::time::interval(Duration::from_secs(60));
    let mut next = None;
    loop {
        tick.tick().await;
        let Some(id) = vault.id() else { continue };
        if next.is_some_and(|next| Instant::now() < next) {
            continue;
        }
        let (source, data, dir) = (source.clone(), data.clone(), dir.clone());
        let made = tokio::task::spawn_blocking(move || {
            // One of before the start counts.
            let age = backup::age(&dir, id)?;
            if let Some(wait) = age.and_then(|age| every.checked_sub(age)) {
                return Ok((wait, None));
            }
            backup::backup(&source, &data, &dir, keep, clock::now(), &mut |_, _, _| ())
                .map(|made| (every, Some(made)))
        });
        let made = made.await.unwrap_or_else(|why| Err(why.into()));
        let wait = match made {
            Ok((wait, made)) => {
                if let Some(Made { file, deleted, .. }) = made {
                    tracing::info!(file = %file.display(), deleted, "backup made");
                }
                vault.backed_up(None);
                wait
            }
            Err(why) => {
                let (why, again) = (host::hint::shown(&why).to_string(), AGAIN.as_secs() / 60);
                tracing::error!("no backup made, tried again in {again} minutes: {why}");
                vault.backed_up(Some(clock::now()));
                AGAIN
            }
        };
        next = Some(Instant::now() + wait);
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

/// Returns the server's keys as the vault lists them.
fn listed(source: &Source) -> Result<Vec<VerifyKey>> {
    let (state, _) = snapshot::fold(&source.open_source()?)?;
    Ok(state.map(|state| state.server().to_vec()).unwrap_or_default())
}

/// Opens the database, folds what the snapshot does not hold, starts the writer.
fn open(
    source: &Source,
    heads: HeadFile,
    code: CodeFile,
    key: Arc<SignKey>,
    meter: Meter,
    retention: Retention,
) -> Result<Vault> {
    let conn = source.open()?;
    let (state, folded) =
        snapshot::fold(&conn).with_context(|| format!("database `{source}` cannot be used"))?;
    let audit = store::audit::head(&conn).context("cannot read the audit chain")?;
    let machines = directory(state.as_ref());
    if let Some(state) = &state {
        tracing::info!(seq = state.seq(), folded, audit = audit.n, "log loaded");
    } else if !claim::is_open(&conn).context("cannot read the claim code")? {
        // As `init` left it, there would be a code: what was in here is lost.
        let why = format!("database `{source}` holds neither a vault nor a setup code");
        let way = "put a copy of its files from before back, or make a new server with \
                   `vault-server init` in another directory";
        return Err(hinted(why, way));
    } else {
        tracing::info!("no vault yet: `vault init` with the setup line founds it");
    }
    let reports = report::all(&conn).context("cannot read the reports")?;
    let reported = Reported::new(reports, state.as_ref());
    let metrics = Arc::new(Metrics::default());
    let signers = state.as_ref().map(Signers::of);
    let members = Members { machines, signers, reported, key: Arc::clone(&key), code };
    let tx =
        Transaction::new(conn, state, audit, key).context("cannot read what the database lacks")?;
    let store = Store::start(tx, heads, folded, Arc::clone(&metrics))?;
    let reserve = Reserve::new(retention.folder.parent().unwrap_or(&retention.folder));
    let disk = Disk { store, reader: Reader::new(source.clone()), reserve, retention };
    Ok(Vault::new(disk, members, meter, metrics))
}

/// Listens on an address.
///
/// # Errors
/// If another program does, or the address is not this machine's.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|why| {
        let message = format!("cannot listen on `{addr}`: {why}");
        match why.kind() {
            ErrorKind::AddrInUse => hinted(
                format!("cannot listen on `{addr}`: another program does"),
                format!("`ss -ltnp 'sport = {}'` names it; or choose another port", addr.port()),
            ),
            ErrorKind::AddrNotAvailable => hinted(
                format!("cannot listen on `{addr}`: it is no address of this machine"),
                "`ip addr` lists them; is the VPN up?",
            ),
            ErrorKind::PermissionDenied => {
                hinted(message, "ports below 1024 need CAP_NET_BIND_SERVICE")
            }
            _ => anyhow::Error::msg(message),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_a_way_out() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = first.local_addr().unwrap();
        let fault = bind(addr).await.unwrap_err();
        assert_eq!(fault.to_string(), format!("cannot listen on `{addr}`: another program does"));
        assert!(host::hint::hint(&fault).unwrap().contains(&addr.port().to_string()));
    }
}
