//! The world that end-to-end tests run in: a server and machines as real processes, each with a
//! state folder of its own, on a port of its own, all gone when dropped. No assertion about a
//! feature lives here.

/// Ports that belong to a test.
mod port;

/// The local API, spoken to as a program would that keeps its connection open.
pub mod api;

/// Waiting for what a file holds, by its own change events.
pub mod watch;

/// Namespaces of a test's own.
pub mod namespaces;

/// File systems of a test's own.
pub mod mounts;

/// The programs under test.
mod program;

/// Programs of another version.
mod neighbour;

/// A container as the network sees it.
pub mod container;

/// A daemon as a real process.
mod daemon;

/// A machine.
mod host;

/// An admin's own hand.
mod admin;

/// Where a server keeps its vault.
mod database;

/// A server and its machines.
mod world;

pub use admin::{admin_key, signed_by_admin};
pub use daemon::Daemon;
pub use host::{Host, PASSPHRASE, files_below};
pub use neighbour::take_version;
pub use port::Port;
pub use program::{Bins, Ran, executable, run, script};
pub use world::{Kept, MASTER, World, find_line};
