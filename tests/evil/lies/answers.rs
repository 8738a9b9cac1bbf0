//! Lies in answers to those who write, and in place of the log.

use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::wire::v1::log::AppendRequest;

use crate::acts::End;
use crate::lie::Lie;
use crate::scene::Scene;
use crate::server::{Asked, NEVER, Reply, Told, json, refusal};

/// Answers every request that appends.
fn appends(scene: &Scene, answer: fn(&mut Told, &Asked<'_>) -> Option<Reply>) -> Told {
    Told { answer, ..scene.past.clone() }
}

fn is_append(asked: &Asked<'_>) -> bool {
    asked.what == "POST /v1/log"
}

fn is_log(asked: &Asked<'_>) -> bool {
    asked.what == "GET /v1/log"
}

/// Returns the head that the entry would make.
fn made(told: &Told, asked: &Asked<'_>) -> Head {
    let AppendRequest { envelope, .. } = serde_json::from_slice(asked.body).unwrap();
    let head = envelope.hash(shared::signed::Purpose::Entry(told.vault));
    Head { epoch: told.vault, seq: told.log.len() as u64, head }
}

/// Nobody knows what became of it.
const OPEN: End = End::Refused("its answer did not come");

/// An entry that is sent again for as long as its writer waits.
const fn open(name: &'static str, tell: fn(&Scene) -> Told) -> Lie {
    Lie { waits: true, ..unread(name, OPEN, tell) }
}

const fn unread(name: &'static str, end: End, tell: fn(&Scene) -> Told) -> Lie {
    Lie::idle(name, "GET /v1/log", end, tell)
}

pub const LIES: &[Lie] = &[
    open("an entry is acknowledged that stands elsewhere", |scene| {
        appends(scene, |told, asked| is_append(asked).then(|| json(201, &told.head(told.last()))))
    }),
    Lie {
        alarm: Some("E_BADSIG"),
        late: true,
        ..open("an entry is acknowledged without a signature", |scene| {
            appends(scene, |told, asked| {
                is_append(asked).then(|| {
                    let head = told.sign(made(told, asked));
                    json(201, &SignedHead { sig: told.log[0].sig, ..head })
                })
            })
        })
    },
    open("an entry is never answered", |scene| {
        appends(scene, |_, asked| is_append(asked).then(|| (NEVER, Vec::new())))
    }),
    open("an entry is acknowledged in no words", |scene| {
        appends(scene, |_, asked| is_append(asked).then(|| (201, b"{}".to_vec())))
    }),
    open("an entry always comes too late", |scene| {
        appends(scene, |told, asked| is_append(asked).then(|| json(409, &told.head(told.last()))))
    }),
    open("a broken server", |scene| {
        appends(scene, |_, asked| is_append(asked).then(|| (500, b"<html>oops".to_vec())))
    }),
    Lie {
        ends: [End::Refused("429 `busy`"); 3],
        ..open("a server that is always busy", |scene| {
            appends(scene, |_, asked| is_append(asked).then(|| refusal(429, "busy")))
        })
    },
    Lie {
        alarm: Some("E_SERVER_RESTORED"),
        late: true,
        ..unread("a server that says it was restored", End::Refused("restored"), |scene| {
            appends(scene, |_, asked| is_append(asked).then(|| refusal(503, "restored")))
        })
    },
    unread("an entry is refused by a rule that allows it", End::Refused("E_READERS"), |scene| {
        appends(scene, |_, asked| is_append(asked).then(|| refusal(422, "E_READERS")))
    }),
    unread("an entry is denied", End::Refused("denied"), |scene| {
        appends(scene, |_, asked| is_append(asked).then(|| refusal(403, "denied")))
    }),
    Lie {
        alarm: Some("E_FORK"),
        late: true,
        ..unread("an entry is beaten by one of another history", End::Refused("E_FORK"), |scene| {
            appends(scene, |told, asked| {
                let head = Head { head: Hash::ZERO, ..told.head(told.last()).place() };
                is_append(asked).then(|| json(409, &told.sign(head)))
            })
        })
    },
    Lie {
        alarm: Some("E_UNKNOWN_ACTOR"),
        ..unread("the machine is not known any more", End::Refused("E_UNKNOWN_ACTOR"), |scene| {
            appends(scene, |_, asked| is_log(asked).then(|| refusal(403, "forbidden")))
        })
    },
    unread("the log is moved", End::Refused("301"), |scene| {
        appends(scene, |_, asked| is_log(asked).then(|| (301, Vec::new())))
    }),
    unread("the log ends at once", End::Refused("ended"), |scene| Told {
        ends: true,
        stream: |_, _| Vec::new(),
        ..scene.past.clone()
    }),
    Lie {
        heard: None,
        ..Lie::fatal("the server has another key", "E_SERVER_PIN", |scene| {
            let mut told = scene.past.clone();
            told.tls = std::sync::Arc::new(shared::keys::SignKey::generate());
            told
        })
    },
];
