//! A database that was set back: how it is found out, what it does until then, how that ends.

use hyper::StatusCode;
use shared::audit::Op as Asked;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::keys::SignKey;
use shared::log::{Op, Resume, apply};
use shared::report::Seen;
use shared::signed::Envelope;
use shared::wire::v1::audit::{AuditPage, LeavesPage};
use shared::wire::v1::log::{AppendRequest, HealReply, HealRequest};
use shared::wire::v1::report::TargetsPage;
use shared::wire::v1::{AUDIT_LEAVES, HEAL, LOG, REPORT, TARGETS};

use crate::audit::{shape, verified};
use crate::client::{Client, parse, refused};
use crate::edge::loopback;
use crate::restart::{copy, log_of};
use crate::world::{Machine, Running, World, post, signed};

/// What is put back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// The database, beside the head file as it was last.
    Database,
    /// The whole data directory.
    Everything,
}

/// A server that was set back to where the VPS had just come in, and what it lost.
pub struct Lost {
    pub world: World,
    /// Reads `secret/b`.
    pub vps: Machine,
    /// Removed in what was lost.
    pub gone: Machine,
    /// Genesis, first machine, both others; then the lost entries.
    pub log: Vec<Envelope>,
    /// Of `secret/a` 1 (destroyed), `secret/a` 2, `secret/b` 1.
    pub blobs: Vec<(Hash, Vec<u8>)>,
}

/// Entries that are still there.
pub const KEPT: usize = 3;

pub async fn lose(back: Back) -> Lost {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["secret/b"]).await;
    let gone = world.add(&client, "gone", &["*"]).await;
    world.write(&client, "secret/b", "of the past").await;
    let old = world.dir.path().join("old");
    copy(&world.config.data, &old);
    let mut blobs = Vec::new();
    for path in ["secret/a", "secret/a", "secret/b"] {
        let (op, bytes) = world.put(path, "value");
        blobs.push((op.blob().unwrap(), bytes.clone()));
        world.append(&client, world.by_first(vec![op]), vec![bytes]).await;
    }
    let path = "secret/a".parse().unwrap();
    let destroy = Op::Destroy(shared::log::Versions { path, versions: vec![1] });
    world.append(&client, world.by_first(vec![destroy]), vec![]).await;
    let (number, reason) = (world.number(&gone), "lost".parse().unwrap());
    world.append(&client, world.by_admin(vec![Op::MachineRemove { number, reason }]), vec![]).await;
    let log = log_of(&client).await;
    drop(client);
    world.server.stop().await;
    if back == Back::Database {
        std::fs::copy(world.config.data.join("head"), old.join("head")).unwrap();
    }
    world.config.data = old;
    world.server = Running::start(world.config.clone()).await;
    // It answers once it has looked at itself.
    drop(world.client(&world.first).await);
    Lost { world, vps, gone, log, blobs }
}

impl Lost {
    /// Returns the state that the server was set back to.
    pub fn past(&self) -> shared::log::State {
        let mut past = shared::log::start(&self.log[0]).unwrap();
        for envelope in &self.log[1..=KEPT + 1] {
            apply(&mut past, envelope).unwrap();
        }
        past
    }

    pub fn code(&self) -> Option<Hash> {
        let text = std::fs::read_to_string(self.world.config.data.join("resume-code")).ok()?;
        Some(text.trim().parse().unwrap())
    }

    /// Signs an entry that resumes from where the server stands.
    pub async fn resume(&self, client: &Client, by: &str) -> Envelope {
        let past = self.past();
        let leaves: LeavesPage = client.fetch(AUDIT_LEAVES).await;
        let (seq, head) = (past.seq(), past.head());
        let resume = Resume { seq, head, audit_n: leaves.head.n, audit_head: leaves.head.hash };
        let ops = vec![Op::Resume(resume)];
        match by {
            "me" => signed(&past, &self.world.admin, &by_me(), ops),
            _ => signed(&past, &self.world.first.sign, &self.world.first.actor(), ops),
        }
    }

    pub async fn first(&self) -> Client {
        self.world.client(&self.world.first).await
    }

    /// Tells whether the server takes no entry but lost ones.
    pub async fn is_restored(&self) -> bool {
        let client = self.world.client(&self.vps).await;
        let (status, body) = client.post(HEAL, &HealRequest::default()).await;
        assert_eq!(status, StatusCode::OK);
        parse::<HealReply>(&body).restored
    }

