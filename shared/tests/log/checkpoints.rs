//! Checkpoints: who may sign one and over what, what is forgotten with one, and who may have signed
//! one in the eyes of those who have not folded the log.

use shared::error::Code;
use shared::hash::Hash;
use shared::limits;
use shared::log::{Checkpoint, Op, Owners, Put, StateReader};

use crate::rules::refused;
use crate::world::{World, key, path, public};

fn checkpoint(world: &World) -> Op {
    Op::Checkpoint(world.state.summed())
}

#[test]
fn a_checkpoint_is_an_owners_comes_first_and_names_the_very_state() {
    let mut world = World::with_machines();
    let put = world.put("secret/a", 1);
    world.push("machine:rtx1080", vec![put]).unwrap();
    let good = world.state.summed();
    let named = |named: Checkpoint| vec![Op::Checkpoint(named)];
    refused(&mut world, "machine:rtx1080", named(good), Code::Denied);
    let second = vec![world.mount("team"), Op::Checkpoint(good)];
    refused(&mut world, "admin:jonas", second, Code::Limits);
    for seq in [good.seq - 1, good.seq + 1] {
        refused(&mut world, "admin:jonas", named(Checkpoint { seq, ..good }), Code::Seq);
    }
    for lie in [Checkpoint { state: Hash::ZERO, ..good }, Checkpoint { size: 1, ..good }] {
        refused(&mut world, "admin:jonas", named(lie), Code::Checkpoint);
        refused(&mut world, "root", named(lie), Code::Checkpoint);
    }
    world.push("admin:jonas", named(good)).unwrap();
    assert_eq!(world.state.checkpoint(), Some(good));
    let next = checkpoint(&world);
    let team = world.mount("team");
    world.push("root", vec![next, team]).unwrap();
    assert_eq!(world.state.checkpoint().unwrap().seq, good.seq + 1);
}

#[test]
fn blobs_that_no_version_has_are_forgotten_and_keys_never_are() {
    let mut world = World::with_machines();
    let Op::Put(first) = world.put("secret/a", 1) else { unreachable!() };
    world.push("root", vec![Op::Put(first.clone())]).unwrap();
    let Op::Rewrap(second) = world.rewrap("secret/a", 1) else { unreachable!() };
    world.push("root", vec![Op::Rewrap(second.clone())]).unwrap();
    let sold = world.machine_remove("vps");
    world.push("root", vec![sold]).unwrap();
    let again = |blob| Op::Put(Put { ver: 2, blob, ..first.clone() });
    refused(&mut world, "root", vec![again(first.blob)], Code::BlobReuse);
    let named = checkpoint(&world);
    world.push("root", vec![named]).unwrap();
    refused(&mut world, "root", vec![again(second.blob)], Code::BlobReuse);
    world.push("root", vec![again(first.blob)]).unwrap();
    let vps = world.machine_add("vps", 12, &["secret/"], &[]);
    refused(&mut world, "root", vec![vps], Code::Key);
}

#[test]
fn what_machines_might_read_is_known_of_a_state() {
    let mut world = World::with_machines();
    let push = |world: &mut World, op: Op| drop(world.push("root", vec![op]).unwrap());
    let number = world.number("vps");
    let set = world.access_set("vps", &["secret/a", "secret/b/"], &[]);
    push(&mut world, set);
    let rename = world.machine_rename("vps", "web");
    push(&mut world, rename);
    let before = world.state.seq();
    let set = world.access_set("web", &["secret/a", "secret/c"], &[]);
    push(&mut world, set);
    let rekey = world.machine_rekey("web", 80);
    push(&mut world, rekey);
    let next = world.number("web");
    let remove = world.machine_remove("web");
    push(&mut world, remove);
    let removed = world.state.seq();
    let mut reader = StateReader::new(world.state.summed());
    world.state.rows().try_for_each(|row| reader.take(&row)).unwrap();
    let state = reader.finish().unwrap();
    assert!(state == world.state);
    let (first, last) = (&state.machines()[&number], &state.machines()[&next]);
    assert_eq!(first.gone.as_ref().unwrap().next, Some(next));
    let gone = last.gone.as_ref().unwrap();
    assert_eq!(
        (gone.entry, gone.next, gone.by.to_string()),
        (state.seq(), None, "root".to_owned())
    );
    assert_eq!(last.former[0].0, "vps".parse().unwrap());
    for (at, written, expected) in [
        ("secret/a", removed, true),
        ("secret/a", removed + 1, false),
        ("secret/b/x", before, true),
        ("secret/b/x", removed, false),
        ("secret/d", before, false),
    ] {
        assert_eq!(last.might_read(&path(at), written), expected, "{at} {written}");
    }
}

#[test]
fn the_past_of_a_machine_has_a_bound() {
    let mut world = World::with_machines();
    let push = |world: &mut World, op: Op| drop(world.push("root", vec![op]).unwrap());
    for n in 0..limits::FORMER {
        let set = world.access_set("vps", &[&format!("secret/{n}")], &[]);
        push(&mut world, set);
    }
    let number = world.number("vps");
    let last = |world: &World| world.state.machines()[&number].clone();
    let entry = world.state.seq();
    assert_eq!(last(&world).once.len(), limits::FORMER);
    assert!(!last(&world).might_read(&path("secret/x"), 0));
    let set = world.access_set("vps", &[], &[]);
    push(&mut world, set);
    // Rather too much than too little.
    assert!(last(&world).might_read(&path("secret/x"), entry));
    for n in 0..=limits::FORMER {
        let from = last(&world).name.to_string();
        let rename = world.machine_rename(&from, &format!("m{n}"));
        push(&mut world, rename);
    }
    let former = last(&world).former;
    assert_eq!((former.len(), former[0].0.as_str()), (limits::FORMER, "m0"));
}

