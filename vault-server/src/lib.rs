//! The vault's server: stores what it cannot read and orders what it cannot forge. Its layers,
//! from the bottom: `config`, `meter`, `metrics`, `store`, `datadir`, `vault`, `http`, `init`,
//! `install`, `health`, `serve`, `cli`. No code lives here.

pub mod cli;
pub mod config;
mod datadir;
mod health;
mod http;
pub mod init;
mod install;
mod meter;
mod metrics;
mod serve;
mod store;
mod vault;

pub use install::MALLOC;
pub use serve::run;
