//! The rules of machines: numbers, names, keys and their proofs, and acts made for another state.

use shared::error::Code;
use shared::log::{Op, readers};

use crate::rules::refused;
use crate::world::{World, path, public, recipient};

#[test]
fn a_number_is_never_used_again() {
    let mut world = World::with_machines();
    let at = path("secret/a");
    let gone = world.machine_remove("vps");
    world.push("admin:jonas", vec![gone]).unwrap();
    let back = world.machine_add("vps", 80, &["*"], &[]);
    world.push("admin:jonas", vec![back]).unwrap();
    assert_eq!(readers(&world.state, &at), ["1", "3", "@recovery#1"]);
    for wrong in [2, 3, 5] {
        let Op::MachineAdd(mut late) = world.machine_add("late", 84, &[], &[]) else {
            unreachable!()
        };
        late.number = wrong;
        refused(&mut world, "admin:jonas", vec![Op::MachineAdd(late)], Code::Moved);
    }
}

#[test]
fn a_renamed_machine_keeps_everything_but_its_name() {
    let mut world = World::with_machines();
    let at = path("secret/a");
    let put = world.put("secret/a", 1);
    world.push("machine:rtx1080", vec![put]).unwrap();
    let rename = world.machine_rename("rtx1080", "tower");
    world.push("admin:jonas", vec![rename]).unwrap();
    assert_eq!(world.state.stale().count(), 0);
    assert_eq!(readers(&world.state, &at), ["1", "@recovery#1"]);
    let put = world.put("secret/a", 2);
    refused(&mut world, "machine:rtx1080", vec![put], Code::UnknownActor);
    let free = world.machine_add("rtx1080", 90, &[], &[]);
    world.push("admin:jonas", vec![free]).unwrap();
}

#[test]
fn new_keys_end_the_old_ones_at_once() {
    let mut world = World::with_machines();
    let put = world.put("secret/a", 1);
    world.push("machine:rtx1080", vec![put]).unwrap();
    let old = world.put("secret/a", 2);
    let old = world.sign(&world.entry(vec![old], "machine:rtx1080"));
    let rekey = world.machine_rekey("rtx1080", 90);
    world.push("admin:jonas", vec![rekey.clone()]).unwrap();
    assert_eq!(world.state.stale().count(), 1);
    assert_eq!(world.apply(old).unwrap_err().code, Code::BadSig);
    let (number, machine) = world.state.machine(&"rtx1080".parse().unwrap()).unwrap();
    assert_eq!((number, machine.write.cover_mount("secret")), (3, true));
    assert!(world.state.machine_numbered(1).is_none() && world.state.machines().contains_key(&1));
    refused(&mut world, "admin:jonas", vec![rekey], Code::Missing);
    world.hold("rtx1080", 90);
    let put = world.put("secret/a", 2);
    world.push("machine:rtx1080", vec![put]).unwrap();
}

#[test]
fn keys_are_exchanged_by_nobody_on_the_way() {
    let mut world = World::with_machines();
    let Op::MachineAdd(good) = world.machine_add("late", 84, &[], &[]) else { unreachable!() };
    let swaps: [fn(&mut shared::log::NewMachine); 3] = [
        |new| new.name = "other".parse().unwrap(),
        |new| new.recipient = recipient(86),
        |new| new.sign = public(86),
    ];
    for swap in swaps {
        let mut new = good.clone();
        swap(&mut new);
        refused(&mut world, "admin:jonas", vec![Op::MachineAdd(new)], Code::BadSig);
    }
    let Op::MachineRekey(mut rekey) = world.machine_rekey("vps", 88) else { unreachable!() };
    rekey.recipient = recipient(86);
    refused(&mut world, "admin:jonas", vec![Op::MachineRekey(rekey)], Code::BadSig);
}

#[test]
fn an_act_made_for_another_state_is_refused() {
    let mut world = World::with_machines();
    let early = [
        world.server_set(&[4, 70]),
        world.addresses_set(&["10.8.0.3:8443"]),
        world.mount("team"),
        world.mount("secret"),
        world.access_set("vps", &["*"], &[]),
        world.machine_set("vps", true),
    ];
    let Op::MountSet(mut meanwhile) = world.mount("secret") else { unreachable!() };
    meanwhile.cas_required = true;
    let theirs = vec![
        world.server_set(&[4, 71]),
        world.addresses_set(&["192.168.17.1:8443"]),
        world.mount("team"),
        Op::MountSet(meanwhile),
        world.access_set("vps", &[], &[]),
        world.machine_set("vps", true),
    ];
    world.push("root", theirs).unwrap();
    for op in early {
        refused(&mut world, "admin:jonas", vec![op], Code::Moved);
    }
}
