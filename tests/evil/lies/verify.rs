//! `vault audit verify` against a server that shows records without end and none of them.

use shared::audit::AuditHead;
use shared::wire::v1::audit::{Archived, AuditPage, LeavesPage};

use crate::scene::Scene;
use crate::server::{Asked, Evil, Reply, Told, json, now};

/// Says that there are records in the archive, and shows none.
fn nothing(told: &mut Told, asked: &Asked<'_>) -> Option<Reply> {
    let head = told.audit();
    match asked.what {
        "GET /v1/audit" => {
            let folder = "/var/lib/vault-server/audit".parse().unwrap();
            let archived = Some(Archived { last: head.n, until: now(), gone: 0, folder });
            Some(json(200, &AuditPage { records: Vec::new(), more: true, head, archived }))
        }
        "GET /v1/audit/leaves" => {
            let (from, head) = (AuditHead::EMPTY, AuditHead::EMPTY);
            Some(json(200, &LeavesPage { from, until: None, leaves: Vec::new(), head }))
        }
        _ => None,
    }
}

#[test]
fn verifying_the_audit_log_ends_although_its_pages_never_advance() {
    let mut scene = Scene::new();
    scene.reset();
    let told = Told { answer: nothing, ..scene.past.clone() };
    let evil = Evil::start(scene.world.address(), told);
    scene.host.start();
    evil.heard("an archive without records", "POST /v1/report");
    let ran = scene.host.vault(&["audit", "verify"]);
    let why = "audit record 1: the server shows none of the records from here to";
    assert!(ran.code != 0 && ran.err.contains(why), "{}: {}", ran.code, ran.err);
}
