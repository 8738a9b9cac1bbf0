//! Blobs: every way in which one may differ from what the log says, by its code.

use std::io::{Read as _, Write as _};

use shared::blob::{Blob, Expected, Kind, Place, Sealed, commit, open, reseal, seal};
use shared::error::Code;
use shared::hash::Hash;
use shared::keys::{Identity, Recipient};
use shared::path::SecretPath;
use shared::signed::VaultId;

struct Bench {
    vault: VaultId,
    path: SecretPath,
    readers: Vec<Identity>,
}

impl Bench {
    fn new(readers: usize) -> Self {
        let readers = (0..readers).map(|_| Identity::generate()).collect();
        Self { vault: Hash::of(&[b"vault"]), path: "secret/a".parse().unwrap(), readers }
    }

    fn place(&self) -> Place<'_> {
        Place { vault: &self.vault, path: &self.path, ver: 3 }
    }

    fn recipients(&self) -> Vec<Recipient> {
        self.readers.iter().map(Identity::recipient).collect()
    }

    fn expected(&self, sealed: &Sealed, position: usize) -> Expected<'_> {
        Expected {
            place: self.place(),
            blob: sealed.id,
            size: sealed.bytes.len() as u64,
            commit: sealed.commit,
            readers: self.readers.len(),
            position,
        }
    }

    /// Encrypts any payload at all, as a hostile writer could.
    fn forge(&self, payload: &[u8]) -> Sealed {
        let recipients: Vec<age::x25519::Recipient> =
            self.recipients().iter().map(|r| r.to_string().parse().unwrap()).collect();
        let recipients = recipients.iter().map(|r| r as &dyn age::Recipient);
        let mut bytes = Vec::new();
        let mut writer =
            age::Encryptor::with_recipients(recipients).unwrap().wrap_output(&mut bytes).unwrap();
        writer.write_all(payload).unwrap();
        writer.finish().unwrap();
        Sealed { id: Hash::of(&[&bytes]), commit: commit(&[7; 32], b"{}"), bytes }
    }

    fn payload(&self, header: &str, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(header.len()).unwrap().to_be_bytes();
        let mut payload =
            [b"vault-payload/v1\n", &length[..], header.as_bytes(), &[7; 32], content].concat();
        payload.resize(payload.len().next_multiple_of(512), 0);
        payload
    }

    fn header(&self, len: usize) -> String {
        format!(r#"{{"vault":"{}","path":"secret/a","ver":3,"kind":"kv","len":{len}}}"#, self.vault)
    }
}

#[test]
fn every_reader_opens_and_stock_age_too() {
    let bench = Bench::new(4);
    let content = br#"{"k":"v"}"#;
    let sealed = seal(bench.place(), Kind::Kv, content, &bench.recipients()).unwrap();
    for (position, reader) in bench.readers.iter().enumerate() {
        let opened =
            open(reader, &bench.expected(&sealed, position), &Blob::new(sealed.bytes.clone()))
                .unwrap();
        assert_eq!((opened.content.expose(), opened.kind), (&content[..], Kind::Kv));
        // A writer who ordered the stanzas otherwise costs time, not access.
        open(reader, &bench.expected(&sealed, 0), &Blob::new(sealed.bytes.clone())).unwrap();
        let stock: age::x25519::Identity = reader.to_text().parse().unwrap();
        let decryptor = age::Decryptor::new_buffered(&sealed.bytes[..]).unwrap();
        let mut payload = Vec::new();
        let identity: &dyn age::Identity = &stock;
        decryptor.decrypt(std::iter::once(identity)).unwrap().read_to_end(&mut payload).unwrap();
        assert_eq!(payload, {
            let nonce_at = 17 + 4 + bench.header(content.len()).len();
            let mut due = bench.payload(&bench.header(content.len()), content);
            due[nonce_at..nonce_at + 32].copy_from_slice(&payload[nonce_at..nonce_at + 32]);
            due
        });
    }
}

#[test]
fn a_header_that_was_touched_anywhere_opens_for_nobody() {
    let bench = Bench::new(3);
    let sealed = seal(bench.place(), Kind::Kv, b"{}", &bench.recipients()).unwrap();
    let end = sealed.bytes.windows(5).position(|found| found == b"\n--- ").unwrap() + 5 + 43 + 1;
    for at in 0..end {
        let mut touched = sealed.bytes.clone();
        touched[at] ^= 1;
        for (position, reader) in bench.readers.iter().enumerate() {
            let (expected, blob) = (bench.expected(&sealed, position), Blob::new(touched.clone()));
            assert_eq!(open(reader, &expected, &blob).unwrap_err().code, Code::BlobHash);
            // Signed by a writer who means it: age's own rules still refuse it.
            let signed = Expected { blob: blob.id(), ..expected };
            let code = open(reader, &signed, &blob).unwrap_err().code;
            assert!(matches!(code, Code::BlobOpen | Code::BlobStanzas), "byte {at}: {code:?}");
        }
    }
}

