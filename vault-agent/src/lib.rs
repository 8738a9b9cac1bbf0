//! The agent and the command line, in the order of their layers; no code lives here.

/// Where state, configuration and socket live.
pub mod paths;

/// The only reader of time.
pub mod clock;

/// The machine's keys and pins on disk.
pub mod identity;

/// The connection to the server.
pub mod remote;

/// The agent's database.
pub mod state;

/// The end-to-end encrypted client: verified sync, reads, writes.
pub mod engine;

/// The local API.
pub mod api;

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
