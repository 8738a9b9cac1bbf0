//! `kv history` and `blast`: what is known of versions and values, and what hostile members tell.

use serde_json::{Value, json};

use super::{World, envelope, transcript};

const HASH: &str = "3fa2000000000000000000000000000000000000000000000000000000000000";
const NOW: u64 = 1_795_464_000_000_000;
const HOUR: u64 = 3_600_000_000;
const APP: &str = "secret/app";

const fn ago(hours: u64) -> u64 {
    NOW - hours * HOUR
}

/// Versions 1 to 3; the first is destroyed.
fn metadata() -> String {
    let version = |time: &str, destroyed: bool| json!({ "created_time": time, "deletion_time": "", "destroyed": destroyed });
    let versions = json!({
        "1": version("2026-11-23T00:00:00Z", true),
        "2": version("2026-11-23T10:00:00Z", false),
        "3": version("2026-11-23T16:00:00Z", false),
    });
    let all = json!({ "current_version": 3, "versions": versions, "custom_metadata": null });
    envelope(&all.to_string())
}

fn past(ver: u64, keys: Option<&Value>) -> Value {
    let unread = keys.is_none().then_some("version 1 of `secret/app` was destroyed");
    let by = if ver == 3 { "machine:rtx1080" } else { "machine:vps" };
    let time = ago(25 - 6 * ver);
    let reached = ["lost", "nas", "rtx1080", "vps"];
    json!({
        "ver": ver, "by": by, "time": time, "keys": keys, "unread": unread, "reached": reached,
    })
}

fn changed(added: &[&str], changed: &[&str], removed: &[&str]) -> Value {
    json!({ "since": 2, "added": added, "changed": changed, "removed": removed })
}

fn pasts() -> Vec<Value> {
    let first = changed(&["A", "B", "C", "D"], &[], &[]);
    let last = changed(&["N"], &["A"], &["B"]);
    vec![past(1, None), past(2, Some(&first)), past(3, Some(&last))]
}

fn told(n: u64, hours: u64, more: &Value) -> String {
    let mut record = json!({ "n": n, "nonce": HASH, "time": ago(hours), "result": "ok" });
    record["path"] = APP.into();
    for (name, value) in more.as_object().unwrap() {
        record[name] = value.clone();
    }
    record.to_string()
}

fn applied(machine: &str, ver: Option<u64>, at: u64, file: &str, hook: &Value) -> Value {
    let mut fact = json!({ "machine": machine, "op": "local_applied", "at": at });
    fact["applied"] = json!({ "file": file, "hook": hook });
    if hook.is_null() {
        fact["applied"].as_object_mut().unwrap().remove("hook");
    }
    if let Some(ver) = ver {
        fact["ver"] = ver.into();
    }
    fact
}

fn hook(began: u64, millis: u64, failed: Option<&str>) -> Value {
    let mut hook = json!({ "began": began, "ended": began + millis * 1000 });
    if let Some(failed) = failed {
        hook["failed"] = failed.into();
    }
    hook
}

fn read(machine: &str, ver: u64, count: u64, who: &str) -> Value {
    json!({ "machine": machine, "op": "local_read", "ver": ver, "count": count, "who": who })
}

/// What machines told; `evil` may read nothing of it, and tells of it all the same.
fn records() -> Vec<String> {
    let copy = |machine: &str, ver| json!({ "machine": machine, "op": "deliver", "ver": ver });
    let wrote = json!({
        "machine": "rtx1080", "op": "local_put", "ver": 3, "who": "vault[311] uid 1000 (jonas)",
    });
    let ghost = "python3[812] uid 1000 (jonas) in ghost.service";
    let node = "node[7] uid 33 in container 0123456789ab";
    let evil = "x[1] uid 0 (root) in a;reboot.service";
    let (env, ok) = ("~/app/.env", hook(ago(13), 800, None));
    let absurd = hook(u64::MAX, 0, Some("done (v9), hook ok"));
    [
        (13, copy("vps", 2)),
        (13, copy("nas", 2)),
        (13, applied("vps", Some(2), ago(13), env, &ok)),
        (12, applied("nas", Some(2), ago(13), "/srv/app.env", &Value::Null)),
        (11, read("vps", 2, 3, ghost)),
        (10, read("nas", 2, 2, node)),
        (10, read("nas", 2, 1, "vault[9] uid 1000 (jonas)")),
        (9, applied("evil", Some(2), u64::MAX, "~/.env (v9), hook ok in 0.1 s", &absurd)),
        (9, read("evil", 2, u64::MAX, evil)),
        (7, wrote),
        (7, copy("vps", 3)),
        (7, applied("vps", Some(3), ago(7), env, &hook(ago(7), 1500, Some("exit 7")))),
        (6, read("vps", 3, 1, ghost)),
        (5, json!({ "machine": "vps", "op": "local_read", "ver": 3, "result": "denied" })),
    ]
    .iter()
    .zip(1..)
    .map(|((hours, more), n)| told(n, *hours, more))
    .collect()
}

