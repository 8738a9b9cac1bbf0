//! `vault scan --hosts`: each host looks for the vault's values where it was told to, and those who
//! review see what it has found. No value leaves it, not even in the name of a file.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Host, Ran, World, bins, files_below, watch};

const OLD: &str = "sk_live_old_5Hq8nV2cRt7";
const STRIPE: &str = "sk_live_9fQ2xLw7RbZk31pQ";
const BOT: &str = "bot_77Kd03mZqLr29xVt";

fn put(path: &Path, text: &str) {
    use std::io::Write as _;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Has a host scan its own home, and the journal if it is to; folders of programs come first in its
/// PATH.
fn scans(host: &Host, more: &str) {
    let home = host.dir.join("home");
    let home = home.display();
    let mut text = std::fs::read_to_string(host.state().join("agent.toml")).unwrap_or_default();
    text = text.split("[scan]").next().unwrap().to_owned();
    let _ = write!(
        text,
        "\n[scan]\npresets = []\npaths = [\"{home}/.bash_history\", \"{home}/.claude\", \"{home}/work\"]\n{more}\n"
    );
    put(&host.state().join("agent.toml"), &text);
}

/// Runs the scan's command; no value may be in what it says.
fn ask(host: &Host, args: &[&str]) -> Ran {
    let ran = host.vault(&[&["scan", "--hosts"], args].concat());
    for value in [OLD, STRIPE, BOT] {
        assert!(!format!("{}{}", ran.out, ran.err).contains(value), "{}{}", ran.out, ran.err);
    }
    ran
}

fn document(host: &Host, name: &str) -> Value {
    let ran = ask(host, &["-format", "json", name]);
    let json: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    json["hosts"][0].clone()
}

/// Waits until what `host` sees of `name` is as it should be.
fn until(host: &Host, name: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let seen = document(host, name);
        if is_right(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(180), "{seen:#}");
        std::thread::park_timeout(Duration::from_millis(500));
    }
}

fn places(seen: &Value) -> Vec<String> {
    let finds = seen["finds"].as_array().unwrap().iter();
    finds.map(|find| format!("{} {}", find["place"].as_str().unwrap(), find["old"])).collect()
}

