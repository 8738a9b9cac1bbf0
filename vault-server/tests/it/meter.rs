//! A machine that is hostile takes no more than its share: counted is what others are served
//! meanwhile, what the server holds, and what it writes; never times.

use bytes::Bytes;
use hyper::{Method, StatusCode, header};
use shared::audit::{Fact, Op as Asked, Outcome, Record};
use shared::hash::Hash;
use shared::limits;
use shared::log::{MetaSet, Op};
use shared::name::Actor;
use shared::report::{HookResult, Seen, TargetReport, TargetState, Targets};
use shared::time::Time;
use shared::wire::v1::audit::{AccessReply, AccessRequest, AuditPage};
use shared::wire::v1::error::ErrorBody;
use shared::wire::v1::log::Frame;
use shared::wire::v1::report::{ReportRequest, TargetsPage};
use shared::wire::v1::shares::{Share, SharesReply};
use shared::wire::v1::{ACCESS, GENESIS, REPORT, TARGETS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use vault_server::config::Shares;

use crate::client::{Client, parse, refused};
use crate::world::{Machine, World, post, signed};

/// A world in which machines have these shares, its first machine, and another one that may read
/// and write all.
async fn world(shares: Shares) -> (World, Client, Machine) {
    let mut world = World::new().await;
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.config.metrics_listen = Some(metrics);
    world.config.shares = shares;
    world.restart().await;
    let client = world.client(&world.first).await;
    let bad = Machine::new("bad");
    let add = bad.add(world.state.due_machine(), &["*"], &["*"]);
    world.append(&client, world.by_admin(vec![add]), vec![]).await;
    (world, client, bad)
}

/// Reads one number of the metrics.
async fn metric(world: &World, name: &str) -> u64 {
    let mut stream = TcpStream::connect(world.config.metrics_listen.unwrap()).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
    line.parse().unwrap()
}

fn meta(n: u32) -> Op {
    let custom = (0..64).map(|n| (format!("k{n}"), "v".repeat(512))).collect();
    let (path, max_versions, cas_required) = (format!("secret/m{n}").parse().unwrap(), 0, false);
    Op::MetaSet(MetaSet { path, max_versions, cas_required, delete_after: 0, custom })
}

fn remove(world: &World, machine: &Machine) -> Op {
    Op::MachineRemove { number: world.number(machine), reason: "flooder".parse().unwrap() }
}

/// Returns all audit records.
async fn records(client: &Client) -> Vec<Record> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page: AuditPage = client.fetch(&format!("/v1/audit?after={after}")).await;
        let records = page.records.iter().map(|text| Record::parse(text.as_bytes()).unwrap());
        found.extend(records);
        after = found.last().map_or(0, |record: &Record| record.n);
        if !page.more {
            return found;
        }
    }
}

#[tokio::test]
async fn unread_answers_hold_no_more_than_the_machines_room() {
    let (mut world, client, bad) = world(Shares::default()).await;
    for n in 0..12 {
        let entry = world.by_first((0..20).map(|m| meta(20 * n + m)).collect());
        world.append(&client, entry, vec![]).await;
    }
    let mut unread = Vec::new();
    for _ in 0..4 {
        let connection = world.client(&bad).await;
        for _ in 0..25 {
            let connection = connection.clone();
            unread.push(tokio::spawn(async move {
                connection.send(Method::GET, "/v1/log?after=0", Bytes::new()).await
            }));
        }
    }
    let mut most = 0;
    for n in 0..50 {
        world.write(&client, "secret/a", &n.to_string()).await;
        let (status, _) = client.get("/v1/audit/leaves").await;
        assert_eq!(status, StatusCode::OK, "others are served");
        most = most.max(metric(&world, "vault_server_answer_bytes").await);
    }
    assert!(most > 1 << 20, "they are under way: {most}");
    assert!(most <= 4 << 20, "{most} bytes are held for a machine that reads nothing");
    for request in &unread {
        request.abort();
    }
}

