//! A machine that knows the server by two addresses, say in the house and through the VPN, goes on
//! by the other one when the first dies, and needs no restart for it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tests::{Host, Port, World, bins, watch};

const SECRET: &str = "secret/app";

/// Passes everything on.
const OPEN: u8 = 0;

/// Takes connections and bytes, and passes nothing on: a network that the laptop has left.
const SILENT: u8 = 1;

/// Refuses connections.
const GONE: u8 = 2;

/// One way to the server.
struct Way {
    port: Port,
    server: String,
    state: Arc<AtomicU8>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Way {
    fn new(server: &str) -> Self {
        let way = Self {
            port: Port::reserve(),
            server: server.to_owned(),
            state: Arc::default(),
            streams: Arc::default(),
            listening: Mutex::default(),
        };
        way.listen();
        way
    }

    /// Takes connections until the way is gone.
    fn listen(&self) {
        let listener = TcpListener::bind(self.port.address()).unwrap();
        let (server, state) = (self.server.clone(), Arc::clone(&self.state));
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
                    std::thread::spawn(move || pump(from, to, &state));
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
            let _ = TcpStream::connect(self.port.address());
            self.listening.lock().unwrap().take().unwrap().join().unwrap();
        } else if before == GONE {
            self.listen();
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if state.load(Ordering::SeqCst) == OPEN && to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Waits until the machine says that it is connected by `way`.
fn connected(host: &Host, way: &Way) {
    let line = format!("{} (connected)", way.port.address());
    watch::poll(&line, || host.agent_command(&["status"]).out.contains(&line).then_some(()));
}

#[test]
fn an_agent_goes_on_by_the_other_address() {
    let world = World::new(bins!());
    let owner = world.owner("rtx1080");
    let server = world.address();
    let (house, vpn) = (Way::new(server), Way::new(server));
    let mut laptop = world.host("thinkpad");
    world.enrol(&owner, &laptop, &["*"]);
    let config = format!(
        "server = [\"{}\", \"{}\"]\n\n[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\nheader = false\n",
        house.port.address(),
        vpn.port.address(),
        laptop.env_file().display()
    );
    std::fs::File::create(laptop.state().join("agent.toml"))
        .unwrap()
        .write_all(config.as_bytes())
        .unwrap();
    laptop.start();
    let pid = laptop.agent.as_ref().unwrap().pid();
    connected(&laptop, &house);
    let arrives = |value: &str| {
        let _ = owner.vault(&["kv", "put", SECRET, &format!("A={value}")]).ok();
        watch::until(&laptop.env_file(), |text| text == format!("A={value}\n"));
    };
    arrives("house");
    house.set(GONE);
    arrives("vpn");
    connected(&laptop, &vpn);
    house.set(OPEN);
    vpn.set(GONE);
    arrives("house-again");
    connected(&laptop, &house);
    // The lid is shut at home and opened on the train: nobody says that the connection is dead.
    vpn.set(OPEN);
    house.set(SILENT);
    arrives("train");
    connected(&laptop, &vpn);
    assert_eq!(laptop.agent.as_ref().unwrap().pid(), pid, "without a restart");
}