fn audit() -> String {
    json!({ "records": records(), "more": false, "head": { "n": 14, "hash": HASH } }).to_string()
}

fn status() -> String {
    let row = |machine: &str, target: &str, applied: u64, hook: &str| {
        json!({
            "machine": machine, "target": target, "secret": APP, "wanted": 3, "applied": applied,
            "hook": hook, "seen_at": ago(1), "awake": true, "state": "ok", "detail": "",
        })
    };
    let machine = |name: &str, awake: bool| {
        json!({
            "machine": name, "sleeps": false, "awake": awake, "silent": !awake,
            "seen_at": ago(8), "added": ago(100), "read": [], "write": [],
        })
    };
    let rows = [row("nas", "/srv/app.env", 2, "none"), row("vps", "~/app/.env", 3, "failed")];
    json!({
        "machine": "rtx1080", "vault": HASH, "seq": 9, "head": HASH, "online": true,
        "server": null, "synced_at": null, "alarms": [], "targets": rows,
        "machines": [machine("nas", false), machine("rtx1080", true), machine("vps", true)],
    })
    .to_string()
}

const AUDIT: &str =
    "GET /v1/agent/audit?limit=10000&newest=true&since=1795395300000000&path=secret%2Fapp";

const AUDIT_BEGINS: &str = "GET /v1/agent/audit?limit=1";

/// The first record that the server has, written so many hours ago.
fn first(hours: u64) -> String {
    let record = json!({
        "n": 1, "nonce": HASH, "time": ago(hours), "op": "genesis", "result": "ok",
    });
    let head = json!({ "n": 1, "hash": HASH });
    json!({ "records": [record.to_string()], "more": true, "head": head }).to_string()
}

fn history(audit: (u16, &str)) -> World {
    let (metadata, past, status) = (metadata(), json!(pasts()).to_string(), status());
    let writer = |ver: u64| json!({ "ver": ver, "by": if ver == 3 { "machine:rtx1080" } else { "machine:vps" } });
    let writers = json!([writer(1), writer(2), writer(3)]).to_string();
    World::agent(&[
        ("GET /v1/secret/metadata/app", 200, &metadata),
        ("GET /v1/agent/writers?path=secret%2Fapp", 200, &writers),
        ("GET /v1/agent/past?path=secret%2Fapp", 200, &past),
        (AUDIT, audit.0, audit.1),
        (AUDIT_BEGINS, 200, &first(200)),
        ("GET /v1/agent/status", 200, &status),
    ])
}

#[test]
fn a_history_says_who_wrote_what_changed_and_who_has_and_read_it() {
    let world = history((200, &audit()));
    insta::assert_snapshot!(transcript(
        &world,
        &[
            "kv history secret/app",
            "kv history secret/app --hosts",
            "kv history -version=2 secret/app",
            "kv history -version=3 secret/app",
            "kv history secret/app --key A",
            "kv history secret/app --key NONE",
            "kv history -version=9 secret/app",
            "kv history -format=json secret/app -version=3",
        ]
    ));
}

#[test]
fn without_the_audit_log_a_history_says_that_it_does_not_know() {
    let refused = r#"{"errors":["this machine has no read grant on `sys/audit`\nhint: x"]}"#;
    let run = history((403, refused)).run("kv history secret/app");
    assert_eq!(run.exit, 0, "{}", run.err);
    let note =
        "who has and who read it is not known: this machine has no read grant on `sys/audit`";
    assert!(run.err.contains(note), "{}", run.err);
    let json = history((403, refused)).run("kv history -format=json secret/app").out;
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert!(rows[0].get("readers").is_none() && rows[0]["reads_unknown"].is_string(), "{json}");
    // An older agent lists versions, and says what it cannot do.
    let old = World::agent(&[("GET /v1/secret/metadata/app", 200, &metadata())]);
    assert_eq!(old.run("kv history secret/app").exit, 0);
    let run = old.run("kv history secret/app --hosts");
    assert!(run.exit == 1 && run.err.contains("only this machine's agent tells"), "{}", run.err);
}

fn host(name: &str, number: u64, hours: u64, removed: bool) -> Value {
    let gone = removed.then(|| {
        json!({
            "number": number, "entry": 7, "time": ago(4), "by": "admin:jonas", "reason": "stolen",
            "goes_on": null,
        })
    });
    let until = removed.then(|| ago(4));
    json!({
        "number": number, "names": [{ "name": name, "since": ago(100), "until": until }],
        "removed": gone, "since": ago(hours), "versions": [2],
    })
}

