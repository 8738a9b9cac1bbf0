//! Read connections beside the writer: pages of the log and of the audit, off the writer's thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use host::store::StoreFailure;
use rusqlite::Connection;

use super::{Unavailable, schema};

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
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file: Arc::new(file), kept: Arc::default() }
    }

    /// Runs `ask` on a connection, on a thread that may block.
    ///
    /// # Errors
    /// [`Unavailable`] as SQLite says.
    pub async fn ask<T, F>(&self, ask: F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let reader = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let conn = match reader.take() {
                Some(conn) => conn,
                None => schema::open_reader(&reader.file)?,
            };
            let answer = ask(&conn)?;
            reader.keep(conn);
            Ok(answer)
        });
        let answer: rusqlite::Result<T> = asked.await.map_err(|_| Unavailable::Stopping)?;
        answer.map_err(|error| {
            tracing::error!(%error, "nothing read");
            StoreFailure::from(error).into()
        })
    }

    /// Closes the kept connections.
    pub fn close(&self) {
        if let Ok(mut kept) = self.kept.lock() {
            kept.clear();
        }
    }

    fn take(&self) -> Option<Connection> {
        self.kept.lock().ok()?.pop()
    }

    fn keep(&self, conn: Connection) {
        if let Ok(mut kept) = self.kept.lock()
            && kept.len() < KEPT
        {
            kept.push(conn);
        }
    }
}
