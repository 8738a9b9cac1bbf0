//! A value has leaked: which hosts, files and units had it, and what to do. And what `kv history`
//! says of each version.

use std::io::Write as _;

use serde_json::Value;
use tests::{Host, Ran, World, bins, watch};

use crate::credentials::{connect, taken};
use crate::three_hosts::homelab;

const SECRET: &str = "secret/jjeco/api-keys";
const KEY: &str = "OPENAI_API_KEY";
const UNIT: &str = "[[credential]]\nunit = \"ghost.service\"\nname = \"openai\"\n\
                    secret = \"secret/jjeco/api-keys\"\nkey = \"OPENAI_API_KEY\"\n";

/// Gives the key to a unit on a host, and has it read there.
fn read_by_unit(host: &mut Host) {
    host.stop();
    let file = std::fs::OpenOptions::new().append(true).open(host.state().join("agent.toml"));
    file.unwrap().write_all(format!("\n{UNIT}").as_bytes()).unwrap();
    host.start();
    let socket = host.state().join("credentials.sock");
    assert!(!taken(connect(&socket, "/unit/ghost.service/openai")).is_empty());
}

fn json(host: &Host, args: &[&str]) -> Value {
    let ran = host.vault(&[args, &["-format=json"]].concat());
    serde_json::from_str(&ran.out).unwrap_or_else(|why| panic!("{why}: {}{}", ran.out, ran.err))
}

/// Waits until a number of files tell of version `ver` that their hook has ended well.
fn all_told(host: &Host, ver: u64, count: usize) -> Value {
    watch::poll("every host tells of the version", || {
        let rows = json(host, &["kv", "history", SECRET]);
        let row = rows.as_array().unwrap().iter().find(|row| row["version"] == ver)?.clone();
        let is_done = |file: &&Value| file["hook"]["ended"].is_string();
        let done = row["hosts"].as_array()?.iter().filter(is_done).count();
        (done == count).then_some(row)
    })
}

fn blast(host: &Host, args: &[&str]) -> Ran {
    host.vault(&[&["blast"], args].concat())
}

#[test]
fn a_leaked_key_names_hosts_files_and_units_and_what_to_do() {
    let world = World::new(bins!());
    let [rtx, mut vps, thinkpad] = homelab(&world);
    let value = rtx.vault(&["kv", "get", "-field", KEY, SECRET]).ok().trim().to_owned();
    read_by_unit(&mut vps);
    all_told(&rtx, 1, 3);
    let log = rtx.vault(&["audit", "log", "--op", "applied"]).ok();
    assert!(log.lines().filter(|line| line.contains("wrote ")).count() >= 3, "{log}");
    assert!(log.contains(".env (v1), hook ok in 0."), "{log}");

    // A host that has just started tells of its files and of what was read in its next report.
    let leaked = watch::poll("every file and reader is known", || {
        let leaked = blast(&rtx, &[SECRET, "--key", KEY]);
        let files = leaked.out.matches("holds it (v1)").count();
        (files == 3 && leaked.out.contains("for ghost.service")).then_some(leaked)
    });
    assert_eq!(leaked.code, 2, "{}", leaked.err);
    for name in ["rtx1080", "vps", "thinkpad"] {
        let row = leaked.out.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.contains(".env") && row.contains("holds it (v1)"), "{}", leaked.out);
    }
    let steps =
        format!("change {KEY} of {SECRET} at its issuer, then: `vault kv patch {SECRET} {KEY}`");
    assert!(leaked.out.contains(&steps), "{}", leaked.out);
    let restart = "restart ghost.service: `systemctl restart ghost.service`";
    let is_step = |line: &str| line.starts_with("vps ") && line.ends_with(restart);
    assert!(leaked.out.lines().any(is_step), "{}", leaked.out);

    // Another key changes: the versions with the old value of this one are two. Then it changes.
    let _ = rtx.vault(&["kv", "patch", SECRET, "NEW_KEY=sk-canary-4711"]).ok();
    all_told(&rtx, 2, 3);
    let same = json(&rtx, &["blast", SECRET, "--key", KEY]);
    let versions = |found: &Value| -> Vec<Value> {
        found["versions"].as_array().unwrap().iter().map(|it| it["version"].clone()).collect()
    };
    assert_eq!(versions(&same), [1, 2]);
    let _ = rtx.vault_with(&["kv", "patch", SECRET, &format!("{KEY}=-")], "sk-canary-4712").ok();
    let last = all_told(&rtx, 3, 3);
    assert_eq!(last["keys"]["changed"][0], KEY);
    assert_eq!(last["created_by"], "rtx1080");
    assert!(last["process"].as_str().unwrap().contains("vault["), "{last}");

    let after = blast(&rtx, &[&format!("{SECRET}@2"), "--key", KEY]);
    assert_eq!(after.code, 0, "{}{}", after.out, after.err);
    assert!(after.out.contains("has v3") && after.out.contains(restart), "{}", after.out);
    assert!(!after.out.contains("vault kv patch"), "{}", after.out);
    // The unit has been started anew, and has read the new value.
    let socket = vps.state().join("credentials.sock");
    assert_eq!(taken(connect(&socket, "/unit/ghost.service/openai")), b"sk-canary-4712");
    watch::poll("nothing is left to restart", || {
        let after = blast(&rtx, &[&format!("{SECRET}@2"), "--key", KEY]);
        let row = after.out.lines().find(|line| line.contains("for ghost.service"))?.to_owned();
        (row.contains("has read v3") && !after.out.contains(restart)).then_some(())
    });

    // Only the versions in which the value changed; who read them.
    let of_key = rtx.vault(&["kv", "history", SECRET, "--key", KEY]).ok();
    let listed: Vec<&str> = of_key.lines().skip(1).map(|line| &line[..1]).collect();
    assert_eq!(listed, ["3", "1"], "{of_key}");
    let one = rtx.vault(&["kv", "history", "-version=1", SECRET]).ok();
    assert!(one.contains("for ghost.service openai"), "{one}");
    let hosts = rtx.vault(&["kv", "history", SECRET, "--hosts"]).ok();
    assert_eq!(hosts.lines().count(), 1 + 9, "{hosts}");

    // No value is anywhere on the way.
    for text in [&log, &leaked.out, &after.out, &of_key, &one, &hosts, &same.to_string()] {
        assert!(!text.contains("sk-canary") && !text.contains(&value), "{text}");
    }
    drop(thinkpad);
}

