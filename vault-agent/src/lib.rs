//! The agent and the command line, in the order of their layers; no code lives here.

/// The only writer of files.
pub mod files;
/// Formats of target files, and the reader of `.env` files.
pub mod render;

/// Exit codes, and the one map from errors to them.
pub mod exit;
/// What commands print.
pub mod output;

/// The local API.
pub mod api;
/// The command line.
pub mod cli;
