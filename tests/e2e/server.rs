//! The server moves, gets another key, or is made anew out of what the machines have; whoever slept
//! meanwhile finds it again, or is told how.

use std::path::Path;
use std::process::Command;

use shared::token::{Line as _, PinLine};
use tests::{Daemon, Host, Port, World, bins, find_line, watch};

use crate::aftermath::{Aftermath, SECRET, give_up_what_is_lost};
use crate::moment::{killed_at, moments};
use crate::restored::{holds, put, put_when_back, shows};

/// An owner, a machine with a target, and a laptop with one that sleeps at times.
pub(crate) fn three(world: &World) -> (Host, Host, Host) {
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let thinkpad = world.machine(&rtx, "thinkpad", &["secret/jjeco/"]);
    let _ = rtx.vault(&["machine", "set", "thinkpad", "--sleeps", "--yes"]).ok();
    assert_eq!(put(&rtx, SECRET, "K=one"), 0);
    for host in [&vps, &thinkpad] {
        host.target(&[SECRET]);
        watch::until(&host.env_file(), |text| text.contains("one"));
    }
    (rtx, vps, thinkpad)
}

pub(crate) fn arrives(owner: &Host, at: &[&Host], value: &str) {
    put_when_back(owner, SECRET, &format!("K={value}"));
    for host in at {
        watch::until(&host.env_file(), |text| text.contains(value));
    }
}

