//! The other end of `vault machine add --ssh`: a host that the user can log in to. No secret
//! travels: public keys come back, programs and pins go out.

mod connection;
mod probe;
mod program;
mod script;
mod steps;

pub use probe::Probe;
pub use script::OURS;
pub use steps::{Added, Host, TargetWish, Wish, look};

/// The user's own ssh.
pub const SSH: &str = "ssh";
