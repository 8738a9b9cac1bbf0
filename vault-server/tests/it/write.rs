//! Founding a vault, appending entries, parking blobs.

use hyper::StatusCode;
use shared::audit::Record;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::SignKey;
use shared::log::{Op, Versions};
use shared::wire::v1::GENESIS;
use shared::wire::v1::audit::AuditPage;
use shared::wire::v1::log::Frame;

use crate::client::{Client, parse, refused};
use crate::world::{Machine, World, post, signed};

#[tokio::test]
async fn the_claim_code_founds_one_vault() {
    let world = World::unfounded().await;
    let client = world.client(&world.first).await;
    let mut wrong = world.genesis.clone();
    wrong.claim = Hash::ZERO;
    assert_eq!(refused(client.post(GENESIS, &wrong).await), (403, "E_CLAIM".to_owned()));

    let other = Client::connect(world.server.addr, &world.server_key, &SignKey::generate()).await;
    let code = refused(other.post(GENESIS, &world.genesis).await);
    assert_eq!(code, (422, "E_MISSING".to_owned()), "entry 1 must add the machine that sends it");

    let mut twisted = world.genesis.clone();
    twisted.entry.body[10] ^= 1;
    assert_eq!(refused(client.post(GENESIS, &twisted).await), (422, "E_BADSIG".to_owned()));

    assert_eq!(client.post(GENESIS, &world.genesis).await.0, StatusCode::CREATED);
    let again = client.post(GENESIS, &world.genesis).await;
    assert_eq!(again.0, StatusCode::CREATED, "the answer may have been lost");
    let second = World::unfounded().await.genesis;
    assert_eq!(refused(client.post(GENESIS, &second).await), (403, "E_CLAIM".to_owned()));

    let frames = client.page(0).await;
    assert!(matches!(
        &frames[..],
        [
            Frame::Head(first),
            Frame::Genesis(_),
            Frame::Entry { .. },
            Frame::Head(last)
        ] if first.seq == 1 && first == last
    ));
}

#[tokio::test]
async fn an_entry_is_taken_once_and_a_lost_race_is_told() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let (op, bytes) = world.put("secret/a", "one");
    let envelope = world.by_first(vec![op]);
    let stale = world.by_first(vec![world.put("secret/b", "two").0]);
    world.append(&client, envelope.clone(), vec![bytes.clone()]).await;

    let (status, body) = post(&client, &envelope, vec![bytes]).await;
    assert_eq!(status, StatusCode::CREATED, "the very same bytes again");
    assert_eq!(parse::<SignedHead>(&body), world.newest(), "the very same head");
    world.write(&client, "secret/c", "three").await;
    let (status, body) = post(&client, &envelope, vec![]).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(parse::<SignedHead>(&body), world.heads[1], "also once it is no more the newest");

    let (status, body) = post(&client, &stale, vec![]).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(parse::<SignedHead>(&body), world.newest());
}

#[tokio::test]
async fn a_refused_entry_changes_nothing() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["secret/vps/"]).await;
    let remote = world.client(&vps).await;
    let (op, bytes) = world.put("secret/vps/x", "one");
    let refuse =
        async |client: &Client, envelope, blobs| refused(post(client, &envelope, blobs).await);

    let own = signed(&world.state, &vps.sign, &vps.actor(), vec![op.clone()]);
    let code = refuse(&remote, own.clone(), vec![bytes.clone()]).await;
    assert_eq!(code, (422, "E_DENIED".to_owned()), "it may not write");
    let code = refuse(&client, own, vec![bytes.clone()]).await;
    assert_eq!(code, (422, "E_ACTOR".to_owned()), "another machine's entry");
    let good = world.by_first(vec![op.clone()]);
    let code = refuse(&client, good.clone(), vec![]).await;
    assert_eq!(code, (422, "E_BLOB_ABSENT".to_owned()));
    let code = refuse(&client, good.clone(), vec![bytes.clone(), b"age".to_vec()]).await;
    assert_eq!(code, (422, "E_BLOB_HASH".to_owned()), "a blob that the entry does not bring");
    let Op::Put(mut put) = op else { unreachable!() };
    put.size += 1;
    let lying = world.by_first(vec![Op::Put(put)]);
    let code = refuse(&client, lying, vec![bytes.clone()]).await;
    assert_eq!(code, (422, "E_BLOB_SIZE".to_owned()));
    let unknown = Machine::new("nobody");
    let by = shared::name::Actor::Admin(unknown.name.clone());
    let code = refuse(&client, signed(&world.state, &unknown.sign, &by, vec![]), vec![]).await;
    assert_eq!(code, (422, "E_UNKNOWN_ACTOR".to_owned()));

    world.append(&client, good, vec![bytes]).await;
}

