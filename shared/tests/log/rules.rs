//! Each rule of `apply`, by the code that names it.

use shared::error::Code;
use shared::hash::Hash;
use shared::keys::Signature;
use shared::log::{Deletion, Op, Put, apply, attempt, readers, start};
use shared::signed::{Envelope, Purpose};
use shared::time::Time;

use crate::world::{World, key, meta, mount_drop, path, public, recipient, versions};

/// Checks that `by` doing `ops` is refused with `code` and leaves the state as it was.
pub fn refused(world: &mut World, by: &str, ops: Vec<Op>, code: Code) {
    let before = world.state.clone();
    let fault = world.push(by, ops).unwrap_err();
    assert_eq!(fault.code, code, "{by}: {fault}");
    assert!(world.state == before, "a refused entry changed the state: {fault}");
}

#[test]
fn envelope_rules_come_in_their_order() {
    let mut world = World::with_machines();
    let op = world.put("secret/a", 1);
    let good = world.sign(&world.entry(vec![op], "machine:rtx1080"));
    let before = world.state.clone();
    let mut check = |envelope: Envelope, code| {
        assert_eq!(apply(&mut world.state, &envelope).unwrap_err().error.code, code);
        assert!(world.state == before);
    };
    check(Envelope { body: vec![b' '; (1 << 20) + 1], ..good.clone() }, Code::Limits);
    check(Envelope { by: "machine:nobody".parse().unwrap(), ..good.clone() }, Code::UnknownActor);
    check(Envelope { by: "machine:vps".parse().unwrap(), ..good.clone() }, Code::BadSig);
    check(Envelope { sig: Signature::from_bytes([0; 64]), ..good.clone() }, Code::BadSig);
    let purpose = Purpose::Entry(before.vault());
    let resign = |body: Vec<u8>| Envelope::sign_body(&key(10), good.by.clone(), purpose, body);
    check(resign([good.body.as_slice(), b" "].concat()), Code::Parse);
    check(resign(b"[]".to_vec()), Code::Parse);
    let relabelled =
        Envelope::sign_body(&key(3), "admin:jonas".parse().unwrap(), purpose, good.body.clone());
    check(relabelled, Code::Actor);
}

#[test]
fn an_entry_follows_the_head_only() {
    let mut world = World::with_machines();
    let op = world.put("secret/a", 1);
    for (change, code) in [(0, Code::Seq), (2, Code::Seq)] {
        let mut entry = world.entry(vec![op.clone()], "machine:rtx1080");
        entry.seq = entry.seq - 1 + change;
        let envelope = world.sign(&entry);
        assert_eq!(world.apply(envelope).unwrap_err().code, code);
    }
    let mut entry = world.entry(vec![op], "machine:rtx1080");
    entry.prev = Hash::ZERO;
    let envelope = world.sign(&entry);
    assert_eq!(world.apply(envelope).unwrap_err().code, Code::Prev);
}

#[test]
fn rights_are_root_admin_machine() {
    let mut world = World::with_machines();
    let root_only = [
        Op::AdminAdd { name: "eva".parse().unwrap(), key: public(50) },
        Op::AdminRemove { name: "jonas".parse().unwrap() },
        Op::RootSet { key: public(51) },
        Op::RecoverySet { recipient: recipient(52) },
    ];
    for op in root_only {
        refused(&mut world, "admin:jonas", vec![op.clone()], Code::Denied);
        refused(&mut world, "machine:rtx1080", vec![op], Code::Denied);
    }
    let admin_only = [
        world.server_set(&[53]),
        world.addresses_set(&["10.8.0.3:8443"]),
        world.machine_remove("vps"),
        world.machine_rename("vps", "cloud"),
        world.machine_rekey("vps", 56),
        world.machine_set("vps", true),
        world.resume(),
        Op::FormatSet { format: 2 },
        world.access_set("vps", &["*"], &["*"]),
        world.machine_add("evil", 54, &["*"], &["*"]),
    ];
    for op in admin_only {
        refused(&mut world, "machine:rtx1080", vec![op], Code::Denied);
    }
    let on_paths = [
        world.put("secret/jjeco/a", 1),
        world.rewrap("secret/jjeco/a", 1),
        Op::Delete(versions("secret/jjeco/a", &[1])),
        Op::Undelete(versions("secret/jjeco/a", &[1])),
        Op::Destroy(versions("secret/jjeco/a", &[1])),
        meta("secret/jjeco/a", 0, &[]),
        Op::Forget { path: path("secret/jjeco/a") },
        world.mount("secret"),
        mount_drop("secret"),
    ];
    for op in on_paths {
        refused(&mut world, "machine:vps", vec![op], Code::Denied);
    }
}

