//! Who is here, who is silent, and when each machine was last heard, as the status shows it.

use shared::audit::AuditHead;
use shared::log::Op;

use super::reports::row;
use super::world::{World, name};

/// How another machine stands, as this one shows it: awake, silent, and for how many seconds it
/// was not heard.
fn stands(status: &machine::local::Status, of: &str) -> (bool, bool, Option<u64>) {
    let found = status.machines.iter().find(|it| it.machine == name(of)).unwrap();
    let quiet = found.seen_at.map(|at| host::clock::now().seconds_since(at));
    (found.awake, found.silent, quiet)
}

#[tokio::test]
async fn a_machine_that_is_gone_ages_and_is_missed_after_five_minutes() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let home = world.machine("home", &["*"], &[]).await;
    vps.engine.set_targets(vec![row(1)]);
    for machine in [&vps, &home] {
        machine.engine.settle().await.unwrap();
    }
    let (awake, silent, quiet) = stands(&home.engine.fleet().await.unwrap(), "vps");
    assert!(awake && !silent && quiet.unwrap() < 60, "{quiet:?}");
    let gone = async |seconds: u64, up: u64| {
        {
            let reported = &mut world.server.data().reported;
            reported.gone.insert(1, seconds);
            reported.up = up;
        }
        home.engine.fleet().await.unwrap()
    };
    let status = gone(100, 86_400).await;
    let (awake, silent, quiet) = stands(&status, "vps");
    assert!(!awake && !silent && (100..160).contains(&quiet.unwrap()), "{quiet:?}");
    let status = gone(400, 86_400).await;
    let (awake, silent, quiet) = stands(&status, "vps");
    assert!(!awake && silent && (400..460).contains(&quiet.unwrap()), "{quiet:?}");
    let shown = host::clock::now().seconds_since(status.targets[0].seen_at.unwrap());
    assert!((400..460).contains(&shown) && !status.targets[0].awake, "{shown}");
    assert!(stands(&status, "home").0, "this machine is here");
    // A server that has just started has heard nobody yet.
    assert!(!stands(&gone(400, 10).await, "vps").1);
    assert!(stands(&gone(400, 60).await, "vps").1);
    let was = world.server.data().state.was_machine(1);
    world.act(vec![Op::MachineSet { number: 1, sleeps: true, was }]);
    home.until_caught_up(&world).await;
    assert!(!stands(&gone(400, 86_400).await, "vps").1, "it sleeps");
    // Who came back is here.
    world.server.data().reported.gone.clear();
    let (awake, silent, quiet) = stands(&home.engine.fleet().await.unwrap(), "vps");
    assert!(awake && !silent && quiet.unwrap() < 60, "{quiet:?}");
}

#[tokio::test]
async fn without_a_server_nobody_is_here_and_all_age() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let home = world.machine("home", &["*"], &[]).await;
    world.join_silent("nas", &[]);
    home.until_caught_up(&world).await;
    vps.engine.set_targets(vec![row(1)]);
    for machine in [&vps, &home] {
        machine.engine.settle().await.unwrap();
    }
    let status = home.engine.fleet().await.unwrap();
    assert!(status.online && status.told && stands(&status, "vps").0);
    assert_eq!(stands(&status, "nas"), (false, false, None), "it was added just now");
    world.server.data().hang_up();
    home.stop().await;
    let home = world.start("home");
    assert!(home.engine.status().server.is_some(), "where it is sought is known at once");
    home.move_server("127.0.0.1:1");
    let status = home.engine.fleet().await.unwrap();
    assert!(!status.online && !status.told && status.trouble.is_some(), "{status:?}");
    let (awake, silent, quiet) = stands(&status, "vps");
    assert!(!awake && !silent && quiet.is_some(), "not here, and not judged: {quiet:?}");
    assert!(!status.targets[0].awake && status.targets[0].seen_at.is_some(), "{status:?}");
}

#[tokio::test]
async fn it_stays_known_when_a_removed_machine_was_last_heard() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let key = world.join_silent("vps", &[]);
    home.until_caught_up(&world).await;
    world.plant("vps", &key, 1, world.head(), AuditHead::EMPTY);
    home.exchange().await;
    let seen = home.engine.seen();
    assert!(seen.contains_key(&2));
    let reason = shared::text::Text::default();
    world.act(vec![Op::MachineRemove { number: 2, reason }]);
    home.until_caught_up(&world).await;
    home.exchange().await;
    assert!(home.engine.peers().is_empty());
    home.stop().await;
    let home = world.start("home");
    assert_eq!(home.engine.seen(), seen);
}
