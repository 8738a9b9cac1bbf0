//! What is recorded, who may read it, and that the chain holds.

use hyper::StatusCode;
use shared::audit::{AuditHead, Fact, Op, Outcome, Record};
use shared::hash::Hash;
use shared::time::Time;
use shared::wire::v1::ACCESS;
use shared::wire::v1::audit::{AccessReply, AccessRequest, AuditPage, LeavesPage};

use crate::client::{Client, parse, refused};
use crate::world::{Machine, World, post};

/// Reads all records and checks them against the chain and its leaves.
pub async fn verified(client: &Client) -> Vec<Record> {
    let page: AuditPage = client.fetch("/v1/audit?limit=10000").await;
    assert!(!page.more);
    let (mut head, mut records) = (AuditHead::EMPTY, Vec::new());
    for text in &page.records {
        let (next, record) = head.follow(text.as_bytes()).unwrap();
        head = next;
        records.push(record);
    }
    assert_eq!(head, page.head);
    let leaves: LeavesPage = client.fetch("/v1/audit/leaves").await;
    let chained = leaves.leaves.iter().fold(AuditHead::EMPTY, |head, leaf| head.then(*leaf));
    assert_eq!(chained, leaves.head);
    let before = usize::try_from(head.n).unwrap();
    let known =
        leaves.leaves[..before].iter().fold(AuditHead::EMPTY, |head, leaf| head.then(*leaf));
    assert_eq!(known, head);
    records
}

pub fn shape(Record { fact, .. }: &Record) -> String {
    let dash = || "-".to_owned();
    format!(
        "{} {} {} {} {}",
        fact.machine.as_ref().map_or_else(dash, ToString::to_string),
        fact.op,
        fact.path.as_ref().map_or_else(dash, ToString::to_string),
        fact.ver.map_or_else(dash, |ver| ver.to_string()),
        fact.result
    )
}

fn read_back(text: &str) -> Record {
    Record::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn every_action_leaves_its_record() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["secret/vps/"]).await;
    let remote = world.client(&vps).await;
    let mut frames = remote.follow(2).await;
    frames.head().await;
    let home = world.write(&client, "secret/home", "one").await;
    world.write(&client, "secret/vps/x", "two").await;
    frames.entry().await;
    assert_eq!(frames.entry().await.1.len(), 1);
    let denied = refused(remote.get(&format!("/v1/blob/{home}")).await);
    assert_eq!(denied, (403, "E_DENIED".to_owned()));
    assert!(client.get(&format!("/v1/blob/{home}")).await.0.is_success());
    assert_eq!(refused(remote.get("/v1/audit").await), (403, "E_DENIED".to_owned()));

    let records = verified(&client).await;
    let shapes: Vec<String> = records.iter().map(shape).collect();
    assert_eq!(
        shapes,
        [
            "a genesis - - ok",
            "a machine_add - - ok",
            "a machine_add - - ok",
            "vps follow - - ok",
            "a put secret/home 1 ok",
            "a put secret/vps/x 1 ok",
            "vps deliver secret/vps/x 1 ok",
            "vps read secret/home 1 E_DENIED",
            "a read secret/home 1 ok",
            "vps audit_read - - E_DENIED",
            "a audit_read - - ok",
        ]
    );
    assert_eq!(records[2].fact.who, Some("admin:me".parse().unwrap()));
    assert_eq!((records[5].fact.seq, records[6].fact.seq), (Some(4), Some(4)));
    assert_eq!(records[6].fact.addr, Some("127.0.0.1".parse().unwrap()));

    let find = async |query: &str| -> Vec<String> {
        let page: AuditPage = client.fetch(&format!("/v1/audit?{query}")).await;
        page.records.iter().map(|text| shape(&read_back(text))).collect()
    };
    assert_eq!(find("denied=true&op=read").await, ["vps read secret/home 1 E_DENIED"]);
    assert_eq!(find("path=secret/v*&machine=a").await, ["a put secret/vps/x 1 ok"]);
    assert_eq!(find("newest=true&limit=2&machine=vps").await, shapes_of(&shapes, &[7, 9]));
    assert_eq!(find("after=9&limit=1").await, shapes_of(&shapes, &[9]));
    let later = records[8].time.as_micros();
    assert_eq!(find(&format!("since={later}&op=read&machine=a")).await, shapes_of(&shapes, &[8]));
    assert_eq!(find("path=secret/[v]*").await, Vec::<String>::new());
    // However it was delivered.
    assert_eq!(find("op=read").await, shapes_of(&shapes, &[6, 7, 8]));
    assert_eq!(find("op=deliver").await, shapes_of(&shapes, &[6]));
    assert_eq!(find("op=write").await, shapes_of(&shapes, &[4, 5]));
    assert_eq!(find("op=act").await, shapes_of(&shapes, &[0, 1, 2]));
    assert_eq!(find("before=9&newest=true&limit=1").await, shapes_of(&shapes, &[7]));
    assert_eq!(find("before=9&op=read").await, shapes_of(&shapes, &[6, 7]));
    let until = records[10].time.as_micros() + 1;
    assert_eq!(find(&format!("until={until}&op=read")).await, shapes_of(&shapes, &[6, 7, 8]));
    assert_eq!(find("until=1").await, Vec::<String>::new());
    assert_eq!(refused(client.get("/v1/audit?limit=0").await), (422, "E_LIMITS".to_owned()));
    assert_eq!(refused(client.get("/v1/audit?limit=x").await), (400, "bad_request".to_owned()));
}

