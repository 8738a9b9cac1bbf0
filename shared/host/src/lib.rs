//! What every program of the vault needs of a Linux host, in the order of its layers; no code lives
//! here. What only one program needs lives with that program.

/// Which version the programs go by.
pub mod version;

/// The only reader of time.
pub mod clock;

/// Figures of a program, as Prometheus reads them.
pub mod exposition;

/// This process, and what others see of it.
pub mod process;
/// What ends a program that serves.
pub mod shutdown;

/// Users and groups of this host, and this user's folders.
pub mod account;

/// The only writer of files.
pub mod files;

/// A configuration that is refused: file, line, key.
pub mod config_fault;

/// Text as people see it.
pub mod shown;

/// Failures for people: text, way out, exit code.
pub mod hint;
/// Manual pages.
pub mod man;
/// How far long work has got, on a terminal.
pub mod progress;
/// Columns of text.
pub mod table;
/// The standard streams of a command.
pub mod term;

/// Log lines.
pub mod logging;

/// TLS 1.3 with raw Ed25519 keys on both sides.
pub mod raw_keys;

/// A database whose writers share commits.
#[cfg(feature = "store")]
pub mod store;

/// systemd: units, installing them, credentials, readiness.
pub mod systemd;
