//! Heads that the server signs: nothing is used that none covers, and each lie about them ends in
//! its named outcome, with state and contents untouched.

use std::time::Duration;

use shared::keys::SignKey;
use shared::log::Op;
use shared::name::Actor;
use shared::wire::v1::log::{AppendRequest, Frame};

use super::hostile::{set_back, world_with_one_secret};
use super::server::{Data, Fault, Lie, entry, sealed};
use super::world::{Machine, World, name, path};
use crate::engine::{Engine, WriteError};

const OLD: &str = r#"{"k":"1"}"#;
const NEW: &str = r#"{"k":"2"}"#;

/// Signs a put of `secret/a` on the server's head.
fn next(world: &World, data: &Data) -> AppendRequest {
    let (op, blob) = sealed(&data.state, &path("secret/a"), NEW.as_bytes());
    let by = Actor::Admin(name("jonas"));
    let envelope = entry(&data.state, by, &world.admin, vec![op]);
    AppendRequest { envelope, blobs: vec![blob], code: None }
}

fn codes(machine: &Machine) -> Vec<String> {
    machine.engine.status().alarms.into_iter().map(|alarm| alarm.code).collect()
}

/// Has time pass as if it had been spent connected, and judges what the server owes.
async fn pass(machine: &Machine, minutes: u64) {
    let reports = &machine.engine.parts.reports;
    reports.connected.pass(Duration::from_mins(minutes));
    reports.judge().await.unwrap();
}

async fn check_untouched(machine: &Machine, seq: u64) {
    assert_eq!(machine.engine.status().seq, seq);
    assert_eq!(machine.read("secret/a").await.as_deref(), Some(OLD));
}

