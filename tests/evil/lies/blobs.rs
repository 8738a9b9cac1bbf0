//! Lies about ciphertext: the entries are true, what was encrypted is not.

use shared::hash::Hash;
use shared::limits;

use crate::acts::End;
use crate::lie::Lie;
use crate::scene::Scene;
use crate::server::{Told, refusal};

/// Changes the blob of the newest version.
fn changed(scene: &Scene, change: fn(&Told, &mut Vec<u8>)) -> Told {
    let mut told = scene.truth.clone();
    let (id, mut bytes) = newest(&told);
    change(&scene.truth, &mut bytes);
    told.blobs.insert(id, bytes);
    told
}

/// Returns the blob that the last entry brought.
fn newest(told: &Told) -> (Hash, Vec<u8>) {
    let entry: shared::log::Entry = told.log[told.last()].parse().unwrap();
    let id = entry.ops.iter().find_map(shared::log::Op::blob).unwrap();
    (id, told.blobs[&id].clone())
}

/// A blob that is not what the log says: what was read before stays, the newest is refused.
const fn refused(name: &'static str, code: &'static str, tell: fn(&Scene) -> Told) -> Lie {
    Lie { get: Some(code), ends: [End::Done; 3], ..Lie::fatal(name, code, tell) }
}

pub const LIES: &[Lie] = &[
    refused("a bit of a blob is flipped", "E_BLOB_HASH", |scene| {
        changed(scene, |_, bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        })
    }),
    refused("a blob is cut", "E_BLOB_SIZE", |scene| changed(scene, |_, bytes| _ = bytes.pop())),
    refused("a blob has a byte more", "E_BLOB_SIZE", |scene| {
        changed(scene, |_, bytes| bytes.push(0))
    }),
    refused("a blob is empty", "E_BLOB_SIZE", |scene| changed(scene, |_, bytes| bytes.clear())),
    refused("a blob is the one of an older version", "E_BLOB_HASH", |scene| {
        changed(scene, |told, bytes| {
            let entry: shared::log::Entry = told.log[told.last() - 1].parse().unwrap();
            let older = entry.ops.iter().find_map(shared::log::Op::blob).unwrap();
            let size = bytes.len();
            bytes.clone_from(&told.blobs[&older]);
            // Files differ in size by chance.
            bytes.resize(size, 0);
        })
    }),
    refused("a blob is larger than any may be", "E_BLOB_SIZE", |scene| {
        changed(scene, |_, bytes| bytes.resize(limits::BLOB + 2, 0))
    }),
    refused("a blob is withheld", "E_BLOB_ABSENT", |scene| {
        let mut told = scene.truth.clone();
        let (id, _) = newest(&told);
        told.blobs.remove(&id);
        told
    }),
    Lie {
        get: Some("it denies a version"),
        ..Lie::idle("a blob is denied", "GET /v1/blob/", End::Done, |scene| Told {
            answer: |_, asked| {
                asked.what.starts_with("GET /v1/blob/").then(|| refusal(403, "E_DENIED"))
            },
            ..scene.truth.clone()
        })
    },
];
