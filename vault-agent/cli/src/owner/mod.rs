//! What only an owner may do: founding, machines, grants, the recovery kit.

pub(crate) mod absolute;
pub(crate) mod access;
pub(crate) mod admin;
mod answering;
pub(crate) mod compact;
mod first_contact;
pub(crate) mod heal;
pub(crate) mod init;
pub(crate) mod machine;
mod owning;
pub(crate) mod recover;
pub(crate) mod recovery;
mod resumable;
pub(crate) mod resume;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod signing;
pub mod ssh;
