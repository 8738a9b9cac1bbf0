//! Where the log ends: signed wherever it is told, and written down before.

use std::path::Path;

use hyper::StatusCode;
use shared::head::SignedHead;
use shared::log::{MetaSet, Op};
use shared::signed::Purpose;
use shared::wire::v1::log::Frame;

use crate::client::parse;
use crate::world::{World, post};

/// Tells whether the file beside the database holds a head.
fn stands_in_file(data: &Path, head: &SignedHead) -> bool {
    let text = std::fs::read(data.join("head")).unwrap();
    String::from_utf8_lossy(&text).contains(&serde_json::to_string(head).unwrap())
}

#[tokio::test]
async fn a_head_is_signed_and_in_its_file_when_it_is_told() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    assert!(stands_in_file(&world.config.data, &world.newest()), "of the founding");
    let stale = world.by_first(vec![world.put("secret/b", "two").0]);
    for n in 0..3 {
        world.write(&client, "secret/a", &n.to_string()).await;
        assert!(stands_in_file(&world.config.data, &world.newest()));
    }
    let (status, body) = post(&client, &stale, vec![]).await;
    assert_eq!(status, StatusCode::CONFLICT);
    world.is_newest(&parse(&body));
    let frames = client.page(world.state.seq()).await;
    assert!(matches!(&frames[..], [Frame::Head(head)] if *head == world.newest()), "{frames:?}");
}

#[tokio::test]
async fn a_head_follows_each_entry_as_it_is_committed() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let mut frames = client.follow(1).await;
    assert_eq!(frames.head().await, 1);
    for n in 0..3 {
        world.write(&client, "secret/a", &n.to_string()).await;
        assert!(matches!(frames.next().await, Some(Frame::Entry { .. })));
        let Some(Frame::Head(head)) = frames.next().await else { panic!("a head is due") };
        assert_eq!(head, world.newest());
    }
}

#[tokio::test]
async fn every_part_of_a_page_ends_with_the_head_of_its_last_entry() {
    let mut world = World::new().await;
    let client = world.client(&world.first).await;
    let custom: std::collections::BTreeMap<_, _> =
        (0..64).map(|n| (format!("k{n}"), "v".repeat(512))).collect();
    for n in 0..24 {
        let meta = MetaSet {
            path: format!("secret/m{n}").parse().unwrap(),
            max_versions: 0,
            cas_required: false,
            delete_after: 0,
            custom: custom.clone(),
        };
        world.append(&client, world.by_first(vec![Op::MetaSet(meta)]), vec![]).await;
    }
    let frames = client.page(0).await;
    let (mut last, mut heads) = (None, 0);
    for frame in &frames[1..] {
        match frame {
            Frame::Genesis(envelope) => last = Some(envelope.hash(Purpose::Genesis)),
            Frame::Entry { envelope, .. } => {
                last = Some(envelope.hash(Purpose::Entry(world.state.vault())));
            }
            Frame::Head(head) => {
                assert_eq!(Some(head.head), last.take(), "it is the last entry's");
                head.verify(&[world.server_key.clone()], world.state.vault()).unwrap();
                heads += 1;
            }
            Frame::Beat => {}
        }
    }
    assert!(last.is_none() && heads >= 3, "{heads} heads in some 1.1 MiB");
    assert!(matches!(frames.first(), Some(Frame::Head(head)) if *head == world.newest()));
}
