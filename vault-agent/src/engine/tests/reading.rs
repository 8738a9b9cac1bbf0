//! Sync and reads: what arrives, what is kept, what is known offline.

use shared::error::Code;
use shared::hash::Hash;
use shared::log::{Op, Put, readers_hash};
use shared::time::Time;

use crate::engine::{Engine, Latest, ReadError, read};

use super::world::{World, path};

#[tokio::test]
async fn a_change_reaches_a_following_machine_with_its_content() {
    let world = World::new().await;
    let vps = world.machine("vps", &["secret/"], &[]).await;
    world.put("secret/a", r#"{"k":"1"}"#);
    vps.until_content("secret/a", r#"{"k":"1"}"#).await;
    assert_eq!(vps.engine.latest(&path("secret/a")), Latest::Version { ver: 1, ready: true });
    world.put("secret/a", r#"{"k":"2"}"#);
    vps.until_content("secret/a", r#"{"k":"2"}"#).await;
    let old = vps.engine.content(&path("secret/a"), Some(1)).await.unwrap();
    assert_eq!(old.expose(), br#"{"k":"1"}"#);
}

#[tokio::test]
async fn what_was_written_before_the_start_is_fetched() {
    let world = World::new().await;
    world.join("vps", &["secret/"], &[]);
    for n in 0..20 {
        world.put(&format!("secret/{n}"), &format!(r#"{{"n":{n}}}"#));
    }
    let vps = world.start("vps");
    vps.until_content("secret/19", r#"{"n":19}"#).await;
    vps.until(|_| {
        (0..20).all(|n| {
            let latest = vps.engine.latest(&path(&format!("secret/{n}")));
            latest == Latest::Version { ver: 1, ready: true }
        })
    })
    .await;
}

#[tokio::test]
async fn what_is_not_granted_is_neither_read_nor_kept() {
    let world = World::new().await;
    let vps = world.machine("vps", &["secret/vps/"], &[]).await;
    world.put("secret/home", r#"{"k":"1"}"#);
    world.put("secret/vps/a", r#"{"k":"1"}"#);
    vps.until_content("secret/vps/a", r#"{"k":"1"}"#).await;
    assert_eq!(vps.engine.latest(&path("secret/home")), Latest::NotReadable);
    let denied = vps.engine.content(&path("secret/home"), None).await.unwrap_err();
    assert_eq!(denied, ReadError::Denied);
}

#[tokio::test]
async fn without_a_server_the_cache_answers_and_its_age_is_known() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.put("secret/a", r#"{"k":"1"}"#);
    world.put("secret/a", r#"{"k":"2"}"#);
    vps.until_content("secret/a", r#"{"k":"2"}"#).await;
    let synced = vps.engine.status().synced_at.unwrap();
    let (seq, head) = (vps.engine.status().seq, vps.engine.status().head);
    let paths = vps.stop().await;

    let again = Engine::open(&paths).unwrap();
    let status = again.status();
    assert!(!status.online);
    assert_eq!((status.seq, status.head), (seq, head));
    assert!(status.synced_at.unwrap() >= synced);
    let content = again.content(&path("secret/a"), None).await.unwrap();
    assert_eq!(content.expose(), br#"{"k":"2"}"#);
    let old = again.content(&path("secret/a"), Some(1)).await.unwrap_err();
    assert!(matches!(old, ReadError::Offline { ver: 1, .. }), "{old:?}");
}

#[tokio::test]
async fn the_start_folds_what_no_snapshot_holds() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    for n in 0..5 {
        world.put("secret/a", &format!(r#"{{"n":{n}}}"#));
    }
    vps.until_content("secret/a", r#"{"n":4}"#).await;
    let head = vps.engine.status().head;
    let paths = vps.stop().await;
    let conn = rusqlite::Connection::open(paths.database()).unwrap();
    assert_eq!(conn.execute("DELETE FROM snapshot", []).unwrap(), 1);
    drop(conn);
    assert_eq!(Engine::open(&paths).unwrap().status().head, head);
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.put("secret/a", "{}");
    vps.until_content("secret/a", "{}").await;
    let paths = vps.stop().await;
    let conn = rusqlite::Connection::open(paths.database()).unwrap();
    conn.execute("DELETE FROM snapshot", []).unwrap();
    let change = "UPDATE log SET body = \
                  CAST(replace(CAST(body AS TEXT), 'secret/a', 'secret/b') AS BLOB) WHERE seq = 2";
    assert_eq!(conn.execute(change, []).unwrap(), 1);
    drop(conn);
    let fault = format!("{:#}", Engine::open(&paths).err().unwrap());
    assert!(fault.contains("does not verify"), "{fault}");
    assert!(fault.contains("E_"), "{fault}");
}

#[tokio::test]
async fn another_address_is_used_at_once() {
    let world = World::new().await;
    world.join("vps", &["*"], &[]);
    let vps = world.start("vps");
    vps.until(|status| status.online).await;
    vps.move_server("127.0.0.1:1");
    vps.until(|status| !status.online).await;
    vps.move_server(&world.server.address);
    vps.until(|status| status.online).await;
}

#[tokio::test]
async fn local_accesses_are_kept_merged_and_shipped() {
    use shared::audit::{Fact, Op};
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let access = |ver| Fact {
        who: Some("cat[1] uid 0".parse().unwrap()),
        path: Some(path("secret/a")),
        ver: Some(ver),
        ..Fact::new(Op::LocalRead)
    };
    let engine = &vps.engine;
    let many: Vec<_> = (0..64).map(|_| engine.record(access(1))).collect();
    for recorded in futures_join(many).await {
        recorded.unwrap();
    }
    engine.record(access(2)).await.unwrap();
    engine.settle().await.unwrap();
    let reads = world.server.data().reads.clone();
    assert_eq!(reads.iter().map(|read| read.count.unwrap_or(1)).sum::<u64>(), 65);
    assert!(reads.len() < 65, "{} rows", reads.len());
}

#[tokio::test]
async fn what_is_told_of_files_goes_along_with_a_report() {
    use shared::audit::{Applied, Fact, Op};
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let applied = |ver| Fact {
        at: Some(Time::from_micros(5)),
        path: Some(path("secret/a")),
        ver: Some(ver),
        applied: Some(Applied { file: "~/.env".parse().unwrap(), found: false, hook: None }),
        ..Fact::new(Op::LocalApplied)
    };
    let told = |read: &Fact| (read.ver, read.applied.is_some(), read.who.clone());
    // A server that says nothing of what came along gets it once more, in a request of its own.
    vps.engine.record(applied(1)).await.unwrap();
    vps.exchange().await;
    vps.engine.settle().await.unwrap();
    let reads = world.server.data().reads.clone();
    assert_eq!(reads.iter().map(told).collect::<Vec<_>>(), [(Some(1), true, None)]);
    assert_eq!(reads[0].at, Some(Time::from_micros(5)), "when it was, not when it was told");
    world.server.data().reported.takes_along = true;
    vps.engine.record(applied(2)).await.unwrap();
    vps.exchange().await;
    let number = vps.engine.number().unwrap();
    let last = world.server.data().reported.posts_of(number).last().copied().cloned().unwrap();
    let along = last.accesses.unwrap().reads;
    assert_eq!(along.iter().map(told).collect::<Vec<_>>(), [(Some(2), true, None)]);
    vps.engine.settle().await.unwrap();
    assert_eq!(world.server.data().reads.len(), 1, "it is not shipped twice");
}

/// Drives all of `futures` at once.
async fn futures_join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_blob_that_is_gone_is_no_alarm_once_its_version_has_another() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.put("secret/a", "{}");
    vps.until_content("secret/a", "{}").await;
    let parts = &vps.engine.parts;
    let due = parts.ledger.read().newest(&parts.own, &path("secret/a")).unwrap();
    world.server.data().blobs.clear();
    let client = parts.link.client().unwrap();
    let absent = read::fetch(parts, &client, &due).await.unwrap_err();
    assert!(matches!(&absent, ReadError::Blob(why) if why.code == Code::BlobAbsent), "{absent:?}");
    vps.until_alarm("E_BLOB_ABSENT").await;
    parts.alarms.clear("E_BLOB_ABSENT");

    let blob = Hash::of(&[b"encrypted to somebody else, too"]);
    let (path, ver, size) = (due.path.clone(), due.ver, due.size);
    let readers = readers_hash(&world.server.data().state, &path);
    let put = Put { path, ver, blob, size, commit: due.commit, readers };
    world.act(vec![Op::Rewrap(put)]);
    vps.until_caught_up(&world).await;
    // Whoever looks for the new one later may miss that; the one before is nobody's matter.
    let passed = read::fetch(parts, &client, &due).await.unwrap_err();
    assert!(matches!(passed, ReadError::Offline { ver: 1, .. }), "{passed:?}");
}
