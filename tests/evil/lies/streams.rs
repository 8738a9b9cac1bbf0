//! Lies in the stream of the log.

use bytes::Bytes;
use shared::head::Head;
use shared::keys::SignKey;
use shared::limits;
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::wire::v1::log::Frame;

use crate::acts::End;
use crate::lie::Lie;
use crate::scene::Scene;
use crate::server::{Told, line};

/// Changes the frames of the truth: a head, two entries, a head.
fn twisted(scene: &Scene, stream: fn(&Told, Vec<Frame>) -> Vec<Bytes>) -> Told {
    Told { stream, ..scene.truth.clone() }
}

fn lines(frames: &[Frame]) -> Vec<Bytes> {
    frames.iter().map(line).collect()
}

/// Signs the last head for as many entries as there are, as they wait for one that fits them; the
/// first one goes, as the two would be a fork.
fn fitted(told: &Told, mut frames: Vec<Frame>, entries: u64) -> Vec<Bytes> {
    let seq = told.last() as u64 - 2 + entries;
    let head = told.sign(Head { seq, ..told.head(told.last()).place() });
    frames.pop();
    frames.push(Frame::Head(head));
    lines(&frames[1..])
}

/// Changes the first entry.
fn changed(mut frames: Vec<Frame>, change: impl FnOnce(&mut Envelope)) -> Vec<Bytes> {
    let first = frames.iter_mut().find_map(|frame| match frame {
        Frame::Entry { envelope, .. } => Some(envelope),
        Frame::Head(_) | Frame::Genesis(_) | Frame::Beat => None,
    });
    change(first.unwrap());
    lines(&frames)
}

fn resigned(told: &Told, envelope: &mut Envelope, key: &SignKey, by: Actor) {
    let body = std::mem::take(&mut envelope.body);
    *envelope = Envelope::sign_body(key, by, Purpose::Entry(told.vault), body);
}

pub const LIES: &[Lie] = &[
    Lie::idle("an entry is withheld", "GET /v1/log", End::Refused("catching up"), |scene| {
        twisted(scene, |_, mut frames| {
            frames.remove(1);
            lines(&frames)
        })
    }),
    Lie::fatal("an entry is withheld, and the head signed to fit", "E_SEQ", |scene| {
        twisted(scene, |told, mut frames| {
            frames.remove(1);
            fitted(told, frames, 1)
        })
    }),
    Lie::fatal("an entry comes twice", "E_SEQ", |scene| {
        twisted(scene, |told, mut frames| {
            frames.insert(1, frames[1].clone());
            fitted(told, frames, 3)
        })
    }),
    Lie::fatal("two entries are swapped", "E_SEQ", |scene| {
        twisted(scene, |_, mut frames| {
            frames.swap(1, 2);
            lines(&frames)
        })
    }),
    Lie::fatal("an old entry comes again", "E_SEQ", |scene| {
        twisted(scene, |told, mut frames| {
            let envelope = told.log[1].clone();
            frames.insert(1, Frame::Entry { envelope, blobs: Vec::new() });
            fitted(told, frames, 3)
        })
    }),
    Lie::fatal("a bit of an entry is flipped", "E_BADSIG", |scene| {
        twisted(scene, |_, frames| {
            changed(frames, |envelope| {
                let middle = envelope.body.len() / 2;
                envelope.body[middle] ^= 1;
            })
        })
    }),
    Lie::fatal("an entry bears another signature", "E_BADSIG", |scene| {
        twisted(scene, |told, frames| changed(frames, |envelope| envelope.sig = told.log[0].sig))
    }),
    Lie::fatal("an entry is relabelled as an admin's", "E_BADSIG", |scene| {
        twisted(scene, |_, frames| {
            changed(frames, |envelope| envelope.by = "admin:jonas".parse().unwrap())
        })
    }),
    Lie::fatal("an entry is signed by the server", "E_BADSIG", |scene| {
        twisted(scene, |told, frames| {
            let key = std::sync::Arc::clone(&told.key);
            changed(frames, |envelope| {
                let by = envelope.by.clone();
                resigned(told, envelope, &key, by);
            })
        })
    }),
    Lie::fatal("an entry is by nobody", "E_UNKNOWN_ACTOR", |scene| {
        twisted(scene, |_, frames| {
            changed(frames, |envelope| envelope.by = "machine:nobody".parse().unwrap())
        })
    }),
    Lie::fatal("an entry is of another vault", "E_BADSIG", |scene| {
        twisted(scene, |told, frames| {
            changed(frames, |envelope| {
                let other = Purpose::Entry(told.hash(1));
                let body = std::mem::take(&mut envelope.body);
                *envelope = Envelope::sign_body(&told.key, envelope.by.clone(), other, body);
            })
        })
    }),
    Lie::fatal("an entry is larger than any may be", "E_LIMITS", |scene| {
        twisted(scene, |_, frames| {
            changed(frames, |envelope| envelope.body = vec![b' '; limits::BODY + 1])
        })
    }),
    Lie {
        waits: true,
        ends: [End::Refused("the server "); 3],
        ..Lie::fatal("entries without a body, without end", "E_FROZEN", |scene| {
            twisted(scene, |told, _| {
                let envelope = Envelope { body: Vec::new(), ..told.log[1].clone() };
                let entry = line(&Frame::Entry { envelope, blobs: Vec::new() });
                vec![entry.repeat(70_000).into()]
            })
        })
    },
    Lie::fatal("a line is no frame", "E_PARSE", |scene| {
        twisted(scene, |_, _| vec![Bytes::from_static(b"{\"entry\":{\"envelope\":\n")])
    }),
    Lie {
        ends: [End::Refused("the server "); 3],
        ..Lie::fatal("a line has no end", "E_LIMITS", |scene| {
            twisted(scene, |_, _| vec![vec![b'x'; 49 << 20].into()])
        })
    },
    Lie::fatal("a line is a web page", "E_PARSE", |scene| {
        twisted(scene, |_, _| vec![Bytes::from_static(b"<html><h1>502</h1></html>\n")])
    }),
];