#[test]
fn a_removed_or_replaced_signer_is_powerless_at_once() {
    let mut world = World::with_machines();
    let gone = world.machine_remove("rtx1080");
    world.push("admin:jonas", vec![gone]).unwrap();
    let op = world.put("secret/a", 1);
    refused(&mut world, "machine:rtx1080", vec![op], Code::UnknownActor);
    world.push("root", vec![Op::RootSet { key: public(60) }]).unwrap();
    let op = world.mount("x");
    refused(&mut world, "root", vec![op], Code::BadSig);
}

#[test]
fn keys_are_used_once() {
    let mut world = World::with_machines();
    let add_admin = |n| Op::AdminAdd { name: "eva".parse().unwrap(), key: public(n) };
    for used in [1, 3, 4, 10, 12] {
        refused(&mut world, "root", vec![add_admin(used)], Code::Key);
        refused(&mut world, "root", vec![Op::RootSet { key: public(used) }], Code::Key);
    }
    for used in [2, 11, 13] {
        refused(
            &mut world,
            "root",
            vec![Op::RecoverySet { recipient: recipient(used) }],
            Code::Key,
        );
    }
    let twin = world.machine_add("twin", 10, &[], &[]);
    refused(&mut world, "admin:jonas", vec![twin], Code::Key);
    for keys in [&[4, 61][..], &[61]] {
        let op = world.server_set(keys);
        world.push("admin:jonas", vec![op]).unwrap();
    }
    for (keys, code) in [(&[4][..], Code::Key), (&[61, 61], Code::Key), (&[], Code::Limits)] {
        let op = world.server_set(keys);
        refused(&mut world, "admin:jonas", vec![op], code);
    }
}

#[test]
fn names_are_free_or_known() {
    let mut world = World::with_machines();
    let again = world.machine_add("vps", 70, &[], &[]);
    refused(&mut world, "admin:jonas", vec![again], Code::Exists);
    let jonas = Op::AdminAdd { name: "jonas".parse().unwrap(), key: public(71) };
    refused(&mut world, "root", vec![jonas], Code::Exists);
    let nobody = || "nobody".parse().unwrap();
    refused(&mut world, "root", vec![Op::AdminRemove { name: nobody() }], Code::Missing);
    let unknown = [
        world.machine_remove("nobody"),
        world.machine_rename("nobody", "cloud"),
        world.machine_rekey("nobody", 72),
        world.machine_set("nobody", true),
        world.access_set("nobody", &[], &[]),
    ];
    for op in unknown {
        refused(&mut world, "root", vec![op], Code::Missing);
    }
    let taken = world.machine_rename("vps", "rtx1080");
    refused(&mut world, "root", vec![taken], Code::Exists);
}

