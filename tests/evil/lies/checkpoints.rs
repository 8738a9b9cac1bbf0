//! Lies about entries that a checkpoint is said to stand for.

use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Checkpoint, Entry, Op};
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::checkpoint::Vouched;

use crate::acts::End;
use crate::lie::Lie;
use crate::scene::Scene;
use crate::server::{Asked, Reply, Told, refusal};

/// Says that the entries are gone; answers who asks for what stands for them.
fn compacted(scene: &Scene, answer: fn(&mut Told, &Asked<'_>) -> Option<Reply>) -> Told {
    Told { answer, ..scene.past.clone() }
}

fn gone(asked: &Asked<'_>) -> Option<Reply> {
    (asked.what == "GET /v1/log").then(|| refusal(410, "compacted"))
}

fn is_state(asked: &Asked<'_>) -> bool {
    asked.what == "GET /v1/checkpoint"
}

/// Signs a checkpoint past the log as an admin, with a key of one's own, and appoints that with an
/// entry under root's name.
fn forged(told: &Told, appoints: bool) -> Reply {
    let (key, purpose) = (SignKey::generate(), Purpose::Entry(told.vault));
    let sign = |by: &str, seq: u64, op: Op| {
        let by: shared::name::Actor = by.parse().unwrap();
        let (prev, time) = (Hash::ZERO, crate::server::now());
        let entry = Entry { seq, prev, time, by: by.clone(), ops: vec![op] };
        Envelope::sign(&key, by, purpose, &entry).unwrap()
    };
    let seq = told.last() as u64 + 9;
    let appoint = Op::AdminAdd { name: "eve".parse().unwrap(), key: key.verify_key() };
    let owners = if appoints { vec![sign("root", seq - 1, appoint)] } else { Vec::new() };
    let named = Op::Checkpoint(Checkpoint { seq, state: Hash::of(&[b"{}\n"]), size: 3 });
    let entry = sign("admin:jonas", seq + 1, named);
    let mut body =
        serde_json::to_vec(&Vouched { genesis: told.log[0].clone(), owners, entry }).unwrap();
    body.extend(b"\n{}\n");
    (200, body)
}

pub const LIES: &[Lie] = &[
    Lie::idle(
        "the log is gone, and nothing stands for it",
        "GET /v1/checkpoint",
        End::Refused("no_checkpoint"),
        |scene| {
            compacted(scene, |_, asked| {
                gone(asked).or_else(|| is_state(asked).then(|| refusal(404, "no_checkpoint")))
            })
        },
    ),
    Lie::fatal("a checkpoint that no owner has signed stands for the log", "E_BADSIG", |scene| {
        compacted(scene, |told, asked| {
            gone(asked).or_else(|| is_state(asked).then(|| forged(told, false)))
        })
    }),
    Lie::fatal("an owner whom root has not named vouches for the log", "E_BADSIG", |scene| {
        compacted(scene, |told, asked| {
            gone(asked).or_else(|| is_state(asked).then(|| forged(told, true)))
        })
    }),
];
