//! Hearing of what other servers wrote. A notice only wakes: it may get lost, so the database is
//! also asked once a second, and where log and audit chain end is read from the table.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};
use postgres::fallible_iterator::FallibleIterator as _;
use tokio::sync::mpsc;

use super::super::fault::Fault;
use super::super::value::nat;
use super::session::{CHANNEL, Postgres};
use super::target::Target;

/// How often the database is asked, whether a notice came or not.
const EVERY: Duration = Duration::from_secs(1);

/// Ends the thread that listens, once dropped.
pub struct Listener {
    _stop: Sender<()>,
}

/// Listens on a connection of its own; `wake` gets the numbers of the last entry and the last audit
/// record whenever they have changed.
///
/// # Errors
/// If the thread cannot be started.
pub fn listen(target: Arc<Target>, wake: mpsc::Sender<(u64, u64)>) -> Result<Listener> {
    let (_stop, stop) = channel();
    std::thread::Builder::new()
        .name("listen".to_owned())
        .spawn(move || {
            // The writer's lines in the log tell that the database is not reached.
            while let Err(why) = hear(&target, &wake, &stop) {
                tracing::debug!(%why, "not listening");
                if stop.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })
        .context("cannot start the thread that listens")?;
    Ok(Listener { _stop })
}

/// Hears until it is to stop.
fn hear(
    target: &Arc<Target>,
    wake: &mpsc::Sender<(u64, u64)>,
    stop: &Receiver<()>,
) -> Result<(), Fault> {
    let conn = Postgres::connect(target)?;
    // Listens first: what is written after the look makes a notice.
    conn.batch(&format!("LISTEN {CHANNEL}"))?;
    let mut known = None;
    while stop.try_recv() == Err(TryRecvError::Empty) {
        let ends = conn.first("SELECT coalesce(seq, 0), audit_n FROM head", &[], |row| {
            Ok((row.get::<i64>(0)?, row.get::<i64>(1)?))
        })?;
        if ends != known
            && let Some((seq, n)) = ends
            // One that waits may tell of less: what finds no room is told again.
            && wake.try_send((nat(seq), nat(n))).is_ok()
        {
            known = ends;
        }
        conn.run(|client| {
            let mut notices = client.notifications();
            let came = notices.timeout_iter(EVERY).next()?.is_some();
            // All that came meanwhile is one look.
            while came && notices.iter().next()?.is_some() {}
            Ok(())
        })?;
    }
    Ok(())
}