#[test]
fn addresses_are_one_to_eight() {
    let mut world = World::with_machines();
    let nine: Vec<String> = (0..9).map(|n| format!("10.0.0.{n}:8443")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    for bad in [&[][..], &nine] {
        let op = world.addresses_set(bad);
        refused(&mut world, "admin:jonas", vec![op], Code::Limits);
    }
    let op = world.addresses_set(&nine[..8]);
    world.push("admin:jonas", vec![op]).unwrap();
    assert_eq!(world.state.addresses().len(), 8);
}

#[test]
fn a_resumption_comes_first_and_from_the_head() {
    let mut world = World::with_machines();
    assert_eq!(world.state.epoch(), world.state.vault());
    let Op::Resume(good) = world.resume() else { unreachable!() };
    let second = vec![world.mount("team"), Op::Resume(good)];
    refused(&mut world, "admin:jonas", second, Code::Limits);
    let early = Op::Resume(shared::log::Resume { seq: good.seq - 1, ..good });
    refused(&mut world, "admin:jonas", vec![early], Code::Seq);
    let other = Op::Resume(shared::log::Resume { head: Hash::ZERO, ..good });
    refused(&mut world, "admin:jonas", vec![other], Code::Prev);
    let gone = world.machine_remove("vps");
    world.push("admin:jonas", vec![Op::Resume(good), gone]).unwrap();
    assert_eq!(world.state.epoch(), world.state.head());
    let [resumed] = world.state.resumed() else { panic!("one resumption") };
    assert_eq!((resumed.from, resumed.by.to_string().as_str()), (good, "admin:jonas"));
}

#[test]
fn a_format_that_this_program_does_not_know_stops_its_log() {
    let mut world = World::with_machines();
    for (format, code) in [(0, Code::Version), (1, Code::Version), (2, Code::Upgrade)] {
        refused(&mut world, "admin:jonas", vec![Op::FormatSet { format }], code);
    }
}

#[test]
fn versions_are_named_in_order_and_in_bounds() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    let put = world.put("secret/a", 1);
    world.push(by, vec![put]).unwrap();
    let many: Vec<u64> = (1..=1001).collect();
    for bad in [&[1, 1][..], &[2, 1], &many] {
        for op in [Op::Delete, Op::Undelete, Op::Destroy] {
            refused(&mut world, by, vec![op(versions("secret/a", bad))], Code::Limits);
        }
    }
    world.push(by, vec![Op::Delete(versions("secret/a", &many[..1000]))]).unwrap();
    refused(&mut world, by, vec![meta("secret/a", 1001, &[])], Code::Limits);
    let Op::MountSet(mut set) = world.mount("secret") else { unreachable!() };
    set.max_versions = 1001;
    refused(&mut world, by, vec![Op::MountSet(set)], Code::Limits);
}

#[test]
fn versions_count_on_after_everything() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    for wrong in [0, 2] {
        let op = world.put("secret/a", wrong);
        refused(&mut world, by, vec![op], Code::Version);
    }
    for ver in 1..=3 {
        let op = world.put("secret/a", ver);
        world.push(by, vec![op]).unwrap();
    }
    world.push(by, vec![Op::Destroy(versions("secret/a", &[3]))]).unwrap();
    let applied = world.push(by, vec![Op::Forget { path: path("secret/a") }]).unwrap();
    assert_eq!(applied.dropped.len(), 2);
    assert!(world.state.secret(&path("secret/a")).is_none());
    let first = world.put("secret/a", 1);
    refused(&mut world, by, vec![first], Code::Version);
    let fourth = world.put("secret/a", 4);
    world.push(by, vec![fourth]).unwrap();
    let secret = world.state.secret(&path("secret/a")).unwrap();
    assert_eq!((secret.first(), secret.last, secret.base), (Some(4), 4, 3));
}

#[test]
fn a_put_is_for_todays_readers_with_a_blob_of_its_own() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    let Op::Put(good) = world.put("secret/a", 1) else { unreachable!() };
    let with = |change: fn(&mut Put)| {
        let mut put = good.clone();
        change(&mut put);
        vec![Op::Put(put)]
    };
    refused(&mut world, by, with(|put| put.readers = Hash::ZERO), Code::Readers);
    refused(&mut world, by, with(|put| put.size = 0), Code::Limits);
    refused(&mut world, by, with(|put| put.size = (1 << 20) + 1), Code::Limits);
    refused(&mut world, by, with(|put| put.path = path("other/a")), Code::Missing);
    world.push(by, vec![Op::Put(good.clone())]).unwrap();
    refused(&mut world, by, with(|put| put.ver = 2), Code::BlobReuse);
    refused(
        &mut world,
        by,
        vec![Op::Put(Put { path: path("secret/b"), ..good.clone() })],
        Code::BlobReuse,
    );
}