#[tokio::test]
async fn a_parked_blob_is_found_by_its_entry() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let (op, bytes) = world.put("secret/a", "one");
    let at = format!("/v1/blob/{}", op.blob().unwrap());
    let code = refused(client.put(&at, b"age-encryption.org/v1\n-> other".to_vec()).await);
    assert_eq!(code, (422, "E_BLOB_HASH".to_owned()));
    let plain = format!("/v1/blob/{}", Hash::of(&[b"plain"]));
    let code = refused(client.put(&plain, b"plain".to_vec()).await);
    assert_eq!(code, (422, "E_BLOB_OPEN".to_owned()), "not an age file");

    for _ in 0..2 {
        assert_eq!(client.put(&at, bytes.clone()).await.0, StatusCode::CREATED);
    }
    let code = refused(client.get(&at).await);
    assert_eq!(code, (404, "E_BLOB_ABSENT".to_owned()), "nobody's yet");
    world.append(&client, world.by_first(vec![op]), vec![]).await;
    assert_eq!(client.get(&at).await, (StatusCode::OK, bytes.into()));
}

#[tokio::test]
async fn of_what_a_machine_parks_the_newest_32_mib_stay() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let park = async |n: u8| {
        let mut bytes = b"age-encryption.org/v1\n-> ".to_vec();
        bytes.resize(1 << 20, n);
        client.put(&format!("/v1/blob/{}", Hash::of(&[&bytes])), bytes).await
    };
    for n in 0..40 {
        assert_eq!(park(n).await.0, StatusCode::CREATED, "whoever was interrupted begins anew");
    }
    assert_eq!(park(39).await.0, StatusCode::CREATED, "one that is here already");
    let file = world.config.data.join("vault.db");
    let conn = rusqlite::Connection::open(file).unwrap();
    let count = "SELECT sum(length(bytes)), min(substr(bytes, -1)) FROM blob";
    let (bytes, first): (i64, Vec<u8>) =
        conn.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((bytes, first), (32 << 20, vec![8]));
}

#[tokio::test]
async fn a_destroyed_version_is_gone() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let id = world.write(&client, "secret/a", "one").await;
    let at = format!("/v1/blob/{id}");
    assert_eq!(client.get(&at).await.0, StatusCode::OK);
    let path = "secret/a".parse().unwrap();
    let destroy = Op::Destroy(Versions { path, versions: vec![1] });
    world.append(&client, world.by_first(vec![destroy]), vec![]).await;
    assert_eq!(refused(client.get(&at).await), (404, "E_BLOB_ABSENT".to_owned()));
}

#[tokio::test]
async fn a_name_in_another_normal_form_is_not_made() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let (good, good_bytes) = world.put("secret/\u{fc}", "one");
    let (bad, bad_bytes) = world.put("secret/u\u{308}", "two");
    let entry = world.by_first(vec![good.clone(), bad]);
    let code = refused(post(&client, &entry, vec![good_bytes.clone(), bad_bytes]).await);
    assert_eq!(code, (422, "E_PATH".to_owned()));
    let page: AuditPage = client.fetch("/v1/audit?denied=true").await;
    let refused = Record::parse(page.records[0].as_bytes()).unwrap().fact;
    assert_eq!(refused.path, Some("secret/u\u{308}".parse().unwrap()), "the one that was refused");
    world.append(&client, world.by_first(vec![good]), vec![good_bytes]).await;
}
