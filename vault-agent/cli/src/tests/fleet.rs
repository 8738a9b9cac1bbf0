//! `status` and `audit`.

use serde_json::{Value, json};
use shared::keys::SignKey;

use super::{World, transcript};

const HASH: &str = "3fa2000000000000000000000000000000000000000000000000000000000000";
const NOW: u64 = 1_795_464_000_000_000;
const HOUR: u64 = 3_600_000_000;

fn row(machine: &str, applied: u64, seen_at: &Value, awake: bool) -> Value {
    json!({
        "machine": machine, "target": "~/J-Jeco/.env", "secret": "secret/jjeco/api-keys", "wanted": 2,
        "applied": applied, "hook": "ok", "seen_at": seen_at, "awake": awake, "state": "ok",
        "detail": "",
    })
}

fn status(rows: &Value, alarms: &Value, online: bool) -> World {
    let body = json!({
        "machine": "rtx1080", "vault": HASH, "seq": 12, "head": HASH, "online": online,
        "server": "192.168.17.1:8443", "synced_at": NOW - 2 * HOUR, "alarms": alarms, "targets": rows,
    });
    World::agent(&[("GET /v1/agent/status", 200, &body.to_string())])
}

#[test]
fn status_shows_the_fleet() {
    let asleep = json!([
        row("vps", 2, &json!(NOW), true),
        row("thinkpad", 1, &json!(NOW - 75 * HOUR), false),
        row("rtx1080", 2, &json!(NOW), true),
    ]);
    insta::assert_snapshot!(transcript(
        &status(&asleep, &json!([]), true),
        &["status", "status -format=json"]
    ));
}

#[test]
fn status_fails_while_an_awake_machine_lags() {
    let mut never = row("new", 0, &json!(null), false);
    never["hook"] = json!("none");
    let mut lagging = row("vps", 1, &json!(NOW), true);
    lagging["hook"] = json!("failed");
    lagging["state"] = json!("failed");
    lagging["detail"] = json!("E_BLOB_ABSENT: the server does not hold the blob; hook: exit 1");
    let mut world = status(&json!([lagging, never]), &json!([]), true);
    let plain = transcript(&world, &["status"]);
    world.tty = true;
    insta::assert_snapshot!(format!(
        "{plain}{}",
        transcript(&world, &["status"]).replace('\x1b', "ESC")
    ));
    let quiet = transcript(&world.env("NO_COLOR", "1"), &["status"]);
    assert!(!quiet.contains('\x1b'));
}

#[test]
fn status_fails_while_an_awake_machine_fails() {
    let wanted = |hook: &str, state: &str, awake: bool| {
        let mut row = row("vps", 2, &json!(NOW), awake);
        row["hook"] = json!(hook);
        row["state"] = json!(state);
        let shown = transcript(&status(&json!([row]), &json!([]), true), &["status"]);
        shown.contains(
            "
exit 2
",
        )
    };
    for hook in ["failed", "rolled_back", "rolling_back"] {
        assert!(wanted(hook, "ok", true), "{hook}");
        assert!(!wanted(hook, "ok", false), "asleep: {hook}");
    }
    for state in ["failed", "refused", "drift", "too_old"] {
        assert!(wanted("ok", state, true), "{state}");
    }
    for (hook, state) in [("none", "ok"), ("pending", "ok"), ("none", "kept"), ("ok", "waiting")] {
        assert!(!wanted(hook, state, true), "{hook} {state}");
    }
}

#[test]
fn status_shows_alarms_and_a_lost_server() {
    let alarms = json!([
        { "code": "E_FORK", "text": "`vps` was shown another entry 11", "since": NOW - HOUR },
        { "code": "config", "text": "`agent.toml` line 3: unknown key `ownr`", "since": NOW - 60_000_000 },
    ]);
    insta::assert_snapshot!(transcript(&status(&json!([]), &alarms, false), &["status"]));
}