fn shapes_of(shapes: &[String], at: &[usize]) -> Vec<String> {
    at.iter().map(|at| shapes[*at].clone()).collect()
}

#[tokio::test]
async fn strangers_are_counted_not_listed() {
    let world = World::new().await;
    let stranger = world.client(&Machine::new("nobody")).await;
    for _ in 0..5 {
        assert_eq!(refused(stranger.get("/v1/log").await), (403, "forbidden".to_owned()));
    }
    let malformed = stranger.call(hyper::Method::POST, "/v1/genesis", b"{".to_vec().into()).await;
    assert_eq!(refused(malformed), (403, "E_CLAIM".to_owned()));
    let addr = world.server.addr;
    let (config, first) = (world.config.clone(), world.first);
    world.server.stop().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    let server = crate::world::Running::start(config).await;
    let client = Client::connect(server.addr, &world.server_key, &first.sign).await;
    let records = verified(&client).await;
    let found: Vec<_> = records.iter().filter(|record| record.fact.op == Op::Stranger).collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].fact.count, &found[0].fact.result), (Some(6), &Outcome::Forbidden));
    assert!(found[0].fact.key.is_some() && found[0].fact.machine.is_none());
}

#[tokio::test]
async fn local_reads_are_recorded_once() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let read = |ver| Fact {
        at: Some(Time::from_micros(77)),
        // What the server knows better is not taken from the machine.
        machine: Some("another".parse().unwrap()),
        seq: Some(1),
        who: Some("python3[812] uid 1000".parse().unwrap()),
        path: Some("secret/a".parse().unwrap()),
        ver: Some(ver),
        count: Some(ver),
        ..Fact::new(Op::LocalRead)
    };
    let (run, clone) = (Hash::of(&[b"run"]), Hash::of(&[b"clone"]));
    for (run, first, reads, next) in [
        (run, 0, vec![read(1), read(2)], 2),
        (run, 0, vec![read(1), read(2), read(3)], 3),
        (run, 1, vec![read(2)], 3),
        // Another agent with the same key and the same numbers.
        (clone, 1, vec![read(4)], 2),
    ] {
        let (status, body) = client.post(ACCESS, &AccessRequest { run, first, reads }).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(parse::<AccessReply>(&body).next, next);
    }
    let records = verified(&client).await;
    let local: Vec<_> = records.iter().filter(|record| record.fact.op == Op::LocalRead).collect();
    let seen: Vec<_> = local.iter().map(|record| (record.fact.ver, record.fact.count)).collect();
    let expected = [(Some(1), None), (Some(2), Some(2)), (Some(3), Some(3)), (Some(4), Some(4))];
    assert_eq!(seen, expected);
    assert_eq!(local[0].fact.at, Some(Time::from_micros(77)));
    assert_eq!(local[0].fact.who, Some("python3[812] uid 1000".parse().unwrap()));
    assert_eq!(
        (&local[0].fact.machine, local[0].fact.seq),
        (&Some(world.first.name.clone()), None)
    );
    let many = AccessRequest { run, first: 3, reads: vec![read(1); 1001] };
    assert_eq!(refused(client.post(ACCESS, &many).await), (400, "bad_request".to_owned()));
    let late = AccessRequest { run, first: u64::MAX, reads: vec![read(1)] };
    assert_eq!(refused(client.post(ACCESS, &late).await), (422, "E_LIMITS".to_owned()));
    let forged = Fact { op: Op::Put, ..read(1) };
    let forged = AccessRequest { run, first: 3, reads: vec![read(1), forged] };
    assert_eq!(refused(client.post(ACCESS, &forged).await), (422, "E_PARSE".to_owned()));
    let newer = Fact { op: Op::from("local_peek"), ..read(1) };
    let newer = AccessRequest { run, first: 3, reads: vec![newer] };
    assert_eq!(client.post(ACCESS, &newer).await.0, StatusCode::OK, "an agent that is newer");
}

