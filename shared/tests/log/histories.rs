//! Random histories: an honest log folds, is the same for every folder, and can be taken back; any
//! flip, drop, swap, duplicate or splice is refused, and refused without a trace.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use shared::log::{Entry, Op, State, StateReader, apply, start};
use shared::signed::Envelope;

use crate::world::{World, meta, path, versions};

/// Tampered logs to refuse, over all histories.
const CASES: usize = 100_000;
const HISTORIES: u32 = 64;
const ENTRIES: usize = 40;

/// What a random writer may try; most are allowed, all leave a consistent state.
fn operation(world: &mut World, dice: &[u8]) -> Vec<Op> {
    let [kind, which, extra, ..] = dice else { return vec![] };
    let at =
        ["secret/jjeco/a", "secret/jjeco/b", "secret/home/c", "other/d"][usize::from(which % 4)];
    let due = world.state.due_version(&path(at));
    let last = due.saturating_sub(1);
    let old = last.saturating_sub(u64::from(extra % 3));
    match kind % 13 {
        0..=3 => vec![world.put(at, due)],
        4 => vec![world.rewrap(at, last)],
        5 => vec![Op::Delete(versions(at, &[old, last + 1]))],
        6 => vec![Op::Undelete(versions(at, &[old, last + 1]))],
        7 => vec![Op::Destroy(versions(at, &[old]))],
        8 => vec![meta(at, u64::from(extra % 4), &[("owner", "jonas")]), world.put(at, due)],
        9 => vec![Op::Forget { path: path(at) }],
        10 => {
            vec![world.access_set("vps", [&["*"], &["secret/jjeco/"]][usize::from(extra % 2)], &[])]
        }
        11 => vec![Op::Checkpoint(world.state.summed())],
        _ => {
            let n = 130 + u8::try_from(world.log.len() % 60).unwrap() * 2;
            let name = format!("m{n}");
            vec![world.mount("other"), world.machine_add(&name, n, &["secret/"], &[])]
        }
    }
}

fn history(dice: &[Vec<u8>]) -> (World, Vec<State>) {
    let mut world = World::with_machines();
    let other = world.mount("other");
    world.push("admin:jonas", vec![other]).unwrap();
    let mut states = vec![world.state.clone()];
    for roll in dice {
        let ops = operation(&mut world, roll);
        let by = ["admin:jonas", "machine:rtx1080", "root"][usize::from(roll[3] % 3)];
        let before = world.state.clone();
        match world.push(by, ops) {
            Ok(applied) => {
                let after = world.state.clone();
                world.state.revert(applied.undo);
                assert!(world.state == before, "an entry was not taken back whole");
                world.state = after.clone();
                states.push(after);
            }
            Err(_) => assert!(world.state == before, "a refused entry left a trace"),
        }
    }
    (world, states)
}

fn fold(genesis: &Envelope, log: &[Envelope]) -> shared::error::Result<State> {
    let mut state = start(genesis)?;
    for envelope in log {
        apply(&mut state, envelope)?;
    }
    Ok(state)
}

/// Starts from what each state is written as, as a machine does from a checkpoint, and applies the
/// entries after it.
fn from_checkpoints(world: &World, states: &[State]) {
    let offset = world.log.len() + 1 - states.len();
    for (at, before) in states.iter().enumerate() {
        let (rest, after) = (&world.log[offset + at..], &states[at + 1..]);
        if !rest.first().is_some_and(is_checkpoint) {
            continue;
        }
        let mut reader = StateReader::new(before.summed());
        before.rows().try_for_each(|row| reader.take(&row)).unwrap();
        let mut state = reader.finish().unwrap();
        assert!(state.rows().eq(before.rows()), "a state is written in two ways");
        for (entry, expected) in rest.iter().zip(after) {
            apply(&mut state, entry).unwrap();
            assert!(state == *expected, "who starts from a checkpoint folds something else");
        }
    }
}

fn is_checkpoint(envelope: &Envelope) -> bool {
    let entry = envelope.parse::<Entry>().unwrap();
    matches!(entry.ops.first(), Some(Op::Checkpoint(_)))
}

/// Applies entry `at` of the log, tampered with, to the state before it: it must be refused.
fn tamper(world: &World, states: &mut [State], at: usize, kind: u8, place: usize, bit: u8) {
    let offset = world.log.len() + 1 - states.len();
    let index = at % (states.len() - 1);
    let entry = &world.log[offset + index];
    let mut forged = entry.clone();
    match kind % 8 {
        0 | 1 => {
            let place = place % forged.body.len();
            forged.body[place] ^= 1 << (bit % 8);
        }
        2 => {
            let mut sig = *forged.sig.as_bytes();
            sig[place % 64] ^= 1 << (bit % 8);
            forged.sig = shared::keys::Signature::from_bytes(sig);
        }
        3 => {
            let other = if forged.by.to_string() == "root" { "admin:jonas" } else { "root" };
            forged.by = crate::world::actor(other);
        }
        4 => {
            let cut = place % forged.body.len();
            forged.body.truncate(cut);
        }
        // A later entry in its place: the drop of one, or a swap of two.
        5 | 6 => match world.log.get(offset + index + 1 + place % 3) {
            Some(later) => forged = later.clone(),
            None => forged.body.push(b'\n'),
        },
        // An entry of the past once more.
        _ => forged = world.log[place % (offset + index)].clone(),
    }
    let state = &mut states[index];
    let (seq, head) = (state.seq(), state.head());
    assert!(apply(state, &forged).is_err(), "entry {} was taken, forged by way {kind}", seq + 1);
    assert_eq!((state.seq(), state.head()), (seq, head));
}

#[test]
fn honest_histories_fold_and_tampered_ones_are_refused() {
    let config = Config { cases: HISTORIES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[42; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let each = CASES / HISTORIES as usize + 1;
    let dice = prop::collection::vec(prop::collection::vec(any::<u8>(), 4), ENTRIES);
    let forgeries =
        prop::collection::vec((any::<usize>(), any::<u8>(), any::<usize>(), any::<u8>()), each);
    let outcome = runner.run(&(dice, forgeries), |(dice, forgeries)| {
        let (world, mut states) = history(&dice);
        let folded = fold(&world.genesis, &world.log).unwrap();
        assert!(folded == world.state, "two folders of one log differ");
        from_checkpoints(&world, &states);
        let pristine = states.clone();
        for (at, kind, place, bit) in forgeries {
            tamper(&world, &mut states, at, kind, place, bit);
        }
        assert!(states == pristine, "a refused entry left a trace");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn two_vaults_do_not_mix() {
    let (one, _) = history(&[vec![0, 0, 0, 1], vec![0, 1, 0, 1]]);
    let genesis =
        String::from_utf8(one.genesis.body.clone()).unwrap().replace("\"home\"", "\"away\"");
    let purpose = shared::signed::Purpose::Genesis;
    let other = Envelope::sign_body(
        &crate::world::key(1),
        one.genesis.by.clone(),
        purpose,
        genesis.into_bytes(),
    );
    let fault = fold(&other, &one.log).unwrap_err();
    assert_eq!(fault.code, shared::error::Code::BadSig);
}
