//! The database: one thread owns the write connection and commits for all who queued meanwhile;
//! one file per table. What may be written is decided in `vault`.

/// Local reads each machine has shipped.
pub mod access;
/// The audit chain.
pub mod audit;
/// Age files, parked or referenced.
pub mod blob;
/// The one-time claim code.
pub mod claim;
/// Genesis and entries.
pub mod log;
/// Connections beside the writer.
pub mod reader;
/// Latest report of every machine.
pub mod report;
/// Opening and migrating.
pub mod schema;
/// The folded state, to start from.
pub mod snapshot;
/// What a queued piece of work operates on.
pub mod transaction;
/// The thread that owns the write connection.
pub mod writer;

use host::store::StoreFailure;

pub use reader::Reader;
pub use transaction::Transaction;
pub use writer::Store;

/// Why nothing was written; the details are in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No space left for the database.
    #[error("the server's disk is full")]
    Full,
    /// The database refused.
    #[error("the server's database failed")]
    Failed,
    /// The program is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl From<StoreFailure> for Unavailable {
    fn from(why: StoreFailure) -> Self {
        match why {
            StoreFailure::Full => Self::Full,
            StoreFailure::Failed(_) => Self::Failed,
            StoreFailure::Closed => Self::Stopping,
        }
    }
}

/// Turns a count or number into SQLite's integer; none comes near its end.
#[must_use]
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Turns SQLite's integer back.
#[must_use]
pub fn nat(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Wraps a value that is not what this program writes.
pub(crate) fn damaged(why: shared::error::Error) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Text;
    rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(why))
}

/// Reads a 32-byte column.
///
/// # Errors
/// If it has another length.
pub fn hash(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<shared::hash::Hash> {
    row.get(column).map(shared::hash::Hash::from_bytes)
}