#[test]
fn a_host_that_is_away_is_not_said_to_have_read_nothing() {
    let world = World::new(bins!());
    let [rtx, _vps, mut thinkpad] = homelab(&world);
    all_told(&rtx, 1, 3);
    thinkpad.stop();
    let _ = rtx.vault(&["kv", "put", SECRET, &format!("{KEY}=sk-new")]).ok();
    watch::poll("the host is known to be away", || {
        let leaked = blast(&rtx, &[&format!("{SECRET}@1"), "--key", KEY]);
        let away = leaked.err.contains("what was read on thinkpad since ");
        let waits = "gets the new value when the host is back";
        (leaked.code == 2 && away && leaked.out.contains(waits)).then_some(())
    });
    let rows = json(&rtx, &["kv", "history", SECRET]);
    let hosts = rows[0]["hosts"].as_array().unwrap();
    let late = hosts.iter().find(|host| host["machine"] == "thinkpad").unwrap();
    assert_eq!((&late["state"], &late["has"]), (&Value::from("waits"), &Value::from(1)), "{rows}");
}

#[test]
fn what_an_agent_could_not_tell_before_it_was_stopped_it_tells_afterwards() {
    let mut world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", "secret/app", "KEY=one"]).ok();
    host.target(&["secret/app"]);
    watch::until(&host.hook_log(), |text| text.lines().count() == 1);
    world.server = None;
    // Written from the cache: nobody hears of it until the server is back.
    let other = host.dir.join("home/other.env");
    let add = ["target", "add", other.to_str().unwrap(), "secret/app", "--on-change", "true"];
    let _ = host.agent_command(&add).ok();
    watch::until(&other, |text| text.contains("KEY=one"));
    watch::until(&host.log_file(), |log| log.matches("hook done").count() >= 2);
    host.stop();
    world.start();
    host.start();
    watch::poll("it is told", || {
        let log = host.vault(&["audit", "log", "--op", "applied", "-format=json"]).out;
        let rows: Vec<Value> = serde_json::from_str(&log).ok()?;
        let is_it = |row: &&Value| {
            let file = row["applied"]["file"].as_str().unwrap();
            file.ends_with("other.env") && row["applied"]["hook"]["ended"].is_number()
        };
        (rows.iter().filter(is_it).count() == 1).then_some(())
    });
}
