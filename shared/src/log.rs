//! The one signed list of everything that ever changed: genesis, entries, the state they fold to,
//! and the one `apply` that both server and clients run (design/trust, *Records* and *apply*).

mod apply;
mod entry;
mod genesis;
mod ops;
mod readers;
mod state;
mod undo;

pub use apply::{Applied, Refused, apply, attempt, start};
pub use entry::{Access, DELETE_NEVER, Entry, MetaSet, MountSet, NewMachine, Op, Put, Versions};
pub use genesis::Genesis;
pub use readers::{readers, readers_hash, recipients};
pub use state::{Deletion, Machine, MountConfig, Secret, State, Version};
pub use undo::Undo;
