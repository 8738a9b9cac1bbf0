//! Reports: what is taken, what is refused, who gets them, and when they go.

use hyper::StatusCode;
use shared::audit::{Applied, AuditHead, Fact, HookRun, Op as Asked, Record};
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::log::{Op, Rekey};
use shared::report::{Seen, Targets};
use shared::text::Text;
use shared::time::Time;
use shared::token::MachineLine;
use shared::wire::v1::audit::{AccessRequest, AuditPage};
use shared::wire::v1::report::{ReportReply, ReportRequest, TargetsPage};
use shared::wire::v1::{ACCESS, REPORT, TARGETS};

use crate::audit::{shape, verified};
use crate::bounds::archived;
use crate::client::{Client, parse, refused};
use crate::world::{Machine, Running, World};

async fn posted(client: &Client, request: &ReportRequest) -> ReportReply {
    let (status, body) = client.post(REPORT, request).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    parse(&body)
}

fn targets(agent: &str) -> (String, Hash) {
    let (agent, targets) = (agent.parse().unwrap(), vec![]);
    Targets { agent, replaced: None, targets, scan: None }.write().unwrap()
}

#[tokio::test]
async fn local_accesses_come_along_with_a_report_and_are_recorded_once() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let hook = HookRun { began: Time::from_micros(7), ended: Time::from_micros(9), failed: None };
    let applied = Applied { file: "~/.env".parse().unwrap(), found: false, hook: Some(hook) };
    let applied = Fact {
        at: Some(Time::from_micros(u64::MAX)),
        // What the server knows better is not taken from the machine.
        machine: Some("another".parse().unwrap()),
        path: Some("secret/of/others".parse().unwrap()),
        ver: Some(3),
        applied: Some(applied),
        ..Fact::new(Asked::LocalApplied)
    };
    let run = Hash::of(&[b"run"]);
    let report = |n: u64, first: u64, reads: Vec<Fact>| ReportRequest {
        accesses: Some(AccessRequest { run, first, reads }),
        ..world.report(&world.first, &world.seen(&world.first, n))
    };
    for n in [1, 2] {
        let reply = posted(&client, &report(n, 0, vec![applied.clone()])).await;
        assert_eq!(reply.accesses.map(|reply| reply.next), Some(1));
    }
    let again = AccessRequest { run, first: 0, reads: vec![applied.clone()] };
    assert_eq!(client.post(ACCESS, &again).await.0, StatusCode::OK);
    let is_it = |record: &&Record| record.fact.op == Asked::LocalApplied;
    let records = verified(&client).await;
    let told: Vec<Fact> = records.iter().filter(is_it).map(|it| it.fact.clone()).collect();
    assert_eq!(
        told,
        [Fact {
            machine: Some(world.first.name.clone()),
            addr: told[0].addr.clone(),
            ..applied.clone()
        }]
    );
    // What is none is refused, and costs the report nothing.
    let forged = report(3, 1, vec![Fact { op: Asked::Put, ..applied }]);
    assert!(posted(&client, &forged).await.accesses.is_none());
    let records = verified(&client).await;
    let refused = records.iter().rfind(|record| record.fact.op == Asked::Access).unwrap();
    assert_eq!(refused.fact.result.as_str(), "E_PARSE");
}

