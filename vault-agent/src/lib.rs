//! The agent and the command line, in the order of their layers; no code lives here.

/// Where state, configuration and socket live.
pub mod paths;

/// The only reader of time.
pub mod clock;

/// Users and groups of this host by name.
pub mod account;
/// Bytes among the values of a secret.
pub mod binary;
/// The only writer of files.
pub mod files;
/// Formats of target files, and the reader of `.env` files.
pub mod render;

/// `agent.toml`, typed.
pub mod config;

/// The machine's keys and pins on disk.
pub mod identity;

/// The connection to the server.
pub mod remote;

/// The agent's database.
pub mod state;

/// The end-to-end encrypted client: verified sync, reads, writes.
pub mod engine;

/// Keeps every target right.
pub mod daemon;

/// Exit codes, and the one map from errors to them.
pub mod exit;
/// What commands print.
pub mod output;

/// The local API.
pub mod api;

/// Owner acts: the admin key, the recovery kit, preparing and signing.
pub mod owner;

/// The command line.
pub mod cli;

/// The program `vault-agent`.
pub mod agent;