#[test]
fn status_says_what_is_not_known() {
    let check = |rows: &Value, more: &[(&str, Value)], said: &[&str], code: u8| {
        let mut body = json!({
            "machine": "rtx1080", "vault": HASH, "seq": 12, "head": HASH, "online": true,
            "server": "192.168.17.1:8443", "synced_at": NOW, "alarms": [], "targets": rows,
        });
        for (key, value) in more {
            body[key] = value.clone();
        }
        let world = World::agent(&[("GET /v1/agent/status", 200, &body.to_string())]);
        let shown = transcript(&world, &["status"]);
        for line in said {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(shown.contains(&format!("\nexit {code}\n")), "{shown}");
    };
    let mut late = row("vps", 1, &json!(NOW), true);
    check(&json!([late]), &[], &[], 2);
    late["fresh"] = json!(true);
    check(&json!([late]), &[], &[], 0);
    late["outdated"] = json!(true);
    late["seen_at"] = json!(NOW - 2 * HOUR);
    let outdated = |of: Value, awake: bool| {
        ("outdated", json!([{ "machine": "vps", "of": of, "awake": awake }]))
    };
    let withheld = "vps: the server does not hand out its newest signed targets; ";
    let old = format!("{withheld}those shown are of 2 h ago");
    check(
        &json!([late]),
        &[outdated(json!(NOW - 2 * HOUR), true)],
        &[&old, "2 h ago (outdated)"],
        2,
    );
    let none = format!("{withheld}none are shown");
    check(&json!([]), &[outdated(Value::Null, false)], &[&none], 0);
    check(&json!([]), &[("unwatched", json!(true))], &["silence is not judged: every other"], 0);
    let over = |count: u64| {
        let last = NOW - 180_000_000;
        ("over", json!([{ "machine": "vps", "share": "audit", "count": count, "last": last }]))
    };
    let room = ("room", json!({ "used_percent": 83, "free_bytes": 5_u64 << 30 }));
    let many = "vps was refused 812 requests over its share of bytes of audit records a day, last \
                3 min ago";
    let full = "the server's disk is 83 % full: 5120 MiB are free";
    check(&json!([]), &[over(812), room], &[many, full], 0);
    let near = json!([{
        "machine": "vps", "share": "log", "used_percent": 93, "until": NOW + 3 * HOUR
    }]);
    let most = "vps has taken 93 % of its share of bytes of entries a day; if it takes no more, it \
                is below 80 % in 3 h";
    check(&json!([]), &[("near", near)], &[most], 0);
    check(&json!([]), &[over(1)], &["vps was refused 1 request over its share"], 0);
}

#[test]
fn status_of_another_server_is_refused() {
    insta::assert_snapshot!(transcript(&World::agent(&[]), &["status"]));
}

fn record(n: u64, more: &str) -> String {
    format!(r#"{{"n":{n},"nonce":"{HASH}","time":{},{more}}}"#, NOW - (10 - n) * HOUR)
}

fn audit() -> World {
    let records = [
        record(
            1,
            r#""machine":"vps","addr":"10.8.0.2","op":"deliver","path":"secret/jjeco/api-keys","ver":2,"result":"ok""#,
        ),
        record(
            2,
            r#""machine":"rtx1080","who":"python3[812] uid 1000","op":"local_read","path":"secret/home/x","ver":1,"count":3,"result":"ok""#,
        ),
        record(
            3,
            r#""key":"deadbeef00","addr":"1.2.3.4","op":"read\u001b[2J","result":"E_UNKNOWN_ACTOR""#,
        ),
    ];
    let page = |records: &[String], more: bool| {
        json!({ "records": records, "more": more, "head": { "n": 3, "hash": HASH } }).to_string()
    };
    World::agent(&[
        ("GET /v1/agent/machines", 200, r#"{"machines":[],"next":1,"own":null,"server":[]}"#),
        ("GET /v1/agent/audit?limit=50&newest=true", 200, &page(&records, false)),
        (
            "GET /v1/agent/audit?limit=5&newest=true&since=1795377600000000&machine=vps&path=secret%2Fjjeco%2F%2A&op=read&denied=true",
            200,
            &page(&records[..1], false),
        ),
        ("GET /v1/agent/audit?limit=1000&since=1795377600000000", 200, &page(&records[..2], true)),
        (
            "GET /v1/agent/audit?after=2&limit=1000&since=1795377600000000",
            200,
            &page(&records[2..], false),
        ),
        ("GET /v1/agent/audit?limit=1000&since=1795460400000000", 200, &page(&[], false)),
        (
            "GET /v1/agent/audit?limit=50&newest=true&machine=x",
            403,
            r#"{"errors":["permission denied"]}"#,
        ),
    ])
}

#[test]
fn audit_log_shows_records() {
    insta::assert_snapshot!(transcript(
        &audit(),
        &[
            "audit log",
            "audit log --since 24h --machine vps --path secret/jjeco/* --op read --denied -n 5",
            "audit log --since 24h",
            "audit log --since 1h",
            "audit log --since 24h -n 5 --machine vps --path secret/jjeco/* --op read --denied --format json",
            "audit log --machine x",
            "audit log --since yesterday",
        ]
    ));
}

#[test]
fn records_that_are_archived_are_told_of_when_they_were_asked_for() {
    let archived = |gone: u64| {
        let archived = json!({
            "last": 120_000, "until": NOW - 24 * HOUR, "gone": gone,
            "folder": "/var/lib/vault-server/audit",
        });
        let head = json!({ "n": 120_100, "hash": HASH });
        json!({ "records": [], "more": false, "head": head, "archived": archived }).to_string()
    };
    let world = World::agent(&[
        ("GET /v1/agent/audit?limit=1000&since=1794859200000000", 200, &archived(0)),
        ("GET /v1/agent/audit?limit=1000&since=1795460400000000", 200, &archived(0)),
        ("GET /v1/agent/audit?limit=50&newest=true", 200, &archived(4_000)),
        ("GET /v1/agent/audit?limit=1000", 200, &archived(120_000)),
    ]);
    insta::assert_snapshot!(transcript(
        &world,
        &["audit log --since 7d", "audit log --since 1h", "audit log", "audit export"]
    ));
}

#[test]
fn a_key_that_was_a_machines_is_shown_by_its_name() {
    let machine = |name: &str, active: bool, seed: u8| {
        let sign = SignKey::from_seed(&[seed; 32]).verify_key();
        json!({
            "name": name, "number": seed, "active": active, "sleeps": false, "sign": sign,
            "read": [], "write": [], "seen_at": null, "agent": null,
        })
    };
    let stranger = |n: u64, seed: u8| {
        let key = SignKey::from_seed(&[seed; 32]).verify_key();
        record(n, &format!(r#""key":"{key}","op":"stranger","count":{n},"result":"forbidden""#))
    };
    let machines = json!({
        "machines": [machine("thinkpad", false, 1), machine("vps", true, 2)], "next": 3, "own": 2,
        "server": [],
    });
    let page = json!({
        "records": [stranger(1, 1), stranger(2, 2), stranger(3, 3)], "more": false, "head": { "n": 3, "hash": HASH },
    });
    let world = World::agent(&[
        ("GET /v1/agent/audit?limit=50&newest=true", 200, &page.to_string()),
        ("GET /v1/agent/audit?limit=1000", 200, &page.to_string()),
        ("GET /v1/agent/machines", 200, &machines.to_string()),
    ]);
    insta::assert_snapshot!(transcript(&world, &["audit log", "audit summary --since 24h"]));
}

#[test]
fn audit_verify_names_the_first_bad_record() {
    let head = json!({ "n": 42, "hash": HASH });
    let restored = json!([{ "n": 17, "time": NOW - HOUR, "by": "admin:jonas" }]);
    let good =
        json!({ "checked": 42, "head": head, "anchors": 3, "restored": restored, "bad": null });
    let bad = json!({ "checked": 16, "head": head, "anchors": 3, "bad": { "n": 17, "reason": "the chain does not lead here" } });
    let mut text = String::new();
    let unkept = json!({ "last": 9, "until": NOW, "hash": HASH });
    let (mut later, mut later_bad) = (good.clone(), bad.clone());
    later["unkept"] = unkept.clone();
    later_bad["unkept"] = unkept;
    for body in [good, bad, later, later_bad] {
        let world = World::agent(&[("GET /v1/agent/audit/verify", 200, &body.to_string())]);
        text.push_str(&transcript(&world, &["audit verify", "audit verify -format=json"]));
    }
    insta::assert_snapshot!(text);
}