#[tokio::test]
async fn stalled_bodies_delay_no_other_machine_and_are_cut() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let bad = world.add(&client, "bad", &[]).await;
    let attacker = world.client(&bad).await;
    let mut stalled = Vec::new();
    for n in 0..32_u8 {
        let path = format!("/v1/blob/{}", Hash::of(&[&[n]]));
        stalled.push(attacker.stall(&path, 900_000).await);
    }
    for n in 0..3 {
        let content = format!("{n}{}", "x".repeat(160_000));
        world.write(&client, "secret/large", &content).await;
    }
    assert!(stalled.iter().all(|one| !one.is_finished()), "none had to be cut for others");
    let first = stalled.remove(0).await.unwrap();
    assert_eq!(first.status(), StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn of_five_connections_the_newest_stay() {
    let (world, client, bad) = world(Shares::default()).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        let connection = world.client(&bad).await;
        assert!(connection.get("/v1/shares").await.0.is_success(), "the newest always works");
        connections.push(connection);
    }
    for connection in &connections[..16] {
        connection.ended().await;
    }
    for connection in &connections[16..] {
        assert!(connection.get("/v1/shares").await.0.is_success());
    }
    assert!(client.get("/v1/shares").await.0.is_success(), "another machine's stays");
}

#[tokio::test]
async fn of_two_streams_the_newest_goes_on() {
    let (mut world, client, bad) = world(Shares::default()).await;
    let (old, new) = (world.client(&bad).await, world.client(&bad).await);
    let mut mine = client.follow(2).await;
    let mut first = old.follow(2).await;
    assert_eq!((mine.head().await, first.head().await), (2, 2));
    let mut second = new.follow(2).await;
    assert_eq!(second.head().await, 2);
    assert!(first.next().await.is_none());
    world.write(&client, "secret/a", "one").await;
    assert_eq!((mine.entry().await.0.seq, second.entry().await.0.seq), (3, 3));
}

#[tokio::test]
async fn strangers_and_silent_sockets_keep_no_machine_out() {
    let mut world = World::new().await;
    world.config.limits.strangers = 8;
    world.restart().await;
    let strangers: Vec<Machine> = (0..40).map(|_| Machine::new("nobody")).collect();
    let mut open = Vec::new();
    for stranger in &strangers {
        open.push(world.client(stranger).await);
    }
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(world.server.addr).await.unwrap());
        let client = world.client(&world.first).await;
        assert!(client.get("/v1/log").await.0.is_success());
    }
    for stranger in &open {
        stranger.ended().await;
    }
}

