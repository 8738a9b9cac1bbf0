//! Following the log: live entries, inline blobs, catching up, and when a stream ends.

use shared::audit::Record;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::log::{Access, MetaSet, Op};
use shared::wire::v1::audit::AuditPage;
use shared::wire::v1::log::Frame;

use crate::client::refused;
use crate::world::{Machine, World};

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
    let access =
        Access { name: vps.name.clone(), read: Grants::default(), write: Grants::default() };
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
    let remove = Op::MachineRemove { name: vps.name.clone(), reason: "lost".to_owned() };
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
    world.append(&client, world.by_admin(vec![vps.add(&["*"], &[])]), vec![]).await;
    assert!(early.get("/v1/log").await.0.is_success());
    let remove = Op::MachineRemove { name: vps.name.clone(), reason: "lost".to_owned() };
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
        assert!(matches!(frames.first(), Some(Frame::Head { seq: 13, .. })));
        for frame in &frames {
            if let Frame::Entry { envelope, .. } = frame {
                after += 1;
                seen.push(envelope.clone());
            }
        }
        let at_head = matches!(frames.last(), Some(Frame::Head { .. }));
        assert_eq!(at_head, after == 13, "the head again once caught up");
        pages += 1;
    }
    assert_eq!((pages, seen.len()), (2, 13));
    let mut frames = client.follow(1).await;
    assert_eq!(frames.head().await, 13);
    for seq in 2..=13 {
        assert_eq!(frames.entry().await.0.seq, seq);
    }
    assert_eq!(frames.head().await, 13);
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
