//! What grows has a bound: archived audit records, folded refusals, blobs that were replaced.

use std::time::Duration;

use hyper::StatusCode;
use shared::audit::{AuditHead, Fact, Op as AuditOp, Outcome};
use shared::blob::{Kind, Place, seal};
use shared::error::Code;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::Identity;
use shared::log::{self, Access, MetaSet, Op, Put, Versions};
use shared::name::Actor;
use shared::path::SecretPath;
use shared::text::Text;
use shared::time::Time;
use shared::wire::v1::audit::{AccessRequest, Archived, AuditPage, LeavesPage};
use shared::wire::v1::log::{AdoptRequest, GenesisRequest};
use shared::wire::v1::{ACCESS, ADOPT, GENESIS};

use crate::client::{Client, refused};
use crate::world::{Machine, Running, World, post, signed};

/// Asks for audit records until the archive is as wanted.
pub async fn archived(client: &Client, is: impl Fn(&Archived) -> bool) -> Archived {
    let wait = async {
        loop {
            let page: AuditPage = client.fetch("/v1/audit?limit=1").await;
            if let Some(archived) = page.archived.filter(&is) {
                return archived;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
}

/// Walks the leaves; returns where they begin and the chain after the last.
async fn walk(client: &Client) -> (AuditHead, AuditHead) {
    let (mut head, mut start) = (AuditHead::EMPTY, AuditHead::EMPTY);
    loop {
        let page: LeavesPage = client.fetch(&format!("/v1/audit/leaves?after={}", head.n)).await;
        if page.from != head {
            assert!(page.from.n > head.n && page.until.is_some(), "{head:?} {page:?}");
            (head, start) = (page.from, page.from);
        }
        head = page.leaves.iter().fold(head, |head, leaf| head.then(*leaf));
        if head.n >= page.head.n {
            assert_eq!(head, page.head);
            return (start, head);
        }
    }
}

#[tokio::test]
async fn old_audit_records_go_into_sealed_files_and_the_chain_goes_on() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    for n in 0..10 {
        world.write(&client, &format!("secret/{n}"), "one").await;
    }
    world.server.stop().await;
    world.config.audit.database_bytes = 2_000;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let known = archived(&client, |_| true).await;
    assert_eq!(known.gone, 0);
    let folder = world.config.data.join("audit");
    assert_eq!(known.folder.as_str(), folder.to_str().unwrap());
    assert_eq!(walk(&client).await.0, AuditHead::EMPTY, "all leaves are there");
    let page: AuditPage = client.fetch("/v1/audit?limit=10000").await;
    let first = shared::audit::Record::parse(page.records[0].as_bytes()).unwrap();
    assert_eq!(first.n, page.archived.unwrap().last + 1, "records begin where files end");
    world.write(&client, "secret/a", "two").await;

    // Without room for files the oldest go, and the chain crosses them.
    world.server.stop().await;
    world.config.audit.archive_bytes = 0;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let known = archived(&client, |known| known.gone == known.last).await;
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
    let (start, _) = walk(&client).await;
    assert_eq!(start.n, known.last);
    world.server.stop().await;
}

#[tokio::test]
async fn records_older_than_their_age_are_archived() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    world.write(&client, "secret/a", "one").await;
    world.server.stop().await;
    let db = rusqlite::Connection::open(world.config.data.join("vault.db")).unwrap();
    let aged = db.execute("UPDATE audit SET time = ?1 WHERE n <= 2", [1_000_000]).unwrap();
    assert_eq!(aged, 2);
    drop(db);
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let known = archived(&client, |_| true).await;
    assert_eq!((known.last, known.until, known.gone), (2, Time::from_micros(1_000_000), 0));
    walk(&client).await;
}

/// Returns the records of one operation.
async fn records(client: &Client, op: &str) -> Vec<Fact> {
    let page: AuditPage = client.fetch(&format!("/v1/audit?limit=10000&op={op}")).await;
    let facts = page.records.iter().map(|text| shared::audit::Record::parse(text.as_bytes()));
    facts.map(|record| record.unwrap().fact).collect()
}

#[tokio::test]
async fn like_refusals_share_a_record_and_the_first_has_its_own_at_once() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["secret/vps/"]).await;
    let remote = world.client(&vps).await;
    let (one, two) =
        (world.write(&client, "secret/a", "1").await, world.write(&client, "secret/b", "2").await);
    let denied = |facts: &[Fact]| {
        let facts = facts.iter().filter(|fact| fact.result == Outcome::Refused(Code::Denied));
        facts.map(|fact| (fact.path.clone().unwrap().to_string(), fact.count)).collect::<Vec<_>>()
    };
    for _ in 0..5 {
        let answer = refused(remote.get(&format!("/v1/blob/{one}")).await);
        assert_eq!(answer, (403, "E_DENIED".to_owned()));
        assert_eq!(denied(&records(&client, "read").await)[0], ("secret/a".to_owned(), None));
    }
    assert_eq!(refused(remote.get(&format!("/v1/blob/{two}")).await).0, 403);
    let now = denied(&records(&client, "read").await);
    assert_eq!(now, [("secret/a".to_owned(), None), ("secret/b".to_owned(), None)]);
    for _ in 0..3 {
        assert_eq!(remote.get("/v1/nothing").await.0, StatusCode::NOT_FOUND);
    }
    // A stop records what is only counted, as a minute does.
    world.server.stop().await;
    world.server = Running::start(world.config.clone()).await;
    let client = world.client(&world.first).await;
    let then = denied(&records(&client, "read").await);
    assert_eq!(then[2..], [("secret/a".to_owned(), Some(4))]);
    let unknown: Vec<_> = records(&client, "request").await.iter().map(|fact| fact.count).collect();
    assert_eq!(unknown, [None, Some(2)]);
}

