//! Hooks: in order, together, once more for what changed meanwhile, again after a failure, and
//! never with a value.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use tests::{Host, World, api, bins, watch};

pub const SECRET: &str = "secret/app";

/// A host with `secret/app`, whose `KEY` is `first-value`, and no target.
pub fn world() -> (World, Host) {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "KEY=first-value"]).ok();
    (world, host)
}

pub fn home(host: &Host, name: &str) -> PathBuf {
    host.dir.join("home").join(name)
}

pub fn read(host: &Host, name: &str) -> String {
    std::fs::read_to_string(home(host, name)).unwrap_or_default()
}

/// Returns one `[[target]]` of `secret/app` with further keys.
pub fn target(host: &Host, name: &str, more: &str) -> String {
    let path = home(host, name);
    format!("[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\n{more}\n", path.display())
}

pub fn configure(host: &Host, tables: &[String]) {
    let file = host.state().join("agent.toml");
    File::create(file).unwrap().write_all(tables.concat().as_bytes()).unwrap();
}

pub fn patch(host: &Host, value: &str) {
    let _ = host.vault(&["kv", "patch", SECRET, &format!("KEY={value}")]).ok();
}

/// A pipe that a hook reads from, and so waits for.
pub fn gate(host: &Host, name: &str) -> PathBuf {
    let path = home(host, name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Lets the hook that reads from the gate go on, once it is there.
pub fn open(gate: &PathBuf) {
    drop(OpenOptions::new().write(true).open(gate).unwrap());
}

/// Waits until this machine's report has targets, and nothing to complain about.
pub fn all_is_well(host: &Host) {
    watch::poll("all is well", || {
        let status = host.vault(&["status"]);
        let rows: Vec<_> = status.out.lines().filter(|row| row.contains("secret/")).collect();
        let done = rows.iter().all(|row| row.contains(" ok ") || row.contains(" - "));
        (status.code == 0 && done && !rows.is_empty()).then_some(())
    });
}

#[test]
fn files_are_written_and_hooks_run_in_order() {
    let (_world, host) = world();
    let (first, free) = (gate(&host, "first.gate"), gate(&host, "free.gate"));
    let after = |name: &str| format!("after = [\"{}\"]", home(&host, name).display());
    configure(
        &host,
        &[
            target(&host, "c", &format!("{}\non_change = \"echo c >>log\"", after("b"))),
            target(&host, "b", &format!("{}\non_change = \"echo b >>log\"", after("a"))),
            target(&host, "a", "on_change = \"cat first.gate; echo a >>log\""),
            target(&host, "d", "on_change = \"cat free.gate; echo d >>free\""),
        ],
    );
    for round in ["first-value", "second-value"] {
        if round != "first-value" {
            patch(&host, round);
        }
        // All files are there, and a target without a place in the order has its hook run, while
        // the first hook waits.
        watch::until(&home(&host, "c"), |text| text.contains(round));
        open(&free);
        let changed = |name: &str| home(&host, name).metadata().unwrap().modified().unwrap();
        assert!(changed("a") <= changed("b") && changed("b") <= changed("c"));
        assert!(!read(&host, "log").contains(['b', 'c']), "{}", read(&host, "log"));
        open(&first);
        watch::until(&home(&host, "log"), |text| text.contains('c'));
        assert_eq!(read(&host, "log"), "a\nb\nc\n");
        all_is_well(&host);
        std::fs::remove_file(home(&host, "log")).unwrap();
    }
    assert_eq!(read(&host, "free"), "d\nd\n");
}

#[test]
fn an_order_that_cannot_be_kept_is_refused_by_line_and_key() {
    let (_world, host) = world();
    let before = target(&host, "a", "");
    configure(&host, std::slice::from_ref(&before));
    watch::until(&home(&host, "a"), |text| text.contains("first-value"));
    let alarm = |part: &str| {
        watch::poll(part, || host.vault(&["status"]).err.contains(part).then_some(()));
    };
    let after = |name: &str| format!("after = [\"{}\"]", home(&host, name).display());
    configure(&host, &[target(&host, "a", &after("nowhere"))]);
    alarm("line 4, key `after`");
    configure(&host, &[target(&host, "a", &after("b")), target(&host, "b", &after("a"))]);
    alarm("a target after itself");
    patch(&host, "second-value");
    watch::until(&home(&host, "a"), |text| text.contains("second-value"));
}

#[test]
fn one_hook_of_several_targets_runs_once_for_a_change() {
    let (_world, host) = world();
    let shared = "on_change = \"cat a b >>seen; echo ran >>log\"";
    configure(
        &host,
        &[target(&host, "a", shared), target(&host, "b", &format!("format = \"json\"\n{shared}"))],
    );
    watch::until(&home(&host, "log"), |text| !text.is_empty());
    all_is_well(&host);
    let before = read(&host, "log").lines().count();
    patch(&host, "second-value");
    watch::until(&home(&host, "log"), |text| text.lines().count() > before);
    all_is_well(&host);
    assert_eq!(read(&host, "log").lines().count(), before + 1);
    let seen = read(&host, "seen");
    assert!(seen.contains("KEY=second-value\n") && seen.contains("\"KEY\""), "{seen}");
}

#[test]
fn changes_during_a_run_make_exactly_one_more() {
    let (_world, host) = world();
    let pass = gate(&host, "gate");
    configure(&host, &[target(&host, "a", "on_change = \"cp a seen; echo x >>log; cat gate\"")]);
    watch::until(&home(&host, "log"), |text| text == "x\n");
    for value in ["two", "three", "four"] {
        patch(&host, value);
        watch::until(&home(&host, "a"), |text| text.contains(&format!("KEY={value}\n")));
    }
    assert_eq!(read(&host, "log"), "x\n");
    open(&pass);
    watch::until(&home(&host, "log"), |text| text == "x\nx\n");
    open(&pass);
    all_is_well(&host);
    assert_eq!(read(&host, "log"), "x\nx\n");
    assert!(read(&host, "seen").contains("KEY=four\n"));
}

#[test]
fn a_failing_hook_keeps_the_file_alarms_and_is_tried_again() {
    let (_world, host) = world();
    configure(&host, &[target(&host, "a", "on_change = \"echo x >>log; test -e good || exit 7\"")]);
    watch::until(&home(&host, "log"), |text| text.lines().count() >= 3);
    assert!(read(&host, "a").contains("KEY=first-value\n"));
    watch::poll("the failure is in the status", || {
        let status = host.vault(&["status"]);
        let seen = status.err.contains("alarm E_HOOK: the hook of `")
            && status.err.contains("failed: exit 7")
            && status.out.contains(" failed ")
            && status.code == 2;
        seen.then_some(())
    });
    drop(File::create(home(&host, "good")).unwrap());
    all_is_well(&host);
    assert!(!host.vault(&["status"]).err.contains("E_HOOK"));
}

#[test]
fn a_hook_that_fails_on_another_host_is_seen_by_status_here() {
    let (world, host) = world();
    let other = world.machine(&host, "vps", &["secret/"]);
    let hook = "on_change = { command = \"! grep -q =bad a\", retries = 0 }";
    configure(&other, &[target(&other, "a", hook)]);
    let row = |code: i32, hook: &str, version: &str| {
        watch::poll(hook, || {
            let status = host.vault(&["status"]);
            let row = status.out.lines().find(|row| row.starts_with("vps"))?;
            let told = row.contains(hook) && row.matches(version).count() == 2;
            (told && status.code == code).then_some(())
        });
    };
    row(0, " ok ", "v1");
    patch(&host, "bad-value");
    // The file holds the newest version: it does not lag, and still something is wrong.
    row(2, " failed ", "v2");
    patch(&host, "fine");
    row(0, " ok ", "v3");
}

#[test]
fn what_a_hook_prints_is_logged_without_values() {
    let (_world, host) = world();
    let _ = host
        .vault(&["kv", "put", SECRET, "KEY=canary-4711 \"$'", "LINES=canary-one\ncanary-two"])
        .ok();
    let print = "echo begin; cat a; . ./a; echo as-$KEY >&2; printf can; echo ary-one; printf %s \"$KEY\" | base64; echo end";
    let hook = format!("on_change = '{print}'");
    configure(&host, &[target(&host, "a", &format!("format = \"sh\"\n{hook}"))]);
    all_is_well(&host);
    let log = std::fs::read_to_string(host.log_file()).unwrap();
    for shown in ["begin", "as-***", "KEY='***'", "end"] {
        assert!(log.contains(shown), "no `{shown}` in:\n{log}");
    }
    assert!(!log.contains("canary-") && !log.contains("Y2FuYXJ5"), "{log}");
}

/// Returns what a process has open, by number.
fn open_files(pid: &str) -> BTreeMap<u32, String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let files = files.filter_map(|file| {
        let file = file.unwrap();
        // The folder that is being read is closed again by the time it is looked at.
        let leads_to = std::fs::read_link(file.path()).ok()?.to_string_lossy().into_owned();
        Some((file.file_name().to_str()?.parse().ok()?, leads_to))
    });
    files.collect()
}

#[test]
fn a_hook_that_stays_holds_nothing_of_the_agents_open() {
    let (_world, host) = world();
    let gate = gate(&host, "gate");
    // A caller of the local API is one more socket that it could take along.
    let _caller = UnixStream::connect(host.state().join("agent.sock")).unwrap();
    let hook = "on_change = \"echo $$ >pid.new; mv pid.new pid; exec cat gate\"";
    configure(&host, &[target(&host, "a", hook)]);
    let pid = watch::until(&home(&host, "pid"), |text| text.ends_with('\n'));
    let mut held = open_files(pid.trim());
    // What this test's own caller has left open is handed on by everybody.
    let handed_on: Vec<String> = open_files("self").into_values().collect();
    held.retain(|n, leads_to| *n <= 2 || !handed_on.contains(leads_to));
    assert!(held.keys().eq([&0, &1, &2]), "{held:?}");
    assert!(held[&0] == "/dev/null" && held[&1].starts_with("pipe:"), "{held:?}");
    assert!(held[&2].starts_with("pipe:"), "{held:?}");
    open(&gate);
    all_is_well(&host);
}

#[test]
fn a_storm_of_changes_is_a_few_runs_and_ends_with_the_last() {
    const CHANGES: usize = 500;
    let (world, host) = world();
    let other = world.machine(&host, "vps", &["secret/"]);
    configure(&host, &[target(&host, "a", "on_change = \"cp a seen; echo x >>log\"")]);
    watch::until(&home(&host, "log"), |text| !text.is_empty());
    let mut socket = UnixStream::connect(host.state().join("agent.sock")).unwrap();
    let begun = Instant::now();
    for n in 1..=CHANGES {
        let body = format!("{{\"data\":{{\"KEY\":\"storm-{n}\"}}}}");
        api::request(&mut socket, "POST", "/v1/secret/data/app", &body);
    }
    watch::until(&home(&host, "seen"), |text| text.contains(&format!("KEY=storm-{CHANGES}\n")));
    let most = 5 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    all_is_well(&host);
    let runs = read(&host, "log").lines().count();
    assert!(runs <= most, "{runs} runs, {most} at most: three at once, then one a second");
    // The others learn of it from the server: what was applied last.
    let last = format!("v{}", CHANGES + 1);
    watch::poll("wanted and applied is the last version", || {
        let rows = other.vault(&["status"]).out;
        let row = rows.lines().find(|row| row.starts_with("rtx1080"))?;
        (row.matches(&last).count() == 2 && row.contains(" ok ")).then_some(())
    });
}

#[test]
fn a_hook_waits_for_a_program_that_is_not_there_yet() {
    let (_world, host) = world();
    let line = "on_change = \"./compose up -d\"";
    configure(&host, &[target(&host, "app.env", line)]);
    watch::poll("the finding", || {
        let status = host.vault(&["status"]);
        let shown = format!("{}{}", status.out, status.err);
        let is_named = shown.contains("no program `./compose` is there");
        (status.code == 2 && is_named).then_some(())
    });
    assert_eq!(read(&host, "app.env").lines().last(), Some("KEY=first-value"));
    // Docker is installed.
    tests::script(&home(&host, "new"), "#!/bin/sh\necho \"$@\" >> ran\n");
    std::fs::rename(home(&host, "new"), home(&host, "compose")).unwrap();
    all_is_well(&host);
    assert_eq!(read(&host, "ran"), "up -d\n", "once, and nobody has told it");
}
