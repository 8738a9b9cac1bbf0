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
    check(&json!([]), &[("unwatched", json!(true))], &["every other machine is said to sleep"], 0);
    let rekeyed = ["two keys of the server are trusted", "`vault server rekey` on an admin's host"];
    check(&json!([]), &[("server_keys", json!(2))], &rekeyed, 0);
    let mut new = standing(&row("vps", 0, &Value::Null, false));
    new["added"] = json!(NOW - 12_000_000);
    let unheard = "vps: added 12 s ago, not heard yet";
    check(&json!([]), &[("machines", json!([new]))], &[unheard], 0);
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
fn old_rows_blame_the_server_only_while_it_is_there() {
    let shown = |name: &str, (online, awake): (bool, bool)| {
        let mut row = row(name, 2, &json!(NOW - 2 * HOUR), awake);
        row["outdated"] = json!(true);
        let mut body = body(&json!([row]), &json!([]), online);
        body["outdated"] = json!([{ "machine": name, "of": NOW - 2 * HOUR, "awake": awake }]);
        let run = answers(&body).run("status");
        (run.out.contains("(outdated)"), run.err.contains("newest signed targets"), run.out)
    };
    for (name, state, blamed) in [
        ("vps", (true, true), true),
        ("vps", (true, false), true),
        ("vps", (false, false), false),
        ("thinkpad", (true, true), true),
        ("thinkpad", (true, false), false),
    ] {
        let (in_row, told, out) = shown(name, state);
        assert_eq!((in_row, told), (blamed, blamed), "{name} {state:?}: {out}");
        assert!(out.contains("2 h ago"), "{out}");
    }
    assert!(shown("thinkpad", (true, false)).2.ends_with("2 h ago (sleeps)\n"));
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
    // Which version is the newest is not known without the server; one that is named is there.
    let away = |line: &str| {
        status(&rows(2, "ok"), &json!([]), false).run(&format!("status --wait {path}{line}"))
    };
    assert_eq!(away("@2 --timeout 0s").exit, 0);
    let unknown = away(" --timeout 0s");
    assert_eq!(unknown.exit, 2, "{}", unknown.err);
    assert!(unknown.err.contains("the server is away"), "{}", unknown.err);
    for line in ["status --wait nope", "status --timeout 5s", "status --wait secret/a --watch"] {
        assert_eq!(status(&rows(2, "ok"), &json!([]), true).run(line).exit, 1, "{line}");
    }
}

#[test]
fn status_of_another_server_is_refused() {
    insta::assert_snapshot!(transcript(&World::agent(&[]), &["status"]));
}

#[test]
fn programs_of_several_versions_are_named_and_one_that_is_not_its_file_is_wrong() {
    let program = |name: &str, minor: u64| json!({ "version": format!("{name} 0.{minor}.0") });
    let own = host::version::own().split('.').nth(1).unwrap().parse::<u64>().unwrap();
    let mut body = body(&json!([row("vps", 2, &json!(NOW), true)]), &json!([]), true);
    body["machines"][0]["program"] = program("vault-agent", own);
    body["server_program"] = program("vault-server", own + 1);
    let world = answers(&body);
    let ran = world.run("status");
    let own = host::version::own();
    let told = format!(
        ", as on the server (as it says), are not everywhere: vps {own}, this `vault` {own}"
    );
    assert!(ran.exit == 0 && ran.err.contains(&told), "{}", ran.err);
    let document: Value = serde_json::from_str(&world.run("status -format=json").out).unwrap();
    let older = json!([
        { "program": "vault-agent", "machine": "vps", "version": own },
        { "program": "vault", "machine": "rtx1080", "version": own },
    ]);
    assert_eq!(document["older"], older);
    assert_eq!(document["machines"][0]["program"]["replaced"], Value::Null);

    body["machines"][0]["program"]["replaced"] = json!(NOW - HOUR);
    let ran = answers(&body).run("status");
    let told = "which is no longer the file on its disk (for 1 h)\n\
                hint: `systemctl restart vault-agent` (or with `--user`) on vps\n";
    assert!(ran.exit == 2 && ran.err.contains(told), "{}", ran.err);
}

#[test]
fn what_a_newer_agent_adds_to_its_answer_is_passed_over() {
    let mut body = body(&json!([row("vps", 2, &json!(NOW), true)]), &json!([]), true);
    body["newer"] = json!({ "n": [1, 2.5] });
    body["machines"][0]["newer"] = json!(true);
    body["targets"][0]["newer"] = json!(null);
    assert_eq!(answers(&body).run("status").exit, 0);
}
