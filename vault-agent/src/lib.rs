//! The agent.

/// Users and groups of this host by name.
pub mod account;
/// The only writer of files.
pub mod files;
/// Formats of target files, and the reader of `.env` files.
pub mod render;
