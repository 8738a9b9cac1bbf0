//! The database: one thread owns the write connection and commits for all who queued meanwhile;
//! one file per table. What may be written is decided in `vault`.

pub mod access;
pub mod audit;
pub mod blob;
mod block;
pub mod claim;
pub mod copy;
mod end;
mod folded;
pub mod headfile;
mod kind;
pub mod log;
mod reader;
pub mod report;
pub mod reserve;
pub mod restored;
pub mod schema;
pub mod segment;
pub mod snapshot;
mod transaction;
mod writer;

pub use host::store::checkpoint;

pub use end::{AUDIT, End, may_read_audit};
pub use reader::Reader;
pub use transaction::{Payer, Transaction, Wanted};
pub use writer::Store;

/// Turns a count or number into SQLite's integer; none comes near its end.
pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Turns SQLite's integer back.
pub fn nat(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Wraps the fault of a column that does not hold what this program writes.
pub fn damaged<E: std::error::Error + Send + Sync + 'static>(
    column: usize,
) -> impl FnOnce(E) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Text;
    move |why| rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(why))
}

/// Wraps the fault of a value that does not go into bytes.
pub fn unwritable<E: std::error::Error + Send + Sync + 'static>(why: E) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(why))
}

/// Reads a 32-byte column.
pub fn hash(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<shared::hash::Hash> {
    row.get(column).map(shared::hash::Hash::from_bytes)
}
