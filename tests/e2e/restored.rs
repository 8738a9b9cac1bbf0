//! A server that was set back: what comes back by itself, what an owner resumes, who follows, and
//! what is kept aside.

use tests::{Host, Kept, World, bins, find_line, watch};

/// Stops the server, copies what it keeps, and starts it again.
fn back_up(world: &mut World) -> Kept {
    world.server.as_mut().unwrap().stop();
    let kept = world.keep("backup");
    world.start();
    kept
}

/// Puts the copy back; `whole` with all that lies beside the database, else the database alone.
fn put_back(world: &mut World, kept: &Kept, whole: bool) {
    world.server.as_mut().unwrap().stop();
    if whole {
        world.put_back(kept);
    } else {
        world.put_database_back(kept);
    }
    world.start();
}

/// Puts all of the copy back, and waits until both sides know that the server was set back.
fn put_all_back(world: &mut World, backup: &Kept, host: &Host) {
    put_back(world, backup, true);
    shows(host, "E_SERVER_BEHIND");
    watch::poll("the server knows that it was set back", || {
        world.data().join("resume-code").exists().then_some(())
    });
}

pub(crate) fn put(host: &Host, path: &str, pair: &str) -> i32 {
    host.vault(&["kv", "put", path, pair]).code
}

/// An owner, and a machine with a target that has written version 2 of it after the copy was made.
fn vps_writes_after_the_copy() -> (World, Host, Host, Kept) {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let _ = rtx.vault(&["access", "set", "vps", "--read", "*", "--write", "*", "--yes"]).ok();
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=one"), 0);
    vps.target(&["secret/jjeco/a"]);
    watch::until(&vps.env_file(), |text| text.contains("one"));
    let backup = back_up(&mut world);
    put_when_back(&vps, "secret/jjeco/a", "K=two");
    (world, rtx, vps, backup)
}

/// Writes until that works: the agents notice within seconds that a server is back.
pub(crate) fn put_when_back(host: &Host, path: &str, pair: &str) {
    watch::poll("writes go on", || (put(host, path, pair) == 0).then_some(()));
}

pub(crate) fn holds(host: &Host, path: &str, value: &str) {
    watch::poll("the value arrives", || {
        let read = host.vault(&["kv", "get", "-field=K", path]);
        (read.out.trim() == value).then_some(())
    });
}

pub(crate) fn shows(host: &Host, text: &str) -> String {
    watch::poll("the status tells", || {
        let status = host.vault(&["status"]);
        status.err.contains(text).then_some(status.err)
    })
}

