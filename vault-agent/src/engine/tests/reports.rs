//! Reports through the engine's door: what hostile members and a hostile server say ends in its
//! named alarm or in nothing, and what a machine posts is no more than it must.

use std::time::Duration;

use machine::local::{VerifyFrom, VerifyResult};
use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::head::{Head, SignedHead};
use shared::keys::{Identity, SignKey};
use shared::log::{NewMachine, Op};
use shared::report::{HookResult, Seen, TargetReport, TargetState};
use shared::signed::Envelope;
use shared::text::Text;
use shared::time::Time;
use shared::token::MachineLine;
use shared::wire::v1::report::ReportRequest;

use super::world::{Machine, World, name, path};
use machine::identity::MachineKeys;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

impl Machine {
    /// Posts this machine's record now, and takes the others'.
    pub(super) async fn exchange(&self) {
        let reports = &self.engine.parts.reports;
        reports.posting().exchange_now();
        assert!(reports.reporting.now(Duration::from_secs(10)).await, "no report is taken");
    }

    /// The same, where the exchange may end the connection.
    async fn try_exchange(&self) {
        let reports = &self.engine.parts.reports;
        reports.posting().exchange_now();
        reports.reporting.now(Duration::from_secs(1)).await;
    }

    /// Has time pass, as if it had been spent connected, and judges the others.
    pub(super) async fn pass(&self, time: Duration) {
        let reports = &self.engine.parts.reports;
        reports.connected.pass(time);
        reports.judge().await.unwrap();
    }

    fn sign_key(&self) -> SignKey {
        MachineKeys::load(&self.paths).unwrap().sign
    }

    /// Verifies the whole audit chain, piece by piece.
    pub(super) async fn verified(&self) -> VerifyResult {
        let mut from = VerifyFrom::Stopped;
        loop {
            let step = self.engine.audit_verify(from).await.unwrap();
            if let Some(result) = step.result {
                return result;
            }
            from = VerifyFrom::Here;
        }
    }

    pub(super) fn codes(&self) -> Vec<String> {
        self.engine.status().alarms.into_iter().map(|alarm| alarm.code).collect()
    }
}

impl World {
    /// The server's signature of where its log ends.
    pub(super) fn head(&self) -> SignedHead {
        let data = self.server.data();
        data.state.place().sign(&self.server_key, data.state.vault()).unwrap()
    }

    /// Its signature of another place.
    pub(super) fn signed(&self, key: &SignKey, seq: u64, head: Hash) -> SignedHead {
        let vault = self.server.data().state.vault();
        Head { seq, head, ..self.head().place() }.sign(key, vault).unwrap()
    }

    /// Hands out a record of a machine that it has signed itself.
    pub(super) fn plant(
        &self,
        machine: &str,
        key: &SignKey,
        n: u64,
        head: SignedHead,
        audit: AuditHead,
    ) {
        let number = self.number(machine);
        let record = self.record(number, key, n, head, audit);
        self.server.data().reported.records.insert(number, record);
    }

    fn record(
        &self,
        machine: u64,
        key: &SignKey,
        n: u64,
        head: SignedHead,
        audit: AuditHead,
    ) -> Envelope {
        let SignedHead { epoch, seq, head, sig: server_sig } = head;
        let (audit_n, audit_head, targets, wish) = (audit.n, audit.hash, Hash::ZERO, None);
        let time = Time::from_micros(u64::MAX);
        let seen = Seen {
            machine,
            n,
            time,
            epoch,
            seq,
            head,
            server_sig,
            audit_n,
            audit_head,
            targets,
            wish,
        };
        seen.sign(name("anybody"), key, self.server.data().state.vault()).unwrap()
    }

