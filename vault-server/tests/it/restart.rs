//! What outlives the program: after a stop, after a kill, and what a start refuses.

use std::io::Write as _;
use std::path::Path;

use shared::audit::AuditHead;
use shared::wire::v1::audit::AuditPage;
use shared::wire::v1::log::Frame;

use crate::client::Client;
use crate::world::{Running, World, make};

pub async fn log_of(client: &Client) -> Vec<shared::signed::Envelope> {
    let frames = client.page(0).await;
    frames
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Genesis(envelope) | Frame::Entry { envelope, .. } => Some(envelope),
            Frame::Head(_) | Frame::Beat => None,
        })
        .collect()
}

/// Copies a data directory as a kill would leave it: no stop, no checkpoint.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "vault.db-shm" {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_stopped_server_starts_where_it_was() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let id = world.write(&client, "secret/a", "one").await;
    let before = log_of(&client).await;
    world.server.stop().await;
    let left: Vec<_> = std::fs::read_dir(&world.config.data)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("vault.db-"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "the write-ahead log is gone");

    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    assert_eq!(log_of(&client).await, before);
    assert!(client.get(&format!("/v1/blob/{id}")).await.0.is_success());
    world.write(&client, "secret/a", "two").await;
}

#[tokio::test]
async fn a_killed_server_has_every_acknowledged_write() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let mut blobs = Vec::new();
    for n in 0..20 {
        blobs.push(world.write(&client, "secret/a", &n.to_string()).await);
    }
    let to = world.dir.path().join("killed");
    copy(&world.config.data, &to);
    let mut config = world.config.clone();
    config.data = to;
    world.write(&client, "secret/a", "after the kill").await;

    let survivor = Running::start(config).await;
    let client = Client::connect(survivor.addr, &world.server_key, &world.first.sign).await;
    let log = log_of(&client).await;
    assert_eq!(log.len(), 22, "genesis, the machine, 20 writes");
    let mut state = shared::log::start(&log[0]).unwrap();
    for envelope in &log[1..] {
        shared::log::apply(&mut state, envelope).unwrap();
    }
    for id in &blobs[10..] {
        assert!(client.get(&format!("/v1/blob/{id}")).await.0.is_success());
    }
    let page: AuditPage = client.fetch("/v1/audit").await;
    let mut head = AuditHead::EMPTY;
    for text in &page.records {
        head = head.follow(text.as_bytes()).unwrap().0;
    }
    assert_eq!(head, page.head);
    survivor.stop().await;
}

#[tokio::test]
async fn a_damaged_log_is_refused() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "one").await;
    world.server.stop().await;
    let db = rusqlite::Connection::open(world.config.data.join("vault.db")).unwrap();
    db.execute("DELETE FROM snapshot_piece", []).unwrap();
    db.execute("UPDATE log SET sig = zeroblob(64) WHERE seq = 2", []).unwrap();
    drop(db);
    let fault = Running::start(world.config.clone()).await.fault().await;
    assert!(fault.contains("entry 2 of the log is damaged: E_BADSIG"), "{fault}");
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = make(dir.path());
    let db = rusqlite::Connection::open(config.data.join("vault.db")).unwrap();
    db.pragma_update(None, "user_version", 999).unwrap();
    drop(db);
    let fault = Running::start(config).await.fault().await;
    assert!(fault.contains("has version 999, newer than this program's "), "{fault}");
}

#[tokio::test]
async fn a_snapshot_that_does_not_match_is_passed_over() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "one").await;
    world.server.stop().await;
    for damage in [
        "UPDATE snapshot_piece SET bytes = zeroblob(length(bytes))",
        "UPDATE snapshot SET head = zeroblob(32)",
        "UPDATE snapshot SET format = '0.0.0/0'",
    ] {
        let db = rusqlite::Connection::open(world.config.data.join("vault.db")).unwrap();
        assert_eq!(db.execute(damage, []).unwrap(), 1);
        drop(db);
        world.server = Running::start(world.config.clone()).await;
        let client = world.client(&world.first).await;
        world.write(&client, "secret/a", "more").await;
        world.server.stop().await;
    }
}

#[tokio::test]
async fn an_emptied_database_is_no_new_server() {
    let world = World::new().await;
    let config = world.config.clone();
    world.server.stop().await;
    std::fs::File::create(config.data.join("vault.db")).unwrap();
    let fault = Running::start(config).await.fault().await;
    assert!(fault.ends_with("holds neither a vault nor a setup code"), "{fault}");
}

#[tokio::test]
async fn a_damaged_database_is_named_once() {
    let world = World::new().await;
    let config = world.config.clone();
    world.server.stop().await;
    let file = config.data.join("vault.db");
    std::fs::File::create(&file).unwrap().write_all(&[7; 8192]).unwrap();
    let fault = Running::start(config).await.fault().await;
    assert_eq!(fault, format!("cannot use database `{}`: file is not a database", file.display()));
}
