//! Attacks by quantity.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use shared::audit::{Applied, Fact, HookRun, Op};
use shared::hash::Hash;
use shared::time::Time;
use shared::wire::v1::audit::AccessRequest;
use shared::wire::v1::join::JoinRequest;
use shared::wire::v1::log::AdoptRequest;
use shared::wire::v1::{ACCESS, ADOPT, AUDIT, JOIN, LOG, TARGETS};
use shared::words::VaultWords;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::attack::{Attack, check};
use super::member::{Member, View};
use super::stalled;

/// How long an answer is waited for that may never come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Holds on to something while the others are at it.
async fn hold<T>(member: &Member, held: T) {
    while member.goes_on() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(held);
}

/// Sends one request again and again.
async fn again(member: &Member, method: Method, path: &str, body: Bytes) {
    let raw = member.connect().await;
    let mut left = 50_000;
    while member.goes_on() && left > 0 && !member.said().contains_key("cut") {
        left -= 1;
        member.send(&raw, method.clone(), path, body.clone()).await;
    }
}

pub const ATTACKS: &[Attack] = &[
    Attack::new("a thousand streams that nobody reads", "429", |member| {
        Box::pin(async {
            let (mut held, path) = (Vec::new(), format!("{LOG}?after=0&follow=true"));
            for _ in 0..10 {
                let Some(raw) = member.try_connect().await else { continue };
                for _ in 0..100 {
                    let open = raw.open(Method::GET, &path, Bytes::new(), &[]);
                    let Ok(Some(answer)) = timeout(PATIENCE, open).await else { break };
                    member.note(answer.status().as_u16().to_string());
                    held.push(answer);
                }
            }
            hold(member, held).await;
        })
    }),
    Attack::borne("five hundred connections", |member| {
        Box::pin(async {
            let mut held = Vec::new();
            for _ in 0..512 {
                let connected = timeout(PATIENCE, member.try_connect()).await;
                held.extend(connected.ok().flatten());
            }
            member.note("held");
            hold(member, held).await;
        })
    }),
    Attack::borne("five hundred handshakes that do not end", |member| {
        Box::pin(async {
            let mut held = Vec::new();
            for _ in 0..512 {
                let Some(mut socket) = member.socket().await else { break };
                // The first bytes of a ClientHello.
                let _ = socket.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await;
                held.push(socket);
            }
            member.note("held");
            hold(member, held).await;
        })
    }),
    Attack::new("bodies as large as any may be", "400", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let mut body = b"{\"envelope\":".to_vec();
            body.resize(8 << 20, b' ');
            let body = Bytes::from(body);
            for _ in 0..20 {
                if !member.goes_on() {
                    return;
                }
                member.send(&raw, Method::POST, LOG, body.clone()).await;
            }
        })
    }),
    Attack::new("bodies that stop half-way", "429", |member| Box::pin(stalled::bodies(member))),
    Attack::new("audit leaves without end", "429", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let ask = async || {
                while member.goes_on() && !member.said().contains_key("cut") {
                    member.leaves(&raw).await;
                }
            };
            // As many as make a flood also where the disk is slow.
            tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask());
        })
    }),
    Attack::new("the audit log, which it may not read", "E_DENIED", |member| {
        Box::pin(again(member, Method::GET, AUDIT, Bytes::new()))
    }),
    Attack::borne("local reads without end", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let run = Hash::of(&[b"run"]);
            let read = Fact {
                path: Some("secret/jjeco/a".parse().unwrap()),
                ver: Some(1),
                who: Some("evil[1] uid 0".parse().unwrap()),
                ..Fact::new(Op::LocalRead)
            };
            for batch in 0..30 {
                if !member.goes_on() {
                    return;
                }
                let reads = vec![read.clone(); 1000];
                let request = AccessRequest { run, first: batch * 1000, reads };
                member.post(&raw, ACCESS, &request).await;
            }
        })
    }),
    Attack::borne("files with versions that it may not read, at absurd times", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let run = Hash::of(&[b"applied"]);
            let hook = |began, ended| {
                let [began, ended] = [began, ended].map(Time::from_micros);
                HookRun { began, ended, failed: Some("done (v9), hook ok".parse().unwrap()) }
            };
            let times = [(0, hook(u64::MAX, 0)), (u64::MAX, hook(0, u64::MAX))];
            let reads = times.into_iter().zip(1..).map(|((at, hook), n)| Fact {
                at: Some(Time::from_micros(at)),
                path: Some("secret/jjeco/a".parse().unwrap()),
                ver: Some(u64::MAX / n),
                applied: Some(Applied {
                    file: "~/.env (v9), hook ok in 0.1 s".parse().unwrap(),
                    found: false,
                    hook: Some(hook),
                }),
                ..Fact::new(Op::LocalApplied)
            });
            let request = AccessRequest { run, first: 0, reads: reads.collect() };
            member.post(&raw, ACCESS, &request).await;
        })
    }),
    Attack::new("files whose names steer a terminal", "400", |member| {
        Box::pin(async {
            let body = concat!(
                r#"{"run":"0000000000000000000000000000000000000000000000000000000000000000","#,
                r#""first":0,"reads":[{"op":"local_applied","path":"secret/a","ver":1,"#,
                r#""applied":{"file":"\u001b[2J/.env"},"result":"ok"}]}"#,
            );
            again(member, Method::POST, ACCESS, Bytes::from_static(body.as_bytes())).await;
        })
    }),
    Attack::new("everybody's targets without end", "429", |member| {
        Box::pin(again(member, Method::GET, TARGETS, Bytes::new()))
    }),
    Attack::new("routes that are none", "404", |member| {
        Box::pin(again(member, Method::GET, "/v1/sys/../../etc/passwd", Bytes::new()))
    }),
    Attack::new("methods that no route knows", "405", |member| {
        Box::pin(again(member, Method::DELETE, LOG, Bytes::new()))
    }),
    Attack::new("the whole log again and again", "429", |member| {
        Box::pin(again(member, Method::GET, "/v1/log?after=0", Bytes::new()))
    }),
    Attack::new("the vault is given to its server again and again", "429", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let View { log, .. } = member.view(&raw).await;
            let (genesis, entries) = (log[0].clone(), vec![log[1].clone()]);
            let request = AdoptRequest { claim: Hash::ZERO, genesis, entries, before: None };
            let body = serde_json::to_vec(&request).unwrap();
            again(member, Method::POST, ADOPT, body.into()).await;
        })
    }),
    Attack::new("requests to join without end", "429", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let vault = VaultWords::of(&member.view(&raw).await.state.vault());
            while member.goes_on() {
                let stranger = member.stranger();
                let Some(raw) = stranger.try_connect().await else { continue };
                let request = JoinRequest { vault, line: stranger.line() };
                let body = serde_json::to_vec(&request).unwrap();
                let asked = member.send(&raw, Method::POST, JOIN, body);
                // The one that is taken waits for its answer.
                let _ = timeout(PATIENCE, asked).await;
            }
        })
    }),
    Attack::borne("headers larger than any may be", |member| {
        Box::pin(async {
            let large = "x".repeat(1 << 20);
            for _ in 0..20 {
                let Some(raw) = member.try_connect().await else { continue };
                let headers = [("x-large", large.as_str())];
                let answer = raw.call(Method::GET, LOG, Bytes::new(), &headers);
                let answer = timeout(PATIENCE, answer).await.ok().flatten();
                member.note(answer.map_or("cut".to_owned(), |(status, _)| status.to_string()));
            }
        })
    }),
    Attack::borne("requests that are taken back at once", |member| {
        Box::pin(async {
            while member.goes_on() {
                let Some(raw) = member.try_connect().await else { return };
                for _ in 0..200 {
                    let open = raw.open(Method::GET, "/v1/log?after=0", Bytes::new(), &[]);
                    if let Ok(None) = timeout(Duration::from_micros(50), open).await {
                        break;
                    }
                }
                member.note("taken back");
            }
        })
    }),
];

#[test]
fn a_flood_keeps_nobody_out() {
    check(ATTACKS);
}
