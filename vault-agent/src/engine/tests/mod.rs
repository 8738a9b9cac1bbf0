//! Tests of the engine through its public door, against a server in the same process.

mod clock;
mod hostile;
mod lies;
mod lone;
mod naming;
mod owner;
mod reading;
mod sending;
mod server;
mod world;
mod writing;

pub(crate) use lone::Lone;