    /// Adds a machine that never connects; returns its key.
    pub(super) fn join_silent(&self, called: &str, write: &[&str]) -> SignKey {
        let (sign, number) = (SignKey::generate(), self.server.data().state.due_machine());
        let recipient = Identity::generate().recipient();
        let MachineLine { name, recipient, sign: key, proof } =
            MachineLine::new(name(called), recipient, &sign).unwrap();
        let write = shared::grant::Grants::parse(write).unwrap();
        let read = shared::grant::Grants::default();
        let new = NewMachine { name, number, recipient, sign: key, proof, read, write };
        self.act(vec![Op::MachineAdd(new)]);
        sign
    }
}

pub(super) fn row(ver: u64) -> TargetReport {
    TargetReport {
        name: "/srv/app/.env".parse().unwrap(),
        path: path("secret/a"),
        ver,
        state: TargetState::Ok,
        since: host::clock::now(),
        hook: HookResult::None,
        detail: Text::default(),
    }
}

fn exchanged(posts: &[&ReportRequest]) -> usize {
    posts.iter().filter(|post| post.exchange.is_some()).count()
}

#[tokio::test]
async fn a_change_costs_one_post_and_no_fetch() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["*"], &[]).await;
    for machine in [&home, &vps] {
        machine.engine.settle().await.unwrap();
    }
    let posts = |world: &World| world.server.data().reported.posts_of(1).len();
    let before = posts(&world);
    for n in 0..20 {
        world.put("secret/a", &format!(r#"{{"k":"{n}"}}"#));
    }
    home.until_caught_up(&world).await;
    home.engine.settle().await.unwrap();
    let made = posts(&world) - before;
    assert!(made <= 3, "{made} posts for twenty changes at once");
    let data = world.server.data();
    let posts = data.reported.posts_of(1);
    assert!(exchanged(&posts) <= 1, "others are asked for once a minute");
    let numbers: Vec<u64> = posts.iter().map(|post| post.seen.parse::<Seen>().unwrap().n).collect();
    assert!(numbers.is_sorted_by(|a, b| *b == a + 1), "{numbers:?}");
}

#[tokio::test]
async fn targets_travel_when_they_change_or_the_server_lacks_them() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let sent = |world: &World| {
        let data = world.server.data();
        let posts = data.reported.posts_of(1);
        posts.iter().filter(|post| post.targets.is_some()).count()
    };
    vps.engine.set_targets(vec![row(3)]);
    vps.engine.settle().await.unwrap();
    let once = sent(&world);
    vps.engine.settle().await.unwrap();
    assert_eq!(sent(&world), once);
    vps.engine.set_targets(vec![row(4)]);
    vps.engine.settle().await.unwrap();
    assert_eq!(sent(&world), once + 1);
    world.server.data().reported.texts.clear();
    vps.engine.settle().await.unwrap();
    vps.engine.settle().await.unwrap();
    assert_eq!(sent(&world), once + 2, "the server has lost them");
    // A command that looks at no target reports the last ones.
    vps.stop().await;
    let again = world.start("vps");
    again.until(|status| status.online).await;
    again.engine.settle().await.unwrap();
    assert_eq!(again.engine.status().targets.len(), 1);
    again.engine.set_targets(Vec::new());
    again.engine.settle().await.unwrap();
    let text = world.server.data().reported.texts[&1].clone();
    assert!(text.contains(r#""targets":[]"#), "one whose last target was removed says so: {text}");
}

#[tokio::test]
async fn a_head_that_the_server_signed_for_another_history_is_a_fork() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    let vps = world.join_silent("vps", &[]);
    home.until_caught_up(&world).await;
    home.exchange().await;
    assert_eq!(home.codes(), [""; 0]);
    let other = world.signed(&world.server_key, 2, Hash::of(&[b"another"]));
    world.plant("vps", &vps, 1000, other, AuditHead::EMPTY);
    home.try_exchange().await;
    home.until_alarm("E_FORK").await;
}

/// Numbers that no database holds, and records that are none, must not keep what else was handed
/// out from being looked at.
#[tokio::test]
async fn monstrous_records_hide_no_fork() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    let (vps, evil) = (world.join_silent("vps", &[]), world.join_silent("evil", &[]));
    home.until_caught_up(&world).await;
    let far = world.signed(&evil, u64::MAX, Hash::ZERO);
    let monstrous = AuditHead { n: u64::MAX, hash: Hash::ZERO };
    world.plant("evil", &evil, u64::MAX, far, monstrous);
    let stranger = world.record(99, &SignKey::generate(), 1, world.head(), AuditHead::EMPTY);
    let mut broken = stranger.clone();
    broken.body = b"{\"machine\":".to_vec();
    let mut huge = stranger.clone();
    huge.body = vec![b' '; 1 << 20];
    let forged = world.record(1, &evil, 5, world.head(), AuditHead::EMPTY);
    world.server.data().reported.planted = vec![broken, huge, stranger, forged];
    home.exchange().await;
    assert_eq!(home.codes(), [""; 0], "a member alone accuses nobody");
    assert_eq!(home.engine.peers().len(), 1);
    let other = world.signed(&world.server_key, 2, Hash::of(&[b"another"]));
    world.plant("vps", &vps, 1, other, AuditHead::EMPTY);
    home.try_exchange().await;
    home.until_alarm("E_FORK").await;
}

