//! A server that was set back and went on another way: who follows it, what is set aside, what
//! stops, and the ways out.

use shared::grant::Grants;
use shared::hash::Hash;
use shared::head::Head;
use shared::keys::SignKey;
use shared::log::{self, Access, Op, Resume};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose};
use shared::text::Text;
use shared::wire::v1::log::{AppendRequest, Frame};

use super::owner::asked;
use super::server::entry;
use super::world::{Machine, World, name, path};
use crate::engine::WriteError;
use crate::engine::aside::SET_ASIDE;
use crate::engine::ledger::rebase::Branch;

const ONE: &str = r#"{"k":"1"}"#;
const TWO: &str = r#"{"k":"2"}"#;

fn admin() -> Actor {
    Actor::Admin(name("jonas"))
}

/// Takes the server back to an entry, as a restored database would be.
fn set_back(world: &World, to: u64) {
    let mut data = world.server.data();
    data.entries.truncate(usize::try_from(to).unwrap());
    let mut past = log::start(&data.genesis).unwrap();
    for entry in data.entries.clone() {
        log::apply(&mut past, &entry).unwrap();
    }
    data.state = past;
    data.hang_up();
}

fn append(world: &World, by: Actor, key: &SignKey, ops: Vec<Op>) {
    let mut data = world.server.data();
    let envelope = entry(&data.state, by, key, ops);
    data.append(AppendRequest { envelope, blobs: Vec::new(), code: None }, None).unwrap();
}

/// Resumes the vault where the server's log ends; returns the head that this made.
fn resume(world: &World, by: Actor, key: &SignKey) -> Head {
    let from = world.server.data().state.place();
    let resume = Resume { seq: from.seq, head: from.head, audit_n: 0, audit_head: Hash::ZERO };
    append(world, by, key, vec![Op::Resume(resume)]);
    world.server.data().state.place()
}

/// A vault with two machines at the same entry: `vps` writes everything, `home` reads.
async fn world() -> (World, Machine, Machine) {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &["*"]).await;
    let home = world.machine("home", &["*"], &[]).await;
    vps.put("secret/a", ONE, None).await.unwrap();
    home.until_content("secret/a", ONE).await;
    (world, vps, home)
}

async fn seq(world: &World) -> u64 {
    world.server.data().state.seq()
}

fn alarms(machine: &Machine) -> Vec<String> {
    machine.engine.status().alarms.into_iter().map(|alarm| alarm.code).collect()
}

