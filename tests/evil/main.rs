//! The two attackers that the design must bear: a **hostile server**, which holds the pinned key
//! and everything that was ever stored, and a **hostile member**, an active machine with raw access
//! to the protocol. Each lie and each attack is tried against sync, `kv get`, `kv put`,
//! `machine add` and `machine remove`, and no target ever differs by a byte. The book's table of
//! them is checked against these lists.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod acts;
mod attack;
mod attacks;
mod lie;
mod lies;
mod member;
mod scene;
mod server;
mod strangers;
mod table;
mod tomorrow;
