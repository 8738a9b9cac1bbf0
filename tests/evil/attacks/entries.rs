//! Attacks by entries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use shared::blob::{Kind, Place, seal};
use shared::grant::Grants;
use shared::hash::Hash;
use shared::log::{Access, MetaSet, Op, Put, Resume, Versions, readers_hash, recipients};
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::blob::Inline;
use shared::wire::v1::log::{AppendRequest, GenesisRequest, HealRequest};
use shared::wire::v1::{GENESIS, HEAL, LOG};

use super::acts;
use super::attack::{Attack, check};
use super::member::{Member, Raw, View};
use super::server::now;

async fn append(member: &Member, raw: &Raw, envelope: Envelope, blobs: Vec<Vec<u8>>) {
    let blobs = blobs.into_iter().map(Inline).collect();
    member.post(raw, LOG, &AppendRequest { envelope, blobs, code: None }).await;
}

/// More requests than a machine may send at once.
const MANY: usize = 1_000;

/// Operations, and the blobs that they bring.
type Made = (Vec<Op>, Vec<Vec<u8>>);

/// Appends one entry as itself; tries anew while others are quicker.
async fn act(member: &Member, by: Option<&str>, ops: fn(&Member, &View) -> Made) {
    let raw = member.connect().await;
    let by = by.map_or_else(|| member.actor(), str::to_owned);
    for _ in 0..20 {
        let view = member.view(&raw).await;
        let (ops, blobs) = ops(member, &view);
        append(member, &raw, member.entry(&view, &by, ops), blobs).await;
        if member.said().keys().any(|said| said.starts_with("E_")) {
            return;
        }
    }
}

/// Sets the keys of one of its own secrets, of which there may be 64.
fn key(member: &Member, n: usize) -> Op {
    let custom = (0..64).map(|key: u8| (key.to_string(), "x".to_owned())).collect();
    let path = format!("secret/{}/{n}", member.name).parse().unwrap();
    let (max_versions, cas_required, delete_after) = (0, false, 0);
    Op::MetaSet(MetaSet { path, max_versions, cas_required, delete_after, custom })
}

/// Large secrets that a member may have when it is removed.
const LARGE: usize = 12;

