//! Ports that belong to a test. No server lives here.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};

/// A port that the system has chosen, and gives to nobody else as long as this lives: it is bound,
/// without listening. A server may listen on it, end, and find it again.
#[derive(Debug)]
pub struct Port {
    _bound: OwnedFd,
    address: SocketAddr,
}

impl Port {
    /// Has the system choose one on the loopback interface.
    ///
    /// # Panics
    /// If the system has none.
    #[must_use]
    pub fn reserve() -> Self {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let bound =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .expect("a socket");
        // Servers set it too, and may then share the address with a socket that does not listen.
        sockopt::set_socket_reuseaddr(&bound, true).expect("a socket takes options");
        bind(&bound, &any).expect("a free port");
        let address = getsockname(&bound).expect("a bound socket has an address");
        let address = address.try_into().expect("an address of the internet");
        Self { _bound: bound, address }
    }

    /// Returns the address, e.g. `127.0.0.1:34567`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[test]
fn a_reserved_port_is_found_again_by_its_server_alone() {
    use std::net::{TcpListener, TcpStream};
    let port = Port::reserve();
    for _ in 0..2 {
        let server = TcpListener::bind(port.address()).unwrap();
        let _client = TcpStream::connect(port.address()).unwrap();
        assert!(TcpListener::bind(port.address()).is_err(), "one server at a time");
        drop(server.accept().unwrap());
    }
    assert!(TcpStream::connect(port.address()).is_err(), "nobody listens");
    let others: Vec<Port> = (0..500).map(|_| Port::reserve()).collect();
    assert!(others.iter().all(|other| other.address() != port.address()));
}
