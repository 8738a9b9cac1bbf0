//! What somebody has signed, and what takes back what still holds of it.

use shared::log::Op;
use shared::time::Time;

use super::owner::grant;
use super::world::{Machine, World, name};
use machine::local::{Act, Acts, ActsQuery};

const DAY: u64 = 24 * 60 * 60 * 1_000_000;

fn ago(days: u64) -> Time {
    Time::from_micros(host::clock::now().as_micros() - days * DAY)
}

/// Asks for what the admin has signed in thirty days.
async fn told(world: &World, machine: &Machine) -> Acts {
    machine.until_caught_up(world).await;
    let query = ActsQuery { key: world.admin.verify_key(), since: ago(30) };
    machine.engine.acts(query).await.unwrap()
}

fn back(act: &Act) -> Vec<&str> {
    act.back.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn what_still_holds_is_named_with_what_takes_it_back() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let _vps = world.join("vps", &["secret/a", "secret/b c"], &[]);
    world.act(vec![grant(&world, "vps", &["*"])]);
    let number = world.number("vps");
    world.act(vec![Op::MachineRename { number, to: name("web") }]);
    let Acts { acts, earlier, .. } = told(&world, &home).await;
    assert_eq!((acts.len(), earlier), (4, 0));
    assert_eq!(acts[1].what, ["added vps: reads secret/a,secret/b c, writes -"]);
    assert_eq!(back(&acts[1]), ["vault machine remove web"]);
    assert_eq!(back(&acts[2]), ["vault access set web --read 'secret/a,secret/b c'"]);
    assert_eq!(back(&acts[3]), ["vault machine rename web vps"]);
    // What was changed since, or is gone, takes nothing to take back.
    world.act(vec![grant(&world, "web", &[])]);
    assert_eq!(back(&told(&world, &home).await.acts[2]), [""; 0]);
    world.remove("web");
    let acts = told(&world, &home).await.acts;
    assert!(acts[1..5].iter().all(|act| act.back.is_empty()), "{acts:?}");
    assert_eq!(back(&acts[5]), ["vault machine add web --ssh HOST"]);
}

#[tokio::test]
async fn who_dates_entries_back_hides_nothing() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let _vps = world.join("vps", &[], &[]);
    world.act_at(ago(300), vec![grant(&world, "vps", &["*"])]);
    let acts = told(&world, &home).await.acts;
    let dated: Vec<bool> = acts.iter().map(|act| act.backdated).collect();
    assert_eq!(dated, [false, false, true]);
    assert_eq!(back(&acts[2]), ["vault access set vps --read ''"]);
    let other = ActsQuery { key: world.root.verify_key(), since: ago(30) };
    assert!(home.engine.acts(other).await.unwrap().acts.is_empty());
}
