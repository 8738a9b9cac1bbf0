//! The other end of `vault machine add --ssh`: a host that the user can log in to. No secret
//! travels: public keys come back, programs and pins go out.

mod connection;
mod leaving;
mod probe;
mod program;
mod reached;
mod script;
mod steps;

pub use connection::Connection;
pub use leaving::{Leaving, Machine};
pub use probe::Probe;
pub use reached::{Reached, Wish, look};
pub use script::OURS;
pub use steps::{Added, Host, TargetWish};

/// The user's own ssh.
pub const SSH: &str = "ssh";
