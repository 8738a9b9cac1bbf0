//! What only an owner may do: founding, machines, grants, the recovery kit.

pub(crate) mod absolute;
pub(crate) mod access;
pub(crate) mod heal;
pub(crate) mod init;
pub(crate) mod machine;
pub(crate) mod owning;
pub(crate) mod recovery;
/// Preparing, showing, checking and signing; the keys that sign.
pub mod signing;
mod ssh;
