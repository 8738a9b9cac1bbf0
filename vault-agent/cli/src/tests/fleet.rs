//! `status`.

use serde_json::{Value, json};

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
    check(&json!([]), &[over(1)], &["vps was refused 1 request over its share"], 0);
}

#[test]
fn status_of_another_server_is_refused() {
    insta::assert_snapshot!(transcript(&World::agent(&[]), &["status"]));
}
