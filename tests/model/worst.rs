//! The worst entries of a megabyte that a member or an owner can sign: what `apply` allocates for
//! them is bounded by their size, whatever they name (design/trust, *apply*).

use std::collections::BTreeMap;

use shared::claim::Claim;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::log::{
    self, Access, Entry, Genesis, MetaSet, MountSet, NewMachine, Op, Put, Rekey, State, Versions,
};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use shared::wire::v1::audit::AccessRequest;
use shared::wire::v1::log::{AppendRequest, HealRequest};

/// Bytes held at once for each byte of the entry; parsing and the check of its form take five.
const BYTES_HELD: u64 = 12;
/// Allocations for each operation and, beside that, for each 16 bytes of the entry.
const ALLOCATIONS: u64 = 100;

fn root() -> SignKey {
    SignKey::from_seed(&[1; 32])
}

fn path(n: usize) -> SecretPath {
    format!("secret/{n}").parse().unwrap()
}

fn founded() -> State {
    let genesis = Genesis {
        v: 1,
        name: "home".parse().unwrap(),
        nonce: Hash::ZERO,
        time: Time::default(),
        root: root().verify_key(),
        recovery: Identity::generate().recipient(),
        admins: BTreeMap::new(),
        server: vec![SignKey::from_seed(&[2; 32]).verify_key()],
        mounts: vec!["secret".parse().unwrap()],
    };
    let signed = Envelope::sign(&root(), Actor::Root, Purpose::Genesis, &genesis).unwrap();
    log::start(&signed).unwrap()
}

fn signed(state: &State, ops: Vec<Op>) -> Envelope {
    let (seq, prev) = (state.seq() + 1, state.head());
    let entry = Entry { seq, prev, time: Time::default(), by: Actor::Root, ops };
    let purpose = Purpose::Entry(state.vault());
    Envelope::sign(&root(), Actor::Root, purpose, &entry).unwrap()
}

fn push(state: &mut State, ops: Vec<Op>) {
    let envelope = signed(state, ops);
    log::apply(state, &envelope).unwrap();
}

fn put(state: &State, at: SecretPath, ver: u64, unique: u64) -> Op {
    Op::Put(Put {
        readers: log::readers_hash(state, &at),
        path: at,
        ver,
        blob: Hash::of(&[&unique.to_le_bytes()]),
        size: 1000,
        commit: Hash::ZERO,
    })
}

/// A vault with one secret of 1,000 versions.
fn deep() -> State {
    let mut state = founded();
    let meta = MetaSet {
        path: path(0),
        max_versions: 1000,
        cas_required: false,
        delete_after: 0,
        custom: BTreeMap::new(),
    };
    push(&mut state, vec![Op::MetaSet(meta)]);
    let puts = (1..=1000).map(|ver| put(&state, path(0), ver, ver)).collect();
    push(&mut state, puts);
    state
}

fn machine(number: u64, name: &str, grants: &Grants) -> (Op, SignKey) {
    let key = SignKey::from_seed(Hash::of(&[&number.to_le_bytes()]).as_bytes());
    let (name, recipient): (Name, _) = (name.parse().unwrap(), Identity::generate().recipient());
    let sign = key.verify_key();
    let proof = Claim { name: &name, recipient: &recipient, sign: &sign }.prove(&key).unwrap();
    let (read, write) = (grants.clone(), grants.clone());
    (Op::MachineAdd(NewMachine { name, number, recipient, sign, proof, read, write }), key)
}

/// 64 prefixes of nearly a thousand bytes.
fn longest() -> Grants {
    let long = vec!["x".repeat(240); 4].join("/");
    let texts: Vec<String> = (0..64).map(|n| format!("secret/{n}/{long}/")).collect();
    Grants::parse(&texts).unwrap()
}

/// A vault with one machine that has the longest lists there are.
fn wide() -> State {
    let mut state = founded();
    push(&mut state, vec![machine(1, "vps", &longest()).0]);
    state
}