/// Returns the head that the alarm `E_FORK` tells to accept.
async fn told(machine: &Machine) -> Head {
    machine.until_alarm("E_FORK").await;
    let is_told = |text: &str| text.contains("vault-agent accept ");
    machine.until(|status| status.alarms.iter().any(|alarm| is_told(&alarm.text))).await;
    let alarms = machine.engine.status().alarms;
    let text = alarms.iter().find(|alarm| alarm.code == "E_FORK").unwrap().text.clone();
    text.split_once("vault-agent accept ").unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn an_owners_resumption_is_followed_and_what_was_written_here_is_kept_aside() {
    let (world, vps, home) = world().await;
    let common = seq(&world).await;
    vps.put("secret/a", TWO, None).await.unwrap();
    vps.put("secret/new", TWO, None).await.unwrap();
    home.until_content("secret/new", TWO).await;
    set_back(&world, common);
    vps.until_alarm("E_SERVER_BEHIND").await;
    let head = resume(&world, admin(), &world.admin);
    for machine in [&vps, &home] {
        machine.until(|status| status.online && status.head == head.head).await;
        assert_eq!(machine.read("secret/new").await, None);
        machine.until_content("secret/a", ONE).await;
    }
    // Who wrote it is told, until they have looked; who read it finds it in the list.
    assert_eq!(alarms(&vps), [SET_ASIDE]);
    assert!(alarms(&home).is_empty());
    let text = vps.engine.status().alarms[0].text.clone();
    assert!(text.contains("wrote secret/a v2") && text.contains("wrote secret/new"), "{text}");
    for machine in [&vps, &home] {
        let aside = machine.engine.set_aside().await.unwrap();
        let seqs: Vec<u64> = aside.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!((aside.count, seqs), (2, vec![common + 1, common + 2]));
        let content = machine.engine.open_set_aside(&path("secret/a")).await.unwrap();
        assert_eq!((content.ver, content.expose()), (2, TWO.as_bytes()));
        assert!(machine.engine.is_set_aside(&path("secret/a")));
    }
    // The log goes on, and version 2 is another one now.
    vps.put("secret/a", r#"{"k":"other"}"#, Some(1)).await.unwrap();
    home.until_content("secret/a", r#"{"k":"other"}"#).await;
    assert!(!home.engine.is_set_aside(&path("secret/a")));
    assert!(home.engine.was_set_aside(&path("secret/a")));
    // All of it stands after a restart, too.
    vps.stop().await;
    let vps = world.start("vps");
    vps.until(|status| status.online).await;
    assert_eq!(alarms(&vps), [SET_ASIDE]);
    vps.engine.clear_set_aside().await.unwrap();
    assert!(alarms(&vps).is_empty());
    assert_eq!(vps.engine.set_aside().await.unwrap().count, 0);
    assert!(!vps.engine.was_set_aside(&path("secret/a")));
}

#[tokio::test]
async fn a_longer_branch_is_followed_from_the_last_entry_in_common() {
    let (world, vps, home) = world().await;
    let common = seq(&world).await;
    for n in 0..5 {
        vps.put(&format!("secret/lost/{n}"), TWO, None).await.unwrap();
    }
    home.until_caught_up(&world).await;
    set_back(&world, common);
    // The other branch is longer by the time that the machines see it.
    vps.until_alarm("E_SERVER_BEHIND").await;
    let key = world.server.data().state.place();
    {
        let mut data = world.server.data();
        let resume =
            Op::Resume(Resume { seq: key.seq, head: key.head, audit_n: 0, audit_head: Hash::ZERO });
        let first = entry(&data.state, admin(), &world.admin, vec![resume]);
        data.append(AppendRequest { envelope: first, blobs: Vec::new(), code: None }, None)
            .unwrap();
    }
    for n in 0..9 {
        world.put(&format!("secret/kept/{n}"), ONE);
    }
    for machine in [&vps, &home] {
        machine.until_content("secret/kept/8", ONE).await;
        assert_eq!(machine.engine.set_aside().await.unwrap().count, 5);
        assert_eq!(machine.read("secret/lost/0").await, None);
    }
}

#[tokio::test]
async fn without_a_resumption_nobody_follows() {
    let (world, vps, home) = world().await;
    let common = seq(&world).await;
    vps.put("secret/a", TWO, None).await.unwrap();
    home.until_content("secret/a", TWO).await;
    set_back(&world, common);
    for n in 0..4 {
        world.put(&format!("secret/other/{n}"), ONE);
    }
    let before = home.engine.status().seq;
    home.until(|status| !status.online && !status.alarms.is_empty()).await;
    assert_eq!(home.engine.status().seq, before);
    assert_eq!(home.read("secret/a").await.as_deref(), Some(TWO));
    assert_eq!(home.engine.set_aside().await.unwrap().count, 0);
}

#[tokio::test]
async fn a_resumption_by_who_is_no_owner_any_more_stops_until_it_is_accepted() {
    let (world, vps, home) = world().await;
    let eve = SignKey::generate();
    let add = Op::AdminAdd { name: name("eve"), key: eve.verify_key() };
    append(&world, Actor::Root, &world.root, vec![add]);
    let common = seq(&world).await;
    append(&world, Actor::Root, &world.root, vec![Op::AdminRemove { name: name("eve") }]);
    home.until_caught_up(&world).await;
    vps.until_caught_up(&world).await;
    set_back(&world, common);
    let made = resume(&world, Actor::Admin(name("eve")), &eve);
    assert_eq!(told(&home).await, made);
    let refused = home.put("secret/b", ONE, None).await.unwrap_err();
    assert_eq!(refused, WriteError::Halted);
    assert_eq!(home.read("secret/a").await.as_deref(), Some(ONE), "reads are answered");
    assert_eq!(home.engine.status().seq, common + 1);
    // It stands after a restart, too, and another head does not end it.
    home.stop().await;
    let home = world.start("home");
    assert_eq!(told(&home).await, made);
    let other = Head { head: Hash::of(&[b"other"]), ..made };
    assert!(home.engine.accept(other).await.unwrap_err().to_string().contains("does not hold"));
    let accepted = home.engine.accept(made).await.unwrap();
    assert_eq!((accepted.set_aside, accepted.seq), (1, made.seq));
    home.until(|status| status.online && status.alarms.is_empty()).await;
    home.engine.accept(made).await.unwrap_err();
    // The other machine has not been told anything.
    assert_eq!(vps.engine.status().seq, common + 1);
}

#[tokio::test]
async fn an_owners_own_later_acts_are_not_left_without_a_person() {
    let (world, vps, home) = world().await;
    let common = seq(&world).await;
    world.remove("vps");
    home.until_caught_up(&world).await;
    set_back(&world, common);
    home.until_alarm("E_SERVER_BEHIND").await;
    let made = resume(&world, admin(), &world.admin);
    assert_eq!(told(&home).await, made);
    // Its advice, to heal, would be wrong now.
    assert!(!home.engine.status().alarms.iter().any(|alarm| alarm.code == "E_SERVER_BEHIND"));
    let alarms = home.engine.status().alarms;
    let text = &alarms.iter().find(|alarm| alarm.code == "E_FORK").unwrap().text;
    assert!(text.contains("without 1 of its owners' acts"), "{text}");
    assert!(text.contains("removed vps"), "{text}");
    // What the owner is told and what the alarm shows are the same, whatever was written since.
    world.put("secret/more", ONE);
    world.server.data().hang_up();
    assert_eq!(told(&home).await, made);
    let other = Head { epoch: Hash::of(&[b"other"]), ..made };
    assert!(home.engine.accept(other).await.unwrap_err().to_string().contains("does not hold"));
    assert!(home.engine.state(|state| state.machine(&name("vps")).is_none()));
    home.engine.accept(made).await.unwrap();
    home.until(|status| status.online && status.alarms.is_empty()).await;
    assert!(home.engine.state(|state| state.machine(&name("vps")).is_some()));
    drop(vps);
}

/// Each look at the audit chain puts a record into it: following it to a head that the restored
/// server does not have would never end.
#[tokio::test]
async fn looking_at_a_restored_server_does_not_follow_its_own_trace() {
    let (world, _vps, home) = world().await;
    let lost: Vec<String> = (0..50).map(|n| format!("lost {n}")).collect();
    let lost: Vec<&str> = lost.iter().map(String::as_str).collect();
    world.server.data().reported.audit(&lost);
    home.engine.settle().await.unwrap();
    let before = {
        let mut data = world.server.data();
        data.reported.leaves.truncate(1);
        data.reported.records_follows = true;
        data.reported.followed
    };
    home.engine.restored().await.unwrap();
    let asked = world.server.data().reported.followed - before;
    assert!(asked < 5, "{asked}");
}

#[tokio::test]
async fn root_is_followed_over_later_acts_of_admins() {
    let (world, _vps, home) = world().await;
    let common = seq(&world).await;
    world.put("secret/by-admin", TWO);
    home.until_content("secret/by-admin", TWO).await;
    set_back(&world, common);
    let made = resume(&world, Actor::Root, &world.root);
    home.until(|status| status.online && status.head == made.head).await;
    assert_eq!(home.engine.set_aside().await.unwrap().count, 1);
    assert!(alarms(&home).is_empty(), "another's act is no alarm of this machine");
}

#[tokio::test]
async fn an_old_resumption_by_root_is_not_followed_again() {
    let (world, vps, home) = world().await;
    let common = seq(&world).await;
    vps.put("secret/a", TWO, None).await.unwrap();
    home.until_content("secret/a", TWO).await;
    set_back(&world, common);
    let first = resume(&world, Actor::Root, &world.root);
    home.until(|status| status.online && status.head == first.head).await;
    let old = {
        let data = world.server.data();
        (data.state.clone(), data.entries.clone())
    };
    // Restored once more: root's second word counts, not the first.
    set_back(&world, common);
    let second = resume(&world, Actor::Root, &world.root);
    home.until(|status| status.online && status.head == second.head).await;
    {
        let mut data = world.server.data();
        (data.state, data.entries) = old;
        data.hang_up();
    }
    world.put("secret/more", ONE);
    home.until_alarm("E_FORK").await;
    assert_eq!(home.engine.status().head, second.head);
}

/// A server that says of its entries less than what they have in common shows a resumption that
/// this very log holds as if it were new.
#[tokio::test]
async fn a_resumption_that_the_log_holds_takes_nothing_back() {
    let (world, _vps, home) = world().await;
    resume(&world, Actor::Root, &world.root);
    let resumed = {
        let data = world.server.data();
        let place = data.state.place();
        let head = place.sign(&world.server_key, data.state.vault()).unwrap();
        (data.entries.last().unwrap().clone(), head)
    };
    world.put("secret/a", TWO);
    home.until_content("secret/a", TWO).await;
    let own = home.engine.state(log::State::place);
    let (entries, head) = (vec![resumed.0], resumed.1);
    let branch = Branch { own, common: head.seq - 1, entries, head };
    let refused = home.engine.parts.ledger.rebase(branch, |_| Ok(())).await.unwrap();
    assert_eq!(refused.map(|_| ()).unwrap_err().code, shared::error::Code::Prev);
    assert_eq!(home.engine.state(log::State::place), own);
    assert_eq!(home.read("secret/a").await.as_deref(), Some(TWO));
}

/// Has the server sign another entry at a place that the log holds.
fn forked(world: &World) -> Head {
    let mut data = world.server.data();
    let place = data.state.place();
    let other = Head { head: Hash::of(&[b"other"]), ..place };
    let signed = other.sign(&world.server_key, data.state.vault()).unwrap();
    data.send(&Frame::Head(signed));
    other
}

#[tokio::test]
async fn shutting_a_machine_out_does_not_wait_for_the_end_of_a_fork() {
    let (world, vps, home) = world().await;
    forked(&world);
    vps.until_alarm("E_FORK").await;
    vps.until(|status| !status.online).await;
    assert_eq!(vps.put("secret/b", ONE, None).await, Err(WriteError::Halted));
    let number = world.number("home");
    let rename = Op::MachineRename { number, to: name("other") };
    let refused = vps.engine.prepare(asked(vec![rename])).await.unwrap_err();
    assert!(refused.to_string().starts_with("E_FORK: "), "{refused}");
    let was = world.server.data().state.was_access(number);
    let (read, write) = (Grants::default(), Grants::default());
    let acts = [
        Op::AccessSet(Access { number, was, read, write }),
        Op::MachineRemove { number, reason: Text::default() },
    ];
    for act in acts {
        let prepared = vps.engine.prepare(asked(vec![act])).await.unwrap();
        assert!(prepared.unreadable.is_empty());
        for body in prepared.bodies {
            let purpose = Purpose::Entry(vps.engine.vault());
            let signed = Envelope::sign_body(&world.admin, admin(), purpose, body.0);
            vps.engine.submit(signed).await.unwrap();
        }
    }
    assert!(world.server.data().state.machine(&name("home")).is_none());
    assert!(vps.engine.branch().halted && !vps.engine.status().online);
    assert_eq!(vps.put("secret/b", ONE, None).await, Err(WriteError::Halted));
    // Somebody says that this machine's own history is the true one.
    let own = world.server.data().state.place();
    assert_eq!(vps.engine.accept(own).await.unwrap().set_aside, 0);
    vps.until(|status| status.online && status.alarms.is_empty()).await;
    vps.put("secret/b", ONE, None).await.unwrap();
    drop(home);
}

#[tokio::test]
async fn a_fork_ends_where_an_owner_resumes() {
    let (world, vps, _home) = world().await;
    let common = seq(&world).await;
    vps.put("secret/a", TWO, None).await.unwrap();
    forked(&world);
    vps.until_alarm("E_FORK").await;
    set_back(&world, common);
    let made = resume(&world, admin(), &world.admin);
    vps.until(|status| status.online && status.head == made.head).await;
    assert_eq!(alarms(&vps), [SET_ASIDE]);
    assert!(!vps.engine.branch().halted);
    vps.put("secret/a", TWO, Some(1)).await.unwrap();
}

/// Going over is one transaction: what fails within it leaves log, state and contents as they were.
#[tokio::test]
async fn going_over_half_way_is_not_gone_over() {
    let (world, vps, home) = world().await;
    let common = seq(&world).await;
    vps.put("secret/a", TWO, None).await.unwrap();
    home.until_content("secret/a", TWO).await;
    let broken = home.engine.parts.store.write(|conn| {
        conn.execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON snapshot BEGIN \
             SELECT RAISE(ABORT, 'on demand'); END",
        )
    });
    broken.await.unwrap();
    set_back(&world, common);
    let made = resume(&world, admin(), &world.admin);
    vps.until(|status| status.head == made.head).await;
    home.until(|status| !status.online && !status.alarms.is_empty()).await;
    let stays = |machine: &Machine| {
        assert_eq!(machine.engine.status().seq, common + 1);
        assert!(!machine.engine.was_set_aside(&path("secret/a")));
    };
    stays(&home);
    assert_eq!(home.read("secret/a").await.as_deref(), Some(TWO));
    home.stop().await;
    let home = world.start("home");
    stays(&home);
    assert_eq!(home.read("secret/a").await.as_deref(), Some(TWO));
    assert_eq!(home.engine.set_aside().await.unwrap().count, 0);
    let mended = home.engine.parts.store.write(|conn| conn.execute_batch("DROP TRIGGER broken"));
    mended.await.unwrap();
    home.until(|status| status.online && status.head == made.head).await;
    assert_eq!(home.engine.set_aside().await.unwrap().count, 1);
}

/// A write that nobody has answered is void on the other branch: it is listed, and what it wrote is
/// kept.
#[tokio::test]
async fn an_entry_on_its_way_is_set_aside_too() {
    let (world, vps, home) = world().await;
    let common = seq(&world).await;
    vps.put("secret/a", TWO, None).await.unwrap();
    home.until_content("secret/a", TWO).await;
    world.server.data().faults = vec![super::server::Fault::FailsBefore; 200];
    let unresolved = tokio::spawn({
        let engine = vps.engine.clone();
        let change = super::world::put("secret/way", TWO, None);
        async move { engine.write(super::world::who(), vec![change]).await }
    });
    while world.server.data().posts.len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    set_back(&world, common);
    let made = resume(&world, admin(), &world.admin);
    vps.until(|status| status.head == made.head).await;
    world.server.data().faults.clear();
    let aside = vps.engine.set_aside().await.unwrap();
    assert!(aside.entries.iter().any(|entry| entry.what == ["wrote secret/way v1"]));
    // Its caller still waits: it is made anew on the new branch. One who is told in the very moment
    // that this machine goes over writes again.
    let mut written = unresolved.await.unwrap().map(drop);
    while matches!(written, Err(WriteError::Offline { .. })) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        written = vps.put("secret/way", TWO, None).await.map(drop);
    }
    written.unwrap();
    home.until_content("secret/way", TWO).await;
}
