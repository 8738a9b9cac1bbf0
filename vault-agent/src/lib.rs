//! The agent.

/// Users and groups of this host by name.
pub mod account;
/// `agent.toml`, typed.
pub mod config;
/// Keeps every target right.
pub mod daemon;
/// The only writer of files.
pub mod files;
/// Formats of target files, and the reader of `.env` files.
pub mod render;
