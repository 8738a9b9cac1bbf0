//! systemd: the text of units, its manager, sealed credentials, and telling it how a program stands.
//! What stands in a program's unit lives with that program.

/// Telling the service manager: ready, alive, stopping.
pub mod notify;
mod systemctl;
mod unit;

pub use systemctl::{call, creds, is, line, runs, text};
pub use unit::{Found, Whose, argument, compare, lets_write, marked, percent, word};