/// Applies `ops` and checks what that held and took.
fn bounded(what: &str, mut state: State, ops: Vec<Op>) {
    let (count, envelope) = (ops.len() as u64, signed(&state, ops));
    let size = envelope.body.len() as u64;
    assert!(size <= 1 << 20, "{what}: {size} bytes");
    let mut outcome = None;
    let used = allocation_counter::measure(|| outcome = Some(log::apply(&mut state, &envelope)));
    let outcome = outcome.unwrap();
    assert!(outcome.is_ok(), "{what}: {}", outcome.unwrap_err());
    println!("{what}: {size} bytes, {count} operations: {used:?}");
    assert!(used.bytes_max <= BYTES_HELD * size.max(1 << 17), "{what}: {used:?}");
    assert!(used.count_total <= ALLOCATIONS * count + size / 16, "{what}: {used:?}");
}

#[test]
fn the_worst_entries_cost_what_they_weigh() {
    let named: Vec<u64> = (720..=1000).collect();
    let at = || Versions { path: path(0), versions: named.clone() };
    for mark in [Op::Delete, Op::Undelete, Op::Destroy] {
        let ops: Vec<Op> = (0..890).map(|_| mark(at())).collect();
        bounded(ops[0].name(), deep(), ops);
    }
    let absent = Versions { path: path(0), versions: (100_001..=100_140).collect() };
    bounded("delete of nothing", deep(), vec![Op::Delete(absent); 1000]);

    let state = wide();
    let on = |sleeps| Op::MachineSet { number: 1, sleeps, was: Hash::ZERO };
    let mut ops = Vec::new();
    let mut ahead = state.clone();
    for n in 0..1000 {
        let Op::MachineSet { number, sleeps, .. } = on(n % 2 == 0) else { unreachable!() };
        let op = Op::MachineSet { number, sleeps, was: ahead.was_machine(1) };
        push(&mut ahead, vec![op.clone()]);
        ops.push(op);
    }
    bounded("machine_set", state, ops);

    let state = wide();
    let mut ahead = state.clone();
    let mut ops = Vec::new();
    for number in 2..=1001 {
        let (add, _) = machine(number, "vps", &Grants::default());
        let Op::MachineAdd(NewMachine { recipient, sign, proof, .. }) = add else { unreachable!() };
        let rekey = Rekey { number: number - 1, new_number: number, recipient, sign, proof };
        let op = Op::MachineRekey(rekey);
        push(&mut ahead, vec![op.clone()]);
        ops.push(op);
    }
    bounded("machine_rekey", state, ops);

    let state = wide();
    let mut ahead = state.clone();
    let mut ops = Vec::new();
    for n in 0..7 {
        let (read, write) = if n % 2 == 0 {
            (Grants::default(), longest())
        } else {
            (longest(), Grants::default())
        };
        let op = Op::AccessSet(Access { number: 1, was: ahead.was_access(1), read, write });
        push(&mut ahead, vec![op.clone()]);
        ops.push(op);
    }
    bounded("access_set", state, ops);

    let state = founded();
    let adds = (1..=1000).map(|n| machine(n, &format!("m{n}"), &Grants::default()).0).collect();
    bounded("machine_add", state, adds);

    let mut state = founded();
    let all = Grants::parse(&["*"]).unwrap();
    push(&mut state, (1..=1000).map(|n| machine(n, &format!("m{n}"), &all).0).collect());
    let puts = (0..1000).map(|n| put(&state, path(n), 1, n as u64)).collect();
    bounded("put to a thousand readers", state, puts);

    let mounts = (0..1000).map(|n| {
        let mount = format!("m{n}").parse().unwrap();
        let (max_versions, cas_required, delete_after) = (0, false, 0);
        Op::MountSet(MountSet { mount, max_versions, cas_required, delete_after, was: Hash::ZERO })
    });
    bounded("mount_set", founded(), mounts.collect());

    let mut state = founded();
    let custom: BTreeMap<String, String> =
        (0..64).map(|n| (format!("{n:0128}"), "x".repeat(512))).collect();
    let meta = |n: usize, custom: &BTreeMap<String, String>| {
        let (path, custom) = (path(n), custom.clone());
        Op::MetaSet(MetaSet { path, max_versions: 0, cas_required: false, delete_after: 0, custom })
    };
    for n in (0..500).step_by(20) {
        push(&mut state, (n..n + 20).map(|n| meta(n, &custom)).collect());
    }
    bounded("meta_set over much", state, (0..500).map(|n| meta(n, &BTreeMap::new())).collect());
}

