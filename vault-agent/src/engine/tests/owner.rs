//! Owner acts: what they re-encrypt, what they cannot, and submitting them.

use shared::blob::{self, Blob, Expected, Kind, Place};
use shared::grant::Grants;
use shared::keys::{Identity, SignKey};
use shared::log::{Access, Entry, Op, Rekey, Versions};
use shared::name::Actor;
use shared::signed::{Envelope, Purpose, parse_strict};
use shared::text::Text;
use shared::token::MachineLine;
use shared::wire::v1::blob::Inline;

use crate::engine::WriteError;
use machine::local::{GiveRequest, Left, PrepareRequest, Prepared, Sealed, Unreadable};

use super::world::{Machine, World, name, path, who};

/// Returns what replaces the lists that `machine` has now.
pub(super) fn grant(world: &World, machine: &str, read: &[&str]) -> Op {
    let (number, read) = (world.number(machine), Grants::parse(read).unwrap());
    let was = world.server.data().state.was_access(number);
    Op::AccessSet(Access { number, was, read, write: Grants::default() })
}

fn admin() -> Actor {
    Actor::Admin(name("jonas"))
}

/// Asks for an act of the admin.
pub(super) fn asked(ops: Vec<Op>) -> PrepareRequest {
    PrepareRequest { ops, actor: admin(), history: false }
}

pub(super) async fn prepare(machine: &Machine, ops: Vec<Op>) -> Prepared {
    machine.engine.prepare(asked(ops)).await.unwrap()
}

/// Counts the re-encryptions among the operations.
fn rewraps(prepared: &Prepared) -> usize {
    let entries = prepared.bodies.iter().map(|body| parse_strict::<Entry>(&body.0).unwrap());
    entries.flat_map(|entry| entry.ops).filter(|op| matches!(op, Op::Rewrap(_))).count()
}

pub(super) fn sign(world: &World, machine: &Machine, prepared: &Prepared) -> Vec<Envelope> {
    let purpose = Purpose::Entry(machine.engine.vault());
    let bodies = prepared.bodies.iter().map(|body| body.0.clone());
    bodies.map(|body| Envelope::sign_body(&world.admin, admin(), purpose, body)).collect()
}

#[tokio::test]
async fn a_grant_re_encrypts_what_the_machine_may_now_read() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &[], &[]).await;
    home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap();
    home.put("secret/b", r#"{"k":"2"}"#, None).await.unwrap();
    let prepared = prepare(&home, vec![grant(&world, "vps", &["secret/a"])]).await;
    assert_eq!((prepared.bodies.len(), rewraps(&prepared)), (1, 1));
    assert!(prepared.unreadable.is_empty());
    for envelope in sign(&world, &home, &prepared) {
        home.engine.submit(envelope).await.unwrap();
    }
    vps.until_content("secret/a", r#"{"k":"1"}"#).await;
    assert_eq!(vps.read("secret/b").await, None);
    assert_eq!(home.engine.state(|state| state.stale().count()), 0);
}

#[tokio::test]
async fn what_this_machine_cannot_read_is_named() {
    let world = World::new().await;
    let home = world.machine("home", &["secret/mine/"], &["*"]).await;
    let _vps = world.machine("vps", &[], &[]).await;
    world.put("secret/other", "{}");
    world.put("secret/mine/a", "{}");
    home.until_content("secret/mine/a", "{}").await;
    let prepared = prepare(&home, vec![grant(&world, "vps", &["*"])]).await;
    assert_eq!(prepared.unreadable, [Unreadable { path: path("secret/other"), ver: 1 }]);
    assert_eq!(rewraps(&prepared), 1);
}

#[tokio::test]
async fn an_act_on_an_old_head_must_be_prepared_again() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let _vps = world.machine("vps", &[], &[]).await;
    home.until_caught_up(&world).await;
    let prepared = prepare(&home, vec![grant(&world, "vps", &["*"])]).await;
    home.put("secret/a", "{}", None).await.unwrap();
    let old = sign(&world, &home, &prepared).remove(0);
    assert_eq!(home.engine.submit(old).await, Err(WriteError::Moved));
}

#[tokio::test]
async fn an_act_that_no_rule_allows_is_refused_before_it_is_signed() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let remove = Op::MachineRemove { number: 7, reason: Text::default() };
    let refused = home.engine.prepare(asked(vec![remove])).await;
    assert!(refused.unwrap_err().to_string().contains("E_MISSING"));
    // By an admin who is none any more, too: before they type their passphrase.
    let actor = Actor::Admin(name("anna"));
    let by_nobody = PrepareRequest { actor, ..asked(vec![grant(&world, "home", &["*"])]) };
    let refused = home.engine.prepare(by_nobody).await.unwrap_err().to_string();
    assert_eq!(refused, "E_UNKNOWN_ACTOR: `admin:anna` is none of this vault's");
}

