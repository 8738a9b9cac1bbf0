//! Several addresses of one server: which is taken, when another one is, and what a person reads
//! when none answers.

use std::sync::Mutex;
use std::time::Duration;

use host::raw_keys::Acceptor;
use shared::keys::SignKey;
use shared::log::Op;
use shared::wire::v1::log::AppendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::server::Server;
use super::world::{Machine, World, path};

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
    assert_eq!(vps.engine.heal(None).await.unwrap().entries, 0);
}

/// Starts a copy of the server as it is now, with its key.
async fn copy(world: &World) -> Server {
    let (genesis, entries, blobs) = {
        let data = world.server.data();
        (data.genesis.clone(), data.entries.clone(), data.blobs.clone())
    };
    let copy = Server::start(&world.server_key, genesis).await;
    let mut data = copy.data();
    for envelope in entries {
        data.append(AppendRequest { envelope, blobs: Vec::new(), code: None }, None).unwrap();
    }
    data.blobs = blobs;
    drop(data);
    copy
}

/// A way to the server that takes longer than any to another one here.
async fn far(world: &World) -> Way {
    Way::open(world, 40).await
}

fn follows(status: &machine::local::Status, address: &str) -> bool {
    status.online && status.server.as_deref() == Some(address)
}

fn old(status: &machine::local::Status) -> Option<String> {
    let alarm = status.alarms.iter().find(|alarm| alarm.code == "E_SERVER_OLD");
    alarm.map(|alarm| alarm.text.clone())
}

/// A machine that follows an old copy of the server, which has gone on meanwhile.
async fn behind(world: &World) -> (Machine, Server) {
    let vps = world.machine("vps", &["*"], &["*"]).await;
    let copy = copy(world).await;
    vps.list(&[&copy.address]);
    vps.until(|status| follows(status, &copy.address)).await;
    world.put("secret/a", r#"{"n":"1"}"#);
    (vps, copy)
}

#[tokio::test]
async fn an_old_copy_that_answers_more_quickly_is_left_for_the_server_that_is_ahead() {
    let world = World::new().await;
    let (vps, copy) = behind(&world).await;
    let way = far(&world).await;
    vps.list(&[&copy.address, &way.address]);
    vps.until(|status| follows(status, &way.address)).await;
    vps.until_content("secret/a", r#"{"n":"1"}"#).await;
    // It is named while it is there, and not followed again.
    vps.until(|status| old(status).is_some()).await;
    let text = old(&vps.engine.status()).unwrap();
    let (has, own) = (copy.data().state.seq(), world.server.data().state.seq());
    let expected = format!(
        "an old copy of the server answers at `{}`: it ends at entry {has}, the one at `{}` at \
         {own}",
        copy.address, way.address
    );
    assert!(text.starts_with(&expected) && text.contains("(hint: stop it"), "{text}");
    vps.put("secret/a", r#"{"n":"2"}"#, None).await.unwrap();
    assert_eq!(copy.data().state.seq(), has);
    vps.list(&[&way.address]);
    vps.until(|status| follows(status, &way.address) && old(status).is_none()).await;
}

#[tokio::test]
async fn a_claim_to_be_ahead_without_an_entry_is_not_followed() {
    let world = World::new().await;
    let (vps, copy) = behind(&world).await;
    // Signs where its log ends, and withholds the last entry.
    world.server.data().entries.pop();
    let way = far(&world).await;
    let asked = world.server.data().asked.len();
    vps.list(&[&copy.address, &way.address]);
    let is_asked = || world.server.data().asked.len() > asked + 2;
    while !is_asked() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(follows(&vps.engine.status(), &copy.address), "{:?}", vps.engine.status());
    assert!(world.server.data().asked[asked..].iter().all(|query| !query.contains("follow=true")));
}

#[tokio::test]
async fn two_servers_that_have_gone_apart_are_a_fork_whichever_is_followed() {
    let world = World::new().await;
    let (vps, copy) = behind(&world).await;
    vps.put("secret/b", r#"{"n":"1"}"#, None).await.unwrap();
    let way = far(&world).await;
    vps.list(&[&copy.address, &way.address]);
    vps.until_alarm("E_FORK").await;
}

#[tokio::test]
async fn addresses_of_one_server_are_asked_and_nothing_comes_of_it() {
    let world = World::new().await;
    let (near, far) = (Way::open(&world, 0).await, far(&world).await);
    let vps = world.machine("vps", &["*"], &["*"]).await;
    vps.list(&[&near.address, &far.address]);
    vps.until(|status| follows(status, &near.address)).await;
    for n in 0..50 {
        world.put("secret/a", &format!(r#"{{"n":"{n}"}}"#));
        vps.until_caught_up(&world).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let status = vps.engine.status();
        assert!(follows(&status, &near.address) && status.alarms.is_empty(), "{status:?}");
    }
}
