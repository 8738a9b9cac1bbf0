//! Reviewing what happened, and taking a machine out.

use std::os::unix::net::UnixStream;

use tests::{World, api, bins, watch};

const SECRET: &str = "secret/jjeco/api-keys";

#[test]
fn a_machine_without_the_records_verifies_the_chain_all_the_same() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let _ = rtx.vault(&["kv", "put", SECRET, "k=v"]).ok();
    assert!(vps.vault(&["audit", "verify"]).ok().contains("are whole"));
    assert!(rtx.vault(&["audit", "verify"]).ok().contains("are whole"));
    assert_eq!(vps.vault(&["audit", "log"]).code, 2);
}

#[test]
fn records_are_exported_and_summed_up() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", SECRET, "k=v"]).ok();
    let _ = rtx.vault(&["kv", "get", SECRET]).ok();
    let json = rtx.vault(&["audit", "export", "--path", "secret/jjeco/*", "--op", "put"]).ok();
    let records: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    // The server's record of the write, and the machine's, which names the process.
    let ops: Vec<_> = records.iter().map(|record| record["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["put", "local_put"], "{json}");
    assert!(records.iter().all(|record| record["path"] == SECRET), "{json}");
    watch::poll("what the agent answered, among the reads", || {
        let reads = ["audit", "log", "--path", SECRET, "--op", "read", "--process", "*vault"];
        rtx.vault(&reads).ok().contains(&format!("read {SECRET} v1\n")).then_some(())
    });
    let csv = rtx.vault(&["audit", "export", "--format", "csv", "--op", "put"]).ok();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("n,time,at,machine,"), "{csv}");
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[1].contains(&format!(",rtx1080,,,127.0.0.1,put,{SECRET},1,")), "{csv}");
    let summary = rtx.vault(&["audit", "summary", "--path", SECRET, "--format", "json"]).ok();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&summary).unwrap();
    let count = |what: &str| rows.iter().filter_map(|row| row[what].as_u64()).sum::<u64>();
    // The server saw the version, the agent the process.
    assert_eq!(count("writes"), 2, "{summary}");
    assert!(count("reads") > 0, "{summary}");
    assert!(rows.iter().all(|row| row["new"] == true), "{summary}");
    assert_eq!(rtx.vault(&["audit", "log", "-n", "20000"]).code, 0);
}