#[test]
fn a_rewrap_keeps_the_content_of_a_live_version() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    let early = world.rewrap("secret/a", 1);
    refused(&mut world, by, vec![early], Code::Missing);
    for ver in 1..=2 {
        let op = world.put("secret/a", ver);
        world.push(by, vec![op]).unwrap();
    }
    let Op::Rewrap(mut other) = world.rewrap("secret/a", 2) else { unreachable!() };
    other.commit = Hash::ZERO;
    refused(&mut world, by, vec![Op::Rewrap(other)], Code::Commit);
    let grant = world.access_set("vps", &["secret/"], &[]);
    world.push("admin:jonas", vec![grant]).unwrap();
    assert_eq!(
        world.state.stale().map(|(p, v)| (p.to_string(), v)).collect::<Vec<_>>(),
        [("secret/a".to_owned(), 2)]
    );
    let rewrap = world.rewrap("secret/a", 2);
    let applied = world.push("admin:jonas", vec![rewrap]).unwrap();
    assert_eq!((applied.dropped.len(), world.state.stale().count()), (1, 0));
    world.push(by, vec![Op::Delete(versions("secret/a", &[2]))]).unwrap();
    let dead = world.rewrap("secret/a", 2);
    refused(&mut world, by, vec![dead], Code::Version);
}

#[test]
fn old_versions_go_by_the_larger_limit() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    world.push(by, vec![meta("secret/a", 2, &[])]).unwrap();
    for ver in 1..=3 {
        let op = world.put("secret/a", ver);
        let dropped = world.push(by, vec![op]).unwrap().dropped.len();
        assert_eq!(dropped, usize::from(ver == 3));
    }
    let secret = world.state.secret(&path("secret/a")).unwrap();
    assert_eq!(secret.versions().map(|(ver, _)| ver).collect::<Vec<_>>(), [2, 3]);
    assert!(secret.version(1).is_none());
}

#[test]
fn deletion_is_undone_but_destruction_is_not() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    for ver in 1..=2 {
        let op = world.put("secret/a", ver);
        world.push(by, vec![op]).unwrap();
    }
    let now = Time::from_micros(u64::MAX);
    let live = |world: &World, ver| {
        world.state.secret(&path("secret/a")).unwrap().version(ver).unwrap().is_live(now)
    };
    world.push(by, vec![Op::Delete(versions("secret/a", &[1, 2, 99]))]).unwrap();
    assert!(!live(&world, 1) && !live(&world, 2));
    world.push(by, vec![Op::Destroy(versions("secret/a", &[1]))]).unwrap();
    world.push(by, vec![Op::Undelete(versions("secret/a", &[1, 2]))]).unwrap();
    assert!(!live(&world, 1) && live(&world, 2));
    for op in [Op::Delete(versions("secret/x", &[1])), Op::Forget { path: path("secret/x") }] {
        refused(&mut world, by, vec![op], Code::Missing);
    }
}

#[test]
fn age_deletes_by_the_smaller_setting() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    let Op::MetaSet(mut settings) = meta("secret/a", 0, &[]) else { unreachable!() };
    settings.delete_after = 5_000_000;
    world.push(by, vec![Op::MetaSet(settings)]).unwrap();
    let op = world.put("secret/a", 1);
    world.push(by, vec![op]).unwrap();
    let version = world.state.secret(&path("secret/a")).unwrap().version(1).unwrap();
    assert_eq!(version.deletion, Deletion::At(version.created.plus(5_000_000)));
    assert!(version.is_live(version.created) && !version.is_live(version.created.plus(5_000_000)));
}

