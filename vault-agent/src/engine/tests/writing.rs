//! Writes: CAS, merges, isolation of callers, resending, races.

use serde_json::json;
use shared::blob::Kind;
use shared::error::Code;

use crate::engine::{Change, Engine, Latest, PutContent, WriteError};

use super::server::Fault;
use super::world::{World, path, put, who};

#[tokio::test]
async fn a_write_is_acknowledged_readable_and_delivered() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let written = home.put("secret/a", r#"{"k":"1"}"#, Some(0)).await.unwrap();
    assert_eq!(written.versions, [(path("secret/a"), 1)]);
    assert_eq!(home.read("secret/a").await.as_deref(), Some(r#"{"k":"1"}"#));
    vps.until_content("secret/a", r#"{"k":"1"}"#).await;
    assert!(home.engine.parts.pending.newest().is_none());
    assert!(home.engine.status().alarms.is_empty());
}

#[tokio::test]
async fn cas_is_decided_on_the_state_built_on() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    home.put("secret/a", "{}", Some(0)).await.unwrap();
    let stale = home.put("secret/a", "{}", Some(0)).await.unwrap_err();
    assert_eq!(stale, WriteError::Cas { current: 1 });
    home.put("secret/a", "{}", Some(1)).await.unwrap();
    // Two of one batch: the second sees the first.
    let (one, two) =
        tokio::join!(home.put("secret/a", "{}", Some(2)), home.put("secret/a", "{}", Some(2)));
    let results = [one.is_ok(), two.is_ok()];
    assert!(results.contains(&true) && results.contains(&false), "{results:?}");
}

#[tokio::test]
async fn of_two_machines_with_one_cas_one_wins() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["*"], &["*"]).await;
    let race = tokio::join!(
        home.put("secret/a", r#"{"by":"home"}"#, Some(0)),
        vps.put("secret/a", r#"{"by":"vps"}"#, Some(0)),
    );
    let won = [race.0.is_ok(), race.1.is_ok()];
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{race:?}");
    let lost = [race.0.err(), race.1.err()].into_iter().flatten().next().unwrap();
    assert_eq!(lost, WriteError::Cas { current: 1 });
}

#[tokio::test]
async fn without_cas_both_machines_write() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["*"], &["*"]).await;
    for _ in 0..10 {
        let (one, two) =
            tokio::join!(home.put("secret/a", "{}", None), vps.put("secret/a", "{}", None));
        one.unwrap();
        two.unwrap();
    }
    assert_eq!(world.server.data().state.due_version(&path("secret/a")), 21);
}

#[tokio::test]
async fn a_merge_starts_from_the_newest_version() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    home.put("secret/a", r#"{"a":1.50,"b":2}"#, None).await.unwrap();
    let merge = |patch| Change::Put {
        path: path("secret/a"),
        kind: Kind::Kv,
        content: PutContent::Merge(patch),
        cas: None,
    };
    let patches = [json!({"c": 3}), json!({"b": null}), json!({"d": {"e": null}})];
    let (one, two, three) = tokio::join!(
        home.engine.write(who(), vec![merge(patches[0].clone())]),
        home.engine.write(who(), vec![merge(patches[1].clone())]),
        home.engine.write(who(), vec![merge(patches[2].clone())]),
    );
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    assert_eq!(home.read("secret/a").await.as_deref(), Some(r#"{"a":1.50,"c":3,"d":{}}"#));
    let missing = Change::Put {
        path: path("secret/none"),
        kind: Kind::Kv,
        content: PutContent::Merge(json!({})),
        cas: None,
    };
    assert_eq!(home.engine.write(who(), vec![missing]).await, Err(WriteError::Missing));
}

#[tokio::test]
async fn one_callers_fault_is_nobody_elses() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["secret/", "other/"]).await;
    let (good, denied, no_mount, no_json, large, also_good) = tokio::join!(
        home.put("secret/a", "{}", None),
        home.put("elsewhere/a", "{}", None),
        home.put("other/a", "{}", None),
        home.put("secret/b", "[]", None),
        home.engine.write(who(), vec![put("secret/c", &"x".repeat(800 << 10), None)]),
        home.put("secret/d", "{}", None),
    );
    good.unwrap();
    also_good.unwrap();
    assert_eq!(denied, Err(WriteError::Denied));
    assert!(matches!(no_mount, Err(WriteError::Refused(error)) if error.code == Code::Missing));
    assert!(matches!(no_json, Err(WriteError::Refused(error)) if error.code == Code::Parse));
    assert!(large.is_err());
}

#[tokio::test]
async fn a_callers_changes_are_all_done_or_none() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let changes = vec![put("secret/a", "{}", None), put("secret/b", "{}", Some(7))];
    assert_eq!(home.engine.write(who(), changes).await, Err(WriteError::Cas { current: 0 }));
    assert_eq!(home.read("secret/a").await, None);
    let changes = vec![put("secret/a", "{}", None), put("secret/b", "{}", Some(0))];
    home.engine.write(who(), changes).await.unwrap();
    assert_eq!(home.read("secret/a").await.as_deref(), Some("{}"));
    assert_eq!(home.read("secret/b").await.as_deref(), Some("{}"));
}

