//! The hostile server: it holds the pinned key and everything that was ever stored, and lies. Every
//! lie is told to a real agent and has to end in an alarm of its own code, with the target as it
//! was.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lies;
mod scene;
mod server;
