//! The other end of `vault machine add --ssh`: a host that the user can log in to, or this one. No
//! secret travels: public keys come back, programs and pins go out.

mod connection;
mod leaving;
mod probe;
mod program;
mod reached;
mod script;
mod steps;
mod tunnel;

pub use connection::Connection;
pub use leaving::{Leaving, Machine, seek};
pub use probe::Probe;
pub use reached::{Joined, Reached, Standing, Wish, ask, look};
pub use script::OURS;
pub use steps::{Added, Host, Start, TargetWish};
pub use tunnel::Tunnel;

/// The user's own ssh.
pub const SSH: &str = "ssh";
