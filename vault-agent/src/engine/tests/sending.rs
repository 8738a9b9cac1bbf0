//! An entry is saved while it is under way, and who wrote it is on record before the answer.

use std::fs;
use std::path::Path;
use std::sync::mpsc;

use serde_json::json;
use shared::audit::Who;
use shared::blob::Kind;
use shared::error::Code;
use tokio::task::{JoinHandle, yield_now};

use super::server::Fault;
use super::world::{Machine, World, path, put, who};
use crate::engine::{Change, Engine, PutContent, WriteError, Written};
use crate::state::{Outcome, access};

/// The database of a machine, held up: what is asked of it waits until this is dropped.
struct Held(#[expect(dead_code, reason = "dropping it is what counts")] mpsc::Sender<()>);

async fn hold(engine: &Engine) -> Held {
    let (release, released) = mpsc::channel();
    let (begun, holding) = tokio::sync::oneshot::channel();
    let job = move |_: Result<&mut crate::state::Database, crate::state::Failure>| {
        begun.send(()).unwrap();
        let _ = released.recv();
        Outcome::Undo(crate::state::Failure::Closed)
    };
    engine.parts.store.submit(Box::new(job)).await.unwrap();
    holding.await.unwrap();
    Held(release)
}

/// Begins a write, and returns when the server has been sent it so many times.
async fn sent(
    world: &World,
    home: &Machine,
    times: usize,
) -> JoinHandle<Result<Written, WriteError>> {
    let engine = home.engine.clone();
    let change = put("secret/a", r#"{"k":"1"}"#, None);
    let writing = tokio::spawn(async move { engine.write(who(), vec![change]).await });
    while world.server.data().posts.len() < times {
        yield_now().await;
    }
    writing
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for found in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (found.path(), to.join(found.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

pub(super) fn pending(engine: &Engine) -> impl Future<Output = Vec<shared::hash::Hash>> {
    let store = engine.parts.store.clone();
    async move { store.read(|conn| crate::state::pending::list(conn)).await.unwrap() }
}

#[tokio::test]
async fn an_entry_is_sent_while_it_is_saved_and_answered_after_both() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let held = hold(&home.engine).await;
    let writing = sent(&world, &home, 1).await;
    // Others have it before this machine has anything of it on disk.
    vps.until_content("secret/a", r#"{"k":"1"}"#).await;
    assert!(!writing.is_finished());
    drop(held);
    writing.await.unwrap().unwrap();
    assert_eq!(home.read("secret/a").await.as_deref(), Some(r#"{"k":"1"}"#));
    assert_eq!(pending(&home.engine).await, []);
    assert!(home.engine.parts.pending.newest().is_none());
}

#[tokio::test]
async fn the_same_bytes_are_sent_again_while_the_first_are_still_being_saved() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.server.data().faults = vec![Fault::FailsBefore, Fault::ForgetsToTell];
    let held = hold(&home.engine).await;
    let writing = sent(&world, &home, 3).await;
    drop(held);
    writing.await.unwrap().unwrap();
    assert_eq!(pending(&home.engine).await, []);
    let data = world.server.data();
    assert!(data.posts.iter().all(|post| *post == data.posts[0]));
    assert_eq!(data.state.due_version(&path("secret/a")), 2, "written once");
}

#[tokio::test]
async fn a_conflict_that_the_log_does_not_show_writes_nothing_twice() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.server.data().faults = vec![Fault::Denies];
    let written = home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap();
    assert_eq!(written.versions, [(path("secret/a"), 1)]);
    let data = world.server.data();
    assert_eq!(data.posts.len(), 1, "it is not sent again");
    assert_eq!(data.state.due_version(&path("secret/a")), 2, "written once");
}

#[tokio::test]
async fn after_a_crash_before_it_was_saved_an_entry_comes_with_the_log() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let held = hold(&home.engine).await;
    let writing = sent(&world, &home, 1).await;
    vps.until_content("secret/a", r#"{"k":"1"}"#).await;
    // The disk as a crash would leave it now.
    let crashed = world.paths("crashed");
    copy(&home.paths.state, &crashed.state);
    assert!(!writing.is_finished(), "nobody was answered");
    drop(held);
    writing.await.unwrap().unwrap();
    home.stop().await;

    assert_eq!(pending(&Engine::open(&crashed).unwrap()).await, []);
    let home = world.start("crashed");
    home.until_content("secret/a", r#"{"k":"1"}"#).await;
    let status = home.engine.status();
    assert!(status.alarms.is_empty(), "{status:?}");
    assert_eq!(home.engine.parts.pending.newest(), None);
    assert_eq!(world.server.data().posts.len(), 1, "it is not sent again");
    let written = home.put("secret/a", "{}", Some(1)).await.unwrap();
    assert_eq!(written.versions, [(path("secret/a"), 2)]);
}

#[tokio::test]
async fn an_entry_refused_while_it_is_saved_is_dropped() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.server.data().faults = vec![Fault::Refuses];
    let held = hold(&home.engine).await;
    let writing = sent(&world, &home, 1).await;
    while home.engine.parts.pending.newest().is_some() {
        yield_now().await;
    }
    drop(held);
    let refused = writing.await.unwrap().unwrap_err();
    assert!(matches!(&refused, WriteError::Refused(error) if error.code == Code::Limits));
    assert_eq!(pending(&home.engine).await, []);
    let posts = world.server.data().posts.len();
    home.stop().await;
    let home = world.start("home");
    home.until(|status| status.online).await;
    assert_eq!(world.server.data().posts.len(), posts, "it is not sent again");
    home.put("secret/a", "{}", Some(0)).await.unwrap();
}

#[tokio::test]
async fn a_write_that_the_database_does_not_take_is_not_called_unwritten() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let rename = |from: &str, to: &str| {
        let change = format!("ALTER TABLE {from} RENAME TO {to}");
        home.engine.parts.store.write(move |conn| conn.execute_batch(&change))
    };
    rename("pending", "gone").await.unwrap();
    let refused = home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap_err().to_string();
    assert!(refused.starts_with("the change is in the log as entry 2, but not here"), "{refused}");
    rename("gone", "pending").await.unwrap();
    home.until_content("secret/a", r#"{"k":"1"}"#).await;
    assert!(home.engine.parts.pending.newest().is_none());
}

#[tokio::test]
async fn a_write_is_on_record_with_its_process_before_it_is_answered() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let who = Who::lossy("python3[812] uid 1000");
    let at = || path("secret/a");
    let patch = PutContent::Merge(json!({"l": "2"}));
    for (change, expected) in [
        (put("secret/a", r#"{"k":"1"}"#, None), "local_put 1"),
        (Change::Put { path: at(), kind: Kind::Kv, content: patch, cas: None }, "local_patch 2"),
        (Change::Delete { path: at(), versions: None }, "local_delete 2"),
        (Change::Undelete { path: at(), versions: vec![2] }, "local_undelete 2"),
        (Change::Destroy { path: at(), versions: vec![1] }, "local_destroy 1"),
        (Change::Forget { path: at() }, "local_forget 0"),
    ] {
        home.engine.write(who.clone(), vec![change]).await.unwrap();
        let waiting = home.engine.parts.store.read(|conn| access::oldest(conn, 10, 1 << 20));
        let rows = waiting.await.unwrap().reads;
        let shipped = world.server.data().reads.clone();
        let last = rows.last().or(shipped.last()).unwrap();
        assert_eq!(format!("{} {}", last.op, last.ver.unwrap_or(0)), expected);
        assert_eq!((&last.who, &last.path), (&Some(who.clone()), &Some(at())));
    }
    home.engine.settle().await.unwrap();
    assert_eq!(world.server.data().reads.len(), 6);
}