/// Makes a `journalctl` that has one message of a unit, and puts it first in PATH.
fn journalctl(host: &Host) -> String {
    let folder = host.dir.join("bin");
    let message = format!(
        "{{\\\"MESSAGE\\\":\\\"BOT={BOT}\\\",\\\"_SYSTEMD_UNIT\\\":\\\"ghost.service\\\"}}"
    );
    let program = folder.join("journalctl");
    std::fs::create_dir_all(&folder).unwrap();
    tests::script(&program, &format!("#!/bin/sh\necho \"{message}\"\n"));
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

/// Starts a host's agent with another PATH.
fn start_with(host: &mut Host, path: &str) {
    let mut command = host.command(host.bins.agent);
    command.arg("run").env("PATH", path);
    host.agent = Some(tests::Daemon::start(command, &host.log_file()));
}

#[test]
fn what_lies_around_on_the_hosts_is_seen_by_those_who_review() {
    let world = World::new(bins!());
    let owner = world.owner("rtx1080");
    let stripe = |value: &str| {
        let value = format!("API_KEY={value}");
        let _ = owner.vault(&["kv", "put", "secret/stripe", &value, "PORT=4242"]).ok();
    };
    stripe(OLD);
    let _ = owner.vault(&["kv", "put", "secret/bot", &format!("TOKEN={BOT}")]).ok();
    let mut vps = world.machine(&owner, "vps", &["secret/stripe", "secret/bot"]);
    let nas = world.machine(&owner, "nas", &["secret/stripe"]);
    stripe(STRIPE);

    // Nobody scans unless told to.
    let ran = ask(&owner, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    for name in ["rtx1080", "vps", "nas"] {
        assert!(
            ran.err.contains(&format!("{name}: does not scan: put a line `[scan]`"))
                || ran.err.contains(&format!("{name}: has not reported")),
            "{}",
            ran.err
        );
    }

    // A history and a transcript on one host, the journal on another; and what is hostile.
    let home = vps.dir.join("home");
    put(&home.join(".bash_history"), &format!("ls\ncurl -u {OLD}: x\nexport K={STRIPE}\n"));
    let transcript = format!("{{\"content\":\"the key is {STRIPE}\"}}\n");
    put(&home.join(".claude/projects/x/a.jsonl"), &transcript);
    put(&home.join("work/outside"), "");
    put(&vps.dir.join("elsewhere/x"), STRIPE);
    symlink(vps.dir.join("elsewhere"), home.join("work/link")).unwrap();
    symlink("loop", home.join("work/loop")).unwrap();
    assert!(Command::new("mkfifo").arg(home.join("work/pipe")).status().unwrap().success());
    symlink("/dev/zero", home.join("work/zero")).unwrap();
    std::fs::File::create(home.join("work/sparse")).unwrap().set_len(10 << 30).unwrap();
    put(&home.join(format!("work/{BOT}.txt")), "");
    vps.target(&["secret/stripe"]);
    watch::until(&vps.env_file(), |text| text.contains(STRIPE));
    vps.stop();
    scans(&vps, "journal = true\n");
    let path = journalctl(&vps);
    start_with(&mut vps, &path);

    let seen = until(&owner, "vps", |seen| seen["searched"].is_object());
    let mut found = places(&seen);
    found.sort_unstable();
    let home = home.canonicalize().unwrap();
    let at = |name: &str, old: bool| format!("{}/{name} {old}", home.display());
    let mut expected = [
        at(".bash_history", false),
        at(".bash_history", true),
        at(".claude/projects/x/a.jsonl", false),
        at("work/***", false),
        "journal unit ghost.service false".to_owned(),
    ];
    expected.sort_unstable();
    assert_eq!(found, expected, "{seen:#}");
    assert_eq!(seen["searched"]["missed"], Value::Array(vec![]), "{seen:#}");
    let ran = ask(&owner, &["vps"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.out.contains(".bash_history:3 ") && ran.out.contains(" v2 "), "{}", ran.out);
    assert!(ran.out.contains("old: harmless if ended at its issuer"), "{}", ran.out);
    assert!(ran.err.contains("keys are still in use"), "{}", ran.err);

    // The server has nothing of it, and no member sees it that may not review.
    for file in files_below(&world.data()) {
        let bytes = std::fs::read(&file).unwrap();
        for needle in [OLD, STRIPE, BOT, ".bash_history", "API_KEY"] {
            let is_in = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!is_in, "{needle} in {}", file.display());
        }
    }
    let ran = ask(&nas, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("no read grant on `sys/audit`"), "{}", ran.err);
    let log = std::fs::read_to_string(vps.log_file()).unwrap();
    assert!([OLD, STRIPE, BOT].iter().all(|value| !log.contains(value)));

    // What is cleaned up is gone with the next scan: other settings bring one at once.
    for name in [".bash_history", ".claude/projects/x/a.jsonl", &format!("work/{BOT}.txt")] {
        std::fs::remove_file(home.join(name)).unwrap();
    }
    scans(&vps, "journal = false\n");
    let seen = until(&owner, "vps", |seen| places(seen).is_empty());
    assert!(seen["searched"]["files"].as_u64().unwrap() >= 2, "{seen:#}");
    let ran = ask(&owner, &["vps"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert!(ran.err.contains("nothing found"), "{}", ran.err);
}

#[test]
fn a_reviewer_asks_and_hosts_scan_ten_minutes_apart() {
    let world = World::new(bins!());
    let owner = world.owner("rtx1080");
    let _ = owner.vault(&["kv", "put", "secret/stripe", &format!("API_KEY={STRIPE}")]).ok();
    let vps = world.machine(&owner, "vps", &["secret/stripe"]);
    scans(&vps, "every = \"0\"\n");
    put(&vps.dir.join("home/.bash_history"), STRIPE);
    let _ = until(&owner, "vps", |seen| seen["scans"] == true);
    let ran = ask(&owner, &["vps"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("vps: has not scanned yet: `vault scan --hosts --now vps`"));
    let ran = ask(&owner, &["--now", "nobody"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("there is no machine `nobody`"), "{}", ran.err);

    // A member that does not review is not heard, even by its own agent.
    let ran = ask(&vps, &["--now"]);
    assert!(ran.err.contains("no read grant on `sys/audit`"), "{}", ran.err);
    let ran = ask(&owner, &["--now", "vps"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains(".bash_history:1"), "{}", ran.out);
    let begun = document(&owner, "vps")["searched"]["begun"].clone();
    let ran = ask(&owner, &["--now", "vps"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("vps: scanned ") && ran.err.contains("every 10 minutes at most"));
    assert_eq!(document(&owner, "vps")["searched"]["begun"], begun);
}