#[test]
fn the_owner_is_told_who_read_a_key_and_what_was_done() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", SECRET, "OPENAI_API_KEY=sk-1"]).ok();
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let thinkpad = world.machine(&rtx, "thinkpad", &["*"]);
    let _ = rtx.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=sk-2"]).ok();
    for host in [&vps, &thinkpad] {
        let read = || host.vault(&["kv", "get", "-field=OPENAI_API_KEY", SECRET]).out;
        watch::poll("it follows", || (read() == "sk-2").then_some(()));
        let _ = host.vault(&["write", "-f", "agent/sync"]).ok();
    }
    let _ = rtx.vault(&["kv", "put", "secret/home/router", "WLAN=x"]).ok();
    let given = ["access", "set", "vps", "--read", "secret/jjeco/", "--read", "secret/ghost/"];
    let _ = rtx.vault(&[&given[..], &["--yes"]].concat()).ok();
    let _ = rtx.vault(&["machine", "remove", "vps", "--reason", "stolen", "--yes"]).ok();

    let ask = |args: &[&str]| rtx.vault(&[&["audit"], args].concat());
    let reads = ask(&["log", "--key", "OPENAI_API_KEY", "--op", "read", "--since", "last week"]);
    assert!(reads.err.contains("key OPENAI_API_KEY: secret/jjeco/api-keys"), "{}", reads.err);
    for host in ["vps", "thinkpad"] {
        let rows: Vec<&str> =
            reads.out.lines().filter(|line| line.contains(&format!(" {host} "))).collect();
        let copy = |line: &&&str| {
            let what = ["(delivered)", "(fetched)"].map(|how| format!("read {SECRET} v2 {how}"));
            line.contains(" agent 127.0.0.1 ") && what.iter().any(|what| line.ends_with(what))
        };
        assert_eq!(rows.iter().filter(copy).count(), 1, "{}", reads.out);
        let own = |line: &&&str| line.contains("vault[") && line.ends_with(" v2");
        assert!(rows.iter().any(|line| own(&line)), "{}", reads.out);
    }
    assert!(!reads.out.contains("router"), "{}", reads.out);
    let again = reads.out.lines().filter(|line| line.ends_with("v2 (re-encrypted)"));
    assert!(again.count() > 0, "the removal has it re-encrypted:\n{}", reads.out);
    let own = ask(&["log", "--key", "OPENAI_API_KEY", "--process", "*vault", "--op", "read"]).ok();
    assert!(own.contains("vault[") && !own.contains(" agent "), "{own}");

    let acts = ask(&["log", "--op", "act"]).ok();
    for what in [
        "admin:jonas    added vps: reads secret/jjeco/, writes",
        "admin:jonas    gave vps secret/ghost/",
        "admin:jonas    removed vps: stolen",
    ] {
        let bare = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(bare(&acts).contains(&bare(what)), "{what}:\n{acts}");
    }
    let log = rtx.vault(&["log", "--format", "json"]).ok();
    let entries: Vec<serde_json::Value> = serde_json::from_str(&log).unwrap();
    let removed = entries.iter().find(|entry| entry["what"].as_str().unwrap().contains("stolen"));
    let number = removed.unwrap()["seq"].to_string();
    let page = rtx.vault(&["log", "show", &number]).ok();
    assert!(page.contains("removed vps: stolen"), "{page}");
    assert!(page.contains("admin:jonas: the signature verifies"), "{page}");
    assert!(page.contains("re-encrypted  secret/jjeco/api-keys v2"), "{page}");

    let none = ask(&["log", "--path", "*OPENAI*"]);
    assert!(none.err.contains("no secret matches `*OPENAI*`"), "{}", none.err);
    assert!(none.err.contains("use --key '*OPENAI*'"), "{}", none.err);
    let summary = ask(&["summary", "--key", "OPENAI_API_KEY", "--op", "read"]);
    assert!(summary.err.contains(" copies that came to machines, "), "{}", summary.err);
    assert!(summary.out.contains("thinkpad"), "{}", summary.out);
    assert_eq!(ask(&["log", "--denied"]).out, "", "nothing went wrong");
}