#[test]
fn custom_metadata_has_vaults_limits() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    let long = "x".repeat(513);
    let many: Vec<String> = (0..65).map(|n| format!("k{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "v")).collect();
    for bad in [
        &[("", "v")][..],
        &[("k", "")],
        &[("k", &long)],
        &[(&long, "v")],
        &[("k", "a\u{7}")],
        &many,
    ] {
        refused(&mut world, by, vec![meta("secret/a", 0, bad)], Code::Limits);
    }
    world.push(by, vec![meta("secret/a", 0, &[("owner", "jonas")])]).unwrap();
}

#[test]
fn a_mount_is_dropped_once_it_is_empty() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    let put = world.put("secret/a", 1);
    world.push(by, vec![put]).unwrap();
    refused(&mut world, by, vec![mount_drop("secret")], Code::Exists);
    refused(&mut world, by, vec![mount_drop("none")], Code::Missing);
    let forget = Op::Forget { path: path("secret/a") };
    world.push(by, vec![forget, mount_drop("secret")]).unwrap();
    let put = world.put("secret/a", 2);
    refused(&mut world, by, vec![put], Code::Missing);
    let put = world.put("secret/a", 2);
    let again = world.mount("secret");
    world.push(by, vec![again, put]).unwrap();
}

#[test]
fn a_failing_operation_takes_the_whole_entry_back() {
    let mut world = World::with_machines();
    let by = "machine:rtx1080";
    for ver in 1..=10 {
        let op = world.put("secret/old", ver);
        world.push(by, vec![op]).unwrap();
    }
    let bad = Op::Forget { path: path("secret/none") };
    let put = world.put("secret/new", 1);
    let over = world.put("secret/old", 11);
    let ops = vec![
        world.mount("other"),
        mount_drop("other"),
        meta("secret/old", 3, &[("a", "b")]),
        put,
        over,
        Op::Delete(versions("secret/old", &[10])),
        Op::Destroy(versions("secret/old", &[10])),
        Op::Forget { path: path("secret/old") },
        meta("secret/old", 0, &[]),
        bad,
    ];
    refused(&mut world, by, ops, Code::Missing);
    refused(&mut world, by, vec![], Code::Limits);
    let mounts = vec![world.mount("m"); 1001];
    refused(&mut world, by, mounts, Code::Limits);
}

#[test]
fn an_attempt_shows_the_state_after_and_leaves_the_one_before() {
    let mut world = World::with_machines();
    let before = world.state.clone();
    let ops = [world.access_set("vps", &["*"], &[])];
    let by = "admin:jonas".parse().unwrap();
    let seen = attempt(&mut world.state, &by, Time::default(), &ops, |state| {
        readers(state, &path("secret/a"))
    });
    assert_eq!(seen.unwrap(), ["1", "2", "@recovery#1"]);
    assert!(world.state == before);
}

#[test]
fn an_applied_entry_can_be_taken_back_whole() {
    let mut world = World::with_machines();
    let before = world.state.clone();
    let op = world.put("secret/a", 1);
    let applied = world.push("machine:rtx1080", vec![op]).unwrap();
    world.state.revert(applied.undo);
    assert!(world.state == before);
}

#[test]
fn a_genesis_is_roots_and_of_format_1() {
    let world = World::new();
    let mut relabelled = world.genesis.clone();
    relabelled.by = "admin:jonas".parse().unwrap();
    assert_eq!(start(&relabelled).unwrap_err().code, Code::Actor);
    let mut flipped = world.genesis.clone();
    flipped.sig = Signature::from_bytes([1; 64]);
    assert_eq!(start(&flipped).unwrap_err().code, Code::BadSig);
    let body = String::from_utf8(world.genesis.body.clone()).unwrap().replace("\"v\":1", "\"v\":2");
    let newer =
        Envelope::sign_body(&key(1), world.genesis.by.clone(), Purpose::Genesis, body.into_bytes());
    assert_eq!(start(&newer).unwrap_err().code, Code::Parse);
}
