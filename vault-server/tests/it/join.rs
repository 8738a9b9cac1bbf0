//! Strangers that ask to join.

use bytes::Bytes;
use hyper::{Method, StatusCode, header};
use shared::audit::{Op as Asked, Outcome, Record};
use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::token::{Line as _, MachineLine};
use shared::wire::v1::JOIN;
use shared::wire::v1::audit::AuditPage;
use shared::wire::v1::join::{JoinList, JoinReply, JoinRequest, WAITING};
use shared::words::VaultWords;

use crate::client::{Client, parse, refused};
use crate::world::{Machine, World};

fn request(world: &World, line: &MachineLine) -> JoinRequest {
    JoinRequest { vault: VaultWords::of(&world.state.vault()), line: line.to_line().unwrap() }
}

/// Connects from an address of this host's own.
async fn from(world: &World, n: u8, machine: &Machine) -> Client {
    let addr = [127, 0, 1, n].into();
    Client::connect_from(addr, world.server.addr, &world.server_key, &machine.sign).await
}

/// Asks, and is told at once that it waits.
async fn ask(world: &World, n: u8, machine: &Machine) {
    let client = from(world, n, machine).await;
    let (status, reply) = client.post(JOIN, &request(world, &machine.line())).await;
    assert_eq!(status, StatusCode::OK);
    let JoinReply { joined, left } = parse(&reply);
    assert!(!joined && left > 86_000, "{left}");
}

async fn waiting(owner: &Client) -> Vec<String> {
    let list: JoinList = owner.fetch(JOIN).await;
    list.waiting.into_iter().map(|it| it.line).collect()
}

#[tokio::test]
async fn a_stranger_that_waits_is_told_at_once_that_it_is_a_machine() {
    let mut world = World::new().await;
    let owner = world.client(&world.first).await;
    let vps = Machine::new("vps");
    let stranger = from(&world, 1, &vps).await;
    let body = Bytes::from(serde_json::to_vec(&request(&world, &vps.line())).unwrap());
    let (_, reply) = stranger.call(Method::POST, JOIN, body.clone()).await;
    assert!(!parse::<JoinReply>(&reply).joined, "it may say at once that it waits");
    let asking = {
        let stranger = stranger.clone();
        tokio::spawn(async move { stranger.call(Method::POST, JOIN, body).await })
    };
    let list: JoinList = owner.fetch(JOIN).await;
    assert_eq!(list.waiting[0].addr.as_str(), "127.0.1.1");
    assert_eq!(MachineLine::from_line(&list.waiting[0].line).unwrap(), vps.line());
    // It may do nothing else meanwhile.
    assert_eq!(refused(stranger.get(JOIN).await), (403, "forbidden".to_owned()));
    assert_eq!(refused(stranger.get("/v1/log").await), (403, "forbidden".to_owned()));

    let add = vps.add(world.state.due_machine(), &["*"], &[]);
    let entry = world.by_admin(vec![add]);
    world.append(&owner, entry, vec![]).await;
    let (status, reply) = asking.await.unwrap();
    assert_eq!((status, parse::<JoinReply>(&reply).joined), (StatusCode::OK, true));
    assert!(stranger.get("/v1/log").await.0.is_success(), "the same connection is a machine's");
    assert!(waiting(&owner).await.is_empty());
    let (_, reply) = stranger.post(JOIN, &request(&world, &vps.line())).await;
    assert!(parse::<JoinReply>(&reply).joined, "asked again, it is a machine still");
}

