//! Attacks by false reports.

use shared::hash::Hash;
use shared::report::{Seen, Targets};
use shared::wire::v1::REPORT;
use shared::wire::v1::report::ReportRequest;

use super::attack::{Attack, check};
use super::member::{Member, Raw, View};

/// Posts a record and perhaps targets.
async fn report(member: &Member, raw: &Raw, view: &View, seen: Seen, targets: Option<String>) {
    let seen = member.signed(view, &seen);
    member
        .post(raw, REPORT, &ReportRequest { seen, targets, exchange: None, accesses: None })
        .await;
}

/// Posts the record that `change` makes of a true one.
async fn changed(member: &Member, change: impl FnOnce(&mut Seen)) {
    let raw = member.connect().await;
    let view = member.view(&raw).await;
    let mut seen = member.seen(&view, 1);
    change(&mut seen);
    report(member, &raw, &view, seen, None).await;
}

/// Posts targets of this text under its own hash.
async fn targets(member: &Member, text: String) {
    let raw = member.connect().await;
    let view = member.view(&raw).await;
    let targets = Hash::of(&[text.as_bytes()]);
    let seen = Seen { targets, ..member.seen(&view, 1) };
    report(member, &raw, &view, seen, Some(text)).await;
}

/// Returns targets whose agent bears this name, in JSON.
fn named(agent: &str) -> String {
    let agent = serde_json::to_string(agent).unwrap();
    format!("{{\"agent\":{agent},\"targets\":[]}}")
}

pub const ATTACKS: &[Attack] = &[
    Attack::new("a report names a head that never was", "E_REPORT", |member| {
        Box::pin(changed(member, |seen| seen.head = Hash::ZERO))
    }),
    Attack::new("a report names a head in the future", "E_REPORT", |member| {
        Box::pin(changed(member, |seen| seen.seq = u64::MAX))
    }),
    Attack::new("a report names an audit head that never was", "E_REPORT", |member| {
        Box::pin(changed(member, |seen| seen.audit_n = 500_000))
    }),
    Attack::new("a report changes an audit head", "E_REPORT", |member| {
        Box::pin(changed(member, |seen| {
            (seen.audit_n, seen.audit_head) = (1, Hash::of(&[b"other"]));
        }))
    }),
    Attack::new("a report is another machine's", "E_ACTOR", |member| {
        Box::pin(changed(member, |seen| seen.machine = 1))
    }),
    Attack::new("a report goes back", "E_SEQ", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let (agent, targets) = ("x".parse().unwrap(), Vec::new());
            let (text, targets) =
                Targets { agent, replaced: None, targets, scan: None }.write().unwrap();
            for n in [u64::MAX, 5] {
                let seen = Seen { targets, ..member.seen(&view, n) };
                report(member, &raw, &view, seen, Some(text.clone())).await;
            }
        })
    }),
    Attack::new("targets are others than the report names", "E_REPORT", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let seen = member.seen(&view, 1);
            report(member, &raw, &view, seen, Some(named("x"))).await;
        })
    }),
    Attack::new("targets steer a terminal", "E_PARSE", |member| {
        Box::pin(targets(member, named("\u{1b}[2J")))
    }),
    Attack::new("targets are larger than any may be", "E_LIMITS", |member| {
        Box::pin(targets(member, named(&"x".repeat(300 << 10))))
    }),
    Attack::new("reports without end", "429", |member| {
        Box::pin(async {
            let raw = member.connect().await;
            let view = member.view(&raw).await;
            let mut n = 0;
            while member.goes_on() && n < 100_000 {
                n += 1;
                report(member, &raw, &view, member.seen(&view, n), None).await;
                if member.said().contains_key("cut") {
                    return;
                }
            }
        })
    }),
];

#[test]
fn a_false_report_accuses_nobody() {
    check(ATTACKS);
}