/// Stanzas in another order are each still right: only age's authenticator of the header tells.
#[test]
fn a_wrong_authenticator_of_the_header_is_refused() {
    let bench = Bench::new(2);
    let sealed = seal(bench.place(), Kind::Kv, b"{}", &bench.recipients()).unwrap();
    let starts: Vec<usize> = (0..sealed.bytes.len())
        .filter(|at| sealed.bytes[*at..].starts_with(b"-> X25519 "))
        .collect();
    let end = starts[1] + (starts[1] - starts[0]);
    let swapped = [
        &sealed.bytes[..starts[0]],
        &sealed.bytes[starts[1]..end],
        &sealed.bytes[starts[0]..starts[1]],
        &sealed.bytes[end..],
    ]
    .concat();
    let mac = sealed.bytes.windows(5).position(|found| found == b"\n--- ").unwrap() + 5;
    let other = seal(bench.place(), Kind::Kv, b"{}", &bench.recipients()).unwrap().bytes;
    let other_mac = other.windows(5).position(|found| found == b"\n--- ").unwrap() + 5;
    let mut exchanged = sealed.bytes.clone();
    exchanged[mac..mac + 43].copy_from_slice(&other[other_mac..other_mac + 43]);
    for bytes in [swapped, exchanged] {
        let blob = Blob::new(bytes);
        for position in [0, 1] {
            let expected = Expected { blob: blob.id(), ..bench.expected(&sealed, position) };
            let code = open(&bench.readers[position], &expected, &blob).unwrap_err().code;
            assert_eq!(code, Code::BlobOpen);
        }
    }
}

#[test]
fn resealing_keeps_the_commitment() {
    let bench = Bench::new(2);
    let sealed = seal(bench.place(), Kind::Raw, b"bytes", &bench.recipients()).unwrap();
    let opened =
        open(&bench.readers[0], &bench.expected(&sealed, 0), &Blob::new(sealed.bytes.clone()))
            .unwrap();
    let fewer = Bench { readers: vec![Identity::generate()], path: bench.path.clone(), ..bench };
    let again = reseal(fewer.place(), &opened, &fewer.recipients()).unwrap();
    assert_eq!(again.commit, sealed.commit);
    assert_ne!(again.id, sealed.id);
    open(&fewer.readers[0], &fewer.expected(&again, 0), &Blob::new(again.bytes.clone())).unwrap();
}

#[test]
fn what_differs_from_the_log_is_refused_by_name() {
    let bench = Bench::new(2);
    let sealed = seal(bench.place(), Kind::Kv, b"{}", &bench.recipients()).unwrap();
    let good = bench.expected(&sealed, 0);
    let stranger = Identity::generate();
    let other: SecretPath = "secret/b".parse().unwrap();
    let check = |reader, expected: Expected<'_>, bytes: &[u8], code| {
        let blob = Blob::new(bytes.to_vec());
        assert_eq!(open(reader, &expected, &blob).unwrap_err().code, code);
    };
    let reader = &bench.readers[0];
    let mut flipped = sealed.bytes.clone();
    flipped[40] ^= 1;
    check(reader, good, &sealed.bytes[1..], Code::BlobSize);
    check(reader, good, &flipped, Code::BlobHash);
    check(reader, Expected { readers: 3, ..good }, &sealed.bytes, Code::BlobStanzas);
    check(&stranger, good, &sealed.bytes, Code::BlobOpen);
    check(reader, Expected { blob: Hash::of(&[&flipped]), ..good }, &flipped, Code::BlobOpen);
    check(reader, Expected { commit: Hash::ZERO, ..good }, &sealed.bytes, Code::BlobCommit);
    for place in [
        Place { path: &other, ..good.place },
        Place { ver: 4, ..good.place },
        Place { vault: &Hash::ZERO, ..good.place },
    ] {
        check(reader, Expected { place, ..good }, &sealed.bytes, Code::BlobContext);
    }
}

#[test]
fn forged_payloads_are_refused_by_name() {
    let bench = Bench::new(1);
    let header = bench.header(2);
    let good = bench.payload(&header, b"{}");
    let fault = |payload: &[u8]| {
        let sealed = bench.forge(payload);
        open(&bench.readers[0], &bench.expected(&sealed, 0), &Blob::new(sealed.bytes.clone()))
            .map_err(|fault| fault.code)
            .err()
    };
    assert_eq!(fault(&good), None);
    assert_eq!(fault(b""), Some(Code::BlobContext));
    assert_eq!(fault(b"vault-payload/v1\n\xff\xff\xff\xff"), Some(Code::BlobContext));
    assert_eq!(
        fault(&bench.payload(&header.replace(":3,", ": 3,"), b"{}")),
        Some(Code::BlobContext)
    );
    assert_eq!(fault(&bench.payload(&bench.header(2_000_000), b"{}")), Some(Code::BlobPadding));
    assert_eq!(fault(&[&good[..], &[0; 512]].concat()), Some(Code::BlobPadding));
    assert_eq!(fault(&good[..good.len() - 1]), Some(Code::BlobPadding));
    let mut dirty = good.clone();
    *dirty.last_mut().unwrap() = 1;
    assert_eq!(fault(&dirty), Some(Code::BlobPadding));
    assert_eq!(fault(&bench.payload(&header, b"[]")), Some(Code::BlobCommit));
}

#[test]
fn content_over_the_limit_is_refused() {
    let bench = Bench::new(1);
    let fault =
        seal(bench.place(), Kind::Raw, &vec![0; (768 << 10) + 1], &bench.recipients()).unwrap_err();
    assert_eq!(fault.code, Code::Limits);
    seal(bench.place(), Kind::Raw, &vec![0; 768 << 10], &bench.recipients()).unwrap();
}
