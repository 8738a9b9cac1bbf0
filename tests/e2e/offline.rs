//! Machines that sleep, and a server that is gone.

use std::os::unix::net::UnixStream;

use tests::{World, bins, watch};

use crate::three_hosts::homelab;

const SECRET: &str = "secret/jjeco/api-keys";

#[test]
fn a_machine_that_slept_gets_the_newest_content_in_one_write() {
    let world = World::new(bins!());
    let [rtx, _vps, mut thinkpad] = homelab(&world);
    watch::until(&thinkpad.hook_log(), |text| !text.is_empty());
    // A hook whose end the agent has not seen would be run again, rightly.
    watch::poll("its hook has ended", || {
        let status = rtx.vault(&["status"]).out;
        status.lines().any(|row| row.starts_with("thinkpad") && row.contains(" ok ")).then_some(())
    });
    let before = thinkpad.hook_runs();
    thinkpad.stop();
    for n in 1..=4 {
        let _ = rtx.vault(&["kv", "patch", SECRET, &format!("STRIPE_API_KEY=value-{n}")]).ok();
    }
    let asleep = thinkpad.env();
    assert!(!asleep.contains("value-"), "an agent that is stopped writes nothing");
    // A command there reports to the others, but has looked at no file.
    assert_eq!(thinkpad.vault(&["kv", "get", "-field=STRIPE_API_KEY", SECRET]).ok(), "value-4");
    let status = rtx.vault(&["status"]).out;
    assert!(status.lines().any(|row| row.starts_with("thinkpad")), "{status}");
    thinkpad.start();
    watch::until(&thinkpad.env_file(), |text| text.contains("STRIPE_API_KEY=value-4\n"));
    watch::until(&thinkpad.hook_log(), |text| text.lines().count() > before);
    rtx.is_well();
    assert_eq!(thinkpad.hook_runs(), before + 1, "four changes, one write");
}

#[test]
fn with_the_server_gone_files_are_right_and_reads_say_their_age() {
    let mut world = World::new(bins!());
    let [rtx, mut vps, _thinkpad] = homelab(&world);
    let right = vps.env();
    vps.stop();
    world.server.as_mut().unwrap().kill();
    std::fs::remove_file(vps.env_file()).unwrap();
    vps.start();
    assert_eq!(vps.env(), right, "a ready agent has written its targets, server or not");

    let read = vps.vault(&["kv", "get", "-field=OPENAI_API_KEY", SECRET]);
    assert_eq!(read.code, 0, "{}", read.err);
    assert!(right.contains(&format!("OPENAI_API_KEY={}\n", read.out)), "{}", read.out);
    assert!(read.err.contains("cache") && read.err.contains("old"), "{}", read.err);

    let write = rtx.vault(&["kv", "put", SECRET, "A=b"]);
    assert_eq!(write.code, 2, "a write needs the server");
    assert_eq!(vps.env(), right);
    world.start();
    // No pause between two tries keeps a write waiting, let alone refuses it.
    let _ = rtx.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=back"]).ok();
    watch::until(&vps.env_file(), |text| text.contains("OPENAI_API_KEY=back\n"));
}

#[test]
fn with_no_agent_running_the_command_line_answers_itself() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    rtx.stop();
    let _ = rtx.vault(&["kv", "put", SECRET, "KEY=value"]).ok();
    assert_eq!(rtx.vault(&["kv", "get", "-field=KEY", SECRET]).ok(), "value");
    rtx.start();
    assert_eq!(rtx.vault(&["kv", "get", "-field=KEY", SECRET]).ok(), "value");
    let log = rtx.vault(&["audit", "log", "--op", "local_read"]).ok();
    assert!(log.contains(SECRET), "the read without an agent is on record:\n{log}");
}

#[test]
fn many_commands_at_once_take_turns_where_no_agent_runs() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    rtx.stop();
    let names: Vec<String> = (0..8).map(|n| format!("secret/at-once/{n}")).collect();
    let each = |run: &(dyn Fn(&str) -> tests::Ran + Sync)| -> Vec<String> {
        std::thread::scope(|scope| {
            let running: Vec<_> = names.iter().map(|name| scope.spawn(move || run(name))).collect();
            running.into_iter().map(|running| running.join().unwrap().ok()).collect()
        })
    };
    each(&|name| rtx.vault(&["kv", "put", name, &format!("KEY=of {name}")]));
    let read = each(&|name| rtx.vault(&["kv", "get", "-field=KEY", name]));
    assert_eq!(read, names.iter().map(|name| format!("of {name}")).collect::<Vec<_>>());
    let socket = rtx.state().join("agent.sock");
    assert!(UnixStream::connect(socket).is_err(), "nobody has left an agent behind");
}

#[test]
fn an_offline_read_asks_no_server() {
    let world = World::new(bins!());
    let [rtx, mut vps, _thinkpad] = homelab(&world);
    let first = vps.env();
    let _ = rtx.vault(&["kv", "patch", SECRET, "OPENAI_API_KEY=newer"]).ok();
    watch::until(&vps.env_file(), |text| text.contains("OPENAI_API_KEY=newer\n"));
    // What it read before is in its memory still.
    vps.stop();
    vps.start();
    let get = |more: &[&str]| {
        vps.vault(&[&["kv", "get", "-field=OPENAI_API_KEY"], more, &[SECRET]].concat())
    };
    assert_eq!(get(&["-offline"]).ok(), "newer");
    let old = get(&["-offline", "-version=1"]);
    assert_eq!(old.code, 2, "{}", old.err);
    assert!(old.err.contains("version 1 is not in this machine's cache"), "{}", old.err);
    let asked = get(&["-version=1"]).ok();
    assert!(first.contains(&format!("OPENAI_API_KEY={asked}\n")), "{asked}");
}
