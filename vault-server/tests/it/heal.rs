//! A server that has lost entries and blobs gets them back from any machine, and only true ones.

use hyper::StatusCode;
use hyper::body::Bytes;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::SignKey;
use shared::log::{Op, apply, start};
use shared::name::Actor;
use shared::signed::Envelope;
use shared::wire::v1::HEAL;
use shared::wire::v1::audit::AuditPage;
use shared::wire::v1::log::{HealReply, HealRequest};

use crate::client::{Client, parse, refused};
use crate::restart::log_of;
use crate::restored::{Back, KEPT, Lost, lose};
use crate::world::{World, signed};

/// The entries that were lost.
const LOST: usize = KEPT + 2;

async fn heal(
    client: &Client,
    entries: &[Envelope],
    head: Option<SignedHead>,
) -> (StatusCode, Bytes) {
    client.post(HEAL, &HealRequest { entries: entries.to_vec(), head, code: None }).await
}

fn at(id: &Hash) -> String {
    format!("/v1/blob/{id}")
}

#[tokio::test]
async fn lost_entries_come_back_from_a_machine_that_wrote_none_of_them() {
    let Lost { mut world, vps, log, blobs, .. } = lose(Back::Database).await;
    let client = world.client(&vps).await;
    let mut frames = client.follow(KEPT as u64 + 1).await;
    assert_eq!(frames.head().await, KEPT as u64 + 1);
    // What it has already is passed over.
    let (status, body) = heal(&client, &log[1..], Some(world.newest())).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let healed: HealReply = parse(&body);
    assert_eq!((healed.head, healed.restored), (world.newest(), false));
    let mut wanted = healed.wanted;
    wanted.sort();
    let mut kept = vec![blobs[1].0, blobs[2].0];
    kept.sort();
    assert_eq!(wanted, kept, "not the destroyed one");
    assert_eq!(log_of(&client).await, log);
    for (n, head) in log[LOST..].iter().zip(&world.heads[KEPT + 1..]) {
        let (entry, blobs) = frames.entry().await;
        assert_eq!((entry.seq, blobs.len()), (head.seq, 0), "{n:?}");
        assert_eq!(frames.head().await, head.seq);
    }

    assert_eq!(refused(client.get(&at(&blobs[2].0)).await), (404, "E_BLOB_ABSENT".to_owned()));
    for (id, bytes) in &blobs[1..] {
        assert_eq!(client.put(&at(id), bytes.clone()).await.0, StatusCode::CREATED);
    }
    assert_eq!(client.get(&at(&blobs[2].0)).await.1, blobs[2].1);
    let denied = refused(client.get(&at(&blobs[1].0)).await);
    assert_eq!(denied, (403, "E_DENIED".to_owned()), "giving back is no right to read");
    let first = world.client(&world.first).await;
    assert_eq!(first.get(&at(&blobs[1].0)).await.1, blobs[1].1);
    let again: HealReply = parse(&heal(&client, &[], None).await.1);
    assert!(again.wanted.is_empty());
    world.write(&first, "secret/a", "the vault goes on").await;
}

