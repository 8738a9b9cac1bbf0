//! A machine that knows the server by two addresses, say in the house and through the VPN, takes
//! the quicker one, goes on by the other one when it dies, comes back, and needs no restart for it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tests::{Host, Port, World, bins, namespaces, run, watch};

const SECRET: &str = "secret/app";

/// Passes everything on.
const OPEN: u8 = 0;

/// Takes connections and bytes, and passes nothing on: a network that the laptop has left.
const SILENT: u8 = 1;

/// Refuses connections.
const GONE: u8 = 2;

/// How much later the VPN passes on what comes.
const VPN: Duration = Duration::from_millis(40);

/// One way to the server.
struct Way {
    address: SocketAddr,
    server: String,
    delay: Duration,
    state: Arc<AtomicU8>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Way {
    fn new(address: SocketAddr, server: &str, delay: Duration) -> Self {
        let way = Self {
            address,
            server: server.to_owned(),
            delay,
            state: Arc::default(),
            streams: Arc::default(),
            listening: Mutex::default(),
        };
        way.listen();
        way
    }

    /// Takes connections until the way is gone.
    fn listen(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        let (server, state, delay) = (self.server.clone(), Arc::clone(&self.state), self.delay);
        let streams = Arc::clone(&self.streams);
        let listening = std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if state.load(Ordering::SeqCst) == GONE {
                    return;
                }
                let far = TcpStream::connect(&server).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || pump(from, to, &state, delay));
                }
                streams.lock().unwrap().extend([near, far]);
            }
        });
        *self.listening.lock().unwrap() = Some(listening);
    }

    fn set(&self, state: u8) {
        let before = self.state.swap(state, Ordering::SeqCst);
        if state == GONE {
            for stream in self.streams.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            // Wakes the listener, which sees that it is over.
            let _ = TcpStream::connect(self.address);
            self.listening.lock().unwrap().take().unwrap().join().unwrap();
        } else if before == GONE {
            self.listen();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is how far away the server is")]
fn late(delay: Duration) {
    std::thread::sleep(delay);
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8, delay: Duration) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !delay.is_zero() {
            late(delay);
        }
        if state.load(Ordering::SeqCst) == OPEN && to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Waits until the machine says that it is connected by `way`.
fn connected(host: &Host, way: &Way) {
    let line = format!("{} (connected)", way.address);
    watch::poll(&line, || host.agent_command(&["status"]).out.contains(&line).then_some(()));
}

/// A laptop that knows the ways in this order, and the machine on which secrets are written.
fn laptop(world: &World, ways: [&Way; 2]) -> (Host, Host) {
    let owner = world.owner("rtx1080");
    let mut laptop = world.host("thinkpad");
    world.enrol(&owner, &laptop, &["*"]);
    let config = format!(
        "server = [\"{}\", \"{}\"]\n\n[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\nheader = false\n",
        ways[0].address,
        ways[1].address,
        laptop.env_file().display()
    );
    std::fs::File::create(laptop.state().join("agent.toml"))
        .unwrap()
        .write_all(config.as_bytes())
        .unwrap();
    laptop.start();
    (owner, laptop)
}

/// Writes the secret, and waits until the laptop has it.
fn arrives(owner: &Host, laptop: &Host, value: &str) {
    let _ = owner.vault(&["kv", "put", SECRET, &format!("A={value}")]).ok();
    watch::until(&laptop.env_file(), |text| text == format!("A={value}\n"));
}

#[test]
fn an_agent_goes_on_by_the_other_address_and_comes_back() {
    let world = World::new(bins!());
    let (one, two) = (Port::reserve(), Port::reserve());
    let house = Way::new(one.address(), world.address(), Duration::ZERO);
    let vpn = Way::new(two.address(), world.address(), VPN);
    // Whoever wrote this was on the road.
    let (owner, laptop) = laptop(&world, [&vpn, &house]);
    let pid = laptop.agent.as_ref().unwrap().pid();
    connected(&laptop, &house);
    arrives(&owner, &laptop, "house");
    house.set(GONE);
    arrives(&owner, &laptop, "vpn");
    connected(&laptop, &vpn);
    house.set(OPEN);
    connected(&laptop, &house);
    arrives(&owner, &laptop, "house-again");
    // The lid is shut at home and opened on the train: nobody says that the connection is dead.
    house.set(SILENT);
    arrives(&owner, &laptop, "train");
    connected(&laptop, &vpn);
    assert_eq!(laptop.agent.as_ref().unwrap().pid(), pid, "without a restart");
}

#[test]
fn a_change_of_the_network_is_noticed_before_the_connection_is_dead() {
    namespaces::own(&["--net"], || {
        let ip = |line: &str| {
            let _ = run(Command::new("ip").args(line.split(' ')), "").ok();
        };
        ip("link set lo up");
        for (link, address) in [("lan0", "192.168.17.1/24"), ("wg0", "10.8.0.3/24")] {
            ip(&format!("link add {link} type bridge"));
            ip(&format!("address add {address} dev {link}"));
            ip(&format!("link set {link} up"));
        }
        let world = World::new(bins!());
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        let house = Way::new(at("192.168.17.1:8443"), world.address(), Duration::ZERO);
        let vpn = Way::new(at("10.8.0.3:8443"), world.address(), VPN);
        let (owner, laptop) = laptop(&world, [&vpn, &house]);
        connected(&laptop, &house);
        ip("address del 192.168.17.1/24 dev lan0");
        connected(&laptop, &vpn);
        arrives(&owner, &laptop, "road");
        ip("address add 192.168.17.1/24 dev lan0");
        connected(&laptop, &house);
        arrives(&owner, &laptop, "home");
        let log = laptop.agent.as_ref().unwrap().log();
        assert!(log.matches("the network has changed").count() >= 2, "{log}");
        // From one connection to the other, never without one.
        assert_eq!(log.matches("a better way").count(), 2, "{log}");
        assert!(!log.contains("disconnected"), "{log}");
    });
}
