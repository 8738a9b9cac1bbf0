//! The vault's server: stores what it cannot read and orders what it cannot forge. Modules in the
//! order of their layers; no code lives here.

/// The configuration file and the environment.
pub mod config;

/// Counters.
mod metrics;

/// What followers wait for.
mod watch;

/// The database.
mod store;

/// The directory of database and key.
mod datadir;

/// The rules.
mod vault;

/// Routes and connections.
mod http;

/// Making a server.
pub mod init;
/// Having systemd run the server.
pub mod install;

/// A running server.
mod serve;

/// The command line.
pub mod cli;

pub use serve::run;