#[tokio::test]
async fn only_an_unbroken_run_to_a_head_of_this_server_is_taken_back() {
    let Lost { world, vps, log, .. } = lose(Back::Database).await;
    let client = world.client(&vps).await;
    let newest = world.newest();
    let mut flipped = log.clone();
    flipped[LOST + 1].body[20] ^= 1;
    // The VPS has no right to write, whoever carries its entry.
    let mut past = start(&log[0]).unwrap();
    for envelope in &log[1..LOST] {
        apply(&mut past, envelope).unwrap();
    }
    let forget = Op::Forget { path: "secret/b".parse().unwrap() };
    let own = signed(&past, &vps.sign, &vps.actor(), vec![forget]);
    let foreign = newest.place().sign(&SignKey::generate(), world.state.vault()).unwrap();
    let short = &log[LOST..log.len() - 1];
    for (why, entries, head, code) in [
        ("altered", &flipped[LOST..], Some(newest), "E_BADSIG"),
        ("the first is missing", &log[LOST + 1..], Some(newest), "E_SEQ"),
        ("no right", &[own][..], Some(newest), "E_DENIED"),
        ("another key's head", &log[LOST..], Some(foreign), "E_BADSIG"),
        ("no head", &log[LOST..], None, "E_BADSIG"),
        ("it ends before the head", short, Some(newest), "E_PREV"),
        ("it ends after the head", &log[LOST..], Some(world.heads[LOST]), "E_PREV"),
    ] {
        let answer = refused(heal(&client, entries, head).await);
        assert_eq!(answer, (422, code.to_owned()), "{why}");
        assert_eq!(log_of(&client).await, log[..LOST], "{why}: all or none");
    }
    let stranger =
        Client::connect(world.server.addr, &world.server_key, &SignKey::generate()).await;
    let answer = refused(heal(&stranger, &log[LOST..], Some(newest)).await);
    assert_eq!(answer, (403, "forbidden".to_owned()));
    let body = br#"{"entries":[],"entries":[]}"#.to_vec();
    let answer = client.call(hyper::Method::POST, HEAL, body.into()).await;
    assert_eq!(refused(answer), (400, "bad_request".to_owned()));
    let first = world.client(&world.first).await;
    let page: AuditPage = first.fetch("/v1/audit?denied=true").await;
    assert_eq!(page.records.len(), 6, "each kind of refusal is on record");
    assert_eq!(heal(&client, &log[LOST..], Some(newest)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_that_only_lost_entries_list_counts_by_the_code_of_the_host() {
    let lost = lose(Back::Database).await;
    let (past, key) = (lost.past(), SignKey::generate());
    let keys = vec![lost.world.server_key.clone(), key.verify_key()];
    let by = Actor::Admin("me".parse().unwrap());
    let list = Op::ServerSet { keys, was: past.was_server() };
    let entry = signed(&past, &lost.world.admin, &by, vec![list]);
    let mut after = lost.past();
    apply(&mut after, &entry).unwrap();
    let head = Some(after.place().sign(&key, after.vault()).unwrap());
    let client = lost.first().await;
    let give = async |code| {
        let entries = vec![entry.clone()];
        client.post(HEAL, &HealRequest { entries, head, code }).await
    };
    assert_eq!(refused(give(None).await), (422, "E_BADSIG".to_owned()));
    assert_eq!(refused(give(Some(Hash::ZERO)).await), (422, "E_CLAIM".to_owned()));
    assert_eq!(log_of(&client).await.len(), LOST, "nothing is taken");
    assert_eq!(give(lost.code()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_that_lacks_nothing_takes_no_entry_this_way() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "one").await;
    let log = log_of(&client).await;
    assert_eq!(heal(&client, &log[1..], Some(world.newest())).await.0, StatusCode::OK, "known");
    let (op, _) = world.put("secret/a", "two");
    let next = world.by_first(vec![op]);
    let answer = refused(heal(&client, &[next], Some(world.newest())).await);
    assert_eq!(answer, (422, "E_MOVED".to_owned()));
    assert_eq!(log_of(&client).await, log);
}

#[tokio::test]
async fn to_ask_what_is_wanted_leaves_no_record() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let id = world.write(&client, "secret/a", "one").await;
    let (_, bytes) = client.get(&at(&id)).await;
    world.server.stop().await;
    let db = rusqlite::Connection::open(world.config.data.join("vault.db")).unwrap();
    assert_eq!(db.execute("DELETE FROM blob", []).unwrap(), 1);
    drop(db);
    world.server = crate::world::Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let before: AuditPage = client.fetch("/v1/audit").await;
    let wanted = async || -> Vec<Hash> {
        let reply: HealReply = parse(&heal(&client, &[], None).await.1);
        assert_eq!((reply.head, reply.restored), (world.newest(), false));
        reply.wanted
    };
    for _ in 0..2 {
        assert_eq!(wanted().await, [id]);
    }
    assert_eq!(client.put(&at(&id), bytes.to_vec()).await.0, StatusCode::CREATED);
    for _ in 0..3 {
        assert_eq!(wanted().await, []);
    }
    assert_eq!(client.get(&at(&id)).await.1, bytes);
    let after: AuditPage = client.fetch("/v1/audit").await;
    assert_eq!(after.head.n - before.head.n, 3, "the blob there and back, and this page");
}

#[tokio::test]
async fn a_blob_that_nobody_lost_is_only_parked() {
    let Lost { world, vps, log, blobs, .. } = lose(Back::Database).await;
    let client = world.client(&vps).await;
    assert_eq!(heal(&client, &log[LOST..], Some(world.newest())).await.0, StatusCode::OK);
    let (destroyed, bytes) = &blobs[0];
    assert_eq!(client.put(&at(destroyed), bytes.clone()).await.0, StatusCode::CREATED);
    let first = world.client(&world.first).await;
    assert_eq!(refused(first.get(&at(destroyed)).await), (404, "E_BLOB_ABSENT".to_owned()));
}
