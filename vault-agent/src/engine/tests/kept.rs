//! An owner's act beside an entry that is kept for a server which does not take it now: neither
//! waits for the other, and neither is lost.

use std::time::Duration;

use shared::error::Code;
use shared::signed::Envelope;
use tokio::time::timeout;

use super::owner::{grant, prepare, sign};
use super::sending::pending;
use super::server::Fault;
use super::world::{Machine, World, path, put, who};
use crate::engine::WriteError;

const ONE: &str = r#"{"k":"1"}"#;

/// A vault, the machine `home`, and an owner's act.
async fn ready() -> (World, Machine, Envelope) {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let _vps = world.machine("vps", &[], &[]).await;
    home.until_caught_up(&world).await;
    let prepared = prepare(&home, vec![grant(&world, "vps", &["secret/b"])]).await;
    let act = sign(&world, &home, &prepared).remove(0);
    (world, home, act)
}

/// The same, where `home` keeps an entry for a server that is full of excuses, and the act is on
/// the same head.
async fn world(excuse: impl FnOnce(&World)) -> (World, Machine, Envelope) {
    let (world, home, act) = ready().await;
    excuse(&world);
    let kept = home.put("secret/a", ONE, None).await.unwrap_err();
    assert!(matches!(kept, WriteError::Postponed { .. }), "{kept:?}");
    // It is sent once more at once, and then not for seconds.
    until(|| world.server.data().posts.len() == 2).await;
    assert_eq!(pending(&home.engine).await.len(), 1);
    (world, home, act)
}

async fn until(is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.expect("it comes to pass");
}

/// Waits until a machine keeps nothing any more.
async fn until_settled(home: &Machine) {
    until(|| home.engine.parts.pending.newest().is_none()).await;
    assert_eq!(pending(&home.engine).await, []);
}

fn restored(world: &World) {
    world.server.data().restored = true;
}

#[tokio::test]
async fn what_is_kept_outlives_an_act_that_is_refused() {
    let (world, home, act) = world(restored).await;
    world.server.data().faults = vec![Fault::Refuses];
    let refused = home.engine.submit(act).await.unwrap_err();
    assert!(matches!(&refused, WriteError::Refused(error) if error.code == Code::Limits));
    assert_eq!(pending(&home.engine).await.len(), 1);
    world.server.data().restored = false;
    home.until_content("secret/a", ONE).await;
    assert_eq!(pending(&home.engine).await, []);
}

#[tokio::test]
async fn both_are_kept_over_a_restart_and_the_act_is_sent_first() {
    let (world, home, act) = world(restored).await;
    let postponed = home.engine.submit(act).await.unwrap_err();
    assert!(matches!(postponed, WriteError::Postponed { .. }), "{postponed:?}");
    assert_eq!(pending(&home.engine).await.len(), 2);
    home.stop().await;
    world.server.data().restored = false;
    let before = world.server.data().state.seq();
    let home = world.start("home");
    until_settled(&home).await;
    // Both were to stand at the same place.
    assert_eq!(world.server.data().state.seq(), before + 1);
    let vps = world.number("vps");
    let granted = home.engine.state(|state| state.machines()[&vps].read.to_string());
    assert_eq!(granted, "secret/b");
    assert_eq!(home.read("secret/a").await, None);
}

#[tokio::test]
async fn what_is_kept_is_dropped_when_an_act_has_taken_its_place() {
    let (world, home, act) = world(|world| {
        world.server.data().faults = vec![Fault::Meters(30); 2];
    })
    .await;
    home.engine.submit(act).await.unwrap();
    until_settled(&home).await;
    assert_eq!(world.server.data().posts.len(), 3, "nobody need be asked about it");
    home.put("secret/a", "{}", Some(0)).await.unwrap();
}

#[tokio::test]
async fn an_act_waits_for_no_entry_that_gets_no_answer() {
    let (world, home, act) = world(restored).await;
    home.stop().await;
    {
        let mut data = world.server.data();
        (data.restored, data.deaf) = (false, true);
    }
    let posts = world.server.data().posts.len();
    let home = world.start("home");
    until(|| world.server.data().posts.len() > posts).await;
    let submitted = timeout(Duration::from_secs(5), home.engine.submit(act)).await;
    submitted.expect("it waits").unwrap();
    until_settled(&home).await;
}

#[tokio::test]
async fn an_act_waits_for_no_write_that_gets_no_answer() {
    let (world, home, act) = ready().await;
    world.server.data().deaf = true;
    let (engine, change) = (home.engine.clone(), put("secret/a", ONE, None));
    let writing = tokio::spawn(async move { engine.write(who(), vec![change]).await });
    until(|| world.server.data().posts.len() == 1).await;
    let submitted = timeout(Duration::from_secs(5), home.engine.submit(act)).await;
    submitted.expect("it waits").unwrap();
    assert!(!writing.is_finished(), "the server has not answered it");
    // It has lost its place to the act, and is made anew behind it, once.
    world.server.data().deaf = false;
    assert_eq!(writing.await.unwrap().unwrap().versions, [(path("secret/a"), 1)]);
    assert_eq!(world.server.data().state.due_version(&path("secret/a")), 2);
    until_settled(&home).await;
}

#[tokio::test]
async fn no_more_are_kept_than_there_is_room_for() {
    let (world, home, act) = world(restored).await;
    let mut kept = vec![act];
    for n in 0..7 {
        let grants = vec![grant(&world, "vps", &[&format!("secret/{n}")])];
        kept.extend(sign(&world, &home, &prepare(&home, grants).await));
    }
    let last = kept.pop().unwrap();
    for act in kept {
        let postponed = home.engine.submit(act).await.unwrap_err();
        assert!(matches!(postponed, WriteError::Postponed { .. }), "{postponed:?}");
    }
    assert_eq!(pending(&home.engine).await.len(), 8);
    let refused = home.engine.submit(last).await.unwrap_err();
    assert!(refused.to_string().contains("owes an answer"), "{refused}");
    assert_eq!(pending(&home.engine).await.len(), 8);
}
