//! Several addresses of one server: which is taken, when another one is, and what a person reads
//! when none answers.

use std::sync::Mutex;
use std::time::Duration;

use host::raw_keys::Acceptor;
use shared::keys::SignKey;
use shared::log::Op;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::world::{World, path};

/// A way to the server: a port that passes everything on, a little later.
struct Way {
    address: String,
    server: String,
    delay: Duration,
    running: Mutex<JoinSet<()>>,
}

impl Way {
    async fn open(world: &World, delay: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (server, delay) = (world.server.address.clone(), Duration::from_millis(delay));
        let way = Self { address, server, delay, running: Mutex::default() };
        way.listen(listener);
        way
    }

    fn listen(&self, listener: TcpListener) {
        let (server, delay) = (self.server.clone(), self.delay);
        self.running.lock().unwrap().spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(&server).await.unwrap();
                far.set_nodelay(true).unwrap();
                let ((a, b), (c, d)) = (near.into_split(), far.into_split());
                passing.spawn(pass(a, d, delay));
                passing.spawn(pass(c, b, delay));
            }
        });
    }

    /// Breaks everything off, and refuses what comes.
    async fn close(&self) {
        let mut running = std::mem::take(&mut *self.running.lock().unwrap());
        running.shutdown().await;
    }

    async fn open_again(&self) {
        self.listen(TcpListener::bind(&self.address).await.unwrap());
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(delay).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_quicker_way_is_taken_left_when_it_goes_and_taken_again() {
    let world = World::new().await;
    let (lan, vpn) = (Way::open(&world, 0).await, Way::open(&world, 30).await);
    let vps = world.machine("vps", &["*"], &["*"]).await;
    // The order is that of a person who thought of the VPN first.
    vps.list(&[&vpn.address, &lan.address]);
    let by = async |way: &Way| {
        vps.until(|status| status.online && status.server.as_ref() == Some(&way.address)).await;
    };
    by(&lan).await;
    lan.close().await;
    by(&vpn).await;
    // Writes go on while the better way comes back: none is lost, and none is made twice.
    lan.open_again().await;
    let mut written = 0;
    while written < 10 || vps.engine.status().server.as_ref() != Some(&lan.address) {
        written += 1;
        vps.put("secret/a", &format!(r#"{{"n":"{written}"}}"#), None).await.unwrap();
        assert!(written < 5000, "it stays on the longer way");
    }
    by(&lan).await;
    let newest = world.server.data().state.secret(&path("secret/a")).unwrap().current().unwrap().0;
    assert_eq!(newest, written);
    let last = format!(r#"{{"n":"{written}"}}"#);
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(last.as_str()));
    assert!(vps.engine.status().alarms.is_empty());
}

#[tokio::test]
async fn a_way_that_hangs_costs_the_others_nothing() {
    let world = World::new().await;
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = hangs.local_addr().unwrap().to_string();
    let way = Way::open(&world, 0).await;
    let vps = world.machine("vps", &["*"], &[]).await;
    vps.list(&[&hung, &way.address]);
    vps.until(|status| status.online && status.server.as_ref() == Some(&way.address)).await;
}

#[tokio::test]
async fn a_wrong_key_is_an_alarm_while_it_is_listed_and_stops_no_other() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stranger = listener.local_addr().unwrap().to_string();
    let acceptor = Acceptor::new(&SignKey::generate(), Duration::from_secs(10)).unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(socket).await;
        }
    });
    let vps = world.machine("vps", &["*"], &[]).await;
    vps.list(&[&stranger, &world.server.address]);
    let is_alarm = |status: &machine::local::Status| {
        status.alarms.iter().any(|alarm| alarm.code == "E_SERVER_PIN")
    };
    vps.until(|status| status.online && is_alarm(status)).await;
    vps.list(&[&world.server.address]);
    vps.until(|status| status.online && !is_alarm(status)).await;
}

#[tokio::test]
async fn what_the_owners_have_signed_is_sought_too_and_errors_name_all() {
    let world = World::new().await;
    let (old, new) = (Way::open(&world, 0).await, Way::open(&world, 0).await);
    let vps = world.machine("vps", &["*"], &[]).await;
    vps.list(&[&old.address]);
    vps.until(|status| status.online && status.server.as_ref() == Some(&old.address)).await;
    let was = world.server.data().state.was_addresses();
    world.act(vec![Op::AddressesSet { addresses: vec![new.address.parse().unwrap()], was }]);
    vps.until_caught_up(&world).await;
    old.close().await;
    vps.until(|status| status.online && status.server.as_ref() == Some(&new.address)).await;
    new.close().await;
    // Another try changes nothing that somebody waits for.
    let mut trouble = String::new();
    while trouble.lines().count() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        trouble = vps.engine.status().trouble.unwrap_or_default();
    }
    let line = |way: &Way| trouble.lines().any(|line| line.contains(way.address.as_str()));
    assert!(line(&old) && line(&new), "{trouble}");
    // The owners' way out goes by the pinned address, should all others be wrong.
    assert_eq!(vps.engine.heal().await.unwrap().entries, 0);
}