#[tokio::test]
async fn a_member_proves_no_fork_and_withholds_nothing_by_its_own_signature() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    let vps = world.join_silent("vps", &[]);
    home.until_caught_up(&world).await;
    for (n, seq) in [(1, 2), (2, 900)] {
        let forged = world.signed(&vps, seq, Hash::of(&[b"another"]));
        world.plant("vps", &vps, n, forged, AuditHead::EMPTY);
        home.exchange().await;
        home.pass(HOUR).await;
        assert_eq!(home.codes(), [""; 0]);
    }
    assert!(home.engine.status().online);
}

#[tokio::test]
async fn what_the_server_signed_and_withholds_is_frozen_until_it_comes() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    let vps = world.join_silent("vps", &[]);
    home.until_caught_up(&world).await;
    // The machine was shown the next entry; this one is not.
    let (seq, hash, request) = {
        let data = world.server.data();
        let by = shared::name::Actor::Admin(name("jonas"));
        let ops = vec![Op::MachineSet { number: 2, sleeps: true, was: data.state.was_machine(2) }];
        let envelope = super::server::entry(&data.state, by, &world.admin, ops);
        let hash = envelope.hash(shared::signed::Purpose::Entry(data.state.vault()));
        (data.state.seq() + 1, hash, envelope)
    };
    let head = world.signed(&world.server_key, seq, hash);
    world.plant("vps", &vps, 1, head, AuditHead::EMPTY);
    home.exchange().await;
    home.pass(9 * MINUTE).await;
    assert_eq!(home.codes(), [""; 0]);
    home.pass(2 * MINUTE).await;
    assert_eq!(home.codes(), ["E_FROZEN"]);
    let request =
        shared::wire::v1::log::AppendRequest { envelope: request, blobs: Vec::new(), code: None };
    world.server.data().append(request, None).unwrap();
    home.until_caught_up(&world).await;
    home.pass(MINUTE).await;
    assert_eq!(home.codes(), [""; 0]);
}

#[tokio::test]
async fn a_witness_is_missed_without_the_servers_help_and_over_restarts() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let key = world.join_silent("rtx", &["*"]);
    world.join_silent("vps", &[]);
    home.until_caught_up(&world).await;
    world.server.data().reported.deaf = true;
    home.pass(Duration::ZERO).await;
    home.pass(23 * HOUR).await;
    assert_eq!(home.codes(), [""; 0]);
    home.stop().await;
    let home = world.start("home");
    home.until(|status| status.online).await;
    home.pass(2 * HOUR).await;
    assert_eq!(home.codes(), ["E_STALE"], "and the log is followed all the same");
    assert!(home.engine.status().alarms[0].text.contains("`rtx`"), "the VPS is not missed");
    world.server.data().reported.deaf = false;
    world.plant("rtx", &key, 1, world.head(), AuditHead::EMPTY);
    home.exchange().await;
    assert_eq!(home.codes(), [""; 0]);
}

