//! The server over real TLS, driven by a client of a few lines; one feature per file.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

mod audit;
mod bounds;
mod check;
mod checkpoint;
mod client;
mod clock;
mod clone;
mod edge;
mod epochs;
mod follow;
mod heads;
mod heal;
mod join;
mod meter;
mod neighbours;
mod owners;
mod postgres;
mod report;
mod restart;
mod restored;
mod resumed;
mod world;
mod write;