#[test]
fn signs_of_life_do_not_bury_what_was_done() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", SECRET, "k=v"]).ok();
    let ops = |args: &[&str]| {
        let args = [&["audit", "log", "-n", "10000", "--format", "json"][..], args].concat();
        let records: Vec<serde_json::Value> = serde_json::from_str(&rtx.vault(&args).ok()).unwrap();
        records.iter().map(|record| record["op"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Answered once the server has taken a report.
    let mut socket = UnixStream::connect(rtx.state().join("agent.sock")).unwrap();
    api::request(&mut socket, "POST", "/v1/agent/sync", "");
    let shown = ops(&[]);
    assert!(
        shown.contains(&"put".to_owned()) && !shown.contains(&"report".to_owned()),
        "{shown:?}"
    );
    let tail = rtx.vault(&["audit", "tail", "-n", "1000"]).ok();
    assert!(tail.contains(" wrote ") && !tail.contains("reported"), "{tail}");
}

#[test]
fn a_renamed_machine_is_found_by_either_name() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let read = |value: &str| {
        let _ = rtx.vault(&["kv", "put", SECRET, &format!("k={value}")]).ok();
        watch::poll("vps follows", || {
            (vps.vault(&["kv", "get", "-field=k", SECRET]).out == value).then_some(())
        });
        let _ = vps.vault(&["write", "-f", "agent/sync"]).ok();
    };
    read("1");
    let _ = rtx.vault(&["machine", "rename", "vps", "web", "--yes"]).ok();
    read("2");
    for name in ["vps", "web"] {
        let found = rtx.vault(&["audit", "log", "--machine", name, "--op", "read", "-n", "1000"]);
        assert!(found.err.contains(&format!("machine {name}: vps (until ")), "{}", found.err);
        assert!(found.err.contains("), web\n"), "{}", found.err);
        let has = |machine: &str, ver: &str| {
            let row = |line: &&str| line.contains(&format!(" {machine} ")) && line.contains(ver);
            found.out.lines().any(|line| row(&line))
        };
        assert!(has("vps", "v1") && has("web", "v2") && !has("rtx1080", "v"), "{}", found.out);
    }
    let other = rtx.vault(&["audit", "log", "--machine", "rtx1080", "-n", "1000"]);
    assert!(!other.err.contains("machine rtx1080:"), "{}", other.err);
    assert!(other.err.contains("signs of life are left out"), "{}", other.err);
}

#[test]
fn a_removed_machine_gets_nothing_more_and_what_it_had_is_named() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    for value in ["k=1", "k=2"] {
        let _ = rtx.vault(&["kv", "put", SECRET, value]).ok();
    }
    let _ = rtx.vault(&["kv", "put", "secret/home/router", "k=v"]).ok();
    watch::poll("vps follows", || {
        (vps.vault(&["kv", "get", "-field=k", SECRET]).out == "2").then_some(())
    });
    let own = rtx.vault(&["machine", "remove", "rtx1080", "--yes"]);
    assert!(own.code != 0 && own.err.contains("is this machine"), "{}", own.err);
    let ran = rtx.vault(&["machine", "remove", "vps", "--reason", "stolen", "--yes"]);
    assert!(ran.err.contains("`vps` is removed"), "{}", ran.err);
    assert_eq!(ran.ok(), "");
    let named = rtx.vault(&["machine", "exposed", "vps"]);
    let lines: Vec<String> = named
        .out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!((named.code, lines.len()), (2, 2), "{}", named.out);
    assert!(lines[1].starts_with("secret/jjeco/api-keys k still in use v1-v2 - v2 "), "{lines:?}");
    let _ = rtx.vault(&["kv", "put", SECRET, "k=3"]).ok();
    assert_eq!(rtx.vault(&["kv", "get", "-field=k", SECRET]).ok(), "3");
    assert_eq!(vps.vault(&["kv", "put", SECRET, "k=4"]).code, 2);
    assert_ne!(vps.vault(&["kv", "get", "-field=k", SECRET]).out, "3");
    let again = rtx.vault(&["machine", "remove", "vps"]);
    assert!(again.err.contains("`vps` is removed already"), "{}", again.err);
    assert_eq!(again.ok(), "");
    let done = rtx.vault(&["machine", "exposed", "vps"]).ok();
    assert!(done.contains("changed in v3"), "what is left is shown again: {done}");
    let status = rtx.vault(&["status"]);
    assert!(!status.out.contains("vps"), "{}", status.out);
}

#[test]
fn a_machine_can_be_left_with_nothing() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    assert_ne!(rtx.vault(&["access", "set", "vps", "--yes"]).code, 0, "that is to be said");
    let _ = rtx.vault(&["access", "set", "vps", "--read", "", "--yes"]).ok();
    let shown = rtx.vault(&["access", "show", "vps", "--format", "json"]).ok();
    let rows: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(rows[0]["read"], serde_json::json!([]), "{shown}");
    let _ = rtx.vault(&["kv", "put", SECRET, "k=v"]).ok();
    assert_eq!(vps.vault(&["kv", "get", SECRET]).code, 2);
    let _ =
        rtx.vault(&["access", "set", "vps", "--read", "", "--write", "secret/x/", "--yes"]).ok();
}