    /// Stops the server as a kill does, and starts it again.
    pub async fn kill(&mut self) {
        let to = self.world.dir.path().join(format!("killed-{}", Hash::of(&[b"x"]).short()));
        let to = (0..).map(|n| to.with_extension(n.to_string())).find(|to| !to.exists()).unwrap();
        copy(&self.world.config.data, &to);
        self.world.config.data = to;
        self.world.server = Running::start(self.world.config.clone()).await;
        drop(self.first().await);
    }
}

fn by_me() -> shared::name::Actor {
    shared::name::Actor::Admin("me".parse().unwrap())
}

pub async fn resuming(client: &Client, envelope: &Envelope, code: Option<Hash>) -> (u16, String) {
    let request = AppendRequest { envelope: envelope.clone(), blobs: vec![], code };
    let answer = client.post(LOG, &request).await;
    if answer.0 == StatusCode::CREATED { (201, String::new()) } else { refused(answer) }
}

pub async fn heal(client: &Client, entries: &[Envelope], head: SignedHead) -> HealReply {
    let request = HealRequest { entries: entries.to_vec(), head: Some(head), code: None };
    let (status, body) = client.post(HEAL, &request).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    parse(&body)
}

#[tokio::test]
async fn a_database_that_lacks_the_head_beside_it_takes_lost_entries_only() {
    let lost = lose(Back::Database).await;
    let client = lost.first().await;
    assert!(lost.is_restored().await, "nobody had to show anything");
    let past = lost.past();
    let entry = signed(&past, &lost.world.admin, &by_me(), vec![lost.vps_read_all(&past)]);
    let answer = refused(post(&client, &entry, vec![]).await);
    assert_eq!(answer, (503, "restored".to_owned()));
    let known = lost.log[KEPT + 1].clone();
    assert_eq!(post(&client, &known, vec![]).await.0, StatusCode::CREATED, "it is in the log");
    let kept = past.secret(&"secret/b".parse().unwrap()).unwrap().current().unwrap().1.blob;
    let answer = refused(client.get(&format!("/v1/blob/{kept}")).await);
    assert_eq!(answer, (503, "restored".to_owned()));
    let (id, bytes) = lost.blobs[1].clone();
    assert_eq!(client.put(&format!("/v1/blob/{id}"), bytes).await.0, StatusCode::CREATED);
    assert_eq!(log_of(&client).await, lost.log[..=KEPT + 1]);
    let code = lost.code().expect("the file shows the code");

    let shapes: Vec<String> = verified(&client).await.iter().map(shape).collect();
    assert_eq!(
        shapes[shapes.len() - 6..],
        [
            "- restored - - ok",
            "a access_set - - restored",
            "a read secret/b 1 restored",
            "a blob_put - - ok",
            "a log - - ok",
            "a audit_read - - ok",
        ]
    );
    // The newest head that was ever given out is in the file: once it is reached, all is well.
    let vps = lost.world.client(&lost.vps).await;
    let healed = heal(&vps, &lost.log[1..], lost.world.newest()).await;
    assert_eq!((healed.head, healed.restored), (lost.world.newest(), false));
    assert!(!lost.world.config.data.join("resume-code").exists());
    let mut lost = lost;
    assert_eq!(client.get(&format!("/v1/blob/{id}")).await.0, StatusCode::OK);
    lost.world.write(&client, "secret/a", "the vault goes on").await;
    let (seq, head) = (lost.world.state.seq(), lost.world.state.head());
    let resume = Resume { seq, head, audit_n: 0, audit_head: Hash::ZERO };
    let resume = lost.world.by_admin(vec![Op::Resume(resume)]);
    assert_eq!(resuming(&client, &resume, Some(code)).await, (403, "E_CLAIM".to_owned()));
}

impl Lost {
    /// Returns an act of an owner.
    fn vps_read_all(&self, past: &shared::log::State) -> Op {
        let (number, _) = past.machine(&self.vps.name).unwrap();
        let (read, write) = (shared::grant::Grants::parse(&["*"]).unwrap(), Default::default());
        Op::AccessSet(shared::log::Access { number, was: past.was_access(number), read, write })
    }
}