#[tokio::test]
async fn a_report_is_kept_and_given_to_whoever_asks() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &[]).await;
    let remote = world.client(&vps).await;
    let mut frames = remote.follow(2).await;
    frames.head().await;
    let before = verified(&client).await.len();

    let (text, hash) = targets("vault-agent 0");
    let seen = Seen { targets: hash, ..world.seen(&vps, 3) };
    let report = world.report(&vps, &seen);
    assert!(posted(&remote, &report).await.wants_targets, "the text is not here");
    let page: TargetsPage = client.fetch(TARGETS).await;
    assert_eq!(page.machines[0].targets, "");
    let whole = ReportRequest { targets: Some(text.clone()), ..report.clone() };
    assert!(!posted(&remote, &whole).await.wants_targets, "the same record, with the text");
    let next = world.report(&vps, &Seen { n: 4, ..seen.clone() });
    assert!(!posted(&remote, &next).await.wants_targets, "the text is the same");
    let reply = posted(&client, &world.report(&world.first, &world.seen(&world.first, 1))).await;
    assert!(reply.seen.is_empty() && reply.now.as_micros() > 0, "nothing was asked for");
    let asks = world.report(&world.first, &world.seen(&world.first, 2));
    let reply = posted(&client, &ReportRequest { exchange: Some(0), ..asks }).await;
    assert_eq!((&reply.seen[..], reply.next), (std::slice::from_ref(&next.seen), 0));

    let page: TargetsPage = client.fetch(TARGETS).await;
    let found: Vec<_> =
        page.machines.iter().map(|one| (one.targets.as_str(), one.online)).collect();
    assert_eq!((found, page.more), (vec![("", false), (text.as_str(), true)], false));
    assert_eq!(page.machines[1].seen, next.seen);
    assert_eq!(page.machines[1].quiet, Some(0), "it follows");
    assert!(page.up.is_some());
    let page: TargetsPage = remote.fetch(&format!("{TARGETS}?after=1")).await;
    assert_eq!(page.machines.len(), 1);

    // What was accepted has no record, and what was asked again within a minute is only counted.
    // The audit head that came back is one to anchor.
    let records = verified(&client).await;
    let shapes: Vec<String> = records.iter().skip(before).map(shape).collect();
    let asked = ["a audit_leaves - - ok", "a targets - - ok"];
    assert_eq!(shapes, [&asked[..], &["vps targets - - ok", "a audit_read - - ok"]].concat());
    let anchored = Seen { n: 5, audit_n: reply.audit.n, audit_head: reply.audit.hash, ..seen };
    posted(&remote, &world.report(&vps, &anchored)).await;

    // It outlives the program.
    world.server.stop().await;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let page: TargetsPage = client.fetch(TARGETS).await;
    assert_eq!(page.machines[1].seen, world.report(&vps, &anchored).seen);
    assert_eq!((page.machines[1].targets.as_str(), page.machines[1].online), (&*text, false));
}

#[tokio::test]
async fn a_report_that_does_not_hold_is_refused_on_record() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &[]).await;
    let remote = world.client(&vps).await;
    let stale = world.seen(&vps, 1);
    world.write(&client, "secret/a", "one").await;
    let right = world.seen(&vps, 7);
    posted(&remote, &world.report(&vps, &right)).await;
    let vault = world.state.vault();
    let next = Seen { n: 8, ..right.clone() };
    let other = SignKey::generate();
    let forged = right.signed_head().place().sign(&other, vault).unwrap();
    let page: AuditPage = client.fetch("/v1/audit").await;
    let AuditHead { n, hash } = page.head;
    for (why, seen, code) in [
        ("older", Seen { n: 6, ..right.clone() }, "E_SEQ"),
        ("another of that number", Seen { audit_n: n, audit_head: hash, ..right.clone() }, "E_SEQ"),
        ("another's", Seen { machine: 1, ..next.clone() }, "E_ACTOR"),
        ("a head of another key", Seen { server_sig: forged.sig, ..next.clone() }, "E_REPORT"),
        ("a head that nobody made", Seen { head: Hash::ZERO, ..next.clone() }, "E_REPORT"),
        ("another epoch", Seen { epoch: right.head, ..next.clone() }, "E_REPORT"),
        ("a head to come", Seen { seq: right.seq + 1, ..next.clone() }, "E_REPORT"),
        (
            "another audit chain",
            Seen { audit_n: n, audit_head: Hash::ZERO, ..next.clone() },
            "E_REPORT",
        ),
        ("audit to come", Seen { audit_n: n + 99, audit_head: hash, ..next.clone() }, "E_REPORT"),
        ("audit of nothing", Seen { audit_head: hash, ..next.clone() }, "E_REPORT"),
    ] {
        let answer = refused(remote.post(REPORT, &world.report(&vps, &seen)).await);
        assert_eq!(answer, (422, code.to_owned()), "{why}");
    }
    let (text, hash) = targets("other");
    let named = Seen { targets: hash, ..next.clone() };
    for (why, report, code) in [
        ("another key's", world.report(&world.first, &next), "E_BADSIG"),
        ("targets of another hash", with(world.report(&vps, &next), &text), "E_REPORT"),
        ("not canonical", with(world.report(&vps, &named), &format!("{text} ")), "E_REPORT"),
    ] {
        let answer = refused(remote.post(REPORT, &report).await);
        assert_eq!(answer, (422, code.to_owned()), "{why}");
    }
    let page: AuditPage = client.fetch("/v1/audit?op=report").await;
    assert_eq!(page.records.len(), 4, "one for each code: like refusals share a record");
    // An earlier head that the log holds is no fault, nor is any head of the audit chain.
    let late = Seen { n: 8, audit_n: n, audit_head: hash_of(&client, n).await, ..stale };
    posted(&remote, &world.report(&vps, &late)).await;
}

fn with(report: ReportRequest, text: &str) -> ReportRequest {
    ReportRequest { targets: Some(text.to_owned()), ..report }
}

