//! Tests of the engine through its public door, against a server in the same process.

mod acts;
mod audited;
mod branches;
mod clock;
mod compacted;
mod heads;
mod hostile;
mod kept;
mod lies;
mod lone;
mod naming;
mod owner;
mod presence;
mod reading;
mod reported;
mod reports;
mod review;
mod sending;
mod server;
mod shares;
mod verifying;
mod ways;
mod world;
mod writing;

pub(crate) use lone::Lone;