#[tokio::test]
async fn a_caller_that_holds_a_later_head_finds_it_out() {
    for by in ["a", "vps", "nobody"] {
        let lost = lose(Back::Everything).await;
        assert!(!lost.is_restored().await, "nobody can know yet");
        let shows = match by {
            "a" => lost.first().await,
            "vps" => lost.world.client(&lost.vps).await,
            _ => lost.world.client(&Machine::new(by)).await,
        };
        // One that was lost before the newest will do, whatever is asked for with it.
        let shows = shows.showing(&lost.world.heads[KEPT + 3]);
        match by {
            "a" => {
                let (op, bytes) = lost.world.put("secret/c", "too late");
                let late = signed(
                    &lost.past(),
                    &lost.world.first.sign,
                    &lost.world.first.actor(),
                    vec![op],
                );
                let answer = refused(post(&shows, &late, vec![bytes]).await);
                assert_eq!(answer, (503, "restored".to_owned()), "it is looked at first");
            }
            _ => drop(shows.get("/v1/log").await),
        }
        assert!(lost.is_restored().await, "{by}");
        let page: AuditPage = lost.first().await.fetch("/v1/audit?op=restored").await;
        assert_eq!(page.records.len(), 1);
    }
}

#[tokio::test]
async fn what_a_caller_cannot_prove_changes_nothing() {
    let lost = lose(Back::Everything).await;
    let client = lost.first().await;
    let (vault, newest) = (lost.world.state.vault(), lost.world.newest());
    let other = SignKey::generate();
    for head in [
        newest.place().sign(&other, vault).unwrap(),
        SignedHead { seq: newest.seq + 1, ..newest },
        SignedHead { epoch: newest.head, ..newest },
        World::new().await.newest(),
        lost.world.heads[0],
        lost.world.heads[KEPT],
    ] {
        assert_eq!(client.showing(&head).get("/v1/log").await.0, StatusCode::OK);
    }
    for text in ["", "{}", "null", "x", &"9".repeat(4096)] {
        let answer = refused(client.saying(text).get("/v1/log").await);
        assert_eq!(answer, (400, "bad_request".to_owned()), "{text:.9}");
    }
    // Elsewhere the header says nothing.
    assert_eq!(client.showing(&newest).get("/v1/audit").await.0, StatusCode::OK);
    assert!(!lost.is_restored().await);
}

