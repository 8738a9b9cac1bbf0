//! Following the log: live entries, inline blobs, catching up, and when a stream ends.

use shared::audit::Op::LocalRead;
use shared::audit::{Fact, Record};
use shared::grant::Grants;
use shared::hash::Hash;
use shared::log::{Access, MetaSet, Op, Rekey};
use shared::token::MachineLine;
use shared::wire::v1::ACCESS;
use shared::wire::v1::audit::{AccessReply, AccessRequest, AuditPage};
use shared::wire::v1::log::Frame;

use crate::client::{parse, refused};
use crate::world::{Machine, World, post};

#[tokio::test]
async fn each_follower_gets_the_entry_and_the_blobs_it_may_read() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["secret/vps/"]).await;
    let remote = world.client(&vps).await;
    let mut mine = client.follow(2).await;
    let mut theirs = remote.follow(0).await;
    assert_eq!(mine.head().await, 2);
    assert_eq!(theirs.head().await, 2);
    assert!(matches!(theirs.next().await, Some(Frame::Genesis(_))));
    for seq in 1..=2 {
        assert_eq!(theirs.entry().await.0.seq, seq);
    }
    assert_eq!(theirs.head().await, 2);

    let (home, home_blob) = world.put("secret/home/x", "one");
    let (shared, shared_blob) = world.put("secret/vps/x", "two");
    let blobs = vec![home_blob.clone(), shared_blob.clone()];
    world.append(&client, world.by_first(vec![home, shared]), blobs.clone()).await;
    let (entry, got) = mine.entry().await;
    assert_eq!((entry.seq, got), (3, vec![]), "the writer has its blobs");
    let (entry, got) = theirs.entry().await;
    assert_eq!((entry.seq, got), (3, vec![shared_blob]));

    // A blob that was parked travels inline as well.
    let (op, bytes) = world.put("secret/vps/y", "three");
    client.put(&format!("/v1/blob/{}", op.blob().unwrap()), bytes.clone()).await;
    world.append(&client, world.by_first(vec![op]), vec![]).await;
    assert_eq!(theirs.entry().await.1, vec![bytes.clone()]);
    assert_eq!(mine.entry().await.1, Vec::<Vec<u8>>::new());
    let page: AuditPage = client.fetch("/v1/audit?op=deliver").await;
    let deliveries = page.records.iter().map(|text| Record::parse(text.as_bytes()).unwrap().fact);
    let to: Vec<_> = deliveries.map(|fact| (fact.machine, fact.seq)).collect();
    assert_eq!(to, [(Some(vps.name.clone()), Some(3)), (Some(vps.name.clone()), Some(4))]);
    // A writer that has lost it asks as everybody does.
    assert_eq!(client.get(&format!("/v1/blob/{}", Hash::of(&[&bytes]))).await.1, bytes);
}

#[tokio::test]
async fn rights_are_those_after_the_entry() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["*"]).await;
    let remote = world.client(&vps).await;
    let id = world.write(&client, "secret/a", "one").await;
    let at = format!("/v1/blob/{id}");
    assert!(remote.get(&at).await.0.is_success());
    let number = world.number(&vps);
    let was = world.state.was_access(number);
    let access = Access { number, was, read: Grants::default(), write: Grants::default() };
    let mut frames = remote.follow(3).await;
    assert_eq!(frames.head().await, 3);
    world.append(&client, world.by_admin(vec![Op::AccessSet(access)]), vec![]).await;
    world.write(&client, "secret/b", "two").await;
    assert_eq!(frames.entry().await.0.seq, 4);
    assert_eq!(frames.entry().await.1, Vec::<Vec<u8>>::new());
    assert_eq!(refused(remote.get(&at).await), (403, "E_DENIED".to_owned()));
}

#[tokio::test]
async fn a_removed_machine_is_out_at_once() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["*"]).await;
    let remote = world.client(&vps).await;
    let mut frames = remote.follow(2).await;
    assert_eq!(frames.head().await, 2);
    let remove = Op::MachineRemove { number: world.number(&vps), reason: "lost".parse().unwrap() };
    world.append(&client, world.by_admin(vec![remove]), vec![]).await;
    assert!(frames.next().await.is_none());
    let again = world.client(&vps).await;
    assert_eq!(refused(again.get("/v1/log").await), (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn a_connection_that_was_a_strangers_ends_with_its_machine() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = Machine::new("vps");
    let early = world.client(&vps).await;
    assert_eq!(refused(early.get("/v1/log").await), (403, "forbidden".to_owned()));
    world
        .append(
            &client,
            world.by_admin(vec![vps.add(world.state.due_machine(), &["*"], &[])]),
            vec![],
        )
        .await;
    assert!(early.get("/v1/log").await.0.is_success());
    let (number, _) = world.state.machine(&vps.name).unwrap();
    let remove = Op::MachineRemove { number, reason: "lost".parse().unwrap() };
    world.append(&client, world.by_admin(vec![remove]), vec![]).await;
    early.ended().await;
}

#[tokio::test]
async fn a_page_ends_at_8_mib_and_the_next_goes_on() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let custom: std::collections::BTreeMap<_, _> =
        (0..64).map(|n| (format!("k{n}"), "v".repeat(512))).collect();
    let meta = |n: u32| {
        let path = format!("secret/m{n}").parse().unwrap();
        let (max_versions, cas_required, delete_after) = (0, false, 0);
        Op::MetaSet(MetaSet {
            path,
            max_versions,
            cas_required,
            delete_after,
            custom: custom.clone(),
        })
    };
    // Entries of some 700 KiB, which base64 makes 930 KiB.
    for _ in 0..12 {
        world.append(&client, world.by_first((0..20).map(meta).collect()), vec![]).await;
    }
    let (mut after, mut pages, mut seen) = (0, 0, Vec::new());
    while after < 13 {
        let frames = client.page(after).await;
        assert!(matches!(frames.first(), Some(Frame::Head(head)) if head.seq == 13));
        for frame in &frames {
            if let Frame::Entry { envelope, .. } = frame {
                after += 1;
                seen.push(envelope.clone());
            }
        }
        assert!(
            matches!(frames.last(), Some(Frame::Head(head)) if head.seq == after),
            "no page ends with an entry that no head vouches for"
        );
        pages += 1;
    }
    assert_eq!((pages, seen.len()), (2, 13));
    let mut frames = client.follow(1).await;
    assert_eq!(frames.head().await, 13);
    for seq in 2..=13 {
        assert_eq!(frames.entry().await.0.seq, seq);
        assert_eq!(frames.head().await, seq, "each is a chunk of its own");
    }
}

