//! The audit chain through the engine's door: what was edited or lost is noticed by itself, a
//! server that was restored is asked before it is accused, and no member breaks anything.

use std::time::Duration;

use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::log::{Op, Resume};
use shared::report::Seen;

use super::world::{Machine, World};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_shrunk_audit_log_is_rewritten_until_a_person_has_looked() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.server.data().reported.audit(&["2", "3"]);
    vps.exchange().await;
    world.server.data().reported.leaves.truncate(1);
    vps.exchange().await;
    vps.until_alarm("E_AUDIT_REWRITTEN").await;
    // From there on it may only grow again.
    vps.engine.clear_alarm("E_AUDIT_REWRITTEN");
    vps.exchange().await;
    assert_eq!(vps.codes(), [""; 0]);
    world.server.data().reported.leaves.clear();
    vps.exchange().await;
    vps.until_alarm("E_AUDIT_REWRITTEN").await;
    assert!(vps.engine.status().online, "an alarm, and nothing else");
}

#[tokio::test]
async fn a_restored_server_is_asked_before_its_audit_log_is_judged() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.server.data().reported.audit(&["2", "3"]);
    vps.exchange().await;
    {
        let mut data = world.server.data();
        data.reported.leaves.truncate(1);
        data.restored = true;
    }
    vps.exchange().await;
    vps.exchange().await;
    assert_eq!(vps.codes(), ["E_SERVER_RESTORED"]);
    assert!(vps.engine.status().restored);
}

/// A vault whose server is set back behind an audit record that `home` and `vps` know, and has made
/// so many others since that its chain has not shrunk.
async fn set_back() -> (World, Machine) {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    let vps = world.join_silent("vps", &[]);
    home.until_caught_up(&world).await;
    world.server.data().reported.audit(&["2", "3"]);
    home.exchange().await;
    home.exchange().await;
    {
        let mut data = world.server.data();
        data.reported.leaves.truncate(1);
        data.reported.audit(&["two", "three"]);
    }
    let now = world.server.data().reported.head();
    world.plant("vps", &vps, 1, world.head(), now);
    world.server.data().reported.audit(&["four"]);
    (world, home)
}

#[tokio::test]
async fn a_restored_server_whose_audit_log_has_grown_on_is_asked_before_it_is_judged() {
    for restored in [true, false] {
        let (world, home) = set_back().await;
        world.server.data().restored = restored;
        home.exchange().await;
        let expected = if restored { "E_SERVER_RESTORED" } else { "E_AUDIT_REWRITTEN" };
        home.until_alarm(expected).await;
        let alarms = home.engine.status().alarms;
        assert!(alarms.iter().all(|alarm| alarm.code == expected), "{alarms:?}");
        let said = alarms.iter().any(|alarm| alarm.text.contains("has seen another record 3"));
        assert_eq!(said, !restored, "{alarms:?}");
    }
}

#[tokio::test]
async fn leaves_of_a_restored_server_are_not_judged() {
    let (world, home) = set_back().await;
    {
        let mut data = world.server.data();
        data.restored = true;
        data.reported.records.clear();
    }
    home.engine.parts.reports.audit().rest(tokio::time::Instant::now() - 2 * HOUR, false);
    home.exchange().await;
    home.until_alarm("E_SERVER_RESTORED").await;
    assert_eq!(home.codes(), ["E_SERVER_RESTORED"]);
}

#[tokio::test]
async fn healing_tells_that_audit_records_are_lost_for_good() {
    let (_world, home) = set_back().await;
    assert!(home.engine.heal(None).await.unwrap().rewritten);
    assert_eq!(home.codes(), ["E_AUDIT_REWRITTEN"]);
    home.engine.clear_alarm("E_AUDIT_REWRITTEN");
    assert!(!home.engine.heal(None).await.unwrap().rewritten);
    assert_eq!(home.codes(), [""; 0]);
}

#[tokio::test]
async fn a_resumption_under_way_excuses_the_audit_log_until_it_is_withheld() {
    let (world, home) = set_back().await;
    world.server.data().reported.healed = Some(world.signed(&world.server_key, 900, Hash::ZERO));
    home.exchange().await;
    assert_eq!(home.codes(), [""; 0]);
    home.pass(11 * MINUTE).await;
    assert_eq!(home.codes(), ["E_FROZEN"]);
}

#[tokio::test]
async fn an_edited_audit_record_is_noticed_by_itself() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    home.exchange().await;
    world.server.data().reported.audit(&["2", "3", "4", "5"]);
    home.exchange().await;
    assert_eq!(home.codes(), [""; 0]);
    {
        // The chain is computed anew over the edited record, and grows on.
        let reported = &mut world.server.data().reported;
        reported.leaves[2] = Hash::of(&[b"edited"]);
        reported.audit(&["6"]);
    }
    // Not for a minute yet.
    home.engine.parts.reports.audit().rest(tokio::time::Instant::now() - 2 * HOUR, false);
    home.exchange().await;
    home.until_alarm("E_AUDIT_REWRITTEN").await;
}

#[tokio::test]
async fn one_members_audit_head_breaks_nothing() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    let evil = world.join_silent("evil", &[]);
    home.until_caught_up(&world).await;
    let lie = AuditHead { n: 500_000, hash: Hash::ZERO };
    world.plant("evil", &evil, 1, world.head(), lie);
    home.exchange().await;
    let verified = home.verified().await;
    assert_eq!(verified.bad, None);
    assert_eq!(home.codes(), [""; 0]);
}

#[tokio::test]
async fn after_a_restore_and_its_resumption_the_audit_log_is_whole() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    let vps = world.join_silent("vps", &[]);
    home.until_caught_up(&world).await;
    world.server.data().reported.audit(&["2", "3", "4"]);
    let newest = world.server.data().reported.head();
    world.plant("vps", &vps, 1, world.head(), newest);
    home.exchange().await;
    home.exchange().await;
    assert_eq!(home.verified().await.checked, 4);
    // The copy ends at record 2; other ones have come since.
    let audit = {
        let reported = &mut world.server.data().reported;
        reported.leaves.truncate(2);
        let audit = reported.head();
        reported.audit(&["three", "four", "five"]);
        audit
    };
    let before = home.verified().await;
    assert!(before.bad.is_some(), "nobody has resumed it");
    let (seq, head) = {
        let data = world.server.data();
        (data.state.seq(), data.state.head())
    };
    let from = Resume { seq, head, audit_n: audit.n, audit_head: audit.hash };
    world.act(vec![Op::Resume(from)]);
    home.until_caught_up(&world).await;
    home.exchange().await;
    let verified = home.verified().await;
    assert_eq!((verified.bad, verified.checked), (None, 5));
    let [resumed] = &verified.restored[..] else { panic!("one restore") };
    assert_eq!((resumed.n, resumed.by.to_string().as_str()), (2, "admin:jonas"));
    assert_eq!(home.codes(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_forgets_its_audit_head_still_gets_reports_and_is_found_out() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.server.data().reported.audit(&["2", "3"]);
    vps.exchange().await;
    {
        let reported = &mut world.server.data().reported;
        reported.leaves.truncate(1);
        reported.forgetful = true;
    }
    vps.exchange().await;
    vps.until_alarm("E_AUDIT_REWRITTEN").await;
    let data = world.server.data();
    let last: Seen = data.reported.posts_of(1).last().unwrap().seen.parse().unwrap();
    assert_eq!(last.audit(), AuditHead::EMPTY);
}
