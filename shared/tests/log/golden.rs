//! Golden bytes: what release 1 writes and must read for ever. `BLESS=1` writes files that are
//! missing; a file that exists is never overwritten.

use std::path::PathBuf;

use serde::Serialize;
use shared::audit::{self, Applied, AuditHead, Fact, HookRun, Record, leaf};
use shared::blob::{Blob, Expected, Kind, Place, open, seal};
use shared::hash::Hash;
use shared::head::Head;
use shared::keys::Identity;
use shared::log::{Op, apply, start};
use shared::report::{HookResult, Seen, TargetReport, TargetState, Targets};
use shared::signed::Envelope;
use shared::time::Time;
use shared::token::{Line as _, MachineLine, PinLine, SetupLine};
use shared::wire::v1;

use crate::world::{World, key, meta, path, public, recipient, versions};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/v1").join(name)
}

/// Compares `bytes` with the golden file `name`.
fn check(name: &str, bytes: &[u8]) {
    let file = file(name);
    if std::env::var_os("BLESS").is_some() && !file.exists() {
        use std::io::Write as _;
        std::fs::File::create_new(&file).unwrap().write_all(bytes).unwrap();
    }
    let golden = std::fs::read(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    let shown = String::from_utf8_lossy(bytes);
    assert!(golden == bytes, "{name} differs from its golden bytes; now:\n{shown}");
}

fn check_json<T: Serialize>(name: &str, value: &T) {
    let mut bytes = serde_json::to_vec(value).unwrap();
    bytes.push(b'\n');
    check(name, &bytes);
}

/// Every operation once, signed: entry `n` in `entry-n.json`.
#[test]
fn log_records() {
    let mut world = World::new();
    check_json("genesis.json", &world.genesis);
    let add = world.machine_add("rtx1080", 10, &["*"], &["*"]);
    world.push("admin:jonas", vec![add]).unwrap();
    let add = world.machine_add("vps", 12, &["secret/jjeco/"], &[]);
    let put = world.put("secret/jjeco/api-keys", 1);
    world.push("root", vec![add]).unwrap();
    let stale = world.put("secret/jjeco/api-keys", 1);
    drop(put);
    world.push("machine:rtx1080", vec![stale]).unwrap();
    let access = world.access_set("vps", &["secret/"], &["secret/vps/"]);
    let team = world.mount("team");
    world.push("admin:jonas", vec![team, access]).unwrap();
    let put = world.put("secret/jjeco/api-keys", 2);
    let set = meta("secret/jjeco/api-keys", 5, &[("owner", "jonas")]);
    world.push("machine:rtx1080", vec![put, set]).unwrap();
    let rewrap = world.rewrap("secret/jjeco/api-keys", 2);
    let marks = vec![
        rewrap,
        Op::Delete(versions("secret/jjeco/api-keys", &[1, 2])),
        Op::Undelete(versions("secret/jjeco/api-keys", &[2])),
        Op::Destroy(versions("secret/jjeco/api-keys", &[1])),
        Op::Forget { path: path("secret/jjeco/api-keys") },
    ];
    world.push("machine:rtx1080", marks).unwrap();
    let addresses = ["10.8.0.3:8443", "192.168.17.1:8443"];
    let owner = vec![
        Op::AdminAdd { name: "eva".parse().unwrap(), key: public(20) },
        Op::AdminRemove { name: "eva".parse().unwrap() },
        world.server_set(&[4, 21]),
        world.addresses_set(&addresses),
        world.machine_set("vps", true),
        world.machine_rename("vps", "cloud"),
        world.machine_remove("vps"),
        Op::RecoverySet { recipient: recipient(22) },
        Op::MountDrop { mount: "team".parse().unwrap() },
    ];
    world.push("root", owner).unwrap();
    let back = vec![world.resume(), world.machine_rekey("rtx1080", 30)];
    world.push("admin:jonas", back).unwrap();
    world.push("root", vec![Op::RootSet { key: public(23) }]).unwrap();
    check("state.jsonl", &world.state.rows().collect::<Vec<_>>().concat());
    let checkpoint = Op::Checkpoint(world.state.summed());
    world.push("admin:jonas", vec![checkpoint]).unwrap();
    for (index, envelope) in world.log.iter().enumerate() {
        check_json(&format!("entry-{}.json", index + 1), envelope);
    }
    check("head.txt", format!("{}\n", world.state.head()).as_bytes());
}

/// The committed files fold, whatever this program writes today.
#[test]
fn the_golden_log_still_folds() {
    let read = |name: &str| -> Envelope {
        serde_json::from_slice(&std::fs::read(file(name)).unwrap()).unwrap()
    };
    let mut state = start(&read("genesis.json")).unwrap();
    for n in 1..=10 {
        apply(&mut state, &read(&format!("entry-{n}.json"))).unwrap();
    }
    let head = std::fs::read_to_string(file("head.txt")).unwrap();
    assert_eq!(state.head().to_string(), head.trim());
}

/// An age file cannot be written twice alike; the committed one must open for ever.
#[test]
fn the_golden_blob_still_opens() {
    let (vault, at) = (Hash::of(&[b"golden vault"]), path("secret/jjeco/api-keys"));
    let place = Place { vault: &vault, path: &at, ver: 7 };
    bless_blob(place);
    let identity = std::fs::read_to_string(file("blob.key")).unwrap();
    let identity = Identity::from_text(&identity).unwrap();
    let bytes = std::fs::read(file("blob.age")).unwrap();
    let commit = std::fs::read_to_string(file("blob.commit")).unwrap().trim().parse().unwrap();
    let size = bytes.len() as u64;
    let blob = Blob::new(bytes);
    let expected = Expected { place, blob: blob.id(), size, commit, readers: 2, position: 1 };
    let opened = open(&identity, &expected, &blob).unwrap();
    assert_eq!(opened.content.expose(), br#"{"OPENAI_API_KEY":"not-a-key"}"#);
}

/// Makes key, age file and commitment if they are missing and to be blessed.
fn bless_blob(place: Place<'_>) {
    if std::env::var_os("BLESS").is_none() || file("blob.age").exists() {
        return;
    }
    let identity = Identity::generate();
    let recipients = [recipient(13), identity.recipient()];
    let content = br#"{"OPENAI_API_KEY":"not-a-key"}"#;
    let sealed = seal(place, Kind::Kv, content, &recipients).unwrap();
    check("blob.key", format!("{}\n", *identity.to_text()).as_bytes());
    check("blob.age", &sealed.bytes);
    check("blob.commit", format!("{}\n", sealed.commit).as_bytes());
}

#[test]
fn reports_audit_and_lines() {
    let vault = Hash::of(&[b"golden vault"]);
    let target = TargetReport {
        name: "/home/jonas/J-Jeco/.env".parse().unwrap(),
        path: path("secret/jjeco/api-keys"),
        ver: 7,
        state: TargetState::TooOld,
        since: Time::from_micros(1_793_491_200_000_001),
        hook: HookResult::RolledBack,
        detail: "exit 1".parse().unwrap(),
    };
    let head = Head { epoch: vault, seq: 9, head: Hash::of(&[b"head"]) };
    let head = head.sign(&key(4), vault).unwrap();
    head.verify(&[public(4)], vault).unwrap();
    check_json("head.json", &head);
    let agent = "vault-agent 0.1.0".parse().unwrap();
    let targets = Targets { agent, replaced: None, targets: vec![target], scan: None };
    let (text, hash) = targets.write().unwrap();
    check("targets.json", text.as_bytes());
    let seen = Seen {
        machine: 3,
        n: 4,
        time: Time::from_micros(1_793_491_200_000_002),
        epoch: head.epoch,
        seq: head.seq,
        head: head.head,
        server_sig: head.sig,
        audit_n: 2,
        audit_head: Hash::of(&[b"audit"]),
        targets: hash,
        wish: None,
    };
    let signed = seen.sign("vps".parse().unwrap(), &key(12), vault).unwrap();
    assert_eq!(Seen::open(&signed, 3, &public(12), vault).unwrap(), seen);
    check_json("seen.json", &signed);

    let record = Record {
        n: 1,
        nonce: Hash::of(&[b"nonce"]),
        time: Time::from_micros(1_793_491_200_000_003),
        fact: Fact {
            machine: Some("vps".parse().unwrap()),
            addr: Some("10.8.0.1:40000".parse().unwrap()),
            path: Some(path("secret/jjeco/api-keys")),
            ver: Some(7),
            ..Fact::new(audit::Op::Read)
        },
    };
    check_json("audit-record.json", &record);
    let bytes = serde_json::to_vec(&record).unwrap();
    assert_eq!(Record::parse(&bytes).unwrap(), record);
    let head = AuditHead::EMPTY.then(leaf(&bytes));
    check_json("audit-head.json", &head);

    let addresses = vec!["10.8.0.3:8443".to_owned(), "192.168.17.1:8443".to_owned()];
    let setup =
        SetupLine { addresses: addresses.clone(), server: public(4), claim: Hash::of(&[b"claim"]) };
    let machine = MachineLine::new("vps".parse().unwrap(), recipient(13), &key(12)).unwrap();
    let pin = PinLine {
        addresses,
        server: vec![public(4)],
        vault,
        name: "vps".parse().unwrap(),
        at: None,
        checkpoint: None,
    };
    let lines = [setup.to_line(), machine.to_line(), pin.to_line()].map(Result::unwrap);
    check("lines.txt", format!("{}\n", lines.join("\n")).as_bytes());
}

#[test]
fn wire_bodies() {
    let world = World::with_machines();
    let envelope = world.log[0].clone();
    let blobs = vec![v1::blob::Inline(b"age-encryption.org/v1\n".to_vec())];
    check_json(
        "wire-genesis.json",
        &v1::log::GenesisRequest {
            claim: Hash::of(&[b"claim"]),
            genesis: world.genesis.clone(),
            entry: envelope.clone(),
        },
    );
    check_json(
        "wire-append.json",
        &v1::log::AppendRequest {
            envelope: envelope.clone(),
            blobs: blobs.clone(),
            code: Some(Hash::of(&[b"code"])),
        },
    );
    let vault = world.state.vault();
    let head = Head { epoch: vault, seq: 1, head: Hash::of(&[b"head"]) };
    let head = head.sign(&key(4), vault).unwrap();
    check_json(
        "wire-heal.json",
        &v1::log::HealRequest { entries: vec![envelope.clone()], head: Some(head), code: None },
    );
    check_json(
        "wire-healed.json",
        &v1::log::HealReply { head, restored: false, wanted: vec![Hash::ZERO] },
    );
    let error =
        v1::error::ErrorBody { code: "E_DENIED".to_owned(), detail: "path `secret/a`".to_owned() };
    check_json("wire-error.json", &error);
    check_json(
        "wire-frames.json",
        &vec![
            v1::log::Frame::Head(head),
            v1::log::Frame::Genesis(world.genesis.clone()),
            v1::log::Frame::Entry { envelope: envelope.clone(), blobs },
            v1::log::Frame::Entry { envelope: envelope.clone(), blobs: vec![] },
            v1::log::Frame::Beat,
        ],
    );
}

#[test]
fn wire_reports() {
    let envelope = World::with_machines().log[0].clone();
    let audit = AuditHead { n: 2, hash: Hash::ZERO };
    let text = r#"{"agent":"vault-agent 0.1.0","targets":[]}"#.to_owned();
    check_json(
        "wire-report.json",
        &v1::report::ReportRequest {
            seen: envelope.clone(),
            targets: Some(text.clone()),
            exchange: Some(2),
            accesses: None,
        },
    );
    check_json(
        "wire-reported.json",
        &v1::report::ReportReply {
            now: Time::from_micros(5),
            audit,
            wants_targets: false,
            seen: vec![envelope.clone()],
            next: 3,
            clones: Vec::new(),
            full: false,
            accesses: None,
        },
    );
    let at = Time::from_micros(5);
    let standing =
        v1::report::Standing { seen: envelope, targets: text, at, online: true, quiet: None };
    check_json(
        "wire-targets.json",
        &v1::report::TargetsPage { machines: vec![standing], more: false, up: None },
    );
}

#[test]
fn wire_audit() {
    let audit = AuditHead { n: 2, hash: Hash::ZERO };
    let read = Fact {
        at: Some(Time::from_micros(6)),
        who: Some("python3[812] uid 1000".parse().unwrap()),
        path: Some(path("secret/a")),
        ver: Some(1),
        count: Some(2),
        ..Fact::new(audit::Op::LocalRead)
    };
    check_json(
        "wire-access.json",
        &v1::audit::AccessRequest { run: Hash::of(&[b"run"]), first: 1, reads: vec![read] },
    );
    let failed = Some("exit 7".parse().unwrap());
    let hook = HookRun { began: Time::from_micros(7), ended: Time::from_micros(9), failed };
    let applied = Applied { file: "~/J-Jeco/.env".parse().unwrap(), found: true, hook: Some(hook) };
    let applied = Fact {
        at: Some(Time::from_micros(6)),
        path: Some(path("secret/a")),
        ver: Some(1),
        applied: Some(applied),
        ..Fact::new(audit::Op::LocalApplied)
    };
    check_json("wire-applied.json", &applied);
    check_json(
        "wire-audit.json",
        &v1::audit::AuditPage {
            records: vec!["{}".to_owned()],
            more: false,
            head: audit,
            archived: Some(v1::audit::Archived {
                last: 9,
                until: Time::from_micros(7),
                gone: 4,
                folder: "/var/lib/vault-server/audit".parse().unwrap(),
            }),
        },
    );
    check_json(
        "wire-leaves.json",
        &v1::audit::LeavesPage {
            from: AuditHead::EMPTY,
            until: Some(Time::from_micros(7)),
            leaves: vec![Hash::ZERO],
            head: audit,
        },
    );
}
