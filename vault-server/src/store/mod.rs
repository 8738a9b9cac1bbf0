//! The database: one thread owns the write connection and commits for all who queued meanwhile;
//! one file per table. What may be written is decided in `vault`.

pub mod access;
pub mod audit;
pub mod blob;
mod block;
pub mod checkpoint;
pub mod claim;
#[cfg(test)]
mod conformance;
pub mod copy;
mod end;
mod folded;
#[cfg(test)]
mod fresh;
pub mod headfile;
mod kind;
pub mod log;
mod reader;
pub mod report;
pub mod reserve;
pub mod restored;
pub mod rows;
pub mod schema;
pub mod segment;
pub mod snapshot;
mod source;
mod sql;
mod transaction;
mod writer;

pub use end::{AUDIT, End, may_read_audit};
pub use reader::Reader;
pub use source::Source;
pub(crate) use sql::params;
pub use sql::{
    Connection, Fault, NONE, Result, Row, Tip, Value, damaged, hash, int, nat, unwritable,
};
pub use transaction::{Payer, Transaction, Wanted, changes_members};
pub use writer::Store;