#[tokio::test]
async fn a_vault_that_is_founded_again_and_again_makes_no_record_more() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &[]).await;
    let remote = world.client(&vps).await;
    let GenesisRequest { claim, genesis, entry } = world.genesis.clone();
    let adopted = AdoptRequest { claim, genesis, entries: vec![entry], before: None };
    let other = World::unfounded().await.genesis;
    for _ in 0..20 {
        assert_eq!(remote.post(GENESIS, &world.genesis).await.0, StatusCode::CREATED);
        assert_eq!(remote.post(ADOPT, &adopted).await.0, StatusCode::CREATED);
        let answer = refused(remote.post(GENESIS, &other).await);
        assert_eq!(answer, (403, "E_CLAIM".to_owned()));
    }
    world.restart().await;
    let client = world.client(&world.first).await;
    let records = records(&client, "genesis").await;
    let refused = Outcome::Refused(Code::Claim);
    let found: Vec<_> = records.iter().map(|it| (&it.machine, &it.result, it.count)).collect();
    let (a, vps) = (Some(world.first.name), Some(vps.name));
    let expected = [(&a, &Outcome::Ok, None), (&vps, &refused, None), (&vps, &refused, Some(19))];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_text_that_a_machine_tells_is_bounded() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let mut body = serde_json::to_value(AccessRequest {
        run: Hash::ZERO,
        first: 0,
        reads: vec![Fact::new(AuditOp::LocalRead)],
    })
    .unwrap();
    for (field, text) in
        [("who", "x".repeat(257)), ("who", "a\u{202E}b".to_owned()), ("path", "a/".repeat(600))]
    {
        body["reads"][0] = serde_json::json!({ "op": "local_read", "result": "ok" });
        body["reads"][0][field] = text.into();
        assert_eq!(client.post(ACCESS, &body).await.0, StatusCode::BAD_REQUEST, "{field}");
    }
    body["reads"][0] = serde_json::json!({
        "op": format!("local_{}", "x".repeat(100_000)), "result": "y".repeat(100_000),
    });
    assert_eq!(client.post(ACCESS, &body).await.0, StatusCode::OK);
    let page: AuditPage = client.fetch("/v1/audit?newest=true&limit=2").await;
    assert!(page.records.iter().all(|record| record.len() < 500), "{page:?}");
}

