//! The world that end-to-end tests run in: a server and machines as real processes, each with a
//! state folder of its own, on free ports, all gone when dropped. No assertion about a feature
//! lives here.

mod daemon;
mod host;
mod world;

/// File systems of a test's own.
pub mod mounts;

/// The local API, spoken to as a program would that keeps its connection open.
pub mod api;

/// Waiting for what a file holds, by its own change events.
pub mod watch;

pub use daemon::Daemon;
pub use host::{Host, Ran, files_below, run};
pub use world::{MASTER, PASSPHRASE, World, find_line, free_port};

/// Paths of the three programs under test.
#[derive(Clone, Copy, Debug)]
pub struct Bins {
    /// The command line.
    pub vault: &'static str,
    /// The server.
    pub server: &'static str,
    /// The agent.
    pub agent: &'static str,
}

/// Names the programs that Cargo has just built for this test.
#[macro_export]
macro_rules! bins {
    () => {
        $crate::Bins {
            vault: env!("CARGO_BIN_EXE_e2e-vault"),
            server: env!("CARGO_BIN_EXE_e2e-vault-server"),
            agent: env!("CARGO_BIN_EXE_e2e-vault-agent"),
        }
    };
}
