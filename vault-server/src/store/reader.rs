//! Read connections beside the writer: pages of the log and of the audit, off the writer's thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use host::store::StoreFailure;
use rusqlite::Connection;

use super::schema;

/// Connections kept open while nobody uses them.
const KEPT: usize = 2;

/// Opens read connections and keeps a few; clones share them.
#[derive(Clone)]
pub struct Reader {
    file: Arc<PathBuf>,
    kept: Arc<Mutex<Vec<Connection>>>,
}

impl Reader {
    /// Makes a reader of the database.
    pub fn new(file: PathBuf) -> Self {
        Self { file: Arc::new(file), kept: Arc::default() }
    }

    /// Runs `ask` on a connection, on a thread that may block.
    pub async fn ask<T, F>(&self, ask: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let reader = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let kept = reader.kept.lock().ok().and_then(|mut kept| kept.pop());
            let conn = kept.map_or_else(|| schema::open_reader(&reader.file), Ok)?;
            let answer = ask(&conn)?;
            if let Ok(mut kept) = reader.kept.lock()
                && kept.len() < KEPT
            {
                kept.push(conn);
            }
            Ok::<_, rusqlite::Error>(answer)
        });
        asked.await.map_err(|_| StoreFailure::Closed)?.map_err(|error| {
            tracing::error!(%error, "nothing read");
            error.into()
        })
    }

    /// Closes the kept connections.
    pub fn close(&self) {
        if let Ok(mut kept) = self.kept.lock() {
            kept.clear();
        }
    }
}