#[test]
fn version_numbers_are_not_used_twice_when_their_counters_are_dropped() {
    let mut world = World::with_machines();
    let forget = |world: &mut World, n: usize| {
        let at = format!("secret/{n}");
        let due = world.state.due_version(&path(&at));
        let put = world.put(&at, due);
        world.push("root", vec![put, Op::Forget { path: path(&at) }]).unwrap();
    };
    let due = |world: &World, n: usize| world.state.due_version(&path(&format!("secret/{n}")));
    for n in 0..limits::FORGOTTEN {
        forget(&mut world, n);
    }
    forget(&mut world, 0);
    let named = checkpoint(&world);
    world.push("root", vec![named]).unwrap();
    assert_eq!((due(&world, 0), due(&world, 1), due(&world, 1_000_000)), (3, 2, 1));
    forget(&mut world, limits::FORGOTTEN);
    let before = world.state.clone();
    let named = checkpoint(&world);
    let applied = world.push("root", vec![named]).unwrap();
    // Each goes on at least where it stood; one of a path that was never there may be higher.
    assert!(due(&world, 0) >= 3);
    assert!((1..=limits::FORGOTTEN).all(|n| due(&world, n) >= 2));
    assert!(world.state.summed().size < before.summed().size);
    let after = world.state.clone();
    world.state.revert(applied.undo);
    assert!(world.state == before);
    world.state = after;
    // A secret that is made again begins there, and says so.
    let (at, ver) = (path("secret/0"), due(&world, 0));
    let put = world.put("secret/0", ver);
    world.push("root", vec![put]).unwrap();
    assert_eq!(
        world.state.secret(&at).map(|secret| (secret.last, secret.base)),
        Some((ver, ver - 1))
    );
    let mut reader = StateReader::new(world.state.summed());
    world.state.rows().try_for_each(|row| reader.take(&row)).unwrap();
    assert_eq!(reader.finish().unwrap().due_version(&at), ver + 1);
}

#[test]
fn who_has_not_folded_believes_the_owners_of_before_and_whom_root_has_named() {
    let mut world = World::with_machines();
    let (founded, eva) = (Owners::of(&shared::log::start(&world.genesis).unwrap()), "eva");
    let add = Op::AdminAdd { name: eva.parse().unwrap(), key: public(20) };
    world.push("root", vec![add]).unwrap();
    world.hold_as("admin:eva", 20);
    let named = checkpoint(&world);
    world.push("admin:eva", vec![named]).unwrap();
    let by_eva = world.log.last().unwrap().clone();
    assert_eq!(founded.vouched(&by_eva).unwrap_err().code, Code::Checkpoint);
    let root = world.log[2].clone();
    let mut owners = founded.clone();
    owners.follow(&root).unwrap();
    assert_eq!(owners.vouched(&by_eva).unwrap(), world.state.checkpoint().unwrap());
    owners.follow(&root).unwrap();
    // Neither an admin's entry nor one under root's name counts.
    let relabelled = shared::signed::Envelope { by: "root".parse().unwrap(), ..by_eva.clone() };
    assert_eq!(owners.follow(&by_eva).unwrap_err().code, Code::Actor);
    assert_eq!(owners.follow(&relabelled).unwrap_err().code, Code::Actor);
    let mut entry = world.entry(vec![checkpoint(&world)], "root");
    let purpose = shared::signed::Purpose::Entry(world.state.vault());
    let forge = |entry: &shared::log::Entry, n: u8| {
        shared::signed::Envelope::sign(&key(n), entry.by.clone(), purpose, entry).unwrap()
    };
    assert_eq!(owners.follow(&forge(&entry, 20)).unwrap_err().code, Code::BadSig);
    assert_eq!(owners.vouched(&forge(&entry, 20)).unwrap_err().code, Code::BadSig);
    assert!(owners.vouched(&forge(&entry, 1)).is_ok());
    entry.seq += 1;
    assert_eq!(owners.vouched(&forge(&entry, 1)).unwrap_err().code, Code::Checkpoint);
    let other = world.entry(vec![world.mount("team")], "root");
    assert_eq!(owners.vouched(&forge(&other, 1)).unwrap_err().code, Code::Checkpoint);
    // Root goes, and with it what it may sign; so does the admin.
    let remove = Op::AdminRemove { name: eva.parse().unwrap() };
    let gone = world.entry(vec![remove, Op::RootSet { key: public(23) }], "root");
    owners.follow(&forge(&gone, 1)).unwrap();
    assert_eq!(owners.vouched(&by_eva).unwrap_err().code, Code::Checkpoint);
    assert_eq!(owners.vouched(&forge(&entry, 1)).unwrap_err().code, Code::BadSig);
}
