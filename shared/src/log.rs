//! The one signed list of everything that ever changed: genesis, entries, the state they fold to,
//! and the one `apply` that both server and clients run (design/trust, *Records* and *apply*).

mod apply;
mod canonical;
mod checkpoint;
mod custom;
mod entry;
mod genesis;
mod machines;
mod ops;
mod owners;
mod readers;
mod roster;
mod state;
mod undo;
pub mod was;

pub use apply::{Applied, Refused, apply, attempt, start};
pub use canonical::StateReader;
pub use custom::Custom;
pub use entry::{
    Access, Address, Checkpoint, DELETE_NEVER, Entry, MetaSet, MountSet, NewMachine, Op, Put,
    Rekey, Resume, Versions,
};
pub use genesis::Genesis;
pub use owners::Owners;
pub use readers::{readers, readers_hash, recipients};
pub use roster::{Gone, Machine, Number};
pub use state::{Deletion, MountConfig, Resumed, Secret, State, Version};
pub use undo::Undo;
