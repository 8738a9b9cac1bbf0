//! SIGKILL while a server is moved, gets another key, is made anew or is looked through: the same
//! command again goes on, and nothing is signed twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tests::{Host, Port, World, bins, find_line};

use crate::aftermath::{Aftermath, SECRET, give_up_what_is_lost};
use crate::moment::{killed_at, killed_at_touch, moments};
use crate::restored::put;
use crate::server::{adopting, arrives, new_server, restart};

/// Returns the number of the last entry that the server has.
fn last_entry(world: &World) -> i64 {
    world.tables().query_row("SELECT max(seq) FROM log", [], |row| row.get(0)).unwrap()
}

/// Has `vault ARGS` killed at a moment, and run again.
fn killed_and_again(world: &World, owner: &Host, args: &[&str], moment: usize) -> tests::Ran {
    let mut command = owner.command(owner.bins.vault);
    command.args(args);
    let killed = killed_at_touch(command, world.dir(), moment);
    let how = if killed { "killed" } else { "it had ended" };
    println!("{}, moment {moment}: {how}", args.join(" "));
    owner.vault(args)
}

#[test]
fn a_move_killed_at_any_moment_goes_on_with_the_same_command() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let port = Port::reserve();
    let addresses = [port.address().to_string(), world.address().to_owned()];
    for (n, moment) in moments(25).into_iter().enumerate() {
        let args = ["server", "move", &addresses[n % 2], &addresses[(n + 1) % 2], "--yes"];
        let before = last_entry(&world);
        let again = killed_and_again(&world, &rtx, &args, moment);
        assert_eq!(again.code, 0, "{}", again.err);
        let last = rtx.vault(&args);
        assert!(last.code == 0 && last.err.contains("nothing changes"), "{}", last.err);
        assert_eq!(last_entry(&world), before + 1, "it is signed once");
    }
    assert_eq!(put(&rtx, SECRET, "K=one"), 0);
    let hosts = &[&rtx];
    Aftermath { world: &world, hosts, value: "one", gone: None, resumed: false }.check();
}

#[test]
fn another_key_killed_at_any_moment_of_either_half_goes_on() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    assert_eq!(put(&rtx, SECRET, "K=one"), 0);
    vps.target(&[SECRET]);
    for moment in moments(40) {
        let before = std::fs::read(world.data().join("server.key")).unwrap();
        let at = last_entry(&world);
        // On the server's host.
        killed_at(world.program(&["rekey"]), &world.data(), moment % 4 + 1);
        let key = world.server_command(&["rekey"]).ok();
        // The first half.
        let both = ["server", "rekey", key.trim(), "--yes"];
        let again = killed_and_again(&world, &rtx, &both, moment);
        assert!(again.code == 0 || again.err.contains("still runs with the old key"));
        // The server, while it takes the key.
        world.server.as_mut().unwrap().stop();
        killed_at(world.program(&["run"]), &world.data(), moment % 4 + 1);
        world.start();
        assert_ne!(std::fs::read(world.data().join("server.key")).unwrap(), before);
        assert!(!world.data().join("server.key.next").exists());
        arrives(&rtx, &[&vps], &format!("{moment} by both keys"));
        // The second half.
        let one = ["server", "rekey", "--yes"];
        let again = killed_and_again(&world, &rtx, &one, moment);
        assert!(again.code == 0 || again.err.contains("no new key is named"), "{}", again.err);
        arrives(&rtx, &[&vps], &format!("{moment} by the new key"));
        assert_eq!(last_entry(&world), at + 4, "each half is signed once");
    }
    restart(&mut world);
    arrives(&rtx, &[&vps], "last");
    let hosts = &[&rtx, &vps];
    Aftermath { world: &world, hosts, value: "last", gone: None, resumed: false }.check();
}

#[test]
fn a_server_made_anew_and_killed_at_any_moment_is_made_by_the_same_command() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    assert_eq!(put(&rtx, SECRET, "K=0"), 0);
    rtx.target(&[SECRET]);
    for moment in moments(10) {
        world.server.as_mut().unwrap().kill();
        world.burn();
        host::files::create_dir_private(&world.data()).unwrap();
        let init = ["init", "--adopt", "--listen", world.address()];
        let killed = killed_at(world.program(&init), &world.data(), moment);
        println!("moment {moment}: {}", if killed { "killed" } else { "it had ended" });
        let adopt = adopting(&world, &new_server(&world, None));
        let adopt: Vec<&str> = adopt.iter().map(String::as_str).collect();
        world.start();
        let again = killed_and_again(&world, &rtx, &adopt, moment * 6);
        assert_eq!(again.code, 0, "{}", again.err);
        arrives(&rtx, &[&rtx], &moment.to_string());
        give_up_what_is_lost(&rtx);
        let (hosts, value) = (&[&rtx], moment.to_string());
        Aftermath { world: &world, hosts, value: &value, gone: None, resumed: true }.check();
    }
}

/// What files of a server hold, but for those that come and go with whoever reads its database.
fn held(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = tests::files_below(data).into_iter();
    let files = files.filter(|file| !file.to_string_lossy().contains("vault.db-"));
    files.map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn a_check_killed_at_any_moment_harms_nothing() {
    let mut world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    for n in 0..20 {
        assert_eq!(put(&rtx, SECRET, &format!("K={n}")), 0);
    }
    for moment in moments(8) {
        // Beside the server, and alone.
        killed_at_touch(world.program(&["check"]), &world.data(), moment);
        let checked = world.server_command(&["check"]);
        assert_eq!(checked.code, 0, "{}", checked.err);
        assert_eq!(put(&rtx, SECRET, &format!("K={moment}")), 0);
        world.server.as_mut().unwrap().stop();
        let before = held(&world.data());
        killed_at_touch(world.program(&["check"]), &world.data(), moment);
        assert!(before == held(&world.data()), "it only reads");
        world.start();
        arrives(&rtx, &[], "on");
    }
    let backup = world.dir().join("backup");
    let backup = backup.to_str().unwrap();
    let made = world.server_command(&["backup", backup]).ok();
    assert_eq!(find_line(&made, "/"), backup);
}