fn blast(now: &Value, newest: u64, copies: &Value) -> String {
    let key = json!({ "key": "A", "versions": [2], "now": now, "copies": copies });
    json!({
        "path": APP, "ver": 2, "newest": newest, "versions": [pasts()[1]], "keys": [key],
        "is_file": false, "older": [{ "key": "C", "since": 1 }], "issuer": "openai",
        "unread": null, "unjudged": [1], "unsearched": 1,
        "hosts": [
            host("lost", 4, 13, true), host("nas", 3, 13, false), host("vps", 2, 13, false),
            host("rtx1080", 1, 13, false),
        ],
    })
    .to_string()
}

fn leaked(blast: &str, query: &str) -> World {
    leaked_as(&audit(), blast, query)
}

fn leaked_as(audit: &str, blast: &str, query: &str) -> World {
    leaked_since(200, audit, blast, query)
}

/// As [`leaked`], at a server whose audit log begins so many hours ago.
fn leaked_since(hours: u64, audit: &str, blast: &str, query: &str) -> World {
    let status = status();
    World::agent(&[
        (&format!("GET /v1/agent/blast?path=secret%2Fapp{query}"), 200, blast),
        (AUDIT_OF_2, 200, audit),
        (AUDIT_BEGINS, 200, &first(hours)),
        ("GET /v1/agent/status", 200, &status),
    ])
}

const AUDIT_OF_2: &str =
    "GET /v1/agent/audit?limit=10000&newest=true&since=1795416900000000&path=secret%2Fapp";

#[test]
fn a_leak_says_who_had_the_value_and_what_to_do() {
    let copies = json!([{ "path": "secret/copy", "key": "OTHER KEY" }]);
    let world = leaked(&blast(&json!("in_use"), 2, &copies), "&version=2");
    insta::assert_snapshot!(transcript(&world, &["blast secret/app@2"]));
    let world = leaked(&blast(&json!("in_use"), 2, &copies), "&version=2&key=A");
    insta::assert_snapshot!(world.run("blast secret/app@2 --key A -format=json").out);
}

#[test]
fn the_files_of_a_machine_that_was_removed_are_listed() {
    let now = json!({ "changed": { "ver": 3, "time": ago(7) } });
    // `lost` told of a file before it was removed.
    let audit = audit().replace("evil", "lost");
    let world = leaked_as(&audit, &blast(&now, 3, &json!([])), "&version=2");
    let run = world.run("blast secret/app@2");
    let file = "~/.env (v9), hook ok in 0.1 s";
    let row = run.out.lines().find(|line| line.starts_with("lost") && line.contains(file)).unwrap();
    assert!(row.contains("may still hold it; removed 2026-11-23T16:00:00Z: stolen"), "{row}");
    let step = format!("lost   its file {file} may still hold it");
    assert!(run.out.lines().any(|line| line == step), "{}", run.out);
    let note = format!("removed machine lost had it; its file {file} may still hold it");
    assert!(run.err.contains(&note), "{}", run.err);
    let kept = leaked(&blast(&now, 3, &json!([])), "&version=2").run("blast secret/app@2");
    assert!(!kept.err.contains("removed machine"), "{}", kept.err);
}

#[test]
fn who_had_a_value_before_the_audit_log_begins_is_not_known() {
    let blast = blast(&json!("in_use"), 2, &json!([]));
    let run = leaked_since(1, &audit(), &blast, "&version=2").run("blast secret/app@2");
    let note = "who had and who read it before 2026-11-23T19:00:00Z is not known: the server's \
                audit log begins then\n";
    assert!(run.err.contains(note), "{}", run.err);
    let run = leaked(&blast, "&version=2").run("blast secret/app@2");
    assert!(!run.err.contains("audit log begins"), "{}", run.err);
}

#[test]
fn what_a_member_tells_is_its_own_and_steers_nothing() {
    let now = json!({ "changed": { "ver": 3, "time": ago(7) } });
    let run = leaked(&blast(&now, 3, &json!([])), "&version=2").run("blast secret/app@2");
    // A file on `nas` holds it still; what `evil` says of its own files counts for nothing.
    assert_eq!(run.exit, 2, "{}", run.shown());
    let told: Vec<&str> = run.out.lines().filter(|line| line.contains("evil")).collect();
    assert!(!told.is_empty() && told.iter().all(|line| line.starts_with("evil ")), "{}", run.out);
    assert!(told[0].contains("only tells so"), "{}", run.out);
    assert!(!run.out.contains(": `systemctl restart a;reboot.service`"), "{}", run.out);
    assert!(!run.shown().contains("9999") && !run.shown().contains('\u{1b}'), "{}", run.out);
}
