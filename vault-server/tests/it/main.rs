//! The server over real TLS, driven by a client of a few lines; one feature per file.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod audit;
mod client;
mod clock;
mod edge;
mod follow;
mod heal;
mod restart;
mod world;
mod write;
