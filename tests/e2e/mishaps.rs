//! What a hurried owner does to a server: a wrong address, a key that is lost or changed twice, and
//! backups to places that are none. Each is refused, or ends well.

use std::os::unix::fs::symlink;
use std::path::Path;

use tests::mounts::{self, Disk};
use tests::{Port, World, bins, find_line, watch};

use crate::aftermath::{Aftermath, SECRET, give_up_what_is_lost};
use crate::restored::{put, put_when_back, shows};
use crate::server::{adopting, arrives, new_server, rekey, restart, three};

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_move_to_another_vaults_server_is_refused_and_one_to_nobodys_address_harms_nothing() {
    let (world, elsewhere) = (World::new(bins!()), World::new(bins!()));
    let (rtx, vps, thinkpad) = three(&world);
    let head = rtx.vault(&["log"]).ok();
    let refused = rtx.vault(&["server", "move", elsewhere.address(), "--yes"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    let named = format!("E_SERVER_PIN: at {} answers a server", elsewhere.address());
    assert!(refused.err.contains(&named) && refused.err.contains("hint: "), "{}", refused.err);
    assert_eq!(rtx.vault(&["log"]).ok(), head, "nothing is signed");
    let nobody = Port::reserve();
    let nobody = nobody.address().to_string();
    let moved = rtx.vault(&["server", "move", &nobody, "--yes"]);
    assert_eq!(moved.code, 0, "{}", moved.err);
    assert!(moved.err.contains(&format!("nobody answers at {nobody} yet")), "{}", moved.err);
    arrives(&rtx, &[&vps, &thinkpad], "two");
    let back = rtx.vault(&["server", "move", world.address(), "--yes"]);
    assert!(back.code == 0 && !back.err.contains("nobody answers"), "{}", back.err);
    let hosts = &[&rtx, &vps, &thinkpad];
    Aftermath { world: &world, hosts, value: "two", gone: None, resumed: false }.check();
}

#[test]
fn a_key_that_is_changed_twice_while_a_host_sleeps_is_accepted_by_one_line() {
    let mut world = World::new(bins!());
    let (rtx, mut vps, thinkpad) = three(&world);
    vps.stop();
    rekey(&mut world, &rtx);
    // The next one is lost before the server takes it.
    let lost = world.server_command(&["rekey"]).ok();
    let _ = rtx.vault(&["server", "rekey", lost.trim(), "--yes"]).ok();
    std::fs::remove_file(world.data().join("server.key.next")).unwrap();
    restart(&mut world);
    put_when_back(&rtx, "secret/jjeco/awake", "K=3");
    let waits = rtx.vault(&["server", "rekey", "--yes"]);
    assert!(waits.err.contains("`vault-server rekey` prints another"), "{}", waits.err);
    rekey(&mut world, &rtx);
    arrives(&rtx, &[&thinkpad], "two");

    vps.start();
    shows(&vps, "E_SERVER_PIN");
    assert!(vps.env().contains("one"), "the file stays");
    let line = rtx.vault(&["server", "rekey", "--line", "vps"]).ok();
    let joined = vps.agent_command(&["join", &find_line(&line, "VLTP1-")]);
    assert_eq!(joined.code, 0, "{}", joined.err);
    watch::until(&vps.env_file(), |text| text.contains("two"));
    let hosts = &[&rtx, &vps, &thinkpad];
    Aftermath { world: &world, hosts, value: "two", gone: None, resumed: false }.check();
}

#[test]
fn a_server_with_another_key_that_burns_twice_is_made_anew_twice() {
    let mut world = World::new(bins!());
    let (rtx, vps, thinkpad) = three(&world);
    // It knows nothing of the key that comes.
    let backup = world.dir().join("backup");
    let _ = world.server_command(&["backup", backup.to_str().unwrap()]).ok();
    rekey(&mut world, &rtx);
    let hosts = [&rtx, &vps, &thinkpad];
    for (value, backup) in [("two", Some(&*backup)), ("three", None)] {
        arrives(&rtx, &hosts[1..], value);
        world.server.as_mut().unwrap().kill();
        world.burn();
        let args = adopting(&world, &new_server(&world, backup));
        world.start();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let adopted = rtx.vault(&args);
        assert_eq!(adopted.code, 0, "{}{}", adopted.out, adopted.err);
        for host in [&vps, &thinkpad] {
            let named = format!("{}: ", host.name);
            let line = adopted.out.lines().find(|line| line.starts_with(&named)).unwrap();
            let joined = host.agent_command(&["join", &find_line(line, "VLTP1-")]);
            assert_eq!(joined.code, 0, "{}", joined.err);
        }
        give_up_what_is_lost(&rtx);
        Aftermath { world: &world, hosts: &hosts, value, gone: None, resumed: true }.check();
    }
}

#[test]
fn a_backup_goes_through_no_link_and_into_no_folder_of_a_stranger() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    assert_eq!(put(&rtx, SECRET, "K=one"), 0);
    let folder = world.dir().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let whole = folder.join("whole");
    let _ = world.server_command(&["backup", whole.to_str().unwrap()]).ok();
    let before = std::fs::read(&whole).unwrap();
    for (name, to) in [("old", "whole"), ("dangling", "nothing")] {
        let link = folder.join(name);
        symlink(to, &link).unwrap();
        let refused = world.server_command(&["backup", link.to_str().unwrap()]);
        assert!(refused.code == 1 && refused.err.contains("is a link"), "{}", refused.err);
        assert!(refused.err.contains("hint: name that file itself"), "{}", refused.err);
    }
    assert!(std::fs::read(&whole).unwrap() == before);
    assert_eq!(names(&folder), ["dangling", "old", "whole"]);
    // A folder may be reached by a link.
    let link = world.dir().join("disk");
    symlink(&folder, &link).unwrap();
    let _ = world.server_command(&["backup", link.to_str().unwrap()]).ok();
    assert_eq!(names(&folder).len(), 4);
    if !rustix::process::geteuid().is_root() {
        // Only root can give folders away, and has others' opened.
        return;
    }
    std::os::unix::fs::chown(&folder, Some(54_321), None).unwrap();
    let refused = world.server_command(&["backup", folder.to_str().unwrap()]);
    let named = "is user 54321's, who could have root write elsewhere\nhint: choose a folder";
    assert!(refused.code == 1 && refused.err.contains(named), "{}", refused.err);
    assert_eq!(names(&folder).len(), 4);
}

#[test]
fn a_backup_to_a_full_disk_leaves_the_ones_before() {
    mounts::own(|| {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        assert_eq!(put(&rtx, SECRET, "K=one"), 0);
        let point = world.dir().join("disk");
        let disk = Disk::new(&point, "2m");
        let args = ["backup", point.to_str().unwrap(), "--keep", "1"];
        let made = world.server_command(&args).ok();
        let before = names(&point);
        disk.fill();
        let refused = world.server_command(&args);
        assert_eq!(refused.code, 1, "{}", refused.err);
        assert!(refused.err.contains("disk is full"), "{}", refused.err);
        assert!(refused.err.contains("hint: "), "{}", refused.err);
        disk.make_room();
        assert_eq!(names(&point), before);
        let checked = world.server_command(&["check", made.trim()]);
        assert_eq!(checked.code, 0, "{}", checked.err);
        let _ = world.server_command(&args).ok();
        assert_eq!(names(&point).len(), 1);
    });
}