/// Encrypts content for a path, to whom it must be readable.
fn put(view: &View, path: &str) -> (Put, Vec<u8>) {
    put_of(view, path, br#"{"K":"evil"}"#)
}

fn put_of(view: &View, path: &str, content: &[u8]) -> (Put, Vec<u8>) {
    let path = path.parse().unwrap();
    let (ver, vault) = (view.state.due_version(&path), view.state.vault());
    let place = Place { vault: &vault, path: &path, ver };
    let to = recipients(&view.state, &path);
    let sealed = seal(place, Kind::Kv, content, &to).unwrap();
    let readers = readers_hash(&view.state, &path);
    let size = sealed.bytes.len() as u64;
    (Put { path, ver, blob: sealed.id, size, commit: sealed.commit, readers }, sealed.bytes)
}

/// Returns a path that the member may write.
fn own(member: &Member) -> String {
    format!("secret/{}/x", member.name)
}

pub const ATTACKS: &[Attack] = &[
    Attack::new("an entry writes where it may not", "E_DENIED", |member| {
        Box::pin(act(member, None, |_, view| {
            let (put, bytes) = put(view, acts::SECRET);
            (vec![Op::Put(put)], vec![bytes])
        }))
    }),
    Attack::new("an entry is signed as an admin", "E_BADSIG", |member| {
        Box::pin(act(member, Some("admin:jonas"), |_, view| {
            let (put, bytes) = put(view, acts::SECRET);
            (vec![Op::Put(put)], vec![bytes])
        }))
    }),
    Attack::new("an entry is signed as root", "E_BADSIG", |member| {
        Box::pin(act(member, Some("root"), |_, _| {
            (vec![Op::MachineRemove { number: 1, reason: Default::default() }], Vec::new())
        }))
    }),
    Attack::new("an entry is another machine's", "E_BADSIG", |member| {
        Box::pin(act(member, Some("machine:rtx1080"), |_, view| {
            let (put, bytes) = put(view, acts::SECRET);
            (vec![Op::Put(put)], vec![bytes])
        }))
    }),
    Attack::new("an entry removes the owner's host", "E_DENIED", |member| {
        Box::pin(act(member, None, |_, _| {
            (vec![Op::MachineRemove { number: 1, reason: Default::default() }], Vec::new())
        }))
    }),
    Attack::new("an entry widens its own rights", "E_DENIED", |member| {
        Box::pin(act(member, None, |member, view| {
            let (read, write) = (Grants::parse(&["*"]).unwrap(), Grants::parse(&["*"]).unwrap());
            let number = member.number(view);
            (vec![Op::AccessSet(Access { number, was: Hash::ZERO, read, write })], Vec::new())
        }))
    }),
    Attack::new("an entry shuts the recovery key out", "E_READERS", |member| {
        Box::pin(act(member, None, |member, view| {
            let (put, bytes) = put(view, &own(member));
            let readers = Hash::of(&[b"me alone"]);
            (vec![Op::Put(Put { readers, ..put })], vec![bytes])
        }))
    }),
    Attack::new("an entry names a version without end", "E_LIMITS", |member| {
        Box::pin(act(member, None, |member, _| {
            let path = own(member).parse().unwrap();
            (vec![Op::Delete(Versions { path, versions: vec![1; 400_000] })], Vec::new())
        }))
    }),
    Attack::new("an entry is of another year", "E_CLOCK", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            for _ in 0..20 {
                let view = member.view(&raw).await;
                let (put, bytes) = put(&view, &own(member));
                let year = 365 * 24 * 3600 * 1_000_000;
                let time = Time::from_micros(now().as_micros() + year);
                let envelope = member.entry_at(&view, &member.actor(), vec![Op::Put(put)], time);
                append(member, &raw, envelope, vec![bytes]).await;
                if member.said().contains_key("E_CLOCK") {
                    return;
                }
            }
        })
    }),
    Attack::new("an entry resumes a vault that nobody restored", "E_DENIED", |member| {
        Box::pin(act(member, None, |_, view| {
            let (seq, head) = (view.state.seq(), view.state.head());
            let resume = Resume { seq, head, audit_n: 0, audit_head: Hash::ZERO };
            (vec![Op::Resume(resume)], Vec::new())
        }))
    }),
    Attack::new("an owner's entry is sent again and again", "201", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let envelope = view.log.iter().rev().find(|one| one.by.to_string() == "admin:jonas");
            let request = AppendRequest {
                envelope: envelope.unwrap().clone(),
                blobs: Vec::new(),
                code: None,
            };
            for _ in 0..MANY {
                member.post(&raw, LOG, &request).await;
            }
        })
    }),
    Attack::new("megabytes that nobody has signed", "E_BADSIG", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let mut envelope = member.entry(&view, &member.actor(), Vec::new());
            envelope.body = vec![b' '; 1 << 20];
            for _ in 0..50 {
                append(member, &raw, envelope.clone(), Vec::new()).await;
            }
        })
    }),
    Attack::new("millions of blobs that are empty", "400", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let envelope = member.entry(&view, &member.actor(), Vec::new());
            let request = AppendRequest { envelope, blobs: Vec::new(), code: None };
            let request = serde_json::to_string(&request).unwrap();
            let blobs = vec![r#""""#; 700_000].join(",");
            let body = format!(r#"{},"blobs":[{blobs}]}}"#, request.trim_end_matches('}'));
            for _ in 0..20 {
                if !member.goes_on() {
                    return;
                }
                member.send(&raw, Method::POST, LOG, body.clone()).await;
            }
        })
    }),
    Attack::new("secrets of many keys without end", "429", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            for n in 0..MANY {
                if !member.goes_on() || member.said().contains_key("429") {
                    return;
                }
                let view = member.view(&raw).await;
                let ops = (100 * n..100 * (n + 1)).map(|n| key(member, n)).collect();
                let entry = member.entry(&view, &member.actor(), ops);
                append(member, &raw, entry, Vec::new()).await;
            }
        })
    }),
    Attack::new("a body that is no JSON", "400", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            for _ in 0..MANY {
                member.send(&raw, Method::POST, LOG, Bytes::from_static(b"{\"envelope\":")).await;
            }
        })
    }),
    Attack::new("another vault is founded", "E_CLAIM", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let (genesis, entry) = (view.log[0].clone(), view.log[2].clone());
            let request = GenesisRequest { claim: Hash::ZERO, genesis, entry };
            for _ in 0..MANY {
                member.post(&raw, GENESIS, &request).await;
            }
        })
    }),
    Attack::new("entries are healed that nobody lost", "E_MOVED", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let forged = member.entry(&view, &member.actor(), Vec::new());
            let request = HealRequest { entries: vec![forged], head: Some(view.head), code: None };
            for _ in 0..MANY {
                member.post(&raw, HEAL, &request).await;
            }
        })
    }),
    Attack::borne("a head of its own says that the server is old", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let forged = shared::head::Head { seq: 1 << 40, ..view.head.place() };
            let forged = forged.sign(&member.sign, view.state.vault()).unwrap();
            let forged = serde_json::to_string(&forged).unwrap();
            for _ in 0..100 {
                let headers = [(shared::wire::v1::log::LAST_HEAD, forged.as_str())];
                let path = format!("{LOG}?after=0");
                let answer = raw.call(Method::GET, &path, Bytes::new(), &headers).await;
                member.note(answer.map_or("cut".to_owned(), |(status, _)| status.to_string()));
            }
        })
    }),
    Attack::new("heals without end", "429", |member| {
        Box::pin(async {
            let raw = Arc::new(member.connect().await);
            let request = HealRequest::default();
            while member.goes_on() && !member.said().contains_key("cut") {
                member.post(&raw, HEAL, &request).await;
            }
        })
    }),
    Attack::borne("megabytes to be re-encrypted, while it writes on and on", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            for n in 0..LARGE {
                let Some(view) = member.try_view(&raw).await else { return };
                let path = format!("secret/{}/large/{n}", member.name);
                let content = format!(r#"{{"K":"{}"}}"#, "x".repeat(700 << 10));
                let (put, bytes) = put_of(&view, &path, content.as_bytes());
                let envelope = member.entry(&view, &member.actor(), vec![Op::Put(put)]);
                let request = AppendRequest { envelope, blobs: vec![Inline(bytes)], code: None };
                let body = serde_json::to_vec(&request).unwrap();
                let _ = raw.call(Method::POST, LOG, body.into(), &[]).await;
            }
            member.note("large");
            while member.goes_on() {
                tokio::time::sleep(Duration::from_millis(120)).await;
                let Some(view) = member.try_view(&raw).await else { continue };
                let entry = member.entry(&view, &member.actor(), vec![key(member, 0)]);
                append(member, &raw, entry, Vec::new()).await;
            }
        })
    }),
];

#[test]
fn an_entry_changes_what_it_may_and_nothing_else() {
    check(ATTACKS);
}