#[tokio::test]
async fn a_large_act_is_split_and_each_part_builds_on_the_last() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &[], &[]).await;
    let many = (0..600).map(|n| super::world::put(&format!("secret/x/{n}"), "{}", None));
    home.engine.write(who(), many.collect()).await.unwrap();
    let many = (600..1200).map(|n| super::world::put(&format!("secret/x/{n}"), "{}", None));
    home.engine.write(who(), many.collect()).await.unwrap();
    let prepared = prepare(&home, vec![grant(&world, "vps", &["secret/x/"])]).await;
    assert_eq!((prepared.bodies.len(), rewraps(&prepared)), (2, 1200));
    for envelope in sign(&world, &home, &prepared) {
        home.engine.submit(envelope).await.unwrap();
    }
    vps.until_content("secret/x/1199", "{}").await;
    vps.until_content("secret/x/0", "{}").await;
    // A machine that is taken off again changes every reader list once more.
    let remove = Op::MachineRemove { number: world.number("vps"), reason: Text::default() };
    let prepared = prepare(&home, vec![remove]).await;
    // The act alone goes in, and the others follow some at a time.
    assert_eq!((rewraps(&prepared), prepared.due, prepared.left), (0, 1200, true));
    home.engine.submit(sign(&world, &home, &prepared).remove(0)).await.unwrap();
    let stale = || home.engine.state(|state| state.stale().count());
    let mut rounds = 0;
    while stale() > 0 {
        let (before, prepared) = (stale(), prepare(&home, Vec::new()).await);
        for envelope in sign(&world, &home, &prepared) {
            home.engine.submit(envelope).await.unwrap();
        }
        assert!(stale() < before && prepared.left == (stale() > 0));
        rounds += 1;
    }
    assert!(rounds > 10, "{rounds}");
}

/// Whoever signs is killed after the act: every machine tells of what is left, also one that may
/// not read it; while somebody may still be at it, none does.
#[tokio::test]
async fn what_an_act_has_left_is_told_until_it_is_re_encrypted() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["secret/x/"], &[]).await;
    let nas = world.machine("nas", &["secret/x/1"], &[]).await;
    let many = (0..300).map(|n| super::world::put(&format!("secret/x/{n}"), "{}", None));
    home.engine.write(who(), many.collect()).await.unwrap();
    vps.until_caught_up(&world).await;
    assert_eq!(home.engine.status().left, None);
    let remove = Op::MachineRemove { number: world.number("vps"), reason: Text::default() };
    let prepared = prepare(&home, vec![remove]).await;
    home.engine.submit(sign(&world, &home, &prepared).remove(0)).await.unwrap();
    nas.until_caught_up(&world).await;
    for machine in [&home, &nas] {
        assert_eq!(machine.engine.state(|state| state.stale().count()), 300);
        assert_eq!(machine.engine.status().left, None, "somebody may be at it");
    }
    let (_, _) = (home.stop().await, nas.stop().await);
    let (home, nas) = (world.start("home"), world.start("nas"));
    let left = Left { versions: 300, unreadable: 0, out: Some(name("vps")) };
    assert_eq!(home.engine.status().left, Some(left.clone()));
    assert_eq!(nas.engine.status().left, Some(Left { unreadable: 299, ..left }));

    home.until_caught_up(&world).await;
    let prepared = prepare(&home, Vec::new()).await;
    for envelope in sign(&world, &home, &prepared) {
        home.engine.submit(envelope).await.unwrap();
    }
    let mut rounds = 0;
    while home.engine.state(|state| state.stale().count()) > 0 && rounds < 10 {
        for envelope in sign(&world, &home, &prepare(&home, Vec::new()).await) {
            home.engine.submit(envelope).await.unwrap();
        }
        rounds += 1;
    }
    let _ = home.stop().await;
    assert_eq!(world.start("home").engine.status().left, None);
}

/// Whoever is to go has written more than one request carries.
#[tokio::test]
async fn an_act_does_not_wait_for_what_has_to_be_re_encrypted() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let vps = world.machine("vps", &["secret/x/"], &["secret/x/"]).await;
    let large = format!(r#"{{"k":"{}"}}"#, "x".repeat(700 << 10));
    for n in 0..7 {
        vps.put(&format!("secret/x/{n}"), &large, None).await.unwrap();
    }
    home.until_caught_up(&world).await;
    let remove = Op::MachineRemove { number: world.number("vps"), reason: Text::default() };
    let prepared = prepare(&home, vec![remove]).await;
    assert_eq!((prepared.bodies.len(), rewraps(&prepared), prepared.left), (1, 0, true));
    for envelope in sign(&world, &home, &prepared) {
        home.engine.submit(envelope).await.unwrap();
    }
    let prepared = prepare(&home, Vec::new()).await;
    assert_eq!((rewraps(&prepared), prepared.left), (7, false));
    for envelope in sign(&world, &home, &prepared) {
        home.engine.submit(envelope).await.unwrap();
    }
    assert_eq!(home.engine.state(|state| state.stale().count()), 0);
}

