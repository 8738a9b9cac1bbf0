//! Who makes a request. Whether they are let in is decided in the other files.

use std::net::SocketAddr;

use shared::audit::{Fact, Op};
use shared::hash::Hash;
use shared::log::Number;
use shared::name::Name;
use shared::text::Text;

/// What stands in place of a machine's number for an owner on a connection by their own key, who
/// may be left without any machine: no machine ever gets so far.
pub const OWNERS: Number = i64::MAX as Number;

/// Who is at the other end of a connection, as TLS proved it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// Its address.
    pub addr: SocketAddr,
}

impl Peer {
    /// Returns the address without the port, an IPv4 one in its own form.
    pub fn ip(&self) -> Text<64> {
        Text::lossy(&self.addr.ip().to_canonical().to_string())
    }

    /// Starts the audit record of something that the peer did as nobody's machine.
    pub fn fact(&self, op: Op) -> Fact {
        let key = Text::lossy(&Hash::from_bytes(self.key).to_string());
        Fact { key: Some(key), addr: Some(self.ip()), ..Fact::new(op) }
    }

    /// Returns the peer as an owner, who has proved an owner's own key.
    pub fn owner(&self, name: &Name) -> Caller {
        Caller { number: OWNERS, name: name.clone(), key: self.key, addr: self.ip() }
    }

    /// Returns the peer as the machine that holds its key.
    pub fn named(&self, number: Number, name: &Name) -> Caller {
        Caller { number, name: name.clone(), key: self.key, addr: self.ip() }
    }
}

/// An active machine that makes a request, or an owner by their own key. Whether it still is one is
/// asked again inside the transaction.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its number: what is kept for it goes by that, as the name may change.
    pub number: Number,
    /// Its name.
    pub name: Name,
    /// Its key.
    pub key: [u8; 32],
    /// Its address, without the port.
    pub addr: Text<64>,
}

impl Caller {
    /// Tells whether it is an owner by their own key, and no machine.
    pub fn is_owner(&self) -> bool {
        self.number == OWNERS
    }

    /// Starts the audit record of something this caller did.
    pub fn fact(&self, op: Op) -> Fact {
        if self.is_owner() {
            let key = Text::lossy(&Hash::from_bytes(self.key).to_string());
            return Fact { key: Some(key), addr: Some(self.addr.clone()), ..Fact::new(op) };
        }
        Fact { machine: Some(self.name.clone()), addr: Some(self.addr.clone()), ..Fact::new(op) }
    }
}