#[tokio::test]
async fn lost_races_repetitions_and_malformed_requests_are_on_record() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let stale = world.by_first(vec![world.put("secret/a", "lost").0]);
    let (op, bytes) = world.put("secret/a", "one");
    let first = world.by_first(vec![op]);
    world.append(&client, first.clone(), vec![bytes]).await;
    let (status, _) = post(&client, &stale, vec![]).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, _) = post(&client, &first, vec![]).await;
    assert_eq!(status, StatusCode::CREATED);
    for answer in [
        client.get("/v1/nothing").await,
        client.get("/v1/report").await,
        client.call(hyper::Method::POST, "/v1/log", b"{".to_vec().into()).await,
        client.get("/v1/audit?limit=0").await,
    ] {
        assert!(answer.0.is_client_error());
    }
    let records = verified(&client).await;
    let shapes: Vec<String> = records.iter().skip(2).map(shape).collect();
    assert_eq!(
        shapes,
        [
            "a put secret/a 1 ok",
            "a put secret/a 1 conflict",
            "a request - - not_found",
            "a request - - method_not_allowed",
            "a request - - bad_request",
            "a audit_read - - E_LIMITS",
            "a audit_read - - ok",
        ]
    );
    assert_eq!(records[2].fact.seq, Some(2));
}

#[tokio::test]
async fn a_waiting_reader_gets_the_next_record_and_not_its_own() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let page: AuditPage = client.fetch("/v1/audit").await;
    let path = format!("/v1/audit?wait=true&op=put&after={}", page.head.n);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.fetch::<AuditPage>(&path).await }
    });
    world.write(&client, "secret/a", "one").await;
    let page = waiting.await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(shape(&read_back(&page.records[0])), "a put secret/a 1 ok");
}

#[tokio::test]
async fn a_read_that_finds_nothing_is_no_refusal() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let read = |result: &str| Fact {
        at: Some(Time::from_micros(77)),
        who: Some("vault[1] uid 0".parse().unwrap()),
        path: Some("secret/a".parse().unwrap()),
        result: Outcome::from(result),
        ..Fact::new(Op::LocalRead)
    };
    let reads = ["missing", "denied", "unavailable", "ok"].map(read).to_vec();
    let (status, _) =
        client.post(ACCESS, &AccessRequest { run: Hash::ZERO, first: 0, reads }).await;
    assert_eq!(status, StatusCode::OK);
    let page: AuditPage = client.fetch("/v1/audit?denied=true").await;
    let found: Vec<String> = page.records.iter().map(|text| shape(&read_back(text))).collect();
    assert_eq!(found, ["a local_read secret/a - denied"]);
}
