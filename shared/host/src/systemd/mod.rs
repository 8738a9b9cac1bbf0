//! systemd: the text of units, installing them, sealed credentials, and telling it how a program
//! stands. What is in a program's unit lives with that program.

mod credential;
mod install;
/// Telling the service manager: ready, alive, stopping.
pub mod notify;
mod shielding;
mod systemctl;
mod uninstall;
mod unit;

pub use credential::Credential;
pub use install::{HOST_UNITS, InstallFlags, Program, install};
pub use systemctl::{call, failed, runs, text};
pub use uninstall::uninstall;
pub use unit::{Whose, argument, check_names, lets_write, needs, percent, word};
