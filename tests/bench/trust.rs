//! Figures of the trust core: folding a long log, opening blobs of few and of many readers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shared::blob::{self, Blob, Expected, Kind, Place};
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::log::{self, Entry, Genesis, NewMachine, Op, Put, State};
use shared::name::{Actor, Name};
use shared::path::SecretPath;
use shared::signed::{Envelope, Purpose};
use shared::time::Time;
use shared::token::MachineLine;

use crate::table::Row;

/// A log of `entries` puts to `secrets` paths by one machine.
pub fn long_log(entries: u64, secrets: u64) -> (Envelope, Vec<Envelope>) {
    let (root, machine) = (SignKey::generate(), SignKey::generate());
    let genesis = Genesis {
        v: 1,
        name: name("bench"),
        nonce: Hash::ZERO,
        time: Time::default(),
        root: root.verify_key(),
        recovery: Identity::generate().recipient(),
        admins: BTreeMap::new(),
        server: vec![SignKey::generate().verify_key()],
        mounts: vec!["secret".parse().unwrap()],
    };
    let genesis = Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap();
    let mut state = log::start(&genesis).unwrap();
    let recipient = Identity::generate().recipient();
    let MachineLine { name: called, recipient, sign: key, proof } =
        MachineLine::new(name("bench"), recipient, &machine).unwrap();
    let add = Op::MachineAdd(NewMachine {
        name: called,
        number: 1,
        recipient,
        sign: key,
        proof,
        read: Grants::parse(&["*"]).unwrap(),
        write: Grants::parse(&["*"]).unwrap(),
    });
    let first = sign(&state, &root, Actor::Root, vec![add]);
    log::apply(&mut state, &first).unwrap();
    let mut log = vec![first];
    let readers = log::readers_hash(&state, &"secret/x".parse().unwrap());
    // Entries are signed without folding: only what the fold itself costs is to be measured.
    let mut prev = state.head();
    for n in 0..entries {
        let put = Put {
            path: format!("secret/bench/key-{}", n % secrets).parse().unwrap(),
            ver: n / secrets + 1,
            blob: Hash::of(&[&n.to_le_bytes()]),
            size: 1000,
            commit: Hash::ZERO,
            readers,
        };
        let by = Actor::Machine(name("bench"));
        let ops = vec![Op::Put(put)];
        let entry = Entry { seq: n + 2, prev, time: Time::from_micros(n), by: by.clone(), ops };
        let purpose = Purpose::Entry(state.vault());
        let envelope = Envelope::sign(&machine, by, purpose, &entry).unwrap();
        prev = envelope.hash(purpose);
        log.push(envelope);
    }
    (genesis, log)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn sign(state: &State, key: &SignKey, by: Actor, ops: Vec<Op>) -> Envelope {
    let entry = Entry {
        seq: state.seq() + 1,
        prev: state.head(),
        time: Time::default(),
        by: by.clone(),
        ops,
    };
    Envelope::sign(key, by, Purpose::Entry(state.vault()), &entry).unwrap()
}

/// Folds 100,000 entries from nothing, and loads the snapshot of the state they lead to.
pub fn fold() -> Vec<Row> {
    let (genesis, log) = long_log(100_000, 10_000);
    let begun = Instant::now();
    let mut state = log::start(&genesis).unwrap();
    for envelope in &log {
        log::apply(&mut state, envelope).unwrap();
    }
    let folded = begun.elapsed();
    let snapshot = postcard::to_stdvec(&state).unwrap();
    let begun = Instant::now();
    let loaded: State = postcard::from_bytes(&snapshot).unwrap();
    let load = begun.elapsed();
    assert!(loaded == state);
    vec![
        Row::at_most("fold of 100,000 entries, cold", folded, Duration::from_secs(10)),
        Row::shown("  snapshot of that state", format!("{} KiB", snapshot.len() >> 10)),
        Row::at_most("  loading it", load, Duration::from_secs(2)),
    ]
}

/// Compares a blob with the log, as is done when it comes in, and opens it: as the last of 3 and of
/// 1,000 readers.
pub fn open() -> Vec<Row> {
    let (hash_few, few) = open_as_last_of(3);
    let (hash_many, many) = open_as_last_of(1000);
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    let micros = |time: Duration| format!("{} µs", time.as_micros());
    vec![
        Row::shown("open a blob, 3 readers", micros(few)),
        Row::shown("open a blob, 1,000 readers", micros(many)),
        Row::ratio("  ratio", ratio, None),
        Row::shown("  before, once: compare 1 KiB with the log", micros(hash_few)),
        Row::shown("  the same, 100 KiB (1,000 readers)", micros(hash_many)),
    ]
}

fn open_as_last_of(readers: usize) -> (Duration, Duration) {
    let (vault, path): (Hash, SecretPath) = (Hash::ZERO, "secret/a".parse().unwrap());
    let place = Place { vault: &vault, path: &path, ver: 1 };
    let me = Identity::generate();
    let mut recipients: Vec<_> = (1..readers).map(|_| Identity::generate().recipient()).collect();
    recipients.push(me.recipient());
    let sealed = blob::seal(place, Kind::Kv, br#"{"key":"value"}"#, &recipients).unwrap();
    let expected = Expected {
        place,
        blob: sealed.id,
        size: sealed.bytes.len() as u64,
        commit: sealed.commit,
        readers,
        position: readers - 1,
    };
    let (mut hashed, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let begun = Instant::now();
        let blob = Blob::new(sealed.bytes.clone());
        expected.check(&blob).unwrap();
        hashed.push(begun.elapsed());
        let begun = Instant::now();
        blob::open(&me, &expected, &blob).unwrap();
        opened.push(begun.elapsed());
    }
    (median(hashed), median(opened))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