/// Ends the stream, and waits until what was sent has been looked at: the machine is back.
async fn until_looked_at(world: &World) {
    let shown = world.server.data().shown.len();
    world.server.data().hang_up();
    while world.server.data().shown.len() == shown {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_entry_waits_for_its_head_and_is_frozen_without() {
    let (world, vps) = world_with_one_secret().await;
    {
        let mut data = world.server.data();
        data.headless = true;
        let next = next(&world, &data);
        data.append(next, None).unwrap();
    }
    let waiting = async {
        while !vps.engine.parts.reports.fleet().has_unsigned() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    pass(&vps, 9).await;
    assert!(codes(&vps).is_empty(), "{:?}", codes(&vps));
    pass(&vps, 1).await;
    assert_eq!(codes(&vps), ["E_FROZEN"]);
    check_untouched(&vps, 2).await;
    let head = Frame::Head(world.server.data().signed());
    world.server.data().send(&head);
    vps.until_content("secret/a", NEW).await;
    // Contents are told of a moment before the stream is done with them.
    while vps.engine.parts.reports.fleet().has_unsigned() {
        tokio::task::yield_now().await;
    }
    pass(&vps, 0).await;
    assert!(codes(&vps).is_empty(), "{:?}", codes(&vps));
}

/// Tells a machine that follows an entry and a lie about its head, then the truth.
async fn check(lie: Lie, code: &str) {
    let (world, vps) = world_with_one_secret().await;
    {
        let mut data = world.server.data();
        let next = next(&world, &data);
        data.append_unsaid(next.clone());
        let head = Frame::Head(data.lie(lie));
        data.send(&Frame::Entry { envelope: next.envelope, blobs: next.blobs });
        data.send(&head);
        data.headless = true;
    }
    vps.until_alarm(code).await;
    check_untouched(&vps, 2).await;
    {
        let mut data = world.server.data();
        data.headless = false;
        data.hang_up();
    }
    vps.until_content("secret/a", NEW).await;
    vps.until(|status| status.alarms.is_empty()).await;
}

#[tokio::test]
async fn a_head_by_another_key_is_refused() {
    check(Lie::OtherKey, "E_BADSIG").await;
}

#[tokio::test]
async fn a_head_of_another_epoch_is_refused() {
    check(Lie::OtherEpoch, "E_PREV").await;
}

#[tokio::test]
async fn a_head_of_another_entry_is_refused() {
    check(Lie::OtherHash, "E_PREV").await;
}

#[tokio::test]
async fn a_head_past_an_entry_or_before_it_is_not_its_head() {
    for lie in [Some(Lie::NextSeq), None] {
        let (world, vps) = world_with_one_secret().await;
        {
            let mut data = world.server.data();
            data.headless = true;
            let last = data.signed();
            let next = next(&world, &data);
            data.append(next, None).unwrap();
            let head = lie.map_or(last, |lie| data.lie(lie));
            data.send(&Frame::Head(head));
        }
        until_looked_at(&world).await;
        check_untouched(&vps, 2).await;
        world.server.data().headless = false;
        world.server.data().hang_up();
        vps.until_content("secret/a", NEW).await;
        vps.until(|status| status.alarms.is_empty()).await;
    }
}

#[tokio::test]
async fn entries_after_the_last_head_are_not_used_when_the_stream_ends() {
    let world = World::new().await;
    for n in 0..120 {
        world.put("secret/a", &format!(r#"{{"n":{n}}}"#));
    }
    world.join("vps", &["*"], &[]);
    let last = world.server.data().state.seq();
    world.server.data().cut = true;
    let vps = world.start("vps");
    // A page has a head after each 50 entries; what follows the last of them waits.
    vps.until(|status| status.seq == 100).await;
    assert!(!vps.engine.status().online);
    world.server.data().cut = false;
    vps.until(|status| status.online && status.seq == last).await;
    assert!(codes(&vps).is_empty(), "{:?}", codes(&vps));
}

#[tokio::test]
async fn too_much_without_a_head_ends_the_stream() {
    let (world, vps) = world_with_one_secret().await;
    {
        let mut data = world.server.data();
        let mut next = next(&world, &data).envelope;
        next.body = vec![b'x'; 1 << 20];
        for _ in 0..17 {
            data.send(&Frame::Entry { envelope: next.clone(), blobs: Vec::new() });
        }
    }
    vps.until_alarm("E_FROZEN").await;
    check_untouched(&vps, 2).await;
    vps.until(|status| status.online && status.alarms.is_empty()).await;
}

#[tokio::test]
async fn a_replaced_key_signs_heads_no_more() {
    let (world, vps) = world_with_one_secret().await;
    let key = SignKey::generate();
    let old = std::mem::replace(&mut world.server.data().key, SignKey::from_seed(&key.seed()));
    let keys = vec![key.verify_key()];
    let was = world.server.data().state.was_server();
    world.act(vec![Op::ServerSet { keys, was }]);
    vps.until(|status| status.seq == 3).await;
    {
        let mut data = world.server.data();
        let next = next(&world, &data);
        data.append_unsaid(next.clone());
        let head = data.state.place().sign(&old, data.state.vault()).unwrap();
        data.send(&Frame::Entry { envelope: next.envelope, blobs: next.blobs });
        data.send(&Frame::Head(head));
    }
    vps.until_alarm("E_BADSIG").await;
    check_untouched(&vps, 3).await;
}

#[tokio::test]
async fn a_machine_joins_although_the_servers_key_was_replaced() {
    let mut world = World::new().await;
    // Heads of all entries are signed by the key of today, which the first of them do not list.
    let key = SignKey::generate();
    let (genesis, entries) = {
        let mut data = world.server.data();
        let was = data.state.was_server();
        let set = Op::ServerSet { keys: vec![key.verify_key()], was };
        let by = Actor::Admin(name("jonas"));
        let envelope = entry(&data.state, by, &world.admin, vec![set]);
        data.append_unsaid(AppendRequest { envelope, blobs: Vec::new(), code: None });
        (data.genesis.clone(), data.entries.clone())
    };
    world.server = super::server::Server::start(&key, genesis).await;
    for envelope in entries {
        let request = AppendRequest { envelope, blobs: Vec::new(), code: None };
        world.server.data().append(request, None).unwrap();
    }
    world.server_key = key;
    let vps = world.machine("vps", &["*"], &["*"]).await;
    vps.put("secret/a", OLD, None).await.unwrap();
    assert!(codes(&vps).is_empty(), "{:?}", codes(&vps));
}

#[tokio::test]
async fn another_history_on_another_connection_is_a_proven_fork() {
    let (world, vps) = world_with_one_secret().await;
    set_back(&world);
    world.put("secret/a", NEW);
    world.server.data().hang_up();
    vps.until_alarm("E_FORK").await;
    check_untouched(&vps, 2).await;
    let stopped = vps.put("secret/b", "{}", None).await.unwrap_err();
    assert_eq!(stopped, WriteError::Halted);
    // It stands after a restart, too.
    vps.stop().await;
    let vps = world.start("vps");
    vps.until_alarm("E_FORK").await;
    assert!(!vps.engine.status().online);
    check_untouched(&vps, 2).await;
}

#[tokio::test]
async fn a_longer_other_history_stops_the_sync_and_halts_nothing() {
    let (world, vps) = world_with_one_secret().await;
    set_back(&world);
    world.put("secret/a", NEW);
    world.put("secret/a", NEW);
    world.server.data().hang_up();
    vps.until_alarm("E_PREV").await;
    check_untouched(&vps, 2).await;
    assert_eq!(codes(&vps), ["E_PREV"]);
}

/// A member can sign another entry than the one that stands: it proves nothing.
#[tokio::test]
async fn another_entry_at_a_known_place_is_no_fork() {
    let (world, vps) = world_with_one_secret().await;
    {
        let mut data = world.server.data();
        let mut past = shared::log::start(&data.genesis).unwrap();
        shared::log::apply(&mut past, &data.entries[0]).unwrap();
        let (op, _) = sealed(&past, &path("secret/z"), b"{}");
        let other = entry(&past, Actor::Admin(name("jonas")), &world.admin, vec![op]);
        data.claim(3, other);
    }
    vps.until_alarm("E_SEQ").await;
    assert_eq!(codes(&vps), ["E_SEQ"]);
    check_untouched(&vps, 2).await;
    vps.until(|status| status.online && status.alarms.is_empty()).await;
}

#[tokio::test]
async fn an_acknowledgement_counts_with_the_head_of_the_very_entry() {
    for lie in [Lie::OtherKey, Lie::OtherEpoch, Lie::NextSeq, Lie::OtherHash] {
        let world = World::new().await;
        let home = world.machine("home", &["*"], &["*"]).await;
        world.server.data().faults = vec![Fault::Vouches(lie); 1000];
        let writing = home.put("secret/a", OLD, None);
        let gone = tokio::time::timeout(Duration::from_millis(500), writing).await;
        assert!(gone.is_err(), "{lie:?}: believed");
        assert_eq!(home.engine.status().seq, 1, "{lie:?}");
        assert!(home.engine.parts.pending.newest().is_some(), "{lie:?}");
        assert_eq!(home.read("secret/a").await, None);
        // The same bytes again, and the truth.
        world.server.data().faults.clear();
        home.until_content("secret/a", OLD).await;
        let data = world.server.data();
        assert!(data.posts.iter().all(|post| *post == data.posts[0]));
        assert_eq!(data.state.due_version(&path("secret/a")), 2, "written once");
    }
}

#[tokio::test]
async fn a_conflict_with_a_forked_head_halts() {
    let (world, vps) = world_with_one_secret().await;
    world.server.data().faults = vec![Fault::DeniesWith(Lie::Fork)];
    world.server.data().headless = true;
    let refused = vps.put("secret/a", NEW, None).await.unwrap_err();
    assert!(matches!(refused, WriteError::Postponed { .. }), "{refused:?}");
    assert!(refused.to_string().starts_with("E_FORK: "), "{refused}");
    vps.until_alarm("E_FORK").await;
    check_untouched(&vps, 2).await;
}

#[tokio::test]
async fn the_newest_head_is_shown_with_every_request_for_the_log() {
    let (world, vps) = world_with_one_secret().await;
    let first = world.server.data().signed();
    assert_eq!(world.server.data().shown, [None], "it has none before the first");
    world.server.data().hang_up();
    vps.until(|_| world.server.data().shown.last() == Some(&Some(first))).await;
    vps.until(|status| status.online).await;
    vps.put("secret/b", "{}", None).await.unwrap();
    assert_eq!(world.server.data().shown.last(), Some(&Some(first)));
    // And after a restart.
    let second = world.server.data().signed();
    vps.stop().await;
    let vps = world.start("vps");
    assert_eq!(vps.engine.parts.ledger.signed(), Some(second));
    vps.until(|status| status.online).await;
    assert_eq!(world.server.data().shown.last(), Some(&Some(second)));
}

#[tokio::test]
async fn a_key_that_was_added_signs_the_head_anew() {
    let (world, vps) = world_with_one_secret().await;
    let key = SignKey::generate();
    let keys = vec![world.server_key.verify_key(), key.verify_key()];
    let was = world.server.data().state.was_server();
    world.act(vec![Op::ServerSet { keys, was }]);
    vps.until_caught_up(&world).await;
    let before = vps.engine.parts.ledger.signed().unwrap();
    {
        let mut data = world.server.data();
        data.key = key;
        data.hang_up();
    }
    let after = world.server.data().signed();
    assert_ne!(before, after);
    vps.until(|_| vps.engine.parts.ledger.signed() == Some(after)).await;
    let paths = vps.stop().await;
    assert_eq!(Engine::open(&paths).unwrap().parts.ledger.signed(), Some(after));
}

#[tokio::test]
async fn a_restored_server_has_writes_wait_for_an_owner() {
    let (world, vps) = world_with_one_secret().await;
    let vps2 = world.machine("home", &["*"], &["*"]).await;
    world.server.data().restored = true;
    let waits = vps2.put("secret/a", NEW, None).await.unwrap_err();
    assert!(waits.to_string().contains("was restored from a copy"), "{waits}");
    assert!(waits.to_string().contains("will be sent again"), "{waits}");
    assert!(codes(&vps2).contains(&"E_SERVER_RESTORED".to_owned()), "{:?}", codes(&vps2));
    // Others do not wait behind it: nothing of theirs is kept.
    let refused = vps2.put("secret/b", "{}", None).await.unwrap_err();
    assert!(matches!(refused, WriteError::Offline { .. }), "{refused:?}");
    assert!(vps2.engine.status().online, "the log is followed");
    world.server.data().restored = false;
    vps.until_content("secret/a", NEW).await;
    vps2.until(|status| status.alarms.is_empty()).await;
    let data = world.server.data();
    let posts: Vec<_> = data.posts.iter().collect();
    assert!(posts.iter().all(|post| *post == posts[0]), "the same bytes");
}

#[tokio::test]
async fn a_server_over_its_share_is_waited_for() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.server.data().faults = vec![Fault::Meters(1)];
    let began = std::time::Instant::now();
    home.put("secret/a", OLD, None).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(world.server.data().posts.len(), 2);
    // Longer than a caller waits: it is told so at once, and the entry is kept.
    world.server.data().faults = vec![Fault::Meters(30)];
    let postponed = home.put("secret/a", NEW, None).await.unwrap_err();
    let WriteError::Postponed { again, .. } = postponed else { panic!("{postponed:?}") };
    assert_eq!(again, Duration::from_secs(30));
    assert!(home.engine.parts.pending.newest().is_some());
}

#[tokio::test]
async fn a_long_log_is_healed_in_runs_that_end_with_a_signed_head() {
    let world = World::new().await;
    world.join("vps", &["*"], &["*"]);
    for n in 0..120 {
        world.put("secret/a", &format!(r#"{{"n":{n}}}"#));
    }
    let vps = world.start("vps");
    vps.until(|status| status.online).await;
    vps.put("secret/a", OLD, None).await.unwrap();
    {
        let mut data = world.server.data();
        let kept: Vec<_> = data.entries.drain(..).take(3).collect();
        let mut past = shared::log::start(&data.genesis).unwrap();
        kept.iter().for_each(|entry| drop(shared::log::apply(&mut past, entry).unwrap()));
        (data.entries, data.state) = (kept, past);
        data.hang_up();
    }
    vps.until_alarm("E_SERVER_BEHIND").await;
    assert_eq!(vps.engine.heal(None).await.unwrap().entries, 119);
    vps.until(|status| status.online && status.alarms.is_empty()).await;
    let data = world.server.data();
    assert_eq!(Some(data.signed()), vps.engine.parts.ledger.signed());
}

/// Only the last one of a batch needs a head: it vouches for those below.
#[tokio::test]
async fn one_head_covers_what_came_before_it() {
    let (world, vps) = world_with_one_secret().await;
    {
        let mut data = world.server.data();
        data.headless = true;
        for _ in 0..3 {
            let next = next(&world, &data);
            data.append(next, None).unwrap();
        }
        let head = Frame::Head(data.signed());
        data.send(&head);
    }
    vps.until(|status| status.seq == 5).await;
    vps.until_content("secret/a", NEW).await;
    assert!(codes(&vps).is_empty(), "{:?}", codes(&vps));
}