#[tokio::test]
async fn what_is_not_there_is_passed_over() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let before = home.engine.status().seq;
    let nothing = vec![
        Change::Delete { path: path("secret/none"), versions: None },
        Change::Destroy { path: path("secret/none"), versions: vec![1] },
        Change::Forget { path: path("secret/none") },
    ];
    assert_eq!(home.engine.write(who(), nothing).await.unwrap().seq, before);
    home.put("secret/a", "{}", None).await.unwrap();
    let delete = Change::Delete { path: path("secret/a"), versions: None };
    home.engine.write(who(), vec![delete.clone()]).await.unwrap();
    let seq = home.engine.status().seq;
    assert_eq!(home.engine.write(who(), vec![delete]).await.unwrap().seq, seq);
    let undelete = Change::Undelete { path: path("secret/a"), versions: vec![1, 9] };
    home.engine.write(who(), vec![undelete]).await.unwrap();
    assert_eq!(home.read("secret/a").await.as_deref(), Some("{}"));
}

#[tokio::test]
async fn without_a_server_a_write_is_refused_at_once() {
    let world = World::new().await;
    world.join("home", &["*"], &["*"]);
    let home = Engine::open(&world.paths("home")).unwrap();
    let refused = home.write(who(), vec![put("secret/a", "{}", None)]).await.unwrap_err();
    assert!(matches!(refused, WriteError::Offline { .. }), "{refused:?}");
}

#[tokio::test]
async fn an_unanswered_entry_is_sent_again_byte_for_byte() {
    for fault in [Fault::ForgetsToAnswer, Fault::FailsBefore] {
        let world = World::new().await;
        let home = world.machine("home", &["*"], &["*"]).await;
        world.server.data().faults = vec![fault];
        home.put("secret/a", "{}", Some(0)).await.unwrap();
        let data = world.server.data();
        assert!(data.posts.len() <= 2);
        assert!(data.posts.iter().all(|post| *post == data.posts[0]));
        assert_eq!(data.state.due_version(&path("secret/a")), 2);
    }
}

#[tokio::test]
async fn a_pending_entry_found_at_the_start_is_sent_again() {
    for late in [false, true] {
        let world = World::new().await;
        let home = world.machine("home", &["*"], &["*"]).await;
        world.server.data().faults = vec![Fault::FailsBefore; 1000];
        let writing = home.put("secret/a", r#"{"k":"1"}"#, None);
        let gone = tokio::time::timeout(std::time::Duration::from_millis(300), writing).await;
        assert!(gone.is_err(), "no answer yet");
        assert!(home.engine.parts.pending.newest().is_some());
        home.stop().await;

        world.server.data().faults.clear();
        if late {
            world.put("secret/b", "{}");
        }
        let posts = world.server.data().posts.clone();
        let home = world.start("home");
        home.until(|status| status.online && home.engine.parts.pending.newest().is_none()).await;
        assert_eq!(world.server.data().posts.last(), posts.first());
        let expected = (!late).then(|| r#"{"k":"1"}"#.to_owned());
        assert_eq!(home.read("secret/a").await, expected);
        home.put("secret/a", "{}", None).await.unwrap();
    }
}

#[tokio::test]
async fn many_writers_share_entries() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let engine = home.engine.clone();
        tasks.spawn(async move {
            engine.write(who(), vec![put(&format!("secret/{n}"), "{}", None)]).await
        });
    }
    while let Some(written) = tasks.join_next().await {
        written.unwrap().unwrap();
    }
    let data = world.server.data();
    assert_eq!(data.state.secrets().len(), 100);
    assert!(data.posts.len() < 50, "{} entries", data.posts.len());
}

#[tokio::test]
async fn a_writer_keeps_its_own_blob_and_fetches_none() {
    for fault in [None, Some(Fault::ForgetsToAnswer)] {
        let world = World::new().await;
        let home = world.machine("home", &["*"], &["*"]).await;
        // Without an answer it is the stream that brings the entry first.
        world.server.data().faults.extend(fault);
        home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap();
        home.until_caught_up(&world).await;
        let ready = Latest::Version { ver: 1, ready: true };
        assert_eq!(home.engine.latest(&path("secret/a")), ready);
        // What is on disk is there for the next start, with the server gone.
        home.stop().await;
        assert_eq!(world.server.data().fetched, []);
        let home = Engine::open(&world.paths("home")).unwrap();
        let content = home.content(&path("secret/a"), None).await.unwrap();
        assert_eq!(content.expose(), br#"{"k":"1"}"#);
    }
}

#[tokio::test]
async fn a_writer_that_lost_its_memory_fetches_its_blob() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.server.data().faults = vec![Fault::FailsBefore; 1000];
    world.server.data().faults.push(Fault::ForgetsToTell);
    let writing = home.put("secret/a", r#"{"k":"1"}"#, None);
    let gone = tokio::time::timeout(std::time::Duration::from_secs(1), writing).await;
    assert!(gone.is_err(), "no answer yet");
    home.stop().await;
    let written = {
        let data = world.server.data();
        assert_eq!(data.fetched, []);
        data.state.secret(&path("secret/a")).unwrap().version(1).unwrap().blob
    };
    world.server.data().faults.clear();
    let home = world.start("home");
    home.until_content("secret/a", r#"{"k":"1"}"#).await;
    assert!(world.server.data().fetched.contains(&written));
}