#[tokio::test]
async fn a_machine_that_was_removed_cannot_write_into_the_past() {
    let lost = lose(Back::Database).await;
    let gone = lost.world.client(&lost.gone).await;
    let past = lost.past();
    let kept = past.secret(&"secret/b".parse().unwrap()).unwrap().current().unwrap().1.blob;
    let answer = refused(gone.get(&format!("/v1/blob/{kept}")).await);
    assert_eq!(answer, (503, "restored".to_owned()), "nor read it");
    let own = Op::MountDrop { mount: "secret".parse().unwrap() };
    let own = signed(&past, &lost.gone.sign, &lost.gone.actor(), vec![own]);
    assert_eq!(refused(post(&gone, &own, vec![]).await), (503, "restored".to_owned()));
    let first = lost.first().await;
    heal(&first, &lost.log[1..], lost.world.newest()).await;
    gone.ended().await;
    let again = lost.world.client(&lost.gone).await;
    assert_eq!(refused(again.get("/v1/log").await), (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn an_owner_resumes_once_with_the_code_of_the_host() {
    let mut lost = lose(Back::Everything).await;
    let client = lost.first().await;
    let early = lost.resume(&client, "me").await;
    assert_eq!(resuming(&client, &early, None).await, (403, "E_CLAIM".to_owned()), "all is well");
    let newest = lost.world.newest();
    assert_eq!(client.showing(&newest).get("/v1/log").await.0, StatusCode::OK);
    let code = lost.code().unwrap();

    // Healing alone is no end: another caller may hold more.
    let healed = heal(&client, &lost.log[KEPT + 2..=KEPT + 3], lost.world.heads[KEPT + 2]).await;
    assert!(healed.restored);
    let mut past = lost.past();
    for envelope in &lost.log[KEPT + 2..=KEPT + 3] {
        apply(&mut past, envelope).unwrap();
    }
    let leaves: LeavesPage = client.fetch(AUDIT_LEAVES).await;
    let resume = |audit_n, audit_head| {
        Op::Resume(Resume { seq: past.seq(), head: past.head(), audit_n, audit_head })
    };
    let right = resume(leaves.head.n, leaves.head.hash);
    let mine = signed(&past, &lost.world.admin, &by_me(), vec![right.clone()]);
    let (first, actor) = (&lost.world.first.sign, lost.world.first.actor());
    let machine = signed(&past, first, &actor, vec![right]);
    let wrong = signed(&past, &lost.world.admin, &by_me(), vec![resume(2, Hash::ZERO)]);
    for (entry, code, expected) in [
        (&mine, None, (403, "E_CLAIM")),
        (&mine, Some(Hash::ZERO), (403, "E_CLAIM")),
        (&machine, Some(code), (422, "E_DENIED")),
        (&wrong, Some(code), (422, "E_MISSING")),
        (&early, Some(code), (409, "")),
        (&mine, Some(code), (201, "")),
        (&mine, None, (201, "")),
    ] {
        let request = AppendRequest { envelope: entry.clone(), blobs: vec![], code };
        let (status, body) = client.post(LOG, &request).await;
        let found = if status == StatusCode::CONFLICT || status == StatusCode::CREATED {
            (status.as_u16(), String::new())
        } else {
            refused((status, body))
        };
        assert_eq!(found, (expected.0, expected.1.to_owned()));
    }
    assert!(!lost.is_restored().await);
    assert!(lost.code().is_none());
    apply(&mut past, &mine).unwrap();
    let frames = client.page(past.seq()).await;
    assert!(matches!(&frames[..], [shared::wire::v1::log::Frame::Head(head)]
        if head.place() == past.place() && head.epoch == past.head()));

    // What the epoch that is over has lost was given up.
    for head in [newest, lost.world.heads[KEPT + 4]] {
        assert_eq!(client.showing(&head).get("/v1/log").await.0, StatusCode::OK);
    }
    assert!(!lost.is_restored().await);
    lost.world.state = past;
    lost.world.write(&client, "secret/a", "the vault goes on").await;
    let again = signed(
        &lost.world.state,
        &lost.world.admin,
        &by_me(),
        vec![Op::Resume(Resume {
            seq: lost.world.state.seq(),
            head: lost.world.state.head(),
            audit_n: 0,
            audit_head: Hash::ZERO,
        })],
    );
    assert_eq!(resuming(&client, &again, Some(code)).await, (403, "E_CLAIM".to_owned()), "used");
    let page: AuditPage = client.fetch("/v1/audit?op=resume").await;
    let found: Vec<String> = page.records.iter().map(|text| shape_of(text)).collect();
    assert!(found.iter().any(|one| one == "a resume - - E_CLAIM"), "{found:?}");
}

fn shape_of(text: &str) -> String {
    shape(&shared::audit::Record::parse(text.as_bytes()).unwrap())
}

#[tokio::test]
async fn the_state_outlives_the_program() {
    let mut lost = lose(Back::Database).await;
    let code = lost.code().unwrap();
    lost.kill().await;
    assert!(lost.is_restored().await);
    assert_eq!(lost.code(), Some(code), "the code stays");
    // Half of it is back.
    let client = lost.first().await;
    let (half, head) = (&lost.log[KEPT + 2..=KEPT + 3], lost.world.heads[KEPT + 2]);
    assert!(heal(&client, half, head).await.restored);
    lost.kill().await;
    assert!(lost.is_restored().await);
    let client = lost.first().await;
    assert!(!heal(&client, &lost.log[1..], lost.world.newest()).await.restored);
    lost.kill().await;
    assert!(!lost.is_restored().await);
    assert!(lost.code().is_none());
    let client = lost.first().await;
    lost.world.write(&client, "secret/a", "the vault goes on").await;

    let mut lost = lose(Back::Everything).await;
    lost.first().await.showing(&lost.world.newest()).get("/v1/log").await;
    lost.kill().await;
    assert!(lost.is_restored().await, "as a caller told");
    let (code, client) = (lost.code(), lost.first().await);
    let resume = lost.resume(&client, "me").await;
    assert_eq!(resuming(&client, &resume, code).await.0, 201);
    lost.kill().await;
    assert!(!lost.is_restored().await);
}

/// Puts another head file in place.
fn put_back(data: &std::path::Path, content: &[u8]) {
    host::files::replace(&data.join("head"), content, host::files::Access::PRIVATE).unwrap();
}

#[tokio::test]
async fn a_kill_between_a_resume_and_its_head_is_no_setback() {
    let mut lost = lose(Back::Database).await;
    let (code, client) = (lost.code(), lost.first().await);
    let before = std::fs::read(lost.world.config.data.join("head")).unwrap();
    let resume = lost.resume(&client, "me").await;
    assert_eq!(resuming(&client, &resume, code).await.0, 201);
    put_back(&lost.world.config.data, &before);
    lost.kill().await;
    assert!(!lost.is_restored().await, "the file tells of an epoch that is over");
}

#[tokio::test]
async fn a_code_that_was_lost_is_made_anew() {
    let mut lost = lose(Back::Database).await;
    let old = lost.code();
    lost.world.server.stop().await;
    std::fs::remove_file(lost.world.config.data.join("resume-code")).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    lost.world.config.metrics_listen = Some(free);
    lost.world.server = Running::start(lost.world.config.clone()).await;
    let client = lost.first().await;
    let code = lost.code();
    assert!(code.is_some() && code != old);
    assert!(loopback(free, "/metrics").await.contains("\nvault_server_restored 1\n"));
    let resume = lost.resume(&client, "me").await;
    assert_eq!(resuming(&client, &resume, old).await, (403, "E_CLAIM".to_owned()));
    assert_eq!(resuming(&client, &resume, code).await.0, 201);
    assert!(loopback(free, "/metrics").await.contains("\nvault_server_restored 0\n"));
}

#[tokio::test]
async fn a_caller_may_know_more_than_the_file() {
    // The head file is of an earlier day as well, but later than the database.
    let mut lost = lose(Back::Everything).await;
    lost.world.server.stop().await;
    let data = lost.world.config.data.clone();
    let earlier = lost.world.heads[KEPT + 2];
    let text = format!("0 {}", serde_json::to_string(&earlier).unwrap());
    let line = format!("{} {text}\n", Hash::of(&[text.as_bytes()]));
    put_back(&data, line.as_bytes());
    lost.world.server = Running::start(lost.world.config.clone()).await;
    assert!(lost.is_restored().await);
    let client = lost.first().await;
    assert_eq!(client.showing(&lost.world.newest()).get("/v1/log").await.0, StatusCode::OK);
    let healed = heal(&client, &lost.log[KEPT + 2..=KEPT + 3], earlier).await;
    assert!(healed.restored, "the head of the file is reached, and a caller holds a later one");
}

#[tokio::test]
async fn reports_are_taken_and_what_names_a_lost_audit_record_goes_with_the_state() {
    let lost = lose(Back::Database).await;
    let client = lost.world.client(&lost.vps).await;
    let mut world = lost.world;
    let newest = world.heads.clone();
    world.heads.truncate(KEPT + 1);
    let mut seen = world.seen(&lost.vps, 1);
    (seen.audit_n, seen.audit_head) = (9_999, Hash::of(&[b"lost with the rest"]));
    assert_eq!(client.post(REPORT, &world.report(&lost.vps, &seen)).await.0, StatusCode::OK);
    world.heads = newest;
    let ahead = world.seen(&lost.vps, 2);
    let answer = refused(client.post(REPORT, &world.report(&lost.vps, &ahead)).await);
    assert_eq!(answer, (422, "E_REPORT".to_owned()));
    let page: AuditPage = world.client(&world.first).await.fetch("/v1/audit?op=report").await;
    let facts: Vec<Asked> = page
        .records
        .iter()
        .map(|text| shared::audit::Record::parse(text.as_bytes()).unwrap().fact.op)
        .collect();
    assert_eq!(facts, [Asked::Report], "the refused one");

    let first = world.client(&world.first).await;
    let shown = async || first.fetch::<TargetsPage>(TARGETS).await.machines.len();
    assert_eq!(shown().await, 1);
    assert!(!heal(&client, &lost.log[1..], world.newest()).await.restored);
    assert_eq!(shown().await, 0, "it could make others accuse the server");
    let unknown = Seen { audit_n: 9_999, ..ahead.clone() };
    let answer = refused(client.post(REPORT, &world.report(&lost.vps, &unknown)).await);
    assert_eq!(answer, (422, "E_REPORT".to_owned()));
    let (status, _) = client.post(REPORT, &world.report(&lost.vps, &ahead)).await;
    assert_eq!((status, shown().await), (StatusCode::OK, 1));
}
