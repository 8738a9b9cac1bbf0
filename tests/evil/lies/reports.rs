//! Lies about the others, the audit log, and the time.

use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::keys::SignKey;
use shared::report::Seen;
use shared::time::Time;
use shared::wire::v1::audit::{AccessReply, LeavesPage};
use shared::wire::v1::report::ReportReply;

use crate::acts::End;
use crate::lie::Lie;
use crate::scene::Scene;
use crate::server::{Asked, Reply, Told, json, now, refusal};

/// Answers reports.
fn reports(scene: &Scene, answer: fn(&mut Told, &Asked<'_>) -> Option<Reply>) -> Told {
    Told { answer, ..scene.past.clone() }
}

fn is_report(asked: &Asked<'_>) -> bool {
    asked.what == "POST /v1/report"
}

/// Returns what an honest server answers.
fn honest(told: &Told) -> ReportReply {
    ReportReply {
        now: now(),
        audit: told.audit(),
        wants_targets: false,
        seen: Vec::new(),
        next: 0,
        clones: Vec::new(),
        full: false,
        accesses: None,
    }
}

/// Returns a seen-record of machine `number`, signed by a key that is not its own.
fn forged(told: &Told, number: u64, by: &str) -> shared::signed::Envelope {
    let head = told
        .sign(shared::head::Head { head: Hash::of(&[b"other"]), ..told.head(told.last()).place() });
    let seen = Seen {
        machine: number,
        n: 1 << 40,
        time: now(),
        epoch: head.epoch,
        seq: head.seq,
        head: head.head,
        server_sig: head.sig,
        audit_n: 500_000,
        audit_head: Hash::ZERO,
        targets: Hash::ZERO,
        wish: None,
    };
    seen.sign(by.parse().unwrap(), &SignKey::generate(), told.vault).unwrap()
}

const fn heard(name: &'static str, tell: fn(&Scene) -> Told) -> Lie {
    Lie::idle(name, "POST /v1/report", End::Done, tell)
}

const fn alarming(name: &'static str, code: &'static str, tell: fn(&Scene) -> Told) -> Lie {
    Lie { alarm: Some(code), ..heard(name, tell) }
}

pub const LIES: &[Lie] = &[
    heard("a report is answered in no words", |scene| {
        reports(scene, |_, asked| is_report(asked).then(|| (200, b"[]".to_vec())))
    }),
    heard("a report is never taken", |scene| {
        reports(scene, |_, asked| is_report(asked).then(|| refusal(503, "unavailable")))
    }),
    heard("a report is always an old one", |scene| {
        reports(scene, |_, asked| is_report(asked).then(|| refusal(422, "E_SEQ")))
    }),
    heard("targets are asked for without end", |scene| {
        reports(scene, |told, asked| {
            is_report(asked)
                .then(|| json(200, &ReportReply { wants_targets: true, ..honest(told) }))
        })
    }),
    heard("another machine's record is forged", |scene| {
        reports(scene, |told, asked| {
            let seen = vec![forged(told, 2, "spare")];
            is_report(asked).then(|| json(200, &ReportReply { seen, ..honest(told) }))
        })
    }),
    heard("a record of nobody", |scene| {
        reports(scene, |told, asked| {
            let seen = vec![forged(told, 99, "nobody")];
            is_report(asked).then(|| json(200, &ReportReply { seen, ..honest(told) }))
        })
    }),
    heard("ten thousand records", |scene| {
        reports(scene, |told, asked| {
            is_report(asked).then(|| {
                let seen = vec![forged(told, 2, "spare"); 10_000];
                json(200, &ReportReply { seen, ..honest(told) })
            })
        })
    }),
    heard("more local reads are acknowledged than there were", |scene| {
        reports(scene, |_, asked| {
            (asked.what == "POST /v1/access").then(|| json(200, &AccessReply { next: u64::MAX }))
        })
    }),
    heard("local reads are never acknowledged", |scene| {
        reports(scene, |_, asked| {
            (asked.what == "POST /v1/access").then(|| json(200, &AccessReply { next: 0 }))
        })
    }),
    alarming("the server's clock is a year ahead", "E_CLOCK", |scene| {
        reports(scene, |told, asked| {
            let year = 365 * 24 * 3600 * 1_000_000;
            let now = Time::from_micros(now().as_micros() + year);
            is_report(asked).then(|| json(200, &ReportReply { now, ..honest(told) }))
        })
    }),
    alarming("the audit log is shorter than it was", "E_AUDIT_REWRITTEN", |scene| {
        reports(scene, |told, asked| {
            let audit = AuditHead::EMPTY;
            is_report(asked).then(|| json(200, &ReportReply { audit, ..honest(told) }))
        })
    }),
    alarming("an audit record is another than it was", "E_AUDIT_REWRITTEN", |scene| {
        reports(scene, |told, asked| {
            told.leaves[0] = Hash::ZERO;
            let head = told.audit();
            match asked.what {
                "GET /v1/audit/leaves" => Some(json(200, &LeavesPage { head, ..told.page(asked) })),
                _ => None,
            }
        })
    }),
    alarming("audit leaves do not lead to the head", "E_AUDIT_REWRITTEN", |scene| {
        reports(scene, |told, asked| {
            let head = told.audit();
            let more = AuditHead { n: head.n + 1, hash: Hash::ZERO };
            match asked.what {
                "POST /v1/report" => Some(json(200, &ReportReply { audit: more, ..honest(told) })),
                "GET /v1/audit/leaves" => {
                    let mut page = told.page(asked);
                    page.leaves.push(Hash::of(&[b"forged"]));
                    Some(json(200, &LeavesPage { head: more, ..page }))
                }
                _ => None,
            }
        })
    }),
];