/// Encrypts the newest version of a secret anew, for the readers after `ops`.
fn rewrap(world: &World, at: &str, ops: &[Op]) -> (Op, Vec<u8>) {
    let path: SecretPath = at.parse().unwrap();
    let mut state = world.state.clone();
    let by = Actor::Admin("me".parse().unwrap());
    let look =
        |state: &log::State| (log::recipients(state, &path), log::readers_hash(state, &path));
    let time = Time::from_micros(9);
    let (to, readers) = if ops.is_empty() {
        look(&state)
    } else {
        log::attempt(&mut state, &by, time, ops, look).unwrap()
    };
    let (ver, version) = world.state.secret(&path).unwrap().current().unwrap();
    let vault = world.state.vault();
    let place = Place { vault: &vault, path: &path, ver };
    let sealed = seal(place, Kind::Kv, b"{}", &to).unwrap();
    let (blob, size, commit) = (sealed.id, sealed.bytes.len() as u64, version.commit);
    (Op::Rewrap(Put { path, ver, blob, size, commit, readers }), sealed.bytes)
}

fn access(world: &World, machine: &Machine, read: &[&str]) -> Op {
    let number = world.number(machine);
    let (read, write) = (Grants::parse(read).unwrap(), Grants::default());
    Op::AccessSet(Access { number, was: world.state.was_access(number), read, write })
}

struct Blobs {
    world: World,
    client: Client,
    vps: Machine,
    remote: Client,
}

impl Blobs {
    /// A vault that keeps one version of `secret/a`, which a second machine reads.
    async fn new() -> Self {
        let mut world = World::new().await;
        let client = world.client(&world.first).await;
        let vps = world.add(&client, "vps", &["secret/a"]).await;
        let remote = world.client(&vps).await;
        let meta = MetaSet {
            path: "secret/a".parse().unwrap(),
            max_versions: 1,
            cas_required: false,
            delete_after: 0,
            custom: [].into(),
        };
        let set = world.by_first(vec![Op::MetaSet(meta)]);
        world.append(&client, set, vec![]).await;
        Self { world, client, vps, remote }
    }

    async fn write(&mut self) -> Hash {
        self.world.write(&self.client, "secret/a", "x").await
    }

    /// Appends an entry by root, who may do all.
    async fn act(&mut self, ops: Vec<Op>, blobs: Vec<Vec<u8>>) {
        let entry = signed(&self.world.state, &self.world.root, &Actor::Root, ops);
        self.world.append(&self.client, entry, blobs).await;
    }

    async fn is_there(&self, id: &Hash) -> bool {
        let status = self.client.get(&format!("/v1/blob/{id}")).await.0;
        assert!(status == StatusCode::OK || status == StatusCode::NOT_FOUND, "{status}");
        status == StatusCode::OK
    }
}