#[tokio::test]
async fn the_recovery_key_opens_every_version_that_is_current() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap();
    let data = world.server.data();
    let (_, version) = data.state.secret(&path("secret/a")).unwrap().current().unwrap();
    let vault = data.state.vault();
    let expected = Expected {
        place: Place { vault: &vault, path: &path("secret/a"), ver: 1 },
        blob: version.blob,
        size: version.size,
        commit: version.commit,
        readers: 2,
        position: 1,
    };
    let opened =
        blob::open(&world.recovery, &expected, &Blob::new(data.blobs[&version.blob].clone()));
    assert_eq!(opened.unwrap().content.expose(), br#"{"k":"1"}"#);
}

#[tokio::test]
async fn with_its_history_a_secret_is_re_encrypted_in_every_version_that_is_kept() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    for n in 0..4 {
        home.put("secret/a", &format!(r#"{{"k":"{n}"}}"#), None).await.unwrap();
    }
    let gone = Op::Delete(Versions { path: path("secret/a"), versions: vec![2] });
    world.act(vec![gone]);
    home.until_caught_up(&world).await;
    let _vps = world.join("vps", &["secret/a"], &[]);
    home.until_caught_up(&world).await;
    assert_eq!(rewraps(&prepare(&home, Vec::new()).await), 1);
    let all = PrepareRequest { history: true, ..asked(Vec::new()) };
    let prepared = home.engine.prepare(all.clone()).await.unwrap();
    // A version that is deleted stays as it is.
    assert_eq!((rewraps(&prepared), prepared.due, prepared.left), (3, 3, false));
    for envelope in sign(&world, &home, &prepared) {
        home.engine.submit(envelope).await.unwrap();
    }
    let kept = home.engine.kept().unwrap();
    let deleted: Vec<u64> = kept.versions.iter().filter(|it| it.deleted).map(|it| it.ver).collect();
    assert_eq!((kept.versions.len(), deleted), (4, vec![2]));
    assert_eq!(home.engine.prepare(all).await.unwrap().due, 0);
    assert_eq!(home.engine.sealed(&path("secret/a"), 1).await.unwrap().readers, 3);
}

/// Encrypted to keys that nobody has any more, they may be lost.
#[tokio::test]
async fn earlier_versions_that_stay_with_replaced_keys_are_counted() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    let _vps = world.machine("vps", &["secret/b"], &[]).await;
    for n in 0..3 {
        home.put("secret/a", &format!(r#"{{"k":"{n}"}}"#), None).await.unwrap();
    }
    home.until_caught_up(&world).await;
    let (keys, number) = (SignKey::generate(), world.number("home"));
    let line = MachineLine::new(name("home"), Identity::generate().recipient(), &keys).unwrap();
    let new_number = world.server.data().state.due_machine();
    let MachineLine { recipient, sign, proof, .. } = line;
    let rekey = Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof });
    let newest = prepare(&home, vec![rekey.clone()]).await;
    assert_eq!((rewraps(&newest), newest.behind), (1, 2));
    let all = PrepareRequest { history: true, ..asked(vec![rekey]) };
    let all = home.engine.prepare(all).await.unwrap();
    assert_eq!((rewraps(&all), all.behind), (3, 0));
    // A new reader loses nothing.
    assert_eq!(prepare(&home, vec![grant(&world, "vps", &["*"])]).await.behind, 0);
}

/// The kit opens what a machine that has come later does not.
#[tokio::test]
async fn what_the_kit_has_opened_for_a_machine_it_re_encrypts() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    home.put("secret/a", r#"{"k":"1"}"#, None).await.unwrap();
    home.put("secret/a", r#"{"k":"2"}"#, None).await.unwrap();
    let vps = world.machine("vps", &["*"], &[]).await;
    vps.until_caught_up(&world).await;
    let all = PrepareRequest { history: true, ..asked(Vec::new()) };
    let (at, kept) = (path("secret/a"), vps.engine.kept().unwrap());
    assert_eq!(vps.engine.prepare(all.clone()).await.unwrap().unreadable.len(), 2);

    let Sealed { blob, size, commit, opens, bytes, .. } = vps.engine.sealed(&at, 1).await.unwrap();
    assert!(!opens);
    let place = Place { vault: &kept.vault, path: &at, ver: 1 };
    let expected = Expected { place, blob, size, commit, readers: 2, position: 1 };
    let opened = blob::open(&world.recovery, &expected, &Blob::new(bytes.0)).unwrap();
    let give = |sealed: blob::Sealed| {
        let bytes = Inline(sealed.bytes);
        vps.engine.give(GiveRequest { path: at.clone(), ver: 1, bytes })
    };
    let other = blob::seal(place, Kind::Kv, b"{}", std::slice::from_ref(&kept.recipient)).unwrap();
    let refused = give(other).unwrap_err().to_string();
    assert!(refused.starts_with("E_BLOB_COMMIT"), "{refused}");
    give(blob::reseal(place, &opened, &[kept.recipient]).unwrap()).unwrap();
    let prepared = vps.engine.prepare(all).await.unwrap();
    assert_eq!((rewraps(&prepared), prepared.unreadable.len()), (1, 1));
    for envelope in sign(&world, &vps, &prepared) {
        vps.engine.submit(envelope).await.unwrap();
    }
    assert!(vps.engine.sealed(&at, 1).await.unwrap().opens);
}
