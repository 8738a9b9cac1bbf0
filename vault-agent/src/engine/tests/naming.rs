//! Other names and other keys: what becomes of a machine that the vault calls otherwise, and of one
//! whose keys are replaced.

use shared::keys::{Identity, SignKey};
use shared::log::{MountConfig, Op, Rekey};
use shared::name::Actor;
use shared::text::Text;
use shared::token::MachineLine;
use shared::wire::v1::clone::CloneNotice;

use crate::engine::{Change, Engine, ReadError, Settings, WriteError};
use machine::identity::MachineKeys;

use super::server::Fault;
use super::world::{Machine, World, name, path, put, who};

impl World {
    fn rename(&self, machine: &str, to: &str) {
        let number = self.number(machine);
        self.act(vec![Op::MachineRename { number, to: name(to) }]);
    }
}

/// Returns a world with the machine `vps` that reads and writes everything.
async fn world() -> (World, Machine) {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &["*"]).await;
    vps.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap();
    (world, vps)
}

#[tokio::test]
async fn a_renamed_machine_goes_on_reading_and_writing() {
    let (world, vps) = world().await;
    vps.engine.settle().await.unwrap();
    world.rename("vps", "web");
    vps.until_caught_up(&world).await;
    assert_eq!(vps.engine.name(), name("web"));
    assert_eq!(vps.engine.status().machine, name("web"));
    vps.put("secret/a", r#"{"k":"2"}"#, None).await.unwrap();
    let by = world.server.data().entries.last().unwrap().by.clone();
    assert_eq!(by, Actor::Machine(name("web")));
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(r#"{"k":"2"}"#));
    vps.engine.settle().await.unwrap();
    let home = world.machine("home", &["*"], &[]).await;
    home.engine.refresh().await;
    let peers = home.engine.peers();
    let names: Vec<_> = peers.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [name("web")]);
    // And after a restart, whose pins still hold the name that it joined under.
    vps.stop().await;
    let web = world.start("vps");
    assert_eq!(web.engine.name(), name("web"), "before it has reached the server");
    web.until(|status| status.online).await;
    web.put("secret/b", "{}", None).await.unwrap();
    world.put("secret/b", r#"{"k":"3"}"#);
    web.until_content("secret/b", r#"{"k":"3"}"#).await;
    assert!(web.engine.status().alarms.is_empty());
}

#[tokio::test]
async fn another_machine_under_the_old_name_is_another_machine() {
    let (world, vps) = world().await;
    world.rename("vps", "web");
    let other = world.paths("other");
    let keys = MachineKeys::create(&other).unwrap();
    let MachineLine { name, recipient, sign, proof } = keys.line(name("vps")).unwrap();
    let (read, write) = Default::default();
    let number = world.server.data().state.due_machine();
    let new = shared::log::NewMachine { name, number, recipient, sign, proof, read, write };
    world.act(vec![Op::MachineAdd(new)]);
    vps.until_caught_up(&world).await;
    assert_eq!(vps.engine.name(), super::world::name("web"));
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(r#"{"k":"1"}"#));
    vps.put("secret/a", "{}", None).await.unwrap();
}

#[tokio::test]
async fn an_entry_left_over_from_the_old_name_is_dropped() {
    let (world, vps) = world().await;
    world.server.data().faults = vec![Fault::FailsBefore; 100];
    let late = vps.put("secret/a", r#"{"k":"late"}"#, None).await;
    assert_eq!(late, Err(WriteError::Unresolved));
    vps.stop().await;
    world.rename("vps", "web");
    world.server.data().faults.clear();
    let web = world.start("vps");
    web.until(|status| status.online).await;
    web.put("secret/b", "{}", None).await.unwrap();
    assert_eq!(web.read("secret/a").await.as_deref(), Some(r#"{"k":"1"}"#));
}

/// Replaces the keys of `machine` by those in its state directory `at`.
fn rekey(world: &World, machine: &str, keys: &MachineLine) {
    let (number, new_number) = (world.number(machine), world.server.data().state.due_machine());
    let MachineLine { recipient, sign, proof, .. } = keys.clone();
    world.act(vec![Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof })]);
}

#[tokio::test]
async fn the_old_keys_of_a_machine_are_a_strangers() {
    let (world, vps) = world().await;
    let fresh =
        MachineLine::new(name("vps"), Identity::generate().recipient(), &SignKey::generate());
    rekey(&world, "vps", &fresh.unwrap());
    vps.until_caught_up(&world).await;
    let denied = vps.engine.content(&path("secret/a"), None).await;
    assert_eq!(denied.unwrap_err(), ReadError::Denied);
    assert_eq!(vps.put("secret/a", "{}", None).await, Err(WriteError::Denied));
    world.server.data().hang_up();
    vps.until_alarm("E_UNKNOWN_ACTOR").await;
}

#[tokio::test]
async fn a_signing_key_beside_a_foreign_encryption_key_raises_an_alarm() {
    let (world, vps) = world().await;
    // The machine's own proof of another encryption key: made on a host that somebody else holds.
    let paths = world.paths("new");
    let keys = MachineKeys::create(&paths).unwrap();
    let stolen = MachineLine::new(name("vps"), Identity::generate().recipient(), &keys.sign);
    let pins = machine::identity::Pins::load(&vps.paths).unwrap().unwrap();
    pins.store(&paths).unwrap();
    vps.stop().await;
    rekey(&world, "vps", &stolen.unwrap());
    let new = world.start("new");
    new.until_alarm("E_JOIN_SUBSTITUTED").await;
    assert_eq!(new.put("secret/a", "{}", None).await, Err(WriteError::Denied));
}

/// Makes a machine's keys and pins, though no entry adds it.
fn pinned(world: &World, at: &str) -> machine::paths::Paths {
    let paths = world.paths(at);
    MachineKeys::create(&paths).unwrap();
    let pins = machine::identity::Pins {
        vault: world.server.data().state.vault(),
        server: vec![world.server_key.verify_key()],
        name: name("vps"),
        addresses: vec![world.server.address.clone()],
        checkpoint: None,
    };
    pins.store(&paths).unwrap();
    paths
}

#[tokio::test]
async fn keys_that_the_vault_never_knew_raise_an_alarm_whatever_the_server_says() {
    let (world, vps) = world().await;
    // Its line was exchanged for another as a whole, and the server is in the plot.
    pinned(&world, "nas");
    world.server.data().open = true;
    let nas = world.start("nas");
    nas.until_alarm("E_JOIN_SUBSTITUTED").await;
    let alarms = nas.engine.status().alarms;
    assert!(alarms[0].text.ends_with("no machine there has this host's signing key"), "{alarms:?}");
    assert_eq!(nas.engine.content(&path("secret/a"), None).await.unwrap_err(), ReadError::Denied);
    assert_eq!(nas.put("secret/a", "{}", None).await, Err(WriteError::Denied));
    // A machine that was in the vault is no stranger, and one that syncs is not yet one.
    vps.until_caught_up(&world).await;
    assert!(vps.engine.status().alarms.is_empty());
    // The alarm is there before the next sync, and for a one-off command.
    nas.stop().await;
    world.server.data().hang_up();
    let again = Engine::open(&world.paths("nas")).unwrap();
    assert_eq!(again.status().alarms[0].code, "E_JOIN_SUBSTITUTED");
    assert!(again.content(&path("secret/a"), None).await.is_err());
}

#[tokio::test]
async fn a_first_sync_tells_a_stranger_and_a_machine_of_other_keys_apart_from_a_member() {
    let (world, _vps) = world().await;
    pinned(&world, "nas");
    let (engine, reached) = Engine::first_sync(&world.paths("nas")).await.unwrap();
    assert!(reached.is_err() && engine.is_stranger() == Some(false));
    drop(engine);
    world.server.data().open = true;
    pinned(&world, "old");
    let (engine, reached) = Engine::first_sync(&world.paths("old")).await.unwrap();
    reached.unwrap();
    assert!(engine.is_stranger().is_none() && engine.check_own_keys().is_err());
    world.join("new", &["*"], &[]);
    let (engine, reached) = Engine::first_sync(&world.paths("new")).await.unwrap();
    reached.unwrap();
    assert!(engine.is_stranger().is_none() && engine.check_own_keys().is_ok());
    drop(engine);
    world.server.data().open = false;
    world.remove("new");
    let (engine, reached) = Engine::first_sync(&world.paths("new")).await.unwrap();
    assert!(reached.is_err() && engine.is_stranger() == Some(true), "it was one");
}

#[tokio::test]
async fn the_server_tells_of_copied_hosts_and_each_start_has_an_id_of_its_own() {
    let (world, vps) = world().await;
    let notice = |machine, at| CloneNotice {
        machine,
        addresses: ["10.8.0.2", "10.8.0.9"].map(Text::lossy),
        at: shared::time::Time::from_micros(at),
    };
    // One is of a machine that the log does not know: a server may say what it likes.
    world.server.data().reported.clones = vec![notice(1, 5), notice(77, 6)];
    vps.engine.settle().await.unwrap();
    let alarms = vps.engine.status().alarms;
    let [alarm] = &alarms[..] else { panic!("{alarms:?}") };
    assert_eq!(alarm.code, "E_CLONE");
    assert!(alarm.text.ends_with(": machine `vps` at 10.8.0.2 and at 10.8.0.9"), "{}", alarm.text);
    // It halts nothing, and ends with the news.
    vps.put("secret/a", "{}", None).await.unwrap();
    world.server.data().reported.clones.clear();
    vps.engine.settle().await.unwrap();
    assert!(vps.engine.status().alarms.is_empty());

    let runs = || {
        let asked = world.server.data().asked.clone();
        let run = |query: &String| query.split_once("run=").unwrap().1.to_owned();
        asked.iter().map(run).collect::<Vec<_>>()
    };
    world.server.data().hang_up();
    vps.until(|status| !status.online).await;
    vps.until(|status| status.online).await;
    vps.stop().await;
    world.start("vps").until(|status| status.online).await;
    let runs = runs();
    assert_eq!(runs[0].len(), 64);
    assert_eq!((runs.len(), runs[0] == runs[1], runs[1] == runs[2]), (3, true, false), "{runs:?}");
}

#[tokio::test]
async fn changes_of_one_mount_in_one_entry_follow_each_other() {
    let (world, vps) = world().await;
    let mount = || "team".parse().unwrap();
    let kept = |max_versions| Settings { max_versions: Some(max_versions), ..Settings::default() };
    let changes = vec![
        Change::Mount(mount(), kept(3)),
        Change::Mount(mount(), kept(4)),
        Change::MountDrop(mount()),
        Change::Mount(mount(), Settings { cas_required: Some(true), ..Settings::default() }),
        Change::Mount(mount(), kept(5)),
        put("team/a", "{}", Some(0)),
    ];
    vps.engine.write(who(), changes).await.unwrap();
    let config = world.server.data().state.mounts()["team"];
    assert_eq!(config, MountConfig { max_versions: 5, cas_required: true, delete_after: 0 });
}
