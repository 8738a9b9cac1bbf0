//! Tests of the engine through its public door, against a server in the same process.

mod hostile;
mod owner;
mod reading;
mod server;
mod world;
mod writing;
