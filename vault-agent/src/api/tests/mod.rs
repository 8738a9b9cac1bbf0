//! The whole API, asked as clients ask: one line per case of what the reference and real clients
//! demand. What a single module decides is tested beside it.

mod access;
mod bridge;
mod hostile;
mod kv;
mod metadata;
mod products;
mod reasons;
mod system;
mod wire;
mod world;

pub(super) use world::World;
