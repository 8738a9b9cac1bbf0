//! A wrong clock, here or on the server: it deletes nothing, and nothing is stuck when it is right
//! again.

use serde_json::json;
use shared::error::Code;
use shared::log::{MetaSet, Op};
use shared::time::Time;

use super::server::Fault;
use super::world::{World, path, put, who};
use crate::engine::{Latest, WriteError};

#[tokio::test]
async fn an_entry_refused_for_its_time_is_made_anew_once() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.server.data().faults = vec![Fault::Mistimes];
    let written = home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap();
    assert_eq!(written.versions, [(path("secret/a"), 1)]);
    {
        let data = world.server.data();
        assert_eq!(data.posts.len(), 2);
        assert_ne!(data.posts[0], data.posts[1], "not the same bytes again");
    }
    home.until_content("secret/a", r#"{"k":"1"}"#).await;
}

#[tokio::test]
async fn an_entry_that_is_refused_for_its_time_and_committed_is_not_written_twice() {
    for told in [true, false] {
        let world = World::new().await;
        let home = world.machine("home", &["*"], &["*"]).await;
        world.server.data().faults = vec![Fault::RefusesKept { code: Code::Clock, told }];
        let engine = home.engine.clone();
        let change = put("secret/a", r#"{"k":"1"}"#, None);
        let writing = tokio::spawn(async move { engine.write(who(), vec![change]).await });
        if !told {
            // The log shows it only after it was made anew.
            while world.server.data().posts.len() < 2 {
                tokio::task::yield_now().await;
            }
            world.server.data().hang_up();
        }
        let written = writing.await.unwrap().unwrap();
        assert_eq!(written.versions, [(path("secret/a"), 1)]);
        home.until_content("secret/a", r#"{"k":"1"}"#).await;
        assert_eq!(world.server.data().state.due_version(&path("secret/a")), 2, "written once");
        assert_eq!(home.put("secret/a", "{}", None).await.unwrap().versions[0].1, 2);
    }
}

#[tokio::test]
async fn a_batch_that_is_refused_and_committed_is_not_written_twice_in_halves() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let lie = Fault::RefusesKept { code: Code::Limits, told: true };
    world.server.data().faults = vec![lie];
    let (a, b) = tokio::join!(home.put("secret/a", "{}", None), home.put("secret/b", "{}", None));
    assert_eq!(a.unwrap().versions, [(path("secret/a"), 1)]);
    assert_eq!(b.unwrap().versions, [(path("secret/b"), 1)]);
    let data = world.server.data();
    let due = |at: &str| data.state.due_version(&path(at));
    assert_eq!((due("secret/a"), due("secret/b")), (2, 2), "written once");
}

#[tokio::test]
async fn a_wrong_clock_is_told_and_leaves_nothing_waiting() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.server.data().faults = vec![Fault::Mistimes, Fault::Mistimes];
    let refused = home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap_err();
    let WriteError::Refused(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code, Code::Clock);
    assert_eq!(error.detail, "`home` wrote at 1, the server's clock says 2");
    assert_eq!(home.engine.parts.pending.newest(), None);
    // The minute in which a clock was wrong is over.
    let written = home.put("secret/a", r#"{"k":"2"}"#, None).await.unwrap();
    assert_eq!(written.versions, [(path("secret/a"), 1)]);
}

#[tokio::test]
async fn an_entry_is_not_before_the_one_it_follows() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let ahead = |micros: u64| host::clock::now().plus(micros);
    let minute = 60_000_000;
    let near = ahead(2 * minute);
    world.act_at(near, vec![settings(0)]);
    home.until_caught_up(&world).await;
    assert_eq!(home.put("secret/a", "{}", None).await.unwrap().time, near);
    // One that is far ahead takes nobody along.
    world.act_at(Time::from_micros(u64::MAX), vec![settings(1)]);
    home.until_caught_up(&world).await;
    assert!(home.put("secret/a", "{}", None).await.unwrap().time < ahead(minute));
}

fn settings(max_versions: u64) -> Op {
    let custom = Default::default();
    let (path, cas_required, delete_after) = (path("secret/a"), false, 3_600_000_000);
    Op::MetaSet(MetaSet { path, max_versions, cas_required, delete_after, custom })
}

#[tokio::test]
async fn with_a_wrong_clock_nothing_is_deleted_by_its_age() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.act(vec![settings(0)]);
    // To this machine it was written two hours ago, and so is deleted since one.
    let then = Time::from_micros(host::clock::now().as_micros() - 2 * 3_600_000_000);
    world.put_at(then, "secret/a", &json!({"k": "1"}).to_string());
    home.until_caught_up(&world).await;
    let latest = || home.engine.latest(&path("secret/a"));
    assert_eq!(latest(), Latest::Deleted { ver: 1 });
    let day = |n: u64| Some(Time::from_micros(n * 24 * 3_600_000_000));
    for clock in [day(0), day(24_000)] {
        world.server.data().clock = clock;
        home.engine.set_targets(vec![]);
        home.engine.parts.reports.reporting.soon();
        home.until_alarm("E_CLOCK").await;
        let alarm = home.engine.status().alarms.remove(0).text;
        let said = format!("the server's says {}", clock.unwrap());
        assert!(alarm.contains("this machine's clock says 2") && alarm.ends_with(&said), "{alarm}");
        assert!(matches!(latest(), Latest::Version { ver: 1, .. }), "{:?}", latest());
        world.server.data().clock = None;
        home.engine.parts.reports.reporting.soon();
        home.until(|status| status.alarms.is_empty()).await;
        assert_eq!(latest(), Latest::Deleted { ver: 1 });
    }
}