/// Parses a request and checks what that held.
fn parsed<T: serde::de::DeserializeOwned>(what: &str, body: &str) {
    let size = body.len() as u64;
    let mut parsed = Ok(None);
    let used = allocation_counter::measure(|| {
        parsed = serde_json::from_str::<T>(body).map(Some);
    });
    println!("{what}: {size} bytes: {used:?}, {:?}", parsed.as_ref().err());
    assert!(used.bytes_max <= 2 * size, "{what}: {used:?}");
}

/// What has not been verified yet costs no more memory than twice its bytes.
#[test]
fn the_worst_requests_cost_what_they_weigh() {
    let state = founded();
    let envelope = serde_json::to_string(&signed(&state, Vec::new())).unwrap();
    let many = |item: &str, bytes: usize| vec![item; bytes / (item.len() + 1)].join(",");
    let blobs = many("\"\"", 8 << 20);
    parsed::<AppendRequest>("blobs", &format!(r#"{{"envelope":{envelope},"blobs":[{blobs}]}}"#));
    let run = Hash::ZERO;
    let reads = many(r#"{"op":"","result":""}"#, 4 << 20);
    let reads = format!(r#"{{"run":"{run}","first":0,"reads":[{reads}]}}"#);
    parsed::<AccessRequest>("reads", &reads);
    let mut least = signed(&state, Vec::new());
    least.body.clear();
    let entries = many(&serde_json::to_string(&least).unwrap(), 8 << 20);
    parsed::<HealRequest>("entries", &format!(r#"{{"entries":[{entries}]}}"#));
}

/// Applies entries of `ops` and checks that what they leave in memory is no more than they weigh.
fn grows(what: &str, op: impl Fn(&State, usize) -> Op) {
    let (mut state, mut weight, mut size) = (founded(), 0, 0);
    let used = allocation_counter::measure(|| {
        for entry in 0..20 {
            let ops = (0..1000).map(|n| op(&state, 1000 * entry + n)).collect();
            let envelope = signed(&state, ops);
            size += envelope.body.len();
            weight += envelope.body.len();
            weight += log::apply(&mut state, &envelope).unwrap().entry.weight();
        }
    });
    let left = used.bytes_current;
    println!("{what}: {size} bytes weigh {weight} and leave {left}");
    assert!(left > 0 && left <= weight as i64, "{what}: {left} bytes are left by {weight}");
}

/// Whoever may write below one path makes every process that folds the log larger by no more than
/// its share.
#[test]
fn entries_leave_no_more_in_memory_than_they_weigh() {
    let meta = |n: usize, keys: usize| {
        let custom = (0..keys).map(|key| (key.to_string(), "x".to_owned())).collect();
        let (path, max_versions, cas_required) = (path(n), 0, false);
        Op::MetaSet(MetaSet { path, max_versions, cas_required, delete_after: 0, custom })
    };
    grows("meta_set", |_, n| meta(n, 0));
    grows("meta_set of one key", |_, n| meta(n, 1));
    grows("meta_set of all keys", |_, n| meta(n, 64));
    grows("put", |state, n| put(state, path(n), 1, n as u64));
    grows("put of versions", |state, n| put(state, path(n % 1000), 1 + n as u64 / 1000, n as u64));
}
