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

/// A machine of the vault; `thinkpad` sleeps at times, and who was never heard was added just now.
fn standing(row: &Value) -> Value {
    json!({
        "machine": row["machine"], "sleeps": row["machine"] == "thinkpad", "awake": row["awake"],
        "silent": false, "seen_at": row["seen_at"], "added": NOW - HOUR,
        "read": ["secret/jjeco/"], "write": [],
    })
}

/// What the agent says where these rows and alarms stand.
fn body(rows: &Value, alarms: &Value, online: bool) -> Value {
    let synced_at = if online { NOW } else { NOW - 2 * HOUR };
    let machines: Vec<Value> = rows.as_array().unwrap().iter().map(standing).collect();
    json!({
        "machine": "rtx1080", "vault": HASH, "seq": 12, "head": HASH, "online": online,
        "told": online, "server": "192.168.17.1:8443", "synced_at": synced_at, "alarms": alarms,
        "trouble": if online { Value::Null } else { json!("connection refused") },
        "targets": rows, "machines": machines,
    })
}

fn answers(body: &Value) -> World {
    World::agent(&[("GET /v1/agent/status", 200, &body.to_string())])
}

fn status(rows: &Value, alarms: &Value, online: bool) -> World {
    answers(&body(rows, alarms, online))
}

#[test]
fn status_shows_the_fleet() {
    let mut asleep = json!([
        row("vps", 2, &json!(NOW), true),
        row("thinkpad", 1, &json!(NOW - 75 * HOUR), false),
        row("rtx1080", 2, &json!(NOW), true),
    ]);
    asleep[1]["since"] = json!(NOW - 70 * HOUR);
    insta::assert_snapshot!(transcript(
        &status(&asleep, &json!([]), true),
        &["status", "status -format=json"]
    ));
    let mut world = status(&asleep, &json!([]), true);
    world.tty = true;
    let shown = world.run("status");
    assert_eq!(
        shown.err,
        "all is well: 3 machines, 3 targets; not looked at, as they sleep: thinkpad\n"
    );
}

