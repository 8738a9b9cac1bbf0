//! Lies of a server that holds the pinned key, one test each: an alarm of its own code says so,
//! what was read before stays, and the truth is taken afterwards.

use bytes::Bytes;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::AppendRequest;

use super::hostile::world_with_one_secret;
use super::server::{Data, Server, entry, sealed};
use super::world::{World, name, path};

const OLD: &str = r#"{"k":"1"}"#;

/// Tells a machine that follows `lie`, then the truth.
async fn check(code: &str, lie: impl FnOnce(&World, &mut Data)) {
    let (world, vps) = world_with_one_secret().await;
    let seq = vps.engine.status().seq;
    lie(&world, &mut world.server.data());
    vps.until_alarm(code).await;
    assert_eq!(vps.engine.status().seq, seq, "nothing of it is believed");
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(OLD));
    world.put("secret/a", r#"{"k":"true"}"#);
    vps.until_content("secret/a", r#"{"k":"true"}"#).await;
    vps.until(|status| status.alarms.is_empty()).await;
}

/// Signs a put of `secret/a` on the server's head.
fn next(world: &World, data: &Data) -> AppendRequest {
    let (op, blob) = sealed(&data.state, &path("secret/a"), br#"{"k":"2"}"#);
    let by = Actor::Admin(name("jonas"));
    let envelope = entry(&data.state, by, &world.admin, vec![op]);
    AppendRequest { envelope, blobs: vec![blob], code: None }
}

#[tokio::test]
async fn a_withheld_entry_is_a_gap() {
    check("E_SEQ", |world, data| {
        let withheld = next(world, data);
        data.append_unsaid(withheld);
        let after = next(world, data);
        data.append_unsaid(after.clone());
        data.claim(data.state.seq() - 1, after.envelope);
    })
    .await;
}

#[tokio::test]
async fn a_replayed_entry_is_refused() {
    check("E_SEQ", |_, data| {
        let again = data.entries.last().unwrap().clone();
        data.claim(data.state.seq() + 1, again);
    })
    .await;
}

#[tokio::test]
async fn a_flipped_bit_is_refused() {
    check("E_BADSIG", |world, data| {
        let mut envelope = next(world, data).envelope;
        let middle = envelope.body.len() / 2;
        envelope.body[middle] ^= 1;
        data.claim(data.state.seq() + 1, envelope);
    })
    .await;
}

#[tokio::test]
async fn an_entry_signed_in_another_vault_is_refused() {
    let other = World::new().await;
    check("E_BADSIG", |world, data| {
        // Number and head are right and the signer is the admin, but of another vault.
        let by = Actor::Admin(name("jonas"));
        let body = entry(&data.state, by.clone(), &world.admin, Vec::new()).body;
        let purpose = Purpose::Entry(other.server.data().state.vault());
        let envelope = Envelope::sign_body(&world.admin, by, purpose, body);
        data.claim(data.state.seq() + 1, envelope);
    })
    .await;
}

#[tokio::test]
async fn a_line_that_is_no_frame_is_refused() {
    check("E_PARSE", |_, data| {
        data.say(&Bytes::from_static(b"{\"entry\":{\"envelope\":\n"));
    })
    .await;
}

#[tokio::test]
async fn a_line_without_end_is_cut_off() {
    check("E_LIMITS", |_, data| data.say(&vec![b'x'; 49 << 20].into())).await;
}

#[tokio::test]
async fn a_cut_blob_is_refused() {
    let (world, vps) = world_with_one_secret().await;
    let whole = {
        let mut data = world.server.data();
        data.inline = false;
        let AppendRequest { envelope, mut blobs, .. } = next(&world, &data);
        let Inline(whole) = blobs.remove(0);
        let cut = whole[..whole.len() - 1].to_vec();
        data.blobs.insert(Hash::of(&[&whole]), cut);
        data.append(AppendRequest { envelope, blobs, code: None }, None).unwrap();
        whole
    };
    vps.until_alarm("E_BLOB_SIZE").await;
    assert!(vps.engine.content(&path("secret/a"), None).await.is_err());
    let first = vps.engine.content(&path("secret/a"), Some(1)).await.unwrap();
    assert_eq!(first.expose(), OLD.as_bytes());
    world.server.data().blobs.insert(Hash::of(&[&whole]), whole);
    vps.until_content("secret/a", r#"{"k":"2"}"#).await;
    vps.until(|status| status.alarms.is_empty()).await;
}

#[tokio::test]
async fn a_server_with_another_key_is_not_talked_to() {
    let (world, vps) = world_with_one_secret().await;
    let genesis = world.server.data().genesis.clone();
    let stranger = Server::start(&SignKey::generate(), genesis).await;
    world.server.data().hang_up();
    vps.move_server(&stranger.address);
    vps.until_alarm("E_SERVER_PIN").await;
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(OLD));
    vps.move_server(&world.server.address);
    vps.until(|status| status.online && status.alarms.is_empty()).await;
}