#[tokio::test]
async fn a_replaced_blob_stays_for_readers_that_are_behind() {
    let mut blobs = Blobs::new().await;
    let (one, two) = (blobs.write().await, blobs.write().await);
    for id in [one, two] {
        let (status, bytes) = blobs.remote.get(&format!("/v1/blob/{id}")).await;
        assert_eq!((status, Hash::of(&[&bytes])), (StatusCode::OK, id));
    }
    // One who gets access gets no old blob taken away from the others, and none given.
    let third = blobs.world.add(&blobs.client, "third", &[]).await;
    let wider = access(&blobs.world, &third, &["secret/a"]);
    let (op, bytes) = rewrap(&blobs.world, "secret/a", std::slice::from_ref(&wider));
    blobs.act(vec![wider, op], vec![bytes]).await;
    assert!(blobs.is_there(&one).await && blobs.is_there(&two).await);
    let rights = refused(blobs.world.client(&Machine::new("x")).await.get("/v1/log").await);
    assert_eq!(rights.0, 403);
    let (op, bytes) = rewrap(&blobs.world, "secret/a", &[]);
    blobs.act(vec![op], vec![bytes]).await;
    assert!(blobs.is_there(&two).await);
    // The same blob is not taken for a new version.
    let (Op::Put(mut put), bytes) = blobs.world.put("secret/b", "x") else { panic!("a put") };
    put.blob = one;
    let again = blobs.world.by_first(vec![Op::Put(put)]);
    let (status, _) = post(&blobs.client, &again, vec![bytes]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_replaced_blob_ends_with_what_was_to_end_it() {
    type Act = fn(&Blobs) -> Op;
    let acts: [(&str, Act); 6] = [
        ("recovery renewal", |_| Op::RecoverySet { recipient: Identity::generate().recipient() }),
        ("destroy", |blobs| {
            let path: SecretPath = "secret/a".parse().unwrap();
            let versions = vec![blobs.world.state.secret(&path).unwrap().last];
            Op::Destroy(Versions { path, versions })
        }),
        ("forget", |_| Op::Forget { path: "secret/a".parse().unwrap() }),
        ("narrowed access", |blobs| access(&blobs.world, &blobs.vps, &["secret/b"])),
        ("removal", |blobs| {
            let number = blobs.world.number(&blobs.vps);
            Op::MachineRemove { number, reason: Text::default() }
        }),
        ("rekey", |blobs| {
            let fresh = Machine::new("vps");
            let line = fresh.line();
            Op::MachineRekey(log::Rekey {
                number: blobs.world.number(&blobs.vps),
                new_number: blobs.world.state.due_machine(),
                recipient: line.recipient,
                sign: line.sign,
                proof: line.proof,
            })
        }),
    ];
    for (name, act) in acts {
        let mut blobs = Blobs::new().await;
        let (one, two) = (blobs.write().await, blobs.write().await);
        assert!(blobs.is_there(&one).await, "{name}");
        let op = act(&blobs);
        let ends_content = matches!(op, Op::Destroy(_) | Op::Forget { .. });
        blobs.act(vec![op], vec![]).await;
        assert!(!blobs.is_there(&one).await, "{name}");
        if ends_content {
            assert!(!blobs.is_there(&two).await, "{name}");
            continue;
        }
        // The re-encryption that follows, in an entry of its own, ends the blob that the machine
        // could open.
        assert!(blobs.is_there(&two).await, "{name}: it is the current one still");
        let (op, bytes) = rewrap(&blobs.world, "secret/a", &[]);
        blobs.act(vec![op], vec![bytes]).await;
        assert!(!blobs.is_there(&two).await, "{name}");
    }
}

#[tokio::test]
async fn a_replaced_blob_is_read_with_todays_rights() {
    let mut blobs = Blobs::new().await;
    let (one, _) = (blobs.write().await, blobs.write().await);
    let other = blobs.world.add(&blobs.client, "other", &["secret/z"]).await;
    let other = blobs.world.client(&other).await;
    assert_eq!(refused(other.get(&format!("/v1/blob/{one}")).await).0, 403);
    assert_eq!(blobs.remote.get(&format!("/v1/blob/{one}")).await.0, StatusCode::OK);
    // After seven days it goes.
    blobs.world.server.stop().await;
    let db = rusqlite::Connection::open(blobs.world.config.data.join("vault.db")).unwrap();
    let age = |micros: i64| {
        let age = "UPDATE blob SET replaced_at = replaced_at - ?1 WHERE replaced_at IS NOT NULL";
        assert_eq!(db.execute(age, [micros]).unwrap(), 1);
    };
    age(7 * 86_400_000_000 + 1);
    drop(db);
    blobs.world.server = Running::start(blobs.world.config.clone()).await;
    blobs.client = blobs.world.client(&blobs.world.first).await;
    let gone = async {
        while blobs.is_there(&one).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}