#[tokio::test]
async fn a_client_that_knows_more_is_told_the_head_and_let_go() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let mut frames = client.follow(7).await;
    assert_eq!(frames.head().await, 1);
    assert!(frames.next().await.is_none());
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let world = World::new().await;
    let client = world.client(&world.first).await;
    let mut frames = client.follow(1).await;
    assert_eq!(frames.head().await, 1);
    let stopping = tokio::spawn(world.server.stop());
    assert!(frames.next().await.is_none());
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_renamed_machine_goes_on_under_its_new_name() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["*"]).await;
    let remote = world.client(&vps).await;
    let run = Hash::of(&[b"run"]);
    let local = |first: u64| AccessRequest { run, first, reads: vec![Fact::new(LocalRead)] };
    assert_eq!(remote.post(ACCESS, &local(0)).await.0, 200);
    let mut frames = remote.follow(2).await;
    assert_eq!(frames.head().await, 2);

    let (number, to) = (world.number(&vps), "web".parse().unwrap());
    world.append(&client, world.by_admin(vec![Op::MachineRename { number, to }]), vec![]).await;
    // The stream and the connection stay, and what was kept for it is found under the new name.
    assert_eq!(frames.entry().await.0.seq, 3);
    let id = world.write(&client, "secret/a", "one").await;
    assert_eq!(frames.entry().await.1.len(), 1);
    assert!(remote.get(&format!("/v1/blob/{id}")).await.0.is_success());
    let next = parse::<AccessReply>(&remote.post(ACCESS, &local(0)).await.1).next;
    assert_eq!(next, 1, "the read that was shipped before is known");
    let page: AuditPage = client.fetch("/v1/audit?machine=web&op=read").await;
    assert_eq!(page.records.len(), 2, "one that came along, one that was fetched");
}

#[tokio::test]
async fn after_a_rename_known_bytes_are_known_late_ones_late_and_others_refused() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["*"]).await;
    let number = world.number(&world.first);
    let (op, bytes) = world.put("secret/a", "one");
    let sent = world.by_first(vec![op]);
    world.append(&client, sent.clone(), vec![bytes.clone()]).await;
    let remote = world.client(&vps).await;
    let (op, blob) = world.put("secret/b", "late");
    let late = world.by_first(vec![op]);
    let to = "desk".parse().unwrap();
    world.append(&remote, world.by_admin(vec![Op::MachineRename { number, to }]), vec![]).await;
    assert_eq!(post(&client, &sent, vec![bytes]).await.0, 201);
    assert_eq!(post(&client, &late, vec![blob]).await.0, 409, "built on the head before");
    let (op, bytes) = world.put("secret/a", "two");
    let other = refused(post(&client, &world.by_first(vec![op]), vec![bytes]).await);
    assert_eq!(other, (422, "E_ACTOR".to_owned()));
}

#[tokio::test]
async fn a_key_that_was_replaced_is_a_stranger_at_once() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let vps = world.add(&client, "vps", &["*"]).await;
    let remote = world.client(&vps).await;
    let mut frames = remote.follow(2).await;
    assert_eq!(frames.head().await, 2);

    let fresh = Machine::new("vps");
    let MachineLine { recipient, sign, proof, .. } = fresh.line();
    let (number, new_number) = (world.number(&vps), world.state.due_machine());
    let rekey = Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof });
    world.append(&client, world.by_admin(vec![rekey]), vec![]).await;
    assert!(frames.next().await.is_none());
    let again = world.client(&vps).await;
    assert_eq!(refused(again.get("/v1/log").await), (403, "forbidden".to_owned()));

    let remote = world.client(&fresh).await;
    let mut frames = remote.follow(3).await;
    assert_eq!(frames.head().await, 3);
    world.write(&client, "secret/a", "one").await;
    assert_eq!(frames.entry().await.1.len(), 1, "it reads what it read before");
}
