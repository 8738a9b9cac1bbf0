//! What a hostile or broken server sends: everything stays, an alarm says why.

use std::collections::BTreeSet;

use shared::blob::{Kind, Place, seal};
use shared::log::{self, Op, Put};
use shared::name::Actor;
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::AppendRequest;

use machine::local::Unreadable;

use crate::engine::{Engine, Latest, ReadError, WriteError};

use super::server::{entry, sealed};
use super::world::{Machine, World, name, path};

pub(super) async fn world_with_one_secret() -> (World, Machine) {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &["*"]).await;
    world.put("secret/a", r#"{"k":"1"}"#);
    vps.until_content("secret/a", r#"{"k":"1"}"#).await;
    (world, vps)
}

async fn check_stays(vps: &Machine, seq: u64) {
    assert_eq!(vps.engine.status().seq, seq);
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(r#"{"k":"1"}"#));
}

/// Takes the server back to before its last entry, as a restored copy would be.
pub(super) fn set_back(world: &World) {
    let mut data = world.server.data();
    data.entries.pop();
    let mut past = log::start(&data.genesis).unwrap();
    for entry in &data.entries {
        log::apply(&mut past, entry).unwrap();
    }
    data.state = past;
    data.hang_up();
}

#[tokio::test]
async fn a_server_that_lost_entries_is_behind_until_it_is_healed() {
    let (world, vps) = world_with_one_secret().await;
    world.server.data().blobs.clear();
    set_back(&world);
    vps.until_alarm("E_SERVER_BEHIND").await;
    check_stays(&vps, 2).await;
    assert!(!vps.engine.status().online);
    let stopped = vps.put("secret/b", "{}", None).await.unwrap_err();
    assert!(matches!(stopped, WriteError::Offline { .. }), "changes fail closed");

    let healed = vps.engine.heal(None).await.unwrap();
    assert_eq!((healed.entries, healed.blobs, healed.absent), (1, 1, vec![]));
    vps.until(|status| status.online && status.alarms.is_empty()).await;
    vps.put("secret/b", "{}", None).await.unwrap();
    let again = vps.engine.heal(None).await.unwrap();
    assert_eq!((again.entries, again.blobs), (0, 0));
}

#[tokio::test]
async fn an_earlier_version_that_lies_here_is_given_back_too() {
    let (world, vps) = world_with_one_secret().await;
    let first = BTreeSet::from([(path("secret/a"), 1)]);
    assert!(vps.engine.retain(first).await.unwrap());
    vps.put("secret/a", r#"{"k":"2"}"#, None).await.unwrap();
    vps.put("secret/a", r#"{"k":"3"}"#, None).await.unwrap();
    world.server.data().blobs.clear();

    let healed = vps.engine.heal(None).await.unwrap();
    let lost = [Unreadable { path: path("secret/a"), ver: 2 }];
    assert_eq!((healed.blobs, healed.absent.as_slice()), (2, lost.as_slice()));
}

#[tokio::test]
async fn a_server_that_went_another_way_is_not_healed() {
    let (world, vps) = world_with_one_secret().await;
    set_back(&world);
    vps.until_alarm("E_SERVER_BEHIND").await;
    world.put("secret/a", r#"{"k":"another"}"#);
    let refused = format!("{:#}", vps.engine.heal(None).await.unwrap_err());
    assert!(refused.starts_with("E_FORK: the server signed entry 2 as "), "{refused}");
    check_stays(&vps, 2).await;
}

/// Appends a version whose blob is what `make` says; the log's facts are true of it.
fn append_blob(world: &World, bytes: &[u8], commit: shared::hash::Hash, sent: Vec<u8>) {
    let mut data = world.server.data();
    let at = path("secret/a");
    let blob = shared::hash::Hash::of(&[bytes]);
    let put = Put {
        path: at.clone(),
        ver: data.state.due_version(&at),
        blob,
        size: bytes.len() as u64,
        commit,
        readers: log::readers_hash(&data.state, &at),
    };
    let by = Actor::Admin(name("jonas"));
    let envelope = entry(&data.state, by, &world.admin, vec![Op::Put(put)]);
    data.append(AppendRequest { envelope, blobs: vec![Inline(sent.clone())], code: None }, None)
        .unwrap();
    data.blobs.insert(blob, sent);
}

#[tokio::test]
async fn a_wrong_blob_is_refused_and_had_when_it_is_right() {
    let (world, vps) = world_with_one_secret().await;
    let (good, commit) = {
        let data = world.server.data();
        let (op, blob) = sealed(&data.state, &path("secret/a"), b"{}");
        let Op::Put(put) = op else { panic!("a put") };
        (blob.0, put.commit)
    };
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    append_blob(&world, &good, commit, bad);
    vps.until_alarm("E_BLOB_HASH").await;
    let refused = vps.engine.content(&path("secret/a"), None).await.unwrap_err();
    assert!(matches!(refused, ReadError::Blob(_)), "{refused:?}");
    let first = vps.engine.content(&path("secret/a"), Some(1)).await.unwrap();
    assert_eq!(first.expose(), br#"{"k":"1"}"#);
    world.server.data().blobs.insert(shared::hash::Hash::of(&[&good]), good);
    assert_eq!(vps.read("secret/a").await.as_deref(), Some("{}"));
    assert!(vps.engine.status().alarms.is_empty());
}

#[tokio::test]
async fn a_blob_made_for_another_place_is_refused() {
    let (world, vps) = world_with_one_secret().await;
    let sealed = {
        let data = world.server.data();
        let (vault, other) = (data.state.vault(), path("secret/other"));
        let place = Place { vault: &vault, path: &other, ver: 2 };
        seal(place, Kind::Kv, b"{}", &log::recipients(&data.state, &other)).unwrap()
    };
    append_blob(&world, &sealed.bytes, sealed.commit, sealed.bytes.clone());
    vps.until_alarm("E_BLOB_CONTEXT").await;
    assert!(vps.engine.content(&path("secret/a"), None).await.is_err());
    let first = vps.engine.content(&path("secret/a"), Some(1)).await.unwrap();
    assert_eq!(first.expose(), br#"{"k":"1"}"#);
}

/// Appends a version of `secret/a` whose blob was made for another place.
fn append_misplaced(world: &World) {
    let sealed = {
        let data = world.server.data();
        let (vault, other) = (data.state.vault(), path("secret/other"));
        let place = Place { vault: &vault, path: &other, ver: 2 };
        seal(place, Kind::Kv, b"{}", &log::recipients(&data.state, &other)).unwrap()
    };
    append_blob(world, &sealed.bytes, sealed.commit, sealed.bytes.clone());
}

#[tokio::test]
async fn a_blob_that_does_not_open_takes_nothing_from_the_disk() {
    let at = path("secret/a");
    for inline in [true, false] {
        let (world, vps) = world_with_one_secret().await;
        world.server.data().inline = inline;
        append_misplaced(&world);
        vps.until_alarm("E_BLOB_CONTEXT").await;
        append_misplaced(&world);
        vps.until_caught_up(&world).await;
        assert!(matches!(vps.engine.latest(&at), Latest::Version { ver: 3, .. }));
        let paths = vps.stop().await;

        let alone = Engine::open(&paths).unwrap();
        assert_eq!(alone.latest(&at), Latest::Version { ver: 3, ready: true }, "to be tried");
        let newest = alone.content(&at, None).await.unwrap_err();
        assert!(matches!(newest, ReadError::Offline { ver: 3, .. }), "{newest:?}");
        let good = alone.last_good(&at).await.unwrap();
        assert_eq!((good.ver, good.expose()), (1, &br#"{"k":"1"}"#[..]));
        assert_eq!(alone.content(&at, Some(1)).await.unwrap().ver, 1);
        drop(alone);

        // What opens takes its place.
        let vps = world.start("vps");
        vps.until_alarm("E_BLOB_CONTEXT").await;
        world.put("secret/a", r#"{"k":"4"}"#);
        vps.until_content("secret/a", r#"{"k":"4"}"#).await;
        vps.until(|status| status.alarms.is_empty()).await;
        let kept = vps.engine.last_good(&at).await.unwrap();
        assert_eq!((kept.ver, kept.expose()), (4, &br#"{"k":"4"}"#[..]));
    }
}

#[tokio::test]
async fn the_last_good_version_goes_when_it_is_destroyed() {
    let (world, vps) = world_with_one_secret().await;
    let at = path("secret/a");
    append_misplaced(&world);
    vps.until_alarm("E_BLOB_CONTEXT").await;
    assert_eq!(vps.engine.last_good(&at).await.unwrap().ver, 1);
    world.act(vec![Op::Destroy(log::Versions { path: at.clone(), versions: vec![1] })]);
    vps.until_caught_up(&world).await;
    assert!(vps.engine.last_good(&at).await.is_none());
    let paths = vps.stop().await;
    let conn = rusqlite::Connection::open(paths.database()).unwrap();
    let left: i64 = conn.query_row("SELECT count(*) FROM blob", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_blob_for_other_readers_than_the_log_says_is_refused() {
    let (world, vps) = world_with_one_secret().await;
    let sealed = {
        let data = world.server.data();
        let (vault, at) = (data.state.vault(), path("secret/a"));
        let mut recipients = log::recipients(&data.state, &at);
        recipients.push(shared::keys::Identity::generate().recipient());
        let place = Place { vault: &vault, path: &at, ver: 2 };
        seal(place, Kind::Kv, b"{}", &recipients).unwrap()
    };
    append_blob(&world, &sealed.bytes, sealed.commit, sealed.bytes.clone());
    vps.until_alarm("E_BLOB_STANZAS").await;
}

#[tokio::test]
async fn a_removed_machine_is_told_so() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.remove("vps");
    world.server.data().hang_up();
    vps.until_alarm("E_UNKNOWN_ACTOR").await;
}