#[tokio::test]
async fn over_the_audit_share_rows_end_and_the_owner_still_acts() {
    let shares = Shares { audit_bytes_per_day: 20_000, ..Shares::default() };
    let (mut world, client, bad) = world(shares).await;
    let attacker = world.client(&bad).await;
    let id = world.write(&client, "secret/a", "one").await;
    let path = format!("/v1/blob/{id}");
    let mut read = 0;
    let over = loop {
        let answer = attacker.send(Method::GET, &path, Bytes::new()).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        read += 1;
    };
    assert!((20..100).contains(&read), "{read} reads fit");
    assert_eq!(over.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(over.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() > 0);
    let before = metric(&world, "vault_server_audit_records").await;
    for _ in 0..200 {
        let answer = attacker.get(&path).await;
        let ErrorBody { code, detail } = parse(&answer.1);
        assert_eq!((answer.0.as_u16(), code.as_str()), (429, "over_share"));
        assert!(detail.ends_with("share of bytes of audit records a day"), "{detail}");
        assert_eq!(refused(attacker.get("/v1/nothing").await), (404, "not_found".to_owned()));
        assert!(attacker.get("/v1/log?after=3").await.0.is_success());
        assert_eq!(refused(attacker.get("/v1/audit?limit=0").await).0, 422);
    }
    let (op, bytes) = world.put("secret/b", "more");
    let own = signed(&world.state, &bad.sign, &bad.actor(), vec![op]);
    assert_eq!(post(&attacker, &own, vec![bytes]).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(attacker.post(GENESIS, &world.genesis).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(metric(&world, "vault_server_audit_records").await, before, "no row more");

    let over: SharesReply = client.fetch("/v1/shares").await;
    let [found] = &over.over[..] else { panic!("{over:?}") };
    assert_eq!((found.machine, found.share, found.count), (world.number(&bad), Share::Audit, 203));
    assert_eq!(client.get(&path).await.0, StatusCode::OK, "others have their own");
    // The very machine carries its own removal.
    let gone = world.by_admin(vec![remove(&world, &bad)]);
    world.append(&attacker, gone, vec![]).await;

    world.restart().await;
    let client = world.client(&world.first).await;
    let records = records(&client).await;
    let counted = |op: Asked, result: Outcome| {
        let alike =
            records.iter().filter(|record| record.fact.op == op && record.fact.result == result);
        alike.map(|record| record.fact.count.unwrap_or(1)).collect::<Vec<_>>()
    };
    assert_eq!(counted(Asked::Request, Outcome::Limited), [203]);
    assert_eq!(counted(Asked::Request, Outcome::NotFound), [200]);
    assert_eq!(counted(Asked::Log, Outcome::Ok), [200]);
    assert_eq!(counted(Asked::MachineRemove, Outcome::Ok), [1]);
    assert_eq!(records.iter().filter(|record| record.fact.op == Asked::Read).count(), read + 1);
}

#[tokio::test]
async fn local_reads_over_the_share_are_counted_and_never_refused() {
    let shares = Shares { audit_bytes_per_day: 100_000, ..Shares::default() };
    let (mut world, client, bad) = world(shares).await;
    let attacker = world.client(&bad).await;
    let run = Hash::of(&[b"run"]);
    let read = |n: u64| Fact {
        path: Some(format!("secret/{}", n % 7).parse().unwrap()),
        who: Some(format!("python3[{}] uid 1000", n % 3).parse().unwrap()),
        ver: Some(n),
        ..Fact::new(Asked::LocalRead)
    };
    for batch in 0..10 {
        let first = 1000 * batch;
        let reads = (first..first + 1000).map(read).collect();
        let (status, body) = attacker.post(ACCESS, &AccessRequest { run, first, reads }).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(parse::<AccessReply>(&body).next, first + 1000);
    }
    let id = world.write(&client, "secret/a", "one").await;
    let path = format!("/v1/blob/{id}");
    assert_eq!(attacker.get(&path).await.0, StatusCode::OK, "half of the share is left for reads");
    world.restart().await;
    let client = world.client(&world.first).await;
    let records = records(&client).await;
    let local: Vec<_> =
        records.iter().filter(|record| record.fact.op == Asked::LocalRead).collect();
    assert!(local.len() < 150, "{} rows", local.len());
    let all: u64 = local.iter().map(|record| record.fact.count.unwrap_or(1)).sum();
    assert_eq!(all, 10_000, "none is lost");
    let folded = local.iter().filter(|record| record.fact.count.is_some()).count();
    assert_eq!(folded, 21, "one for each path and process");
}

#[tokio::test]
async fn over_its_share_of_the_log_a_machine_writes_no_more_and_an_owner_does() {
    let shares = Shares { log_bytes_per_day: 60_000, ..Shares::default() };
    let (mut world, client, bad) = world(shares).await;
    let attacker = world.client(&bad).await;
    let entry = |world: &World, n| signed(&world.state, &bad.sign, &bad.actor(), vec![meta(n)]);
    for n in 0..2 {
        let entry = entry(&world, n);
        world.append(&attacker, entry, vec![]).await;
        if n == 0 {
            let shares: SharesReply = client.fetch("/v1/shares").await;
            assert_eq!(shares.near, [], "two thirds of it are no news");
        }
    }
    let shares: SharesReply = client.fetch("/v1/shares").await;
    let [near] = &shares.near[..] else { panic!("{shares:?}") };
    assert_eq!((near.machine, near.share, shares.over.len()), (world.number(&bad), Share::Log, 0));
    assert!(near.used_percent >= 80 && near.until > host::clock::now(), "{near:?}");
    let (status, body) = post(&attacker, &entry(&world, 2), vec![]).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(parse::<ErrorBody>(&body).detail.ends_with("share of bytes of entries a day"));
    for name in ["me", "nobody"] {
        let admin = Actor::Admin(name.parse().unwrap());
        let forged = signed(&world.state, &bad.sign, &admin, vec![meta(2)]);
        let (status, _) = post(&attacker, &forged, vec![]).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "it only says that an owner signed it");
    }
    world.write(&client, "secret/a", "one").await;
    let by_admin = world.by_admin(vec![meta(3)]);
    world.append(&attacker, by_admin.clone(), vec![]).await;
    // Sent again it is known, and makes no record.
    let before = metric(&world, "vault_server_audit_records").await;
    for _ in 0..5 {
        assert_eq!(post(&attacker, &by_admin, vec![]).await.0, StatusCode::CREATED);
    }
    assert_eq!(metric(&world, "vault_server_audit_records").await, before);
}

#[tokio::test]
async fn blobs_that_an_owners_entry_takes_are_not_of_the_machines_share() {
    let shares = Shares { blob_bytes_per_day: 3000, ..Shares::default() };
    let (mut world, client, _) = world(shares).await;
    for n in 0..10 {
        let (op, bytes) = world.put("secret/a", &n.to_string());
        let path = format!("/v1/blob/{}", op.blob().unwrap());
        assert_eq!(client.put(&path, bytes).await.0, StatusCode::CREATED, "{n}");
        let entry = world.by_admin(vec![op]);
        world.append(&client, entry, vec![]).await;
    }
    let mut parked = 0;
    loop {
        let (op, bytes) = world.put("secret/b", "x");
        let (status, _) = client.put(&format!("/v1/blob/{}", op.blob().unwrap()), bytes).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        parked += 1;
    }
    assert!((1..5).contains(&parked), "{parked} fit");
}

#[tokio::test]
async fn an_owner_who_lost_the_race_gets_the_next_place() {
    let (mut world, client, bad) = world(Shares::default()).await;
    let attacker = world.client(&bad).await;
    let late = world.by_admin(vec![remove(&world, &bad)]);
    let entry = |world: &World, n| signed(&world.state, &bad.sign, &bad.actor(), vec![meta(n)]);
    let first = entry(&world, 0);
    world.append(&attacker, first, vec![]).await;
    assert_eq!(post(&client, &late, vec![]).await.0, StatusCode::CONFLICT);
    // The attacker has everything ready before the owner has even looked.
    let rival = entry(&world, 1);
    let racing = tokio::spawn(async move { post(&attacker, &rival, vec![]).await.0 });
    let rivals = world.client(&bad).await;
    for _ in 0..10 {
        assert!(rivals.get("/v1/log?after=2").await.0.is_success(), "what writes nothing goes on");
    }
    assert!(!racing.is_finished());
    let removal = world.by_admin(vec![remove(&world, &bad)]);
    world.append(&client, removal, vec![]).await;
    assert_ne!(racing.await.unwrap(), StatusCode::CREATED);
    world.write(&client, "secret/a", "one").await;
}

#[tokio::test]
async fn a_page_of_the_audit_fits_the_room_and_the_next_goes_on() {
    let (mut world, client, _) = world(Shares::default()).await;
    let long = "x".repeat(250);
    for n in 0..4 {
        let puts = (0..1000_u64).map(|m| Fact {
            path: Some(format!("secret/{long}/{long}/{n}/{m}").parse().unwrap()),
            ..Fact::new(Asked::LocalRead)
        });
        let request = AccessRequest { run: Hash::ZERO, first: 1000 * n, reads: puts.collect() };
        assert_eq!(client.post(ACCESS, &request).await.0, StatusCode::OK);
    }
    let (_, page) = client.get("/v1/audit?limit=10000").await;
    assert!(page.len() < 3 << 19, "{}", page.len());
    let found = records(&client).await;
    let local = found.iter().filter(|record| record.fact.op == Asked::LocalRead);
    assert_eq!(local.count(), 4000);
    world.write(&client, "secret/a", "one").await;
    let frames = client.page(2).await;
    assert!(matches!(frames.last(), Some(Frame::Head(head)) if head.seq == 3));
}

/// Targets of some 250 kB, as a machine may report them.
fn large_targets() -> String {
    let row = |n: usize| TargetReport {
        name: format!("/srv/{n}.env").parse().unwrap(),
        path: format!("secret/{n}").parse().unwrap(),
        ver: 1,
        state: TargetState::Failed,
        since: Time::default(),
        hook: HookResult::Failed,
        detail: "x".repeat(250).parse().unwrap(),
    };
    let targets = (0..700).map(row).collect();
    let targets = Targets { agent: "a".parse().unwrap(), replaced: None, targets, scan: None };
    let text = serde_json::to_string(&targets).unwrap();
    assert!(text.len() > 200_000 && text.len() < limits::REPORT, "{}", text.len());
    text
}

#[tokio::test]
async fn unread_targets_hold_no_more_than_the_machines_room() {
    let (mut world, client, bad) = world(Shares::default()).await;
    let text = large_targets();
    for n in 0..5 {
        let other = world.add(&client, &format!("m{n}"), &[]).await;
        let mut seen = world.seen(&other, 1);
        seen.targets = Hash::of(&[text.as_bytes()]);
        let report = ReportRequest { targets: Some(text.clone()), ..world.report(&other, &seen) };
        let (status, body) = world.client(&other).await.post(REPORT, &report).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
    }
    let attacker = world.client(&bad).await;
    let (mut all, mut after, mut largest) = (0, 0, 0);
    loop {
        let (_, body) = attacker.get(&format!("{TARGETS}?after={after}")).await;
        let page: TargetsPage = parse(&body);
        largest = largest.max(body.len());
        all += page.machines.len();
        if !page.more {
            break;
        }
        after = Seen::claimed(&page.machines.last().unwrap().seen).unwrap();
    }
    assert_eq!(all, 5, "page by page");
    assert!(largest < 1 << 20, "{largest} bytes fit the room of an answer");
    let mut unread = Vec::new();
    for _ in 0..16 {
        let attacker = attacker.clone();
        unread.push(tokio::spawn(async move {
            attacker.send(Method::GET, TARGETS, Bytes::new()).await
        }));
    }
    let mut most = 0;
    for n in 0..30 {
        world.write(&client, "secret/a", &n.to_string()).await;
        most = most.max(metric(&world, "vault_server_answer_bytes").await);
    }
    assert!(most > 256 << 10, "they are under way: {most}");
    assert!(most <= 4 << 20, "{most} bytes are held for a machine that reads nothing");
    for request in &unread {
        request.abort();
    }
}

#[tokio::test]
async fn what_entries_leave_in_memory_is_of_the_share() {
    let shares = Shares { log_bytes_per_day: 1 << 20, ..Shares::default() };
    let (mut world, _, bad) = world(shares).await;
    let attacker = world.client(&bad).await;
    // In JSON one takes a hundred bytes.
    let tiny = |n: usize| {
        let path = format!("secret/{n}").parse().unwrap();
        let (max_versions, cas_required, custom) = (0, false, [].into());
        Op::MetaSet(MetaSet { path, max_versions, cas_required, delete_after: 0, custom })
    };
    let mut taken = 0;
    loop {
        let ops = (100 * taken..100 * (taken + 1)).map(tiny).collect();
        let entry = signed(&world.state, &bad.sign, &bad.actor(), ops);
        let (status, _) = post(&attacker, &entry, vec![]).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        assert_eq!(status, StatusCode::CREATED);
        shared::log::apply(&mut world.state, &entry).unwrap();
        taken += 1;
    }
    assert!((16..=20).contains(&taken), "a megabyte is used up by 2,000 secrets, not {taken}00");
}