#[tokio::test]
async fn what_no_owner_could_add_is_refused_and_not_kept() {
    let mut world = World::new().await;
    let owner = world.client(&world.first).await;
    let gone = world.add(&owner, "gone", &[]).await;
    let remove = shared::log::Op::MachineRemove {
        number: world.number(&gone),
        reason: "sold".parse().unwrap(),
    };
    let entry = world.by_admin(vec![remove]);
    world.append(&owner, entry, vec![]).await;
    let (vps, thief) = (Machine::new("vps"), Machine::new("vps"));
    let right = request(&world, &vps.line());
    let text = |line: String| JoinRequest { line, ..right.clone() };
    let forged = MachineLine { recipient: Identity::generate().recipient(), ..vps.line() };
    let named = |name: &str, sign: &SignKey| {
        let recipient = Identity::generate().recipient();
        request(&world, &MachineLine::new(name.parse().unwrap(), recipient, sign).unwrap())
    };
    let other = VaultWords::of(&Hash::of(&[b"another vault"]));
    for (n, machine, asked, status, code) in [
        (1, &thief, right.clone(), 422, "E_BADSIG"),
        (2, &vps, text(forged.to_line().unwrap()), 422, "E_BADSIG"),
        (3, &vps, text("VLTM1-abc".to_owned()), 422, "E_TOKEN"),
        (4, &vps, text("VLTM1-\u{1b}[2J".to_owned()), 422, "E_TOKEN"),
        (5, &vps, named("a", &vps.sign), 422, "E_EXISTS"),
        (6, &gone, named("anew", &gone.sign), 422, "E_KEY"),
        (7, &vps, JoinRequest { vault: other, ..right.clone() }, 403, "forbidden"),
    ] {
        let answer = from(&world, n, machine).await.post(JOIN, &asked).await;
        assert_eq!(refused(answer), (status, code.to_owned()), "{n}");
    }
    let client = from(&world, 8, &vps).await;
    for (body, code) in [
        (br#"{"vault":"abandon","line":""}"#.to_vec(), "bad_request"),
        (b"{}".to_vec(), "bad_request"),
        (vec![b' '; 64 << 10], "too_large"),
    ] {
        assert_eq!(refused(client.call(Method::POST, JOIN, body.into()).await).1, code);
    }
    assert!(waiting(&owner).await.is_empty());
}

#[tokio::test]
async fn hosts_behind_one_address_ask_together_and_a_flood_is_told_how_long_to_wait() {
    let world = World::new().await;
    let owner = world.client(&world.first).await;
    let lab: Vec<Machine> = (0..16).map(|n| Machine::new(&format!("lab-{n}"))).collect();
    for machine in &lab {
        ask(&world, 1, machine).await;
    }
    let lines: Vec<String> = lab.iter().map(|it| it.line().to_line().unwrap()).collect();
    assert_eq!(waiting(&owner).await, lines);
    let nas = Machine::new("nas");
    let client = from(&world, 1, &nas).await;
    let body = serde_json::to_vec(&request(&world, &nas.line())).unwrap();
    let answer = client.send(Method::POST, JOIN, body.into()).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(waiting(&owner).await, lines);
    // What was replayed by another is not its own.
    let thief = Machine::new("thief");
    let replayed = from(&world, 2, &thief).await.post(JOIN, &request(&world, &nas.line())).await;
    assert_eq!(refused(replayed), (422, "E_BADSIG".to_owned()));
}

#[tokio::test]
async fn many_strangers_keep_nobody_out_and_leave_few_records() {
    let mut world = World::new().await;
    let owner = world.client(&world.first).await;
    let honest = Machine::new("honest");
    ask(&world, 1, &honest).await;
    for n in 0..WAITING + 10 {
        let site = u8::try_from(2 + n / 16).unwrap();
        let flood = Machine::new(&format!("flood-{n}"));
        let client = from(&world, site, &flood).await;
        let _ = client.post(JOIN, &request(&world, &flood.line())).await;
    }
    assert_eq!(waiting(&owner).await.len(), WAITING);
    // Two under one name wait beside each other: their words tell them apart.
    ask(&world, 50, &Machine::new("honest")).await;
    let lines = waiting(&owner).await;
    let names = lines.iter().map(|line| MachineLine::from_line(line).unwrap().name);
    assert_eq!(names.filter(|name| name.as_str() == "honest").count(), 2);
    // What was counted is recorded at the end.
    world.restart().await;
    let owner = world.client(&world.first).await;
    assert!(waiting(&owner).await.is_empty(), "they ask again by themselves");
    let page: AuditPage = owner.fetch("/v1/audit?op=join").await;
    let records = page.records.iter().map(|text| Record::parse(text.as_bytes()).unwrap());
    let asked: Vec<_> = records.filter(|record| record.fact.op == Asked::Join).collect();
    assert!(asked.iter().all(|it| it.fact.result == Outcome::Ok && it.fact.machine.is_none()));
    let count: u64 = asked.iter().map(|it| it.fact.count.unwrap_or(1)).sum();
    assert!(asked.len() <= 33 && count >= 64, "{} records of {count}", asked.len());
}
