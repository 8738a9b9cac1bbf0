//! Read connections beside the writer: pages of the log and of the audit, off the writer's thread.

use std::sync::{Arc, Mutex};

use host::store::StoreFailure;

use super::source::Source;
use super::{Connection, Fault, Result};

/// Connections kept open while nobody uses them.
const KEPT: usize = 2;

/// Opens read connections and keeps a few; clones share them.
#[derive(Clone)]
pub struct Reader {
    source: Source,
    kept: Arc<Mutex<Vec<Connection>>>,
}

impl Reader {
    /// Makes a reader of the database.
    pub fn new(source: Source) -> Self {
        Self { source, kept: Arc::default() }
    }

    /// Tells whether other servers may write the database, too.
    pub const fn is_shared(&self) -> bool {
        self.source.is_shared()
    }

    /// Runs `ask` on a connection, on a thread that may block.
    pub async fn ask<T, F>(&self, ask: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let reader = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let conn = reader.connection()?;
            let answer = ask(&conn)?;
            if let Ok(mut kept) = reader.kept.lock()
                && kept.len() < KEPT
            {
                kept.push(conn);
            }
            Ok::<_, Fault>(answer)
        });
        asked.await.map_err(|_| StoreFailure::Closed)?.map_err(|error| {
            tracing::error!(%error, "nothing read");
            error.into()
        })
    }

    fn connection(&self) -> Result<Connection> {
        loop {
            let kept = self.kept.lock().ok().and_then(|mut kept| kept.pop());
            match kept {
                // One that was lost while nobody used it makes room for another.
                Some(conn) if conn.answers() => return Ok(conn),
                Some(_) => {}
                None => return self.source.open_reader(),
            }
        }
    }

    /// Closes the kept connections.
    pub async fn close(&self) {
        let kept = Arc::clone(&self.kept);
        // Some wait for an answer while they are closed.
        let closing = tokio::task::spawn_blocking(move || {
            if let Ok(mut kept) = kept.lock() {
                kept.clear();
            }
        });
        let _ = closing.await;
    }
}