/// Has the stopped server listen somewhere else.
pub(crate) fn listen_at(world: &World, address: &str) {
    let file = world.data().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace(&format!("listen = \"{}\"", world.address()), &format!("listen = \"{address}\""));
    host::files::replace_trusted(&file, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
}

#[test]
fn a_moved_server_is_found_without_an_edit_and_one_that_slept_is_told_how() {
    let mut world = World::new(bins!());
    let (rtx, vps, mut thinkpad) = three(&world);
    thinkpad.stop();
    let bad = rtx.vault(&["server", "move", "nowhere", "--yes"]);
    assert!(bad.code != 0 && bad.err.contains("`nowhere` is not host:port"), "{}", bad.err);
    let port = Port::reserve();
    let there = port.address().to_string();
    for moment in moments(6) {
        let mut command = rtx.command(rtx.bins.vault);
        command.args(["server", "move", &there, "--yes"]);
        killed_at(command, &rtx.dir, moment);
    }
    let moved = rtx.vault(&["server", "move", &there, "--yes"]);
    assert_eq!(moved.code, 0, "{}", moved.err);
    assert!(moved.err.contains("thinkpad is away"), "{}", moved.err);
    let again = rtx.vault(&["server", "move", &there, "--yes"]);
    assert!(again.code == 0 && again.err.contains("nothing changes"), "{}", again.err);
    holds(&vps, SECRET, "one");
    world.server.as_mut().unwrap().stop();
    listen_at(&world, &there);
    world.start();
    arrives(&rtx, &[&vps], "two");
    // A machine that comes now is told where the server is.
    let line = world.host("new").agent_command(&["init", "--name", "new"]).ok();
    let line = find_line(&line, "VLTM1-");
    let pin = find_line(
        &rtx.vault(&["machine", "add", &line, "--read", "secret/x/", "--yes"]).ok(),
        "VLTP1-",
    );
    assert_eq!(PinLine::from_line(&pin).unwrap().addresses, std::slice::from_ref(&there));
    let _ = rtx.vault(&["machine", "remove", "new", "--yes"]).ok();

    thinkpad.start();
    let told = shows(&thinkpad, "if it has moved while this host slept");
    assert!(told.contains("`agent.toml` here"), "{told}");
    assert!(thinkpad.env().contains("one"), "the file stays");
    let file = thinkpad.state().join("agent.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace(world.address(), &there);
    host::files::replace_trusted(&file, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
    let hosts = &[&rtx, &vps, &thinkpad];
    Aftermath { world: &world, hosts, value: "two", gone: None, resumed: false }.check();
}

pub(crate) fn restart(world: &mut World) {
    world.server.as_mut().unwrap().stop();
    world.start();
}

/// Gives the server another key, both halves.
pub(crate) fn rekey(world: &mut World, owner: &Host) {
    let key = world.server_command(&["rekey"]).ok();
    put_when_back(owner, "secret/jjeco/awake", "K=1");
    let _ = owner.vault(&["server", "rekey", key.trim(), "--yes"]).ok();
    restart(world);
    put_when_back(owner, "secret/jjeco/awake", "K=2");
    let _ = owner.vault(&["server", "rekey", "--yes"]).ok();
}

#[test]
fn the_server_gets_another_key_and_one_that_slept_accepts_it_by_its_line() {
    let mut world = World::new(bins!());
    let (rtx, vps, mut thinkpad) = three(&world);
    thinkpad.stop();
    let early = rtx.vault(&["server", "rekey", "--yes"]);
    assert!(early.code != 0 && early.err.contains("no new key is named"), "{}", early.err);
    let old = std::fs::read(world.data().join("server.key")).unwrap();
    for moment in moments(4) {
        killed_at(world.program(&["rekey"]), &world.data(), moment);
    }
    let key = world.server_command(&["rekey"]).ok();
    assert_eq!(world.server_command(&["rekey"]).ok(), key, "until it is taken it stays the same");
    restart(&mut world);
    assert_eq!(std::fs::read(world.data().join("server.key")).unwrap(), old, "nobody accepts it");
    let both = ["server", "rekey", key.trim(), "--yes"];
    put_when_back(&rtx, "secret/jjeco/b", "K=awake");
    for moment in moments(6) {
        let mut command = rtx.command(rtx.bins.vault);
        command.args(both);
        killed_at(command, &rtx.dir, moment);
    }
    let first = rtx.vault(&both);
    let is_late = first.err.contains("still runs with the old key");
    assert!(first.code == 0 || is_late, "{}", first.err);
    let early = rtx.vault(&["server", "rekey", "--yes"]);
    assert!(early.err.contains("still runs with the old key"), "{}", early.err);
    restart(&mut world);
    assert_ne!(std::fs::read(world.data().join("server.key")).unwrap(), old);
    assert!(!world.data().join("server.key.next").exists());
    arrives(&rtx, &[&vps], "two");
    let second = rtx.vault(&["server", "rekey", "--yes"]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(second.err.contains("thinkpad is away"), "{}", second.err);
    let done = rtx.vault(&["server", "rekey", "--yes"]);
    assert!(done.code != 0 && done.err.contains("no new key is named"), "{}", done.err);
    let again = rtx.vault(&both);
    assert!(again.code == 0 && again.err.contains("nothing changes"), "{}", again.err);
    arrives(&rtx, &[&vps], "three");

    thinkpad.start();
    shows(&thinkpad, "E_SERVER_PIN");
    assert!(thinkpad.env().contains("one"), "the file stays");
    let line = rtx.vault(&["server", "rekey", "--line", "thinkpad"]).ok();
    let line = find_line(&line, "VLTP1-");
    // New keys of the machine's own, which wait for another line, are not in the way.
    assert_eq!(thinkpad.agent_command(&["init", "--rekey"]).code, 0);
    let joined = thinkpad.agent_command(&["join", &line]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    watch::until(&thinkpad.env_file(), |text| text.contains("three"));
    let give_up = ["init", "--rekey", "--give-up"];
    let early = thinkpad.agent_command(&give_up);
    assert!(early.code == 1 && early.err.contains("an agent runs here"), "{}", early.err);
    // What was accepted by hand is in the log by now: it outlives nothing.
    thinkpad.stop();
    for _ in 0..2 {
        let given_up = thinkpad.agent_command(&give_up);
        assert_eq!(given_up.code, 0, "{}", given_up.err);
        assert!(!thinkpad.state().join("rekey").exists());
    }
    let line = find_line(&thinkpad.agent_command(&["init", "--rekey"]).ok(), "VLTM1-");
    let signed = rtx.vault(&["machine", "rekey", "thinkpad", &line, "--yes"]);
    let late = thinkpad.agent_command(&give_up);
    assert!(late.code == 2 && late.err.contains("the new keys stay"), "{}", late.err);
    let joined = thinkpad.agent_command(&["join", &find_line(&signed.ok(), "VLTP1-")]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    thinkpad.start();
    arrives(&rtx, &[&vps, &thinkpad], "four");
    let hosts = &[&rtx, &vps, &thinkpad];
    Aftermath { world: &world, hosts, value: "four", gone: None, resumed: false }.check();
}

/// A new server at the same place; returns its setup line.
pub(crate) fn new_server(world: &World, backup: Option<&Path>) -> String {
    new_server_at(world, world.address(), backup)
}

fn new_server_at(world: &World, address: &str, backup: Option<&Path>) -> String {
    let out = match backup {
        None => world.server_command(&["init", "--adopt", "--listen", address]),
        Some(file) => {
            world.server_command(&["restore", file.to_str().unwrap(), "--listen", address])
        }
    };
    find_line(&out.ok(), "VLTS1-")
}

/// Returns the arguments that give the vault to a new server.
pub(crate) fn adopting(world: &World, setup: &str) -> Vec<String> {
    let file = world.dir().join("setup-line");
    host::files::replace_trusted(&file, setup.as_bytes(), host::files::Access::PRIVATE).unwrap();
    let code = world.data().join("resume-code");
    let (file, code) = (file.to_str().unwrap(), code.to_str().unwrap());
    let args = ["server", "adopt", "--yes", "--setup-file", file, "--code-file", code];
    args.map(str::to_owned).to_vec()
}

fn adopt(rtx: &Host, world: &World, setup: &str) {
    let args = adopting(world, setup);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // Without the code it stops where only that is missing.
    let asked = rtx.vault(&args[..args.len() - 2]);
    assert!(asked.code != 0 && asked.err.contains("one-time code"), "{}", asked.err);
    for moment in moments(12) {
        let mut command = rtx.command(rtx.bins.vault);
        command.args(&args);
        killed_at(command, &rtx.dir, moment);
    }
    let adopted = rtx.vault(&args);
    assert_eq!(adopted.code, 0, "{}{}", adopted.out, adopted.err);
    let again = rtx.vault(&args);
    assert_eq!(again.code, 0, "done again it prints the lines: {}", again.err);
    let lines = again.out;
    assert!(lines.contains("VLTP1-"), "{lines}");
    let file = world.dir().join("lines");
    host::files::replace_trusted(&file, lines.as_bytes(), host::files::Access::PRIVATE).unwrap();
}

fn line_of(world: &World, name: &str) -> String {
    let lines = std::fs::read_to_string(world.dir().join("lines")).unwrap();
    let line = lines.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap();
    find_line(line, "VLTP1-")
}

fn a_burnt_server(with_backup: bool) {
    let mut world = World::new(bins!());
    let (rtx, vps, mut thinkpad) = three(&world);
    let gone = world.machine(&rtx, "gone", &["secret/jjeco/"]);
    holds(&gone, SECRET, "one");
    let backup = with_backup.then(|| {
        let file = world.dir().join("a.backup");
        let _ = world.server_command(&["backup", file.to_str().unwrap()]).ok();
        file
    });
    thinkpad.stop();
    let _ = rtx.vault(&["machine", "remove", "gone", "--yes"]).ok();
    arrives(&rtx, &[&vps], "two");
    watch::poll("the others know", || {
        let listed = vps.vault(&["machine", "list", "--all"]).out;
        listed.lines().any(|line| line.contains("gone") && line.contains("removed")).then_some(())
    });
    world.server.as_mut().unwrap().kill();
    world.burn();
    let setup = new_server(&world, backup.as_deref());
    world.start();
    // The one that was put out is the first to come.
    assert_ne!(put(&gone, SECRET, "K=past"), 0);
    shows(&rtx, "E_SERVER_PIN");
    let code_file = world.data().join("resume-code");
    adopt(&rtx, &world, &setup);
    assert!(!code_file.exists());
    arrives(&rtx, &[], "three");
    thinkpad.start();
    for (name, host) in [("vps", &vps), ("thinkpad", &thinkpad)] {
        shows(host, "E_SERVER_PIN");
        let joined = host.agent_command(&["join", &line_of(&world, name)]);
        assert_eq!(joined.code, 0, "{}", joined.err);
        watch::until(&host.env_file(), |text| text.contains("three"));
    }
    arrives(&rtx, &[&vps, &thinkpad], "four");
    // What no machine has is named, and given up.
    give_up_what_is_lost(&rtx);
    let hosts = &[&rtx, &vps, &thinkpad];
    let gone = Some(&gone);
    Aftermath { world: &world, hosts, value: "four", gone, resumed: true }.check();
}

#[test]
fn a_burnt_server_without_key_and_backup_is_made_anew_from_what_the_machines_have() {
    a_burnt_server(false);
}

#[test]
fn a_burnt_server_with_a_backup_and_without_its_key_gets_a_new_one() {
    a_burnt_server(true);
}

#[test]
fn a_server_that_still_answers_is_not_mistaken_for_the_one_made_anew() {
    // Each of its two servers has a database: that is the folder.
    let mut world = World::on_sqlite(bins!(), |_| {});
    let (rtx, vps, thinkpad) = three(&world);
    world.server.take().unwrap().stop();
    let old = world.dir().join("old");
    std::fs::rename(world.data(), &old).unwrap();
    let mut run = Command::new(world.bins.server);
    run.arg("run").arg("--data").arg(&old);
    let mut still = Daemon::start(run, &world.dir().join("old.log"));
    for n in 0..4 {
        arrives(&rtx, &[&vps, &thinkpad], &format!("before-{n}"));
    }
    let port = Port::reserve();
    let setup = new_server_at(&world, &port.address().to_string(), None);
    world.start();
    let args = adopting(&world, &setup);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let told = rtx.vault(&args);
    assert!(told.code != 0 && !told.out.contains("VLTP1-"), "{}{}", told.out, told.err);
    assert!(told.err.contains("stop the other server, and run the same"), "{}", told.err);
    assert!(still.stop(), "{}", still.log());
    let adopted = rtx.vault(&args);
    assert_eq!(adopted.code, 0, "{}{}", adopted.out, adopted.err);
    for (name, host) in [("vps", &vps), ("thinkpad", &thinkpad)] {
        let line = adopted.out.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap();
        assert_eq!(host.agent_command(&["join", &find_line(line, "VLTP1-")]).code, 0);
    }
    arrives(&rtx, &[&vps, &thinkpad], "after");
}