/// Waits until no alarm stands, and checks that the whole audit chain is in order.
pub(crate) fn is_clean(host: &Host) {
    watch::poll("no alarm stands", || {
        (!host.vault(&["status"]).err.contains("alarm ")).then_some(())
    });
    let verified = host.vault(&["audit", "verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

pub(crate) fn code(world: &World) -> String {
    std::fs::read_to_string(world.data().join("resume-code")).unwrap()
}

#[test]
fn a_database_alone_put_back_is_whole_once_it_is_healed() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=one"), 0);
    rtx.target(&["secret/jjeco/a"]);
    watch::until(&rtx.env_file(), |text| text.contains("one"));
    let backup = back_up(&mut world);
    put_when_back(&rtx, "secret/jjeco/a", "K=two");
    put_when_back(&rtx, "secret/jjeco/b", "K=three");
    watch::until(&rtx.env_file(), |text| text.contains("two"));
    holds(&vps, "secret/jjeco/b", "three");
    watch::poll("the server has shown later audit records with its answer to a report", || {
        let status = vps.vault(&["status"]).out;
        let mut rows = status.lines().filter(|row| row.starts_with("rtx1080"));
        rows.any(|row| row.matches(" v2 ").count() == 2).then_some(())
    });

    put_back(&mut world, &backup, false);
    shows(&rtx, "E_SERVER_BEHIND");
    let refused = rtx.vault(&["kv", "put", "secret/jjeco/a", "K=four"]);
    assert_ne!(refused.code, 0, "changes fail closed");
    assert!(rtx.env().contains("two"), "the file stays");
    holds(&vps, "secret/jjeco/b", "three");
    let healed = rtx.vault(&["heal"]);
    assert_eq!(healed.code, 2, "{}{}", healed.out, healed.err);
    assert!(healed.err.contains("given back: "), "{}", healed.err);
    // The records since the copy are gone; nobody has resumed, so a person has to say so.
    let way_out = "vault heal --clear E_AUDIT_REWRITTEN";
    assert!(healed.err.contains(way_out), "{}", healed.err);
    assert!(shows(&rtx, "alarm E_AUDIT_REWRITTEN").contains(way_out));
    put_when_back(&rtx, "secret/jjeco/a", "K=five");
    watch::until(&rtx.env_file(), |text| text.contains("five"));
    holds(&vps, "secret/jjeco/a", "five");
    let again = rtx.vault(&["heal"]);
    assert_eq!((again.code, again.err.contains("lacks nothing")), (2, true), "{}", again.err);
    assert!(!world.data().join("resume-code").exists());
    let _ = rtx.vault(&["heal", "--clear", "E_AUDIT_REWRITTEN"]).ok();
    assert_eq!(rtx.vault(&["heal"]).code, 0);
    is_clean(&rtx);
}

#[test]
fn a_whole_data_directory_put_back_is_resumed_and_everybody_follows() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let gone = world.machine(&rtx, "gone", &["secret/jjeco/"]);
    assert_eq!(put(&rtx, "secret/jjeco/a", "K=one"), 0);
    let _ = rtx.vault(&["access", "set", "gone", "--read", "*", "--write", "*", "--yes"]).ok();
    holds(&gone, "secret/jjeco/a", "one");
    let backup = back_up(&mut world);
    put_when_back(&rtx, "secret/jjeco/a", "K=two");
    let _ = rtx.vault(&["machine", "remove", "gone", "--yes"]).ok();
    put_when_back(&rtx, "secret/jjeco/a", "K=three");
    holds(&vps, "secret/jjeco/a", "three");

    put_back(&mut world, &backup, true);
    shows(&rtx, "E_SERVER_BEHIND");
    let refused = rtx.vault(&["kv", "put", "secret/jjeco/a", "K=four"]);
    assert_ne!(refused.code, 0, "changes fail closed");
    holds(&rtx, "secret/jjeco/a", "three");
    holds(&vps, "secret/jjeco/a", "three");
    // The one whose removal was lost must not write into the past.
    watch::poll("the server knows that it was set back", || {
        world.data().join("resume-code").exists().then_some(())
    });
    let written = gone.vault(&["kv", "put", "secret/jjeco/a", "K=past"]);
    assert_ne!(written.code, 0, "{}", written.err);

    let lost = rtx.vault_with(&["resume", "--code", "-", "--yes"], &code(&world));
    assert_eq!(lost.code, 2, "{}", lost.err);
    assert!(lost.err.contains("removed gone") && lost.err.contains("--lose "), "{}", lost.err);
    let healed = rtx.vault(&["heal"]);
    assert_eq!(healed.code, 2, "{}", healed.err);
    assert!(healed.err.contains("vault resume"), "{}", healed.err);
    let wrong = "0".repeat(64);
    let wrong = rtx.vault_with(&["resume", "--code", "-", "--yes"], &wrong);
    assert!(wrong.code != 0 && wrong.err.contains("E_CLAIM"), "{}", wrong.err);
    let resumed = rtx.vault_with(&["resume", "--code", "-", "--yes"], &code(&world));
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert!(resumed.err.contains("vps: reads") && !resumed.err.contains("gone: reads"));
    assert!(!world.data().join("resume-code").exists(), "the code is good for once");
    put_when_back(&rtx, "secret/jjeco/a", "K=four");
    holds(&vps, "secret/jjeco/a", "four");
    // What no machine keeps is lost for good: it is named until somebody has said so.
    let lost = rtx.vault(&["heal"]);
    assert_eq!((lost.code, lost.out.trim()), (2, "secret/jjeco/a v2"), "{}", lost.err);
    let _ = rtx.vault(&["kv", "destroy", "-versions=2", "secret/jjeco/a"]).ok();
    assert_eq!(rtx.vault(&["heal"]).code, 0);
    let written = gone.vault(&["kv", "put", "secret/jjeco/a", "K=past"]);
    assert_ne!(written.code, 0, "{}", written.err);
    is_clean(&rtx);
    assert!(vps.agent_command(&["set-aside"]).err.contains("nothing is set aside"));
}

#[test]
fn what_is_lost_has_to_be_named_and_is_kept_aside() {
    let (mut world, rtx, vps, backup) = vps_writes_after_the_copy();
    holds(&rtx, "secret/jjeco/a", "two");
    let _ = rtx.vault(&["machine", "remove", "vps", "--yes"]).ok();

    put_all_back(&mut world, &backup, &rtx);
    let (args, code) = (["resume", "--code", "-", "--yes"], code(&world));
    let refused = rtx.vault_with(&args, &code);
    assert_eq!(refused.code, 2, "{}", refused.err);
    let lose = refused.err.split("--lose ").nth(1).unwrap().split_whitespace().next().unwrap();
    let lose: u64 = lose.trim_matches('`').parse().unwrap();
    let other = (lose + 1).to_string();
    assert_eq!(rtx.vault_with(&[&args[..], &["--lose", &other]].concat(), &code).code, 2);
    let lose = lose.to_string();
    let args = [&args[..], &["--lose", &lose, "--remove", "vps"]].concat();
    let resumed = rtx.vault_with(&args, &code);
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    let accept = find_line(&resumed.err.replace("accept ", "accept:"), "accept:");
    assert!(accept.len() > 64, "{}", resumed.err);
    // Here an owner has seen what goes; the machine is removed again.
    let list = rtx.vault(&["machine", "list", "--all"]);
    assert!(list.out.lines().any(|line| line.contains("vps") && line.contains("removed")));
    holds(&rtx, "secret/jjeco/a", "one");
    put_when_back(&rtx, "secret/jjeco/a", "K=three");
    let aside = rtx.agent_command(&["set-aside"]);
    assert!(aside.out.contains("wrote secret/jjeco/a v2"), "{}", aside.out);
    let shown = rtx.agent_command(&["set-aside", "--show", "secret/jjeco/a"]);
    assert!(shown.out.contains("two"), "{}{}", shown.out, shown.err);
    let _ = rtx.agent_command(&["set-aside", "--clear"]).ok();
    assert_ne!(put(&vps, "secret/jjeco/a", "K=past"), 0, "it is out");
    assert!(vps.env().contains("two"), "its file stays as it was");
    is_clean(&rtx);
}

#[test]
fn a_file_keeps_what_the_vault_went_on_without_until_there_is_something_newer() {
    let (mut world, rtx, vps, backup) = vps_writes_after_the_copy();
    watch::until(&vps.env_file(), |text| text.contains("two"));
    holds(&rtx, "secret/jjeco/a", "two");

    put_all_back(&mut world, &backup, &rtx);
    let args = ["resume", "--code", "-", "--lose", "1", "--yes"];
    let resumed = rtx.vault_with(&args, &code(&world));
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    let told = shows(&vps, "alarm set-aside");
    assert!(told.contains("wrote secret/jjeco/a v2"), "{told}");
    assert!(vps.env().contains("two"), "the file stays");
    holds(&vps, "secret/jjeco/a", "one");
    let shown = vps.agent_command(&["set-aside", "--show", "secret/jjeco/a"]);
    assert!(shown.out.contains("two"), "{}{}", shown.out, shown.err);
    // It is version 2 again, and another content: the file follows.
    put_when_back(&rtx, "secret/jjeco/a", "K=three");
    watch::until(&vps.env_file(), |text| text.contains("three"));
    let _ = vps.agent_command(&["set-aside", "--clear"]).ok();
    is_clean(&rtx);
    is_clean(&vps);
}
