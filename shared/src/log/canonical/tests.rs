//! States that read back, and bytes that are no state.

use super::*;
use crate::keys::{Identity, SignKey};
use crate::log::{Genesis, start};
use crate::name::Actor;
use crate::signed::{Envelope, Purpose};

fn founded() -> State {
    let root = SignKey::generate();
    let genesis = Genesis {
        v: 1,
        name: "home".parse().unwrap(),
        nonce: Hash::ZERO,
        time: Time::default(),
        root: root.verify_key(),
        recovery: Identity::generate().recipient(),
        admins: [("anna".parse().unwrap(), SignKey::generate().verify_key())].into(),
        server: vec![SignKey::generate().verify_key()],
        mounts: vec!["secret".parse().unwrap()],
    };
    start(&Envelope::sign(&root, Actor::Root, Purpose::Genesis, &genesis).unwrap()).unwrap()
}

/// Reads bytes under their own hash, as a lying admin could name them.
fn read(bytes: &[u8], seq: u64) -> Result<State> {
    let named = Checkpoint { seq, state: Hash::of(&[bytes]), size: bytes.len() as u64 };
    let mut reader = StateReader::new(named);
    // Pieces end anywhere.
    bytes.chunks(7).try_for_each(|piece| reader.take(piece))?;
    reader.finish()
}

#[test]
fn a_state_reads_back_and_is_written_in_one_way() {
    let state = founded();
    let bytes = state.rows().collect::<Vec<_>>().concat();
    let again = read(&bytes, 0).unwrap();
    assert!(again == state);
    assert_eq!(again.summed(), state.summed());
    assert_eq!(state.summed().size, bytes.len() as u64);
}

#[test]
fn other_spellings_orders_and_counts_are_refused() {
    let state = founded();
    let rows: Vec<String> = state.rows().map(|row| String::from_utf8(row).unwrap()).collect();
    let refused = |rows: &[String], code: Code| {
        let bytes = rows.concat();
        let fault = read(bytes.as_bytes(), 0).err().map(|error| error.code);
        assert_eq!(fault, Some(code), "{bytes}");
    };
    let changed = |at: usize, from: &str, to: &str| {
        let mut rows = rows.clone();
        assert!(rows[at].contains(from), "{from} in {}", rows[at]);
        rows[at] = rows[at].replace(from, to);
        rows
    };
    refused(&changed(0, "\"v\":1", "\"v\": 1"), Code::Parse);
    refused(&changed(0, "\"v\":1", "\"v\":2"), Code::Upgrade);
    refused(&changed(0, "\"format\":1", "\"format\":2"), Code::Upgrade);
    refused(&changed(0, "\"mounts\":1", "\"mounts\":2"), Code::Parse);
    refused(&changed(0, "\"mounts\":1", "\"mounts\":0"), Code::Parse);
    refused(&changed(0, "\"seq\":0", "\"seq\":1"), Code::Parse);
    refused(&changed(0, "\"checkpoint\":null", "\"checkpoint\":{}"), Code::Parse);
    refused(&rows[..rows.len() - 1], Code::Parse);
    refused(&[rows.clone(), vec![rows[1].clone()]].concat(), Code::Parse);
    let mut swapped = rows.clone();
    let last = swapped.len() - 1;
    swapped.swap(last, last - 1);
    refused(&swapped, Code::Parse);
    let mut unused = changed(0, "\"keys\":4", "\"keys\":3");
    unused.pop();
    refused(&unused, Code::Key);
}

#[test]
fn another_state_than_named_is_refused_and_a_longer_one_before_its_end() {
    let (state, other) = (founded(), founded());
    let bytes = other.rows().collect::<Vec<_>>().concat();
    let named = state.summed();
    let mut reader = StateReader::new(Checkpoint { size: bytes.len() as u64, ..named });
    reader.take(&bytes).unwrap();
    assert_eq!(reader.finish().err().unwrap().code, Code::Checkpoint);
    let mut reader = StateReader::new(Checkpoint { size: bytes.len() as u64 - 1, ..named });
    assert_eq!(reader.take(&bytes).unwrap_err().code, Code::Checkpoint);
    let mut endless = StateReader::new(Checkpoint { size: u64::MAX, ..named });
    let mut taken = Ok(());
    let mut pieces = 0;
    while taken.is_ok() {
        (taken, pieces) = (endless.take(&[b' '; 4096]), pieces + 1);
    }
    assert_eq!((taken.unwrap_err().code, pieces), (Code::Limits, 257));
    let mut short = StateReader::new(Checkpoint { size: u64::MAX, ..named });
    short.take(&bytes).unwrap();
    assert_eq!(short.finish().err().unwrap().code, Code::Checkpoint);
}
