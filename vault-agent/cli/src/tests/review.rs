//! `audit` and `log`: what a review shows, and what it says where nothing is to be shown.

use serde_json::{Value, json};
use shared::keys::SignKey;

use super::{World, transcript};

const HASH: &str = "3fa2000000000000000000000000000000000000000000000000000000000000";
const NOW: u64 = 1_795_464_000_000_000;
const HOUR: u64 = 3_600_000_000;
const KEYS: &str = "secret/jjeco/api-keys";

fn record(n: u64, more: &str) -> String {
    format!(r#"{{"n":{n},"nonce":"{HASH}","time":{},{more}}}"#, NOW - (20 - n) * HOUR)
}

/// What happened: copies, reads, writes, acts, and what went wrong.
fn records() -> Vec<String> {
    let key = SignKey::from_seed(&[7; 32]).verify_key();
    [
        r#""key":"KEY","addr":"10.8.0.2","op":"stranger","count":3,"result":"forbidden""#,
        r#""machine":"rtx1080","who":"admin:jonas","addr":"127.0.0.1","op":"machine_add","seq":3,"result":"ok""#,
        r#""machine":"rtx1080","addr":"127.0.0.1","op":"put","path":"secret/jjeco/api-keys","ver":2,"seq":4,"result":"ok""#,
        r#""machine":"vps","addr":"10.8.0.2","op":"deliver","path":"secret/jjeco/api-keys","ver":2,"seq":4,"result":"ok""#,
        r#""machine":"rtx1080","who":"vault[311] uid 1000 (jonas)","op":"local_put","path":"secret/jjeco/api-keys","ver":2,"result":"ok""#,
        r#""machine":"thinkpad","addr":"10.8.0.5","op":"read","path":"secret/jjeco/api-keys","ver":2,"result":"ok""#,
        concat!(
            r#""machine":"vps","who":"python3[812] uid 1000 (jonas) in ghost.service","#,
            r#""op":"local_read","path":"secret/jjeco/api-keys","ver":2,"count":3,"#,
            r#""result":"ok""#,
        ),
        r#""machine":"rtx1080","addr":"127.0.0.1","op":"put","path":"secret/jjeco/api-keys","ver":3,"result":"conflict""#,
        r#""machine":"vps","who":"node[7] uid 33 in container 0123456789ab","op":"local_read","path":"secret/home/x","result":"denied""#,
        r#""machine":"vps","addr":"10.8.0.2","op":"report","result":"E_SEQ""#,
        r#""machine":"rtx1080","who":"admin:jonas","addr":"127.0.0.1","op":"access_set","seq":5,"result":"ok""#,
        r#""machine":"rtx1080","who":"admin:jonas","addr":"127.0.0.1","op":"machine_remove","seq":6,"result":"ok""#,
        r#""key":"deadbeef00","addr":"1.2.3.4","op":"read\u001b[2J","result":"E_UNKNOWN_ACTOR""#,
    ]
    .iter()
    .zip(1..)
    .map(|(text, n)| record(n, &text.replace("KEY", &key.to_string())))
    .collect()
}

fn page(records: &[String], more: bool) -> String {
    json!({ "records": records, "more": more, "head": { "n": 13, "hash": HASH } }).to_string()
}

fn machines() -> String {
    let machine = |name: &str, active: bool, seed: u8| {
        let sign = SignKey::from_seed(&[seed; 32]).verify_key();
        json!({
            "name": name, "number": seed, "active": active, "sleeps": false, "sign": sign,
            "read": [], "write": [], "seen_at": null, "agent": null,
        })
    };
    let all = json!([
        machine("old", false, 1),
        machine("rtx1080", true, 2),
        machine("thinkpad", true, 7),
        machine("vps", true, 3)
    ]);
    json!({ "machines": all, "next": 8, "own": 2, "server": [] }).to_string()
}

fn entry(seq: u64, op: &str, what: &str) -> Value {
    json!({
        "seq": seq, "hash": HASH, "prev": HASH, "time": NOW - HOUR, "by": "admin:jonas",
        "key": SignKey::from_seed(&[9; 32]).verify_key(), "rewraps": 2, "more": 0,
        "ops": [
            { "op": op, "what": what },
            { "op": "rewrap", "what": "", "path": "secret/jjeco/api-keys", "ver": 1 },
            { "op": "rewrap", "what": "", "path": "secret/jjeco/api-keys", "ver": 2 },
        ],
    })
}

fn entries(all: &[Value]) -> String {
    json!({ "entries": all, "last": 6 }).to_string()
}

fn acts() -> Vec<Value> {
    vec![
        entry(3, "machine_add", "added thinkpad: reads *, writes -"),
        entry(5, "access_set", "gave vps secret/ghost/"),
        entry(6, "machine_remove", "removed old: stolen"),
    ]
}

fn holders() -> String {
    json!({
        "secrets": [{ "path": KEYS, "holds": [2], "lacks": [1] }],
        "searched": 3, "unread": 1, "earlier": 2, "alike": [],
    })
    .to_string()
}

/// A vault in which a query is answered as a server does it that knows no condition but numbers.
fn vault(queries: &[&str]) -> World {
    let (all, machines, holders) = (page(&records(), false), machines(), holders());
    let none = json!({
        "secrets": [], "searched": 3, "unread": 0, "earlier": 0, "alike": ["OPENAI_API_KEY"],
    })
    .to_string();
    let paths = json!([KEYS, "secret/home/x"]).to_string();
    let acts = acts();
    let (every, last, one) = (entries(&acts), entries(&acts[2..]), entries(&acts[1..2]));
    let missing = entries(&[]);
    let mut answers = vec![
        ("GET /v1/agent/machines".to_owned(), machines),
        ("GET /v1/agent/paths".to_owned(), paths),
        ("GET /v1/agent/keys?name=OPENAI_API_KEY".to_owned(), holders.clone()),
        ("GET /v1/agent/keys?name=%2AOPENAI%2A".to_owned(), holders),
        ("GET /v1/agent/keys?name=OPENAI".to_owned(), none.clone()),
        ("GET /v1/agent/keys?name=%2Ahom%2A".to_owned(), none.clone()),
        ("GET /v1/agent/keys?name=api-kyes".to_owned(), none),
        ("GET /v1/agent/log?only=3%2C5%2C6".to_owned(), every.clone()),
        ("GET /v1/agent/log?only=3%2C4%2C5%2C6".to_owned(), every.clone()),
        ("GET /v1/agent/log?only=4".to_owned(), every.clone()),
        ("GET /v1/agent/log?only=5%2C6".to_owned(), every.clone()),
        ("GET /v1/agent/log?only=6".to_owned(), last.clone()),
        ("GET /v1/agent/log?only=6&whole=true".to_owned(), last.clone()),
        ("GET /v1/agent/log?only=5&whole=true".to_owned(), one),
        ("GET /v1/agent/log?only=99&whole=true".to_owned(), missing),
        ("GET /v1/agent/log?limit=1".to_owned(), last),
        ("GET /v1/agent/log?before=7&limit=7".to_owned(), every),
        ("GET /v1/agent/audit?limit=1".to_owned(), page(&records()[..1], true)),
        ("GET /v1/agent/audit?limit=1&newest=true".to_owned(), page(&records()[12..], true)),
    ];
    for query in queries {
        answers.push((format!("GET /v1/agent/audit?{query}"), all.clone()));
    }
    let answers: Vec<(&str, u16, &str)> =
        answers.iter().map(|(asked, body)| (asked.as_str(), 200, body.as_str())).collect();
    World::agent(&answers)
}

#[test]
fn the_log_says_who_did_what() {
    let world = vault(&["limit=50&newest=true"]);
    insta::assert_snapshot!(transcript(&world, &["audit log"]));
}

#[test]
fn signs_of_life_that_follow_each_other_share_a_row() {
    let sign = |n: u64| record(n, r#""machine":"vps","addr":"::1","op":"follow","result":"ok""#);
    let read = |n: u64| {
        let more = r#""machine":"vps","op":"deliver","path":"secret/a","ver":1,"result":"ok""#;
        record(n, more)
    };
    let all = [sign(1), sign(2), read(3), read(4), sign(5)];
    let world =
        World::agent(&[("GET /v1/agent/audit?limit=50&newest=true", 200, &page(&all, false))]);
    let what = |table: &str| -> Vec<String> {
        table.lines().skip(1).map(|line| line.rsplit("  ").next().unwrap().to_owned()).collect()
    };
    let read = "read secret/a v1 (delivered)";
    let table = world.run("audit log --all").out;
    assert_eq!(what(&table), ["followed the log ×2", read, read, "followed the log"]);
    let brief = world.run("audit log");
    assert_eq!(what(&brief.out), [read, read]);
    let left = "3 signs of life are left out, such as reports: --all shows them\n";
    assert!(brief.err.ends_with(left), "{}", brief.err);
}

#[test]
fn every_filter_says_what_it_means() {
    let check = |line: &str, query: &str, expected: &[u64]| {
        let world = vault(&[query]);
        let ran = world.run(&format!("audit log {line} --format logfmt"));
        let shown: Vec<u64> = ran
            .out
            .lines()
            .map(|line| line[2..].split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!((shown.as_slice(), ran.exit), (expected, 0), "{line}: {}", ran.err);
    };
    let newest = "limit=10000&newest=true";
    check("--op read", "limit=50&newest=true&op=read", &[4, 6, 7, 9]);
    check("--op write", "limit=50&newest=true&op=write", &[3, 5, 8]);
    check("--op act", "limit=50&newest=true&op=act", &[2, 11, 12]);
    check("--op deliver", "limit=50&newest=true&op=deliver", &[4]);
    check("--denied", "limit=50&newest=true&denied=true", &[9, 13]);
    check("--result refused", newest, &[1, 9, 13]);
    check("--result conflict", newest, &[8]);
    check("--result e_seq", newest, &[10]);
    check("--process python3", newest, &[7]);
    check("--process ghost.*", newest, &[7]);
    check("--process 0123456789ab", newest, &[9]);
    check("--process agent --op read", &format!("{newest}&op=read"), &[4, 6]);
    check("--user jonas", newest, &[2, 5, 7, 11, 12]);
    check("--user 33", newest, &[9]);
    let key = "&path=secret%2Fjjeco%2Fapi-keys";
    check("--key OPENAI_API_KEY", &format!("{newest}{key}"), &[3, 4, 5, 6, 7, 8]);
    let read = format!("{newest}{key}&op=read");
    check("--key OPENAI_API_KEY --op read", &read, &[4, 6, 7]);
    let monday = 1_795_392_000_000_000_u64;
    check(
        "--since monday --until now",
        &format!("limit=10000&since={monday}&until={NOW}"),
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    );
    check("-n 2 --user jonas", newest, &[11, 12]);
}

#[test]
fn what_is_asked_for_may_not_be_there() {
    let since = NOW - HOUR;
    let nothing = World::agent(&[
        ("GET /v1/agent/audit?limit=10000&since=1795460400000000", 200, &page(&[], false)),
        ("GET /v1/agent/audit?limit=1&since=1795460400000000", 200, &page(&[], false)),
        ("GET /v1/agent/audit?limit=1&newest=true&since=1795460400000000", 200, &page(&[], false)),
        ("GET /v1/agent/audit?limit=1", 200, &page(&records()[..1], true)),
        ("GET /v1/agent/audit?limit=1&newest=true", 200, &page(&records()[12..], true)),
        ("GET /v1/agent/audit?limit=50&newest=true&machine=x", 403, r#"{"errors":["denied"]}"#),
    ]);
    assert_eq!(since, 1_795_460_400_000_000);
    let mut text = transcript(
        &nothing,
        &[
            "audit log --since 1h",
            "audit log --machine x",
            "audit log --since someday",
            "audit log --since today --until yesterday",
            "audit log --format xml",
        ],
    );
    let newest = "limit=50&newest=true";
    let world = vault(&[
        &format!("{newest}&path=%2AOPENAI%2A"),
        &format!("{newest}&path=%2Ahom%2A"),
        &format!("{newest}&path=secret%2Fjjeco%2Fapi-kyes"),
        &format!("{newest}&op=reed"),
        "limit=10000&newest=true",
    ]);
    text.push_str(&transcript(
        &world,
        &[
            "audit log --path *OPENAI*",
            "audit log --path secret/jjeco/api-kyes",
            "audit log --op reed",
            "audit log --result bad",
            "audit log --process nginx",
            "audit log --user carol",
            "audit log --key OPENAI",
        ],
    ));
    let unknown = World::agent(&[
        ("GET /v1/agent/audit?limit=50&newest=true&machine=vsp", 200, &page(&[], false)),
        ("GET /v1/agent/machines", 200, &machines()),
        ("GET /v1/agent/audit?limit=1", 200, &page(&records()[..1], true)),
        ("GET /v1/agent/audit?limit=1&newest=true", 200, &page(&records()[12..], true)),
    ]);
    text.push_str(&transcript(&unknown, &["audit log --machine vsp"]));
    insta::assert_snapshot!(text);
}

#[test]
fn records_are_printed_for_programs() {
    let world = vault(&["limit=2&newest=true", "limit=10000"]);
    let mut text =
        transcript(&world, &["audit log -n 2 --format json", "audit log -n 2 --format csv"]);
    text.push_str(&transcript(&world, &["audit log -n 2 --format yaml"]));
    insta::assert_snapshot!(text);
    let csv = world.run("audit export --format csv");
    assert_eq!(csv.out.lines().count(), 14, "{}", csv.out);
    let logfmt = world.run("audit export --format logfmt");
    let act = "what=\"removed old: stolen\"";
    assert!(logfmt.out.lines().nth(11).unwrap().ends_with(act), "{}", logfmt.out);
    let bytes = world.run("audit export");
    assert_eq!(bytes.out, format!("[\n{}\n]\n", records().join(",\n")));
    let refused = world.run("audit export --format yaml");
    assert!(refused.err.contains("use json, csv or logfmt"), "{}", refused.err);
}

#[test]
fn pages_are_walked_whichever_way() {
    let all = records();
    let (first, second) = (page(&all[..7], true), page(&all[7..], false));
    let (newer, older) = (page(&all[7..], true), page(&all[..7], false));
    let world = World::agent(&[
        ("GET /v1/agent/machines", 200, &machines()),
        ("GET /v1/agent/log?only=3%2C4", 200, &entries(&acts())),
        ("GET /v1/agent/log?only=5%2C6", 200, &entries(&acts())),
        ("GET /v1/agent/audit?limit=10000", 200, &first),
        ("GET /v1/agent/audit?after=7&limit=10000", 200, &second),
        ("GET /v1/agent/audit?limit=10000&newest=true", 200, &newer),
        ("GET /v1/agent/audit?before=8&limit=10000&newest=true", 200, &older),
    ]);
    let numbers = |line: &str| -> Vec<String> {
        let ran = world.run(line);
        assert_eq!(ran.exit, 0, "{}", ran.err);
        ran.out.lines().map(|line| line.split([' ', ',']).next().unwrap().to_owned()).collect()
    };
    let expected: Vec<String> = (1..=13).map(|n| format!("n={n}")).collect();
    assert_eq!(numbers("audit export --format logfmt"), expected);
    assert_eq!(
        numbers("audit log --user jonas -n 4 --format logfmt"),
        ["n=5", "n=7", "n=11", "n=12"]
    );
    let csv = numbers("audit export --format csv");
    assert_eq!((csv.len(), csv[0].as_str(), csv[1].as_str()), (14, "n", "1"));
}

#[test]
fn a_summary_counts_copies_and_reads_apart() {
    let world = vault(&["limit=10000", "limit=10000&path=secret%2Fjjeco%2Fapi-keys&op=read"]);
    insta::assert_snapshot!(transcript(
        &world,
        &[
            "audit summary --since 24h",
            "audit summary --since 24h --key OPENAI_API_KEY --op read",
            "audit summary --since 24h --key OPENAI_API_KEY --op read --format json",
        ]
    ));
}

#[test]
fn entries_are_listed_and_shown() {
    let world = vault(&[]);
    insta::assert_snapshot!(transcript(
        &world,
        &["log", "log show 6", "log show 5 --format json", "log show 99", "log show x",]
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
    let none = page(&[], false);
    let world = World::agent(&[
        ("GET /v1/agent/audit?limit=10000&since=1794859200000000", 200, &archived(0)),
        ("GET /v1/agent/audit?limit=10000&since=1795460400000000", 200, &archived(0)),
        ("GET /v1/agent/audit?limit=50&newest=true", 200, &archived(4_000)),
        ("GET /v1/agent/audit?limit=10000", 200, &archived(120_000)),
        ("GET /v1/agent/audit?limit=1&since=1794859200000000", 200, &none),
        ("GET /v1/agent/audit?limit=1&newest=true&since=1794859200000000", 200, &none),
        ("GET /v1/agent/audit?limit=1&since=1795460400000000", 200, &none),
        ("GET /v1/agent/audit?limit=1&newest=true&since=1795460400000000", 200, &none),
        ("GET /v1/agent/audit?limit=1", 200, &none),
        ("GET /v1/agent/audit?limit=1&newest=true", 200, &none),
    ]);
    insta::assert_snapshot!(transcript(
        &world,
        &["audit log --since 7d", "audit log --since 1h", "audit log", "audit export"]
    ));
}

#[test]
fn a_secret_is_named_by_either_word() {
    let world = vault(&["limit=50&newest=true&path=secret%2Fhome%2Fx"]);
    let [path, secret] = ["path", "secret"].map(|flag| {
        let run = world.run(&format!("audit log --{flag} secret/home/x"));
        assert_eq!(run.exit, 0, "{}", run.err);
        run.out
    });
    assert!(path == secret && path.contains("secret/home/x"), "{path}");
}

#[test]
fn a_server_that_is_away_is_told_with_what_works_without_it() {
    let error = "the audit log lives on the server, which cannot be asked: no address of the \
                 server answers:\n  no server at `nas:1`: it does not answer\n  no server at \
                 `10.8.0.3:1`: Connection refused\nhint: `vault kv get` works without it";
    let body = json!({ "errors": [error] }).to_string();
    let asked = ["limit=50&newest=true", "limit=10&newest=true", "limit=10000"];
    let calls = asked.map(|query| format!("GET /v1/agent/audit?{query}"));
    let verify = "GET /v1/agent/audit/verify".to_owned();
    let answers: Vec<_> =
        calls.iter().chain([&verify]).map(|call| (call.as_str(), 502, body.as_str())).collect();
    let world = World::agent(&answers);
    for line in ["log", "tail", "tail -f", "summary", "export", "verify"] {
        let run = world.run(&format!("audit {line}"));
        assert_eq!((run.exit, run.out.as_str()), (2, ""), "{line}");
        assert_eq!(run.err, format!("{error}\n"), "{line}");
    }
    // What the server itself has refused is told as it is.
    let broken = json!({ "errors": ["the page is of another shape"] }).to_string();
    let world = World::agent(&[(&calls[0], 502, &broken)]);
    assert!(world.run("audit log").err.contains("Code: 502"));
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
        let step = json!({ "begun": NOW, "checked": 42, "goal": 42, "result": body }).to_string();
        let world = World::agent(&[("GET /v1/agent/audit/verify", 200, &step)]);
        text.push_str(&transcript(&world, &["audit verify", "audit verify -format=json"]));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn audit_verify_asks_until_there_is_a_result() {
    let head = json!({ "n": 42, "hash": HASH });
    let result = json!({ "checked": 42, "head": head, "anchors": 3, "bad": null });
    let step = json!({ "begun": NOW, "checked": 20, "goal": 42 });
    let mut end = step.clone();
    end["result"] = result;
    for (line, first) in [("verify", ""), ("verify --anew", "?from=anew")] {
        let first = format!("GET /v1/agent/audit/verify{first}");
        let world = World::agent(&[
            (&first, 200, &step.to_string()),
            ("GET /v1/agent/audit/verify?from=here", 200, &end.to_string()),
        ]);
        let run = world.run(&format!("audit {line}"));
        assert!(run.exit == 0 && run.out.starts_with("42 audit records are whole"), "{}", run.err);
    }
}
