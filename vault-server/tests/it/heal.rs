//! A server that has lost entries and blobs gets them back from any machine, and only true ones.

use hyper::StatusCode;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Op, Versions};
use shared::signed::Envelope;
use shared::wire::v1::HEAL;
use shared::wire::v1::log::{HealReply, HealRequest};

use crate::client::{Client, parse, refused};
use crate::restart::{copy, log_of};
use crate::world::{Machine, Running, World, signed};

/// A server that was set back to the founding, what it had and lost, and a reader of `secret/b`.
struct Lost {
    world: World,
    vps: Machine,
    log: Vec<Envelope>,
    /// Of `secret/a` 1 (destroyed), `secret/a` 2, `secret/b` 1.
    blobs: Vec<(Hash, Vec<u8>)>,
}

async fn lose() -> Lost {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["secret/b"]).await;
    let old = world.dir.path().join("old");
    copy(&world.config.data, &old);
    let mut blobs = Vec::new();
    for path in ["secret/a", "secret/a", "secret/b"] {
        let (op, bytes) = world.put(path, "value");
        blobs.push((op.blob().unwrap(), bytes.clone()));
        world.append(&client, world.by_first(vec![op]), vec![bytes]).await;
    }
    let path = "secret/a".parse().unwrap();
    let destroy = world.by_first(vec![Op::Destroy(Versions { path, versions: vec![1] })]);
    world.append(&client, destroy, vec![]).await;
    let log = log_of(&client).await;
    drop(client);
    world.server.stop().await;
    world.config.data = old;
    world.server = Running::start(world.config.clone()).await;
    Lost { world, vps, log, blobs }
}

async fn heal(client: &Client, entries: &[Envelope]) -> (StatusCode, hyper::body::Bytes) {
    client.post(HEAL, &HealRequest { entries: entries.to_vec() }).await
}

fn at(id: &Hash) -> String {
    format!("/v1/blob/{id}")
}

#[tokio::test]
async fn lost_entries_come_back_from_a_machine_that_wrote_none_of_them() {
    let Lost { mut world, vps, log, blobs } = lose().await;
    let client = world.client(&vps).await;
    // Genesis, the first machine, the VPS are there; what it has already is passed over.
    let (status, body) = heal(&client, &log[1..]).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let healed: HealReply = parse(&body);
    assert_eq!((healed.seq, healed.head), (world.state.seq(), world.state.head()));
    let mut wanted = healed.wanted;
    wanted.sort();
    let mut kept = vec![blobs[1].0, blobs[2].0];
    kept.sort();
    assert_eq!(wanted, kept, "not the destroyed one");
    assert_eq!(log_of(&client).await, log);

    assert_eq!(refused(client.get(&at(&blobs[2].0)).await), (404, "E_BLOB_ABSENT".to_owned()));
    for (id, bytes) in &blobs[1..] {
        assert_eq!(client.put(&at(id), bytes.clone()).await.0, StatusCode::CREATED);
    }
    assert_eq!(client.get(&at(&blobs[2].0)).await.1, blobs[2].1);
    let denied = refused(client.get(&at(&blobs[1].0)).await);
    assert_eq!(denied, (403, "E_DENIED".to_owned()), "giving back is no right to read");
    let first = world.client(&world.first).await;
    assert_eq!(first.get(&at(&blobs[1].0)).await.1, blobs[1].1);
    let again: HealReply = parse(&heal(&client, &[]).await.1);
    assert!(again.wanted.is_empty());
    world.write(&first, "secret/a", "the vault goes on").await;
}

#[tokio::test]
async fn only_true_entries_are_taken_back() {
    let Lost { world, vps, log, .. } = lose().await;
    let client = world.client(&vps).await;
    let code = |answer| refused(answer);
    let mut flipped = log[3].clone();
    flipped.body[20] ^= 1;
    assert_eq!(code(heal(&client, &[flipped]).await), (422, "E_BADSIG".to_owned()));
    assert_eq!(code(heal(&client, &log[4..]).await), (422, "E_SEQ".to_owned()), "one is missing");
    // The VPS has no right to write, whoever carries its entry.
    let mut past = shared::log::start(&log[0]).unwrap();
    for envelope in &log[1..3] {
        shared::log::apply(&mut past, envelope).unwrap();
    }
    let path = "secret/b".parse().unwrap();
    let forget = Op::Forget { path };
    let own = signed(&past, &vps.sign, &vps.actor(), vec![forget]);
    assert_eq!(code(heal(&client, &[own]).await), (422, "E_DENIED".to_owned()));
    let stranger =
        Client::connect(world.server.addr, &world.server_key, &SignKey::generate()).await;
    assert_eq!(code(heal(&stranger, &log[3..]).await), (403, "forbidden".to_owned()));
    let body = br#"{"entries":[],"entries":[]}"#.to_vec();
    let answer = client.call(hyper::Method::POST, HEAL, body.into()).await;
    assert_eq!(code(answer), (400, "bad_request".to_owned()));
    assert_eq!(log_of(&client).await, log[..3], "nothing changed");
}

#[tokio::test]
async fn a_blob_that_nobody_lost_is_only_parked() {
    let Lost { world, vps, log, blobs } = lose().await;
    let client = world.client(&vps).await;
    assert_eq!(heal(&client, &log[3..]).await.0, StatusCode::OK);
    let (destroyed, bytes) = &blobs[0];
    assert_eq!(client.put(&at(destroyed), bytes.clone()).await.0, StatusCode::CREATED);
    let first = world.client(&world.first).await;
    assert_eq!(refused(first.get(&at(destroyed)).await), (404, "E_BLOB_ABSENT".to_owned()));
}
