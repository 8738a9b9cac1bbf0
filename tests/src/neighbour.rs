//! Programs of another version: those under test, going by another one.

use std::process::Command;

/// Names the version that a program goes by.
const VERSION: &str = "VAULT_E2E_VERSION";

/// Has `command` be a program of this version, and those that it starts too.
pub(crate) fn of(command: &mut Command, version: Option<&str>) {
    if let Some(version) = version {
        command.env(VERSION, version);
    }
}

/// Goes by the version that the environment names, if it names one: first of all that a program
/// under test does.
pub fn take_version() {
    if let Ok(version) = std::env::var(VERSION) {
        host::version::go_by(version);
    }
}