#[tokio::test]
async fn silence_is_not_judged_where_all_others_sleep() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    assert!(!home.engine.status().unwatched, "there is nobody else");
    world.join_silent("laptop", &["*"]);
    home.until_caught_up(&world).await;
    assert!(!home.engine.status().unwatched);
    let was = world.server.data().state.was_machine(2);
    world.act(vec![Op::MachineSet { number: 2, sleeps: true, was }]);
    home.until_caught_up(&world).await;
    assert!(home.engine.status().unwatched);
    home.pass(99 * HOUR).await;
    assert_eq!(home.codes(), [""; 0]);
}

#[tokio::test]
async fn the_fleet_is_shown_as_it_has_signed_and_remembered_without_a_server() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let home = world.machine("home", &["*"], &[]).await;
    world.put("secret/a", "{}");
    home.until_content("secret/a", "{}").await;
    vps.until_content("secret/a", "{}").await;
    vps.engine.set_targets(vec![row(1)]);
    for machine in [&vps, &home] {
        machine.engine.settle().await.unwrap();
    }
    let status = home.engine.fleet().await.unwrap();
    let [shown] = &status.targets[..] else { panic!("{status:?}") };
    assert_eq!((&shown.machine, shown.applied, shown.awake), (&name("vps"), 1, true));
    assert!(status.outdated.is_empty() && status.alarms.is_empty(), "{status:?}");
    assert_eq!(home.engine.peers()[0].1.seen.seq, 3);
    assert_eq!(home.engine.agents().await.unwrap().len(), 2);
    // The server holds the new text back, or hands out another one.
    vps.engine.set_targets(vec![row(7)]);
    vps.engine.settle().await.unwrap();
    for text in ["", r#"{"agent":"vault-agent 9","targets":[]}"#] {
        world.server.data().reported.texts.insert(1, text.into());
        let status = home.engine.fleet().await.unwrap();
        let [shown] = &status.targets[..] else { panic!("{status:?}") };
        assert_eq!((shown.applied, shown.outdated), (1, true));
        let [outdated] = &status.outdated[..] else { panic!("{status:?}") };
        assert_eq!((&outdated.machine, outdated.awake), (&name("vps"), true));
    }
    // Without a server, and after a restart, there is what was fetched.
    world.server.data().hang_up();
    home.stop().await;
    let home = world.start("home");
    home.move_server("127.0.0.1:1");
    let status = home.engine.fleet().await.unwrap();
    assert_eq!(status.targets.len(), 1);
    assert_eq!(status.outdated.len(), 1);
}

#[tokio::test]
async fn nobody_is_late_for_what_was_written_just_now() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    world.put("secret/a", "{}");
    vps.until_content("secret/a", "{}").await;
    vps.engine.set_targets(vec![row(0)]);
    let status = vps.engine.status();
    let [shown] = &status.targets[..] else { panic!("{status:?}") };
    assert_eq!((shown.wanted, shown.applied, shown.fresh, shown.lags()), (1, 0, true, false));
    let late = machine::local::TargetRow { fresh: false, ..shown.clone() };
    assert!(late.lags());
}

#[tokio::test]
async fn a_lost_count_of_records_is_found_again() {
    let world = World::new().await;
    let vps = world.machine("vps", &["*"], &[]).await;
    let key = vps.sign_key();
    // The server has a record of this key that this machine's database does not know of.
    world.plant("vps", &key, 1_000_000, world.head(), AuditHead::EMPTY);
    assert!(vps.engine.settle().await.is_ok());
    let data = world.server.data();
    let last: Seen = data.reported.posts_of(1).last().unwrap().seen.parse().unwrap();
    assert!(last.n > 1_000_000, "{}", last.n);
}
