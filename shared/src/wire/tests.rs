//! What neighbouring versions say to each other: what a newer one adds is passed over wherever it
//! may be added, and nowhere else.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::audit::{Applied, AuditHead, Fact, HookRun, Op};
use crate::hash::Hash;
use crate::head::{Head, SignedHead};
use crate::keys::{SignKey, Signature};
use crate::name::Actor;
use crate::signed::Envelope;
use crate::time::Time;

use super::v1::audit::{AccessReply, AccessRequest, AuditPage, LeavesPage};
use super::v1::checkpoint::Vouched;
use super::v1::clone::CloneNotice;
use super::v1::error::ErrorBody;
use super::v1::health::Room;
use super::v1::join::{JoinList, JoinReply, JoinRequest, Waiting};
use super::v1::log::{
    AdoptRequest, AppendRequest, Before, Frame, GenesisRequest, HealReply, HealRequest,
};
use super::v1::report::{ReportReply, ReportRequest, Standing, TargetsPage};
use super::v1::shares::{NearShare, OverShare, Share, SharesReply};

/// Reads what a newer program would have written: with more fields, small and large.
fn check<T: Serialize + DeserializeOwned>(ours: &T) {
    let written = serde_json::to_value(ours).unwrap();
    let mut newer = written.clone();
    let fields = newer.as_object_mut().unwrap();
    fields.insert("newer".to_owned(), json!({ "deep": [1, { "er": null }], "n": 1.5 }));
    fields.insert("a_newer_flag".to_owned(), json!(true));
    let read: T =
        serde_json::from_value(newer.clone()).unwrap_or_else(|why| panic!("{why}: {newer}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), written);
}

fn envelope() -> Envelope {
    Envelope { by: Actor::Root, body: b"{}".to_vec(), sig: Signature::from_bytes([1; 64]) }
}

fn head() -> SignedHead {
    let head = Head { epoch: Hash::ZERO, seq: 7, head: Hash::of(&[b"head"]) };
    head.sign(&SignKey::generate(), Hash::ZERO).unwrap()
}

#[test]
fn a_newer_neighbour_may_add_fields_to_any_body() {
    let (hash, at, audit) = (Hash::of(&[b"x"]), Time::from_micros(5), AuditHead::EMPTY);
    check(&GenesisRequest { claim: hash, genesis: envelope(), entry: envelope() });
    let before = Before { owners: vec![envelope()], state: "{}\n".to_owned() };
    check(&before);
    check(&AdoptRequest {
        claim: hash,
        genesis: envelope(),
        entries: vec![envelope()],
        before: Some(before),
    });
    check(&Vouched { genesis: envelope(), owners: vec![envelope()], entry: envelope() });
    check(&AppendRequest { envelope: envelope(), blobs: Vec::new(), code: None });
    check(&HealRequest { entries: vec![envelope()], head: Some(head()), code: None });
    check(&HealReply { head: head(), restored: true, wanted: vec![hash] });
    let vault = crate::words::VaultWords::of(&hash);
    check(&JoinRequest { vault, line: "VLTM1-x".to_owned() });
    check(&JoinReply { joined: false, left: 9 });
    let waiting = Waiting { line: "VLTM1-x".to_owned(), addr: "10.8.0.1".parse().unwrap(), at };
    check(&waiting);
    check(&JoinList { waiting: vec![waiting] });
    let fact = Fact::new(Op::LocalRead);
    let accesses = AccessRequest { run: hash, first: 1, reads: vec![fact.clone()] };
    check(&ReportRequest {
        seen: envelope(),
        targets: None,
        exchange: Some(1),
        accesses: Some(accesses.clone()),
    });
    let addresses = ["10.8.0.1", "10.8.0.2"].map(|text| text.parse().unwrap());
    let clone = CloneNotice { machine: 3, addresses, at };
    check(&clone);
    check(&ReportReply {
        now: at,
        audit,
        wants_targets: true,
        seen: vec![envelope()],
        next: 3,
        clones: vec![clone],
        full: true,
        accesses: Some(AccessReply { next: 2 }),
    });
    let standing =
        Standing { seen: envelope(), targets: String::new(), at, online: true, quiet: Some(1) };
    check(&standing);
    check(&TargetsPage { machines: vec![standing], more: true, up: Some(3) });
    let over = OverShare { machine: 3, share: Share::Audit, count: 8, last: at };
    let near = NearShare { machine: 3, share: Share::Log, used_percent: 93, until: at };
    check(&over);
    check(&near);
    check(&SharesReply {
        over: vec![over],
        near: vec![near],
        room: Some(Room::of(9, 1)),
        backup_failing: Some(at),
        restored: true,
        program: Some("vault-server 0.2.0".parse().unwrap()),
        replaced: Some(at),
    });
    check(&fact);
    check(&accesses);
    let hook = HookRun { began: at, ended: at, failed: Some("exit 1".parse().unwrap()) };
    check(&hook);
    let applied = Applied { file: "~/.env".parse().unwrap(), found: true, hook: Some(hook) };
    check(&applied);
    check(&Fact { applied: Some(applied), ..Fact::new(Op::LocalApplied) });
    check(&AccessReply { next: 2 });
    check(&AuditPage { records: Vec::new(), more: false, head: audit, archived: None });
    check(&LeavesPage { from: audit, until: None, leaves: vec![hash], head: audit });
    check(&ErrorBody { code: "forbidden".to_owned(), detail: "no".to_owned() });
}

#[test]
fn what_an_older_server_does_not_say_is_not_known() {
    let reply: SharesReply = serde_json::from_value(json!({ "over": [] })).unwrap();
    assert_eq!(reply, SharesReply::default());
}

/// A server of before takes a batch with what hosts tell of their files, as that is told of
/// themselves as all else in it; one of before says nothing of a batch that a report brought.
#[test]
fn what_hosts_tell_of_their_files_passes_an_older_neighbour() {
    assert!(Op::from("local_applied").is_local());
    let reply = json!({ "now": 5, "audit": AuditHead::EMPTY, "wants_targets": false });
    let reply: ReportReply = serde_json::from_value(reply).unwrap();
    assert!(reply.accesses.is_none());
    let plain = ReportRequest { seen: envelope(), targets: None, exchange: None, accesses: None };
    let plain = serde_json::to_value(plain).unwrap();
    assert_eq!(plain.as_object().unwrap().len(), 1, "{plain}");
}

#[test]
fn items_of_a_kind_that_only_a_newer_server_knows_are_passed_over() {
    let over = |share: &str| json!({ "machine": 3, "share": share, "count": 8, "last": 5 });
    let near = |share: &str| json!({ "machine": 3, "share": share, "used_percent": 9, "until": 5 });
    let reply = json!({
        "over": [over("log"), over("of_tomorrow"), over("blobs")],
        "near": [near("of_tomorrow"), near("audit")],
    });
    let SharesReply { over, near, .. } = serde_json::from_value(reply).unwrap();
    assert_eq!(over.iter().map(|it| it.share).collect::<Vec<_>>(), [Share::Log, Share::Blobs]);
    assert_eq!(near.iter().map(|it| it.share).collect::<Vec<_>>(), [Share::Audit]);
}

#[test]
fn frames_of_a_newer_server_are_passed_over_and_broken_ones_are_not() {
    let read = |text: &str| Frame::read(text.as_bytes());
    for newer in [r#""tick""#, r#"{"tick":1}"#, r#"{"tick":{"head":{"seq":1}}}"#] {
        assert!(read(newer).unwrap().is_none(), "{newer}");
    }
    assert!(matches!(read(r#""beat""#), Ok(Some(Frame::Beat))));
    let mut entry = serde_json::to_value(Frame::Entry { envelope: envelope(), blobs: vec![] });
    entry.as_mut().unwrap()["entry"]["newer"] = Value::from(1);
    let entry = read(&entry.unwrap().to_string()).unwrap();
    assert!(matches!(entry, Some(Frame::Entry { .. })), "{entry:?}");
    for broken in [
        r#"{"head":{"seq":1}}"#,
        r#"{"entry":{}}"#,
        r#""entry""#,
        r#"{"tick":1,"head":2}"#,
        r#"{"tick":1"#,
        "{}",
        "[]",
        "7",
        "",
    ] {
        assert!(read(broken).is_err(), "{broken}");
    }
    for frame in [
        Frame::Head(head()),
        Frame::Genesis(envelope()),
        Frame::Entry { envelope: envelope(), blobs: Vec::new() },
        Frame::Beat,
    ] {
        let text = serde_json::to_string(&frame).unwrap();
        let named = Frame::NAMES.iter().filter(|name| text.contains(&format!("\"{name}\"")));
        assert!(named.count() == 1, "every frame has a name that is known: {text}");
    }
}

/// What is signed, or stands in the chain of the log, is strict: another field makes it another
/// record.
#[test]
fn signed_bodies_take_no_field_more() {
    let targets = r#"{"agent":"vault-agent 0.2.0","newer":1,"targets":[]}"#;
    let refused = crate::report::Targets::open(targets, Hash::of(&[targets.as_bytes()]));
    assert_eq!(refused.unwrap_err().code, crate::error::Code::Parse);
    let mut sealed = serde_json::to_value(envelope()).unwrap();
    sealed["newer"] = Value::from(1);
    assert!(serde_json::from_value::<Envelope>(sealed).is_err());
}