async fn hash_of(client: &Client, n: u64) -> Hash {
    let records: AuditPage = client.fetch("/v1/audit?limit=10000").await;
    let upto = usize::try_from(n).unwrap();
    let follow = |head: AuditHead, text: &String| head.follow(text.as_bytes()).unwrap().0;
    records.records[..upto].iter().fold(AuditHead::EMPTY, follow).hash
}

#[tokio::test]
async fn the_report_of_a_machine_goes_with_it() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let (web, vps) = (world.add(&client, "web", &[]).await, world.add(&client, "vps", &[]).await);
    let numbers = (world.number(&web), world.number(&vps));
    let (web_client, vps_client) = (world.client(&web).await, world.client(&vps).await);
    posted(&web_client, &world.report(&web, &world.seen(&web, 9))).await;
    posted(&vps_client, &world.report(&vps, &world.seen(&vps, 9))).await;
    let (number, to) = (numbers.0, "desk".parse().unwrap());
    world.append(&client, world.by_admin(vec![Op::MachineRename { number, to }]), vec![]).await;
    let desk = Machine { name: "desk".parse().unwrap(), ..web };
    posted(&web_client, &world.report(&desk, &world.seen(&desk, 10))).await;
    let listed = async |client: &Client| -> Vec<String> {
        let page: TargetsPage = client.fetch(TARGETS).await;
        page.machines.iter().map(|one| one.seen.by.to_string()).collect()
    };
    assert_eq!(listed(&client).await, ["machine:desk", "machine:vps"], "a name is only a name");

    let fresh = Machine::new("desk");
    let MachineLine { recipient, sign, proof, .. } = fresh.line();
    let new_number = world.state.due_machine();
    let rekey = Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof });
    world.append(&client, world.by_admin(vec![rekey]), vec![]).await;
    assert_eq!(listed(&client).await, ["machine:vps"]);
    let fresh_client = world.client(&fresh).await;
    posted(&fresh_client, &world.report(&fresh, &world.seen(&fresh, 1))).await;
    let late = world.seen(&fresh, 11);
    let late = world.report(&desk, &Seen { machine: number, ..late });
    let again = world.client(&desk).await;
    assert_eq!(refused(again.post(REPORT, &late).await), (403, "forbidden".to_owned()));

    let remove = Op::MachineRemove { number: numbers.1, reason: Text::default() };
    world.append(&client, world.by_admin(vec![remove]), vec![]).await;
    assert_eq!(listed(&client).await, ["machine:desk"], "the new one's");
    world.server.stop().await;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    assert_eq!(listed(&client).await, ["machine:desk"]);
    let db = rusqlite::Connection::open(world.config.data.join("vault.db")).unwrap();
    let kept: i64 = db.query_row("SELECT count(*) FROM report", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
}

/// Segments are some megabytes: who names records inside them again and again has them read no more
/// often than its bytes allow.
#[tokio::test]
async fn looking_an_archived_audit_record_up_is_of_the_machines_share() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &[]).await;
    let long = ["secret", &"x".repeat(250), &"y".repeat(250), &"z".repeat(250)].join("/");
    let read =
        Fact { path: Some(long.parse().unwrap()), ver: Some(1), ..Fact::new(Asked::LocalRead) };
    for first in [0, 1000, 2000] {
        let request = AccessRequest { run: Hash::ZERO, first, reads: vec![read.clone(); 1000] };
        assert_eq!(client.post(ACCESS, &request).await.0, StatusCode::OK);
    }
    world.server.stop().await;
    let db = rusqlite::Connection::open(world.config.data.join("vault.db")).unwrap();
    db.execute("UPDATE audit SET time = 1000000", []).unwrap();
    drop(db);
    world.config.shares.bytes_per_second = 1 << 20;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let sealed = archived(&client, |_| true).await;
    let remote = world.client(&vps).await;
    let mut n = 0;
    let mut answered = async |audit: AuditHead| {
        n += 1;
        let (audit_n, audit_head) = (audit.n, audit.hash);
        let seen = Seen { audit_n, audit_head, ..world.seen(&vps, n) };
        remote.post(REPORT, &world.report(&vps, &seen)).await.0
    };
    for _ in 0..40 {
        assert_eq!(answered(AuditHead::EMPTY).await, StatusCode::OK);
    }
    let within = AuditHead { n: sealed.last - 1, hash: Hash::ZERO };
    assert_eq!(answered(within).await, StatusCode::UNPROCESSABLE_ENTITY);
    let mut refused = false;
    for _ in 0..40 {
        refused |= answered(within).await == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(refused, "some hundred megabytes are read of a file");
}