#[test]
fn status_says_what_is_wrong_since_when_and_what_to_type() {
    let mut never = row("new", 0, &json!(null), false);
    never["hook"] = json!("none");
    never["since"] = json!(NOW - 2 * HOUR);
    let mut lagging = row("vps", 1, &json!(NOW), true);
    lagging["hook"] = json!("failed");
    lagging["state"] = json!("failed");
    lagging["since"] = json!(NOW - HOUR);
    lagging["detail"] = json!("E_BLOB_ABSENT: the server does not hold the blob; hook: exit 1");
    let mut body = body(&json!([lagging, never]), &json!([]), true);
    body["machines"].as_array_mut().unwrap().push(json!({
        "machine": "nas", "sleeps": false, "awake": false, "silent": true,
        "seen_at": NOW - 12 * HOUR, "added": 1, "read": [], "write": [],
    }));
    let mut world = answers(&body);
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
fn status_is_right_only_if_everything_is() {
    let code = |change: &dyn Fn(&mut Value)| {
        let mut body = body(&json!([row("vps", 2, &json!(NOW), true)]), &json!([]), true);
        change(&mut body);
        answers(&body).run("status").exit
    };
    assert_eq!(code(&|_| ()), 0);
    for hook in ["failed", "rolled_back", "rolling_back"] {
        assert_eq!(code(&|body| body["targets"][0]["hook"] = json!(hook)), 2, "{hook}");
    }
    let states = ["failed", "refused", "drift", "too_old", "missing", "denied", "foreign"];
    for state in states {
        assert_eq!(code(&|body| body["targets"][0]["state"] = json!(state)), 2, "{state}");
    }
    for state in ["kept", "waiting", "starting"] {
        assert_eq!(code(&|body| body["targets"][0]["state"] = json!(state)), 0, "{state}");
    }
    assert_eq!(code(&|body| body["targets"][0]["hook"] = json!("pending")), 0);
    assert_eq!(code(&|body| body["machines"][0]["silent"] = json!(true)), 2);
    assert_eq!(code(&|body| body["online"] = json!(false)), 2);
    assert_eq!(code(&|body| body["told"] = json!(false)), 2);
    for alarm in ["E_STALE", "E_CONFIG", "set-aside"] {
        let alarms = json!([{ "code": alarm, "text": "x", "since": NOW }]);
        assert_eq!(code(&|body| body["alarms"] = alarms.clone()), 2, "{alarm}");
    }
    let lags = |body: &mut Value| body["targets"][0]["applied"] = json!(1);
    assert_eq!(code(&lags), 2);
    let fresh = |body: &mut Value| {
        lags(body);
        body["targets"][0]["fresh"] = json!(true);
    };
    assert_eq!(code(&fresh), 0);
    let cut_off = |body: &mut Value| {
        lags(body);
        (body["targets"][0]["awake"], body["machines"][0]["awake"]) = (json!(false), json!(false));
    };
    assert_eq!(code(&cut_off), 2, "cut off for less than five minutes");
    let asleep = |body: &mut Value| {
        cut_off(body);
        body["machines"][0]["sleeps"] = json!(true);
    };
    assert_eq!(code(&asleep), 0);
}

#[test]
fn status_shows_alarms_and_a_lost_server() {
    let alarms = json!([
        { "code": "E_FORK", "text": "`vps` was shown another entry 11", "since": NOW - HOUR },
        {
            "code": "E_CONFIG", "since": NOW - 60_000_000,
            "text": "`agent.toml` line 3: unknown key `ownr` (hint: `owner`)",
        },
    ]);
    let mut rows = json!([
        row("rtx1080", 2, &json!(NOW), true),
        row("thinkpad", 1, &json!(NOW - 75 * HOUR), false),
        row("vps", 2, &json!(NOW - 2 * HOUR), false),
    ]);
    rows[1]["since"] = json!(NOW - 70 * HOUR);
    let empty = transcript(&status(&json!([]), &alarms, false), &["status"]);
    let all = transcript(&status(&rows, &json!([]), false), &["status"]);
    insta::assert_snapshot!(format!("{empty}{all}"));
}

#[test]
fn a_network_that_is_down_fills_no_screen() {
    let rows: Vec<Value> =
        (0..20).map(|n| row(&format!("host-{n:02}"), 1, &json!(NOW - 3 * HOUR), n < 2)).collect();
    let mut body = body(&json!(rows), &json!([]), true);
    for machine in body["machines"].as_array_mut().unwrap().iter_mut().skip(2) {
        machine["silent"] = json!(true);
    }
    let shown = answers(&body).run("status");
    insta::assert_snapshot!(format!("exit {}\n{}", shown.exit, shown.err));
    // Many different troubles are counted.
    for row in body["targets"].as_array_mut().unwrap() {
        row["state"] = json!("failed");
        row["detail"] = row["machine"].clone();
    }
    for n in 0..10 {
        let alarm = json!({ "code": format!("E_{n}"), "text": "x", "since": NOW });
        body["alarms"].as_array_mut().unwrap().push(alarm);
    }
    let shown = answers(&body).run("status").err;
    assert!(
        shown.contains("\nand 11 more\nhint: `vault status -format=json` has all\n"),
        "{shown}"
    );
    assert!(shown.lines().count() < 46, "{shown}");
}

#[test]
fn status_says_what_is_not_known() {
    let check = |rows: &Value, more: &[(&str, Value)], said: &[&str], code: u8| {
        let mut body = body(rows, &json!([]), true);
        for (key, value) in more {
            body[key] = value.clone();
        }
        let shown = transcript(&answers(&body), &["status"]);
        for line in said {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(shown.contains(&format!("\nexit {code}\n")), "{shown}");
    };
    let mut late = row("vps", 1, &json!(NOW - 2 * HOUR), true);
    late["fresh"] = json!(true);
    late["outdated"] = json!(true);
    let outdated = |of: Value| ("outdated", json!([{ "machine": "vps", "of": of, "awake": true }]));
    let withheld = "vps: the server does not hand out its newest signed targets; ";
    let old = format!("{withheld}those shown are older (for 2 h)");
    check(&json!([late]), &[outdated(json!(NOW - 2 * HOUR))], &[&old, "2 h ago (outdated)"], 2);
    check(&json!([]), &[outdated(Value::Null)], &[&format!("{withheld}none are shown")], 2);
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
    let mut kept = row("vps", 2, &json!(NOW), true);
    kept["state"] = json!("kept");
    kept["detail"] = json!("`secret/jjeco/api-keys` is deleted");
    let remark = "vps ~/J-Jeco/.env: kept: `secret/jjeco/api-keys` is deleted\n";
    check(&json!([kept]), &[], &[remark], 0);
}

#[test]
fn wait_ends_when_those_who_do_not_sleep_hold_it() {
    let rows = |applied: u64, hook: &str| {
        let mut row = row("vps", applied, &json!(NOW), true);
        row["hook"] = json!(hook);
        json!([row, self::row("thinkpad", 1, &json!(NOW - 75 * HOUR), false)])
    };
    let path = "secret/jjeco/api-keys";
    let run = |rows: &Value, line: &str| {
        transcript(&status(rows, &json!([]), true), &[&format!("status --wait {line}")])
    };
    let texts = [
        run(&rows(2, "ok"), path),
        run(&rows(1, "ok"), &format!("{path}@1")),
        run(&rows(1, "ok"), &format!("{path} --timeout 0s")),
        run(&rows(2, "ok"), &format!("{path}@v3 --timeout 0s")),
        run(&rows(2, "pending"), &format!("{path} --timeout 0s")),
        run(&rows(2, "failed"), path),
        run(&rows(2, "ok"), "secret/other"),
    ];
    insta::assert_snapshot!(texts.concat());
    for line in ["status --wait nope", "status --timeout 5s", "status --wait secret/a --watch"] {
        assert_eq!(status(&rows(2, "ok"), &json!([]), true).run(line).exit, 1, "{line}");
    }
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
