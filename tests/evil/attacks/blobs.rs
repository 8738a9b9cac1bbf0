//! Attacks by ciphertext, asked for and left behind.

use bytes::Bytes;
use hyper::Method;
use shared::hash::Hash;
use shared::log::Op;
use shared::wire::v1::BLOB;

use super::attack::{Attack, check};
use super::member::{Member, Raw};

async fn park(member: &Member, raw: &Raw, id: Hash, bytes: Vec<u8>) {
    member.send(raw, Method::PUT, &format!("{BLOB}{id}"), bytes).await;
}

/// Makes an age file of a megabyte that nobody can open.
fn junk(n: u32) -> Vec<u8> {
    let mut bytes = b"age-encryption.org/v1\n-> X25519 ".to_vec();
    bytes.extend(n.to_le_bytes());
    bytes.resize(1 << 20, b'x');
    bytes
}

pub const ATTACKS: &[Attack] = &[
    Attack::new("a secret that it may not read", "E_DENIED", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let ops = view.log[1..].iter().map(|one| one.parse::<shared::log::Entry>().unwrap());
            let ids: Vec<Hash> =
                ops.flat_map(|entry| entry.ops).filter_map(|op| Op::blob(&op)).collect();
            for id in ids {
                member.send(&raw, Method::GET, &format!("{BLOB}{id}"), Bytes::new()).await;
            }
        })
    }),
    Attack::new("blobs that are not there, without end", "E_BLOB_ABSENT", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            for n in 0..1_000_u32 {
                let id = Hash::of(&[&n.to_le_bytes()]);
                member.send(&raw, Method::GET, &format!("{BLOB}{id}"), Bytes::new()).await;
            }
        })
    }),
    Attack::borne("blobs that no entry brings", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            for n in 0..40 {
                let bytes = junk(n);
                park(member, &raw, Hash::of(&[&bytes]), bytes).await;
            }
        })
    }),
    Attack::new("a blob that is no age file", "E_BLOB_OPEN", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let bytes = b"#!/bin/sh\n".to_vec();
            park(member, &raw, Hash::of(&[&bytes]), bytes).await;
        })
    }),
    Attack::new("a blob under another's hash", "E_BLOB_HASH", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            park(member, &raw, Hash::ZERO, junk(0)).await;
        })
    }),
    Attack::new("a blob larger than any may be", "413", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let mut bytes = junk(0);
            bytes.push(0);
            park(member, &raw, Hash::of(&[&bytes]), bytes).await;
        })
    }),
];

#[test]
fn a_blob_is_given_to_its_readers_alone_and_kept_if_it_is_used() {
    check(ATTACKS);
}
