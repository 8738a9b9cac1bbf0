//! Lies about where the log ends.

use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::SignKey;

use crate::acts::{self, End};
use crate::lie::Lie;
use crate::scene::Scene;
use crate::server::{Asked, Evil, NEVER, Told};

/// Changes the heads of the truth, which the machine has not seen yet.
fn ahead(scene: &Scene, twist: fn(&Told, SignedHead) -> Option<SignedHead>) -> Told {
    Told { twist, ..scene.truth.clone() }
}

/// Changes the heads of a log that the machine has seen to its end.
fn level(scene: &Scene, twist: fn(&Told, SignedHead) -> Option<SignedHead>) -> Told {
    Told { twist, ..scene.past.clone() }
}

pub const LIES: &[Lie] = &[
    Lie::fatal("a head is signed by another key", "E_BADSIG", |scene| {
        ahead(scene, |told, head| {
            Some(head.place().sign(&SignKey::generate(), told.vault).unwrap())
        })
    }),
    Lie::fatal("a head is of another vault", "E_BADSIG", |scene| {
        ahead(scene, |told, head| Some(head.place().sign(&told.key, told.hash(1)).unwrap()))
    }),
    Lie::fatal("a head was changed after it was signed", "E_BADSIG", |scene| {
        ahead(scene, |_, head| Some(SignedHead { head: Hash::ZERO, ..head }))
    }),
    Lie::fatal("a head of another history is not signed", "E_BADSIG", |scene| {
        level(scene, |_, head| Some(SignedHead { head: Hash::ZERO, ..head }))
    }),
    Lie::fatal("a head of another history is signed", "E_FORK", |scene| {
        level(scene, |told, head| {
            Some(told.sign(Head { head: Hash::of(&[b"other"]), ..head.place() }))
        })
    }),
    Lie::fatal("an old head of another history is signed", "E_FORK", |scene| {
        level(scene, |told, head| {
            Some(told.sign(Head { seq: 1, head: Hash::ZERO, ..head.place() }))
        })
    }),
    Lie::fatal("the log is an old one", "E_SERVER_BEHIND", |scene| {
        let mut told = scene.past.clone();
        told.log.pop();
        told
    }),
    Lie::fatal("the log is empty again", "E_SERVER_BEHIND", |scene| {
        let mut told = scene.past.clone();
        told.log.truncate(2);
        told
    }),
    Lie::idle("entries come without a head", "GET /v1/log", End::Refused("catching up"), |scene| {
        ahead(scene, |_, _| None)
    }),
    Lie::idle("no head comes at all", "GET /v1/log", End::Refused("catching up"), |scene| {
        level(scene, |_, _| None)
    }),
    Lie::idle("a head is far ahead", "GET /v1/log", End::Refused("catching up"), |scene| {
        level(scene, |told, head| {
            Some(told.sign(Head { seq: head.seq + 1000, head: Hash::ZERO, ..head.place() }))
        })
    }),
    Lie::idle(
        "a head is at the end of numbers",
        "GET /v1/log",
        End::Refused("catching up"),
        |scene| {
            level(scene, |told, head| {
                Some(told.sign(Head { seq: u64::MAX, head: Hash::ZERO, ..head.place() }))
            })
        },
    ),
    Lie::fatal("a head is of an unknown epoch", "E_PREV", |scene| {
        level(scene, |told, head| Some(told.sign(Head { epoch: Hash::ZERO, ..head.place() })))
    }),
    Lie {
        // What shuts a machine out is done, as far as the server plays along.
        ends: [End::Refused("E_FORK"), End::Refused("E_FORK"), End::Done],
        ..Lie::fatal("a head of another history is signed once", "E_FORK", |scene| {
            level(scene, |told, head| match told.streams {
                1 => Some(told.sign(Head { head: Hash::of(&[b"other"]), ..head.place() })),
                _ => Some(head),
            })
        })
    },
    Lie::fatal("the log is an old one, and no page of it comes", "E_SERVER_BEHIND", |scene| {
        let mut told = scene.past.clone();
        told.log.pop();
        let answer = |_: &mut Told, asked: &Asked<'_>| {
            let is_page = asked.what == "GET /v1/log" && !asked.query.contains("follow=true");
            is_page.then(|| (NEVER, Vec::new()))
        };
        Told { answer, ..told }
    }),
];

#[test]
fn two_histories_for_two_machines_are_a_fork() {
    let mut scene = Scene::new();
    let (address, truth, other) =
        (scene.world.address().to_owned(), scene.truth.clone(), scene.other.clone());
    let honest = Evil::start(&address, truth);
    scene.host.start();
    tests::watch::until(&scene.host.env_file(), |text| text.contains("K=three\n"));
    let before = scene.target();
    drop(honest);
    let _evil = Evil::start(&address, other);
    scene.await_alarm("two histories", "E_FORK");
    scene.host.stop();
    scene.host.start();
    scene.await_alarm("two histories, after a restart", "E_FORK");
    assert_eq!(scene.target(), before, "the target stays");
    let told = scene.host.vault(&["kv", "get", "-field=K", acts::SECRET]).ok();
    assert_eq!(told.trim_end(), "three", "reads are answered from what is here");
}
