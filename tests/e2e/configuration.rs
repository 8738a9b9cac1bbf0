//! `agent.toml` while the agent runs: edits that are half done, or made through links, hooks that
//! are mended, run by hand or gone, and what an edit does not get to.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tests::{Host, watch};

use crate::hooks::{SECRET, all_is_well, configure, home, patch, read, target, world};

fn fails_with(host: &Host, part: &str) {
    watch::poll(part, || {
        let status = host.vault(&["status"]);
        (status.code == 2 && status.err.contains(part)).then_some(())
    });
}

fn write(file: &Path, text: &str) {
    File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_hook_that_is_mended_runs_at_once_and_the_old_one_no_more() {
    let (_world, host) = world();
    configure(&host, &[target(&host, "a", "on_change = \"echo old >>log; exit 7\"")]);
    fails_with(&host, "failed: exit 7");
    configure(&host, &[target(&host, "a", "on_change = \"echo new >>log\"")]);
    watch::until(&home(&host, "log"), |text| text.contains("new"));
    all_is_well(&host);
    let runs = read(&host, "log");
    patch(&host, "second");
    watch::until(&home(&host, "log"), |text| text.matches("new").count() == 2);
    assert_eq!(read(&host, "log"), format!("{runs}new\n"), "the old command ran again");
    // One that fails and is taken out, and one whose target is, alarm no more.
    for (name, without) in [("b", Some("")), ("c", None)] {
        configure(&host, &[target(&host, name, "on_change = \"exit 7\"")]);
        fails_with(&host, "failed: exit 7");
        let rest = without.map(|more| target(&host, name, more));
        configure(&host, &[rest.unwrap_or_else(|| "# nothing\n".to_owned())]);
        host.is_well();
    }
}

#[test]
fn an_edit_that_is_half_done_runs_no_hooks() {
    let (_world, mut host) = world();
    let tables: Vec<String> = ["a", "b", "c"]
        .map(|name| target(&host, name, &format!("on_change = \"echo {name} >>log\"")))
        .into();
    configure(&host, &tables);
    watch::until(&home(&host, "log"), |text| text.lines().count() == 3);
    all_is_well(&host);
    let file = host.state().join("agent.toml");
    // Saved when it was empty; with half a table; with one table less; removed.
    write(&file, "");
    fails_with(&host, "E_CONFIG");
    assert!(host.vault(&["status"]).err.contains("is empty"));
    configure(&host, &tables);
    all_is_well(&host);
    let whole = tables.concat();
    write(&file, &whole[..whole.len() - 30]);
    fails_with(&host, "E_CONFIG");
    configure(&host, &tables[..2]);
    watch::poll("one target less", || {
        (host.vault(&["status"]).out.lines().count() == 3).then_some(())
    });
    std::fs::remove_file(&file).unwrap();
    fails_with(&host, "E_CONFIG");
    configure(&host, &tables);
    watch::poll("all targets", || (host.vault(&["status"]).out.lines().count() == 4).then_some(()));
    all_is_well(&host);
    patch(&host, "second");
    watch::until(&home(&host, "log"), |text| text.lines().count() >= 6);
    all_is_well(&host);
    let mut runs: Vec<String> = read(&host, "log").lines().map(str::to_owned).collect();
    runs.sort_unstable();
    assert_eq!(runs, ["a", "a", "b", "b", "c", "c"]);
    // One that was lost while the agent was off is no secret either.
    host.stop();
    write(&file, "");
    host.start();
    fails_with(&host, "is empty");
}

#[test]
fn a_configuration_behind_links_is_followed() {
    let (_world, mut host) = world();
    host.stop();
    let folder = host.dir.join("releases");
    let one = |host: &Host, name: &str| target(host, name, "");
    for release in ["r1", "r2"] {
        std::fs::create_dir_all(folder.join(release)).unwrap();
        write(&folder.join(release).join("real.toml"), &one(&host, release));
    }
    let switch = |to: &str, link: &Path| {
        let new = folder.join("new");
        symlink(to, &new).unwrap();
        std::fs::rename(new, link).unwrap();
    };
    let (current, file) = (folder.join("current"), host.state().join("agent.toml"));
    switch("r1", &current);
    switch("../releases/current/real.toml", &file);
    host.start();
    let written = |name: &str| watch::until(&home(&host, name), |text| text.contains("KEY="));
    written("r1");
    // An edit where it leads, another release, and an edit of that one.
    write(&folder.join("r1/real.toml"), &(one(&host, "r1") + &one(&host, "edited")));
    written("edited");
    switch("r2", &current);
    written("r2");
    write(&folder.join("r2/real.toml"), &one(&host, "again"));
    written("again");
    // The command line writes through the links, and leaves them.
    let path = home(&host, "added");
    let _ = host.agent_command(&["target", "add", path.to_str().unwrap(), SECRET]).ok();
    written("added");
    assert!(file.is_symlink() && read_text(&folder.join("r2/real.toml")).contains("added"));
}

fn read_text(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn what_is_written_here_is_in_the_file_when_the_answer_comes() {
    let (_world, host) = world();
    configure(&host, &[target(&host, "a", ""), target(&host, "b", "format = \"json\"")]);
    all_is_well(&host);
    for n in 0..20 {
        let value = format!("value-{n}");
        patch(&host, &value);
        assert!(read(&host, "a").contains(&format!("KEY={value}\n")), "{}", read(&host, "a"));
        assert!(read(&host, "b").contains(&value), "{}", read(&host, "b"));
    }
    let _ = host.vault(&["kv", "delete", SECRET]).ok();
    let _ = host.vault(&["kv", "undelete", "-versions=21", SECRET]).ok();
    let _ = host.vault(&["kv", "patch", "--no-wait", SECRET, "KEY=late"]).ok();
    watch::until(&home(&host, "a"), |text| text.contains("KEY=late\n"));
    // A target that cannot be written keeps nobody waiting for ever.
    std::fs::create_dir(home(&host, "c")).unwrap();
    configure(&host, &[target(&host, "a", ""), target(&host, "c", "")]);
    fails_with(&host, "E_TARGET");
    patch(&host, "last");
    watch::until(&home(&host, "a"), |text| text.contains("KEY=last\n"));
}

#[test]
fn a_hook_runs_once_more_by_hand() {
    let (_world, host) = world();
    configure(
        &host,
        &[
            target(&host, "a", "on_change = \"cat a; echo ran >>log; test ! -e bad\""),
            target(&host, "plain", ""),
        ],
    );
    watch::until(&home(&host, "log"), |text| text == "ran\n");
    all_is_well(&host);
    let run = |name: &str| host.agent_command(&["hook", "run", name]);
    let ran = run("a");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("has run: cat a; echo ran"), "{}", ran.err);
    assert_eq!(read(&host, "log"), "ran\nran\n");
    write(&home(&host, "bad"), "");
    let failed = run("a");
    assert_eq!(failed.code, 2, "{}", failed.err);
    assert!(failed.err.contains("failed: exit 1"), "{}", failed.err);
    assert!(failed.err.contains("hint: the agent's log"), "{}", failed.err);
    std::fs::remove_file(home(&host, "bad")).unwrap();
    let mended = run("a");
    assert_eq!(mended.code, 0, "{}", mended.err);
    all_is_well(&host);
    for (name, part) in [("plain", "has no `on_change`"), ("none", "is no target")] {
        let refused = run(name);
        assert!(refused.code != 0 && refused.err.contains(part), "{}", refused.err);
    }
    // Nothing of what it prints is a value.
    assert!(!read_text(&host.log_file()).contains("first-value"));
}

#[test]
fn a_port_that_is_taken_keeps_no_file_from_being_right() {
    let (_world, mut host) = world();
    host.stop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let api = format!("\n[api]\nlisten = \"{address}\"\n");
    configure(&host, &[target(&host, "a", ""), api]);
    host.start();
    patch(&host, "second");
    assert!(read(&host, "a").contains("KEY=second\n"));
    fails_with(&host, "E_LISTEN");
    assert!(host.vault(&["status"]).err.contains("set another port at `listen`"));
    drop(taken);
    all_is_well(&host);
    let token = read_text(&host.state().join("token"));
    let mut over_tcp = host.command(host.bins.vault);
    over_tcp.env("VAULT_ADDR", format!("http://{address}")).env("VAULT_TOKEN", token.trim());
    let got = tests::run(over_tcp.args(["kv", "get", "-field=KEY", SECRET]), "").ok();
    assert_eq!(got.trim(), "second");
}

/// Starts the host's agent by a line for `sh`, in which `"$0"` is the agent.
fn start_by(host: &mut Host, line: &str) {
    let agent = host.command(host.bins.agent);
    let mut command = host.command("sh");
    command.args(["-euc", line]).arg(agent.get_program());
    host.agent = Some(tests::Daemon::start(command, &host.log_file()));
}

#[test]
fn with_few_descriptors_files_are_still_written() {
    let (_world, mut host) = world();
    configure(&host, &[target(&host, "a", "on_change = \"echo ran >>log\"")]);
    all_is_well(&host);
    host.stop();
    start_by(&mut host, "ulimit -n 64; exec \"$0\" run");
    let socket = host.state().join("agent.sock");
    let connect = || std::os::unix::net::UnixStream::connect(&socket);
    // Some wait in the kernel's queue: as many as there are, nobody else is shut out.
    let idle: Vec<_> = (0..100).map(|_| connect().unwrap()).collect();
    for n in 0..5 {
        patch(&host, &format!("value-{n}"));
        watch::until(&home(&host, "a"), |text| text.contains(&format!("KEY=value-{n}\n")));
    }
    all_is_well(&host);
    let lines = host.agent.as_ref().unwrap().log().lines().count();
    assert!(lines < 200, "{lines} lines of log");
    drop(idle);
}

#[test]
fn a_hangup_that_is_ignored_ends_nothing() {
    let (_world, mut host) = world();
    configure(&host, &[target(&host, "a", "")]);
    all_is_well(&host);
    host.stop();
    let hang_up = |host: &Host| {
        let pid = host.agent.as_ref().unwrap().pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    start_by(&mut host, "trap '' HUP; exec \"$0\" run");
    hang_up(&host);
    patch(&host, "second");
    assert!(read(&host, "a").contains("KEY=second\n"));
    host.stop();
    // Without that it ends the agent, whatever whoever runs this test has ignored.
    start_by(&mut host, "exec env --default-signal=HUP \"$0\" run");
    hang_up(&host);
    watch::poll("the agent has ended", || {
        host.agent_command(&["status"]).err.contains("no agent answers").then_some(())
    });
}
