//! The vault's server: stores what it cannot read and orders what it cannot forge. Its layers,
//! from the bottom: `config`, `meter`, `metrics`, `store`, `datadir`, `vault`, `http`, `check`,
//! `backup`, `init`, `restore`, `relocate`, `install`, `health`, `serve`, `cli`. No code is here.

mod backup;
mod check;
pub mod cli;
pub mod config;
mod datadir;
mod health;
mod http;
pub mod init;
mod install;
mod meter;
mod metrics;
mod relocate;
mod restore;
mod serve;
mod store;
mod vault;

pub use install::MALLOC;
pub use serve::run;
