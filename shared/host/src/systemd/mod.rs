//! systemd: the text of units, installing them, sealed credentials, and telling it how a program
//! stands. What is in a program's unit lives with that program.

mod credential;
mod install;
mod manager;
/// Telling the service manager: ready, alive, stopping.
pub mod notify;
mod unit;

pub use credential::Credential;
pub use install::{HOST_UNITS, InstallArgs, Program, install};
pub use manager::{runs, text};
pub use unit::{Whose, argument, check_names, lets_write, percent, word};
