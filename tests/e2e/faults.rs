//! Disks that are full, read-only or gone, folders that vanish or are somebody else's: the old content stays, an alarm
//! names file and reason, and all heals without a restart once the fault is gone.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::mounts::{self, Disk};
use tests::{Daemon, Host, World, bins, watch};

const SECRET: &str = "secret/app";

/// A machine with one target, on which `more` is said, in a folder of its own.
struct Desk {
    host: Host,
    file: PathBuf,
}

impl Desk {
    fn new(world: &World, folder: &str, more: &str) -> Self {
        let host = world.owner("rtx1080");
        let file = host.dir.join("home").join(folder).join(".env");
        let desk = Self { host, file };
        let _ = desk.host.vault(&["kv", "put", SECRET, "A=old"]).ok();
        let text = format!(
            "[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\nheader = false\n{more}\n",
            desk.file.display()
        );
        save(&desk.host.state().join("agent.toml"), &text);
        desk.holds("A=old\n");
        desk
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap()
    }

    fn put(&self, value: &str) {
        let _ = self.host.vault(&["kv", "put", SECRET, &format!("A={value}")]).ok();
    }

    /// Waits until the file holds exactly `text`.
    fn holds(&self, text: &str) {
        let held = || std::fs::read_to_string(&self.file).is_ok_and(|found| found == text);
        watch::poll(text, || held().then_some(()));
    }

    /// Waits until `vault status` names the file and `why`, and fails.
    fn alarmed(&self, why: &str) {
        watch::poll(why, || {
            let ran = self.host.vault(&["status"]);
            let named = |line: &&str| line.contains("E_TARGET") && line.contains(why);
            let line = ran.err.lines().find(named)?;
            assert!(line.contains(".env"), "{line}");
            assert_eq!(ran.code, 2);
            Some(())
        });
    }

    /// Waits until nothing is wrong any more.
    fn healed(&self) {
        watch::poll("the alarm is over", || (self.host.vault(&["status"]).code == 0).then_some(()));
    }
}

fn save(file: &Path, text: &str) {
    std::fs::File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    mounts::own(|| {
        let world = World::new(bins!());
        let disk = Disk::new(&world.dir().join("rtx1080/home/disk"), "64k");
        let desk = Desk::new(&world, "disk", "");
        disk.fill();
        desk.put("new");
        desk.alarmed("No space left on device");
        desk.holds("A=old\n");
        assert_eq!(names(desk.folder()).len(), 2, "the file and what fills the disk");
        disk.make_room();
        desk.holds("A=new\n");
        desk.healed();
    });
}

#[test]
fn a_read_only_disk_keeps_the_old_file() {
    mounts::own(|| {
        let world = World::new(bins!());
        let disk = Disk::new(&world.dir().join("rtx1080/home/disk"), "64k");
        let desk = Desk::new(&world, "disk", "");
        disk.set_writable(false);
        desk.put("new");
        desk.alarmed("Read-only file system");
        desk.holds("A=old\n");
        disk.set_writable(true);
        desk.holds("A=new\n");
        desk.healed();
    });
}

#[test]
fn nothing_is_written_below_a_mount_that_is_absent() {
    mounts::own(|| {
        let world = World::new(bins!());
        let point = world.dir().join("rtx1080/home/disk");
        let disk = Disk::new(&point, "64k");
        let more = format!("require_mount = \"{}\"", point.display());
        let mut desk = Desk::new(&world, "disk", &more);
        disk.unmount();
        desk.alarmed("nothing is mounted at");
        desk.put("new");
        desk.host.stop();
        desk.host.start();
        desk.alarmed("nothing is mounted at");
        assert!(names(&point).is_empty(), "the bare mount point stays bare");
        disk.mount();
        desk.holds("A=new\n");
        desk.healed();
        assert_eq!(names(&point), [".env"]);
    });
}

#[test]
fn a_disk_that_is_mounted_later_gets_its_file() {
    mounts::own(|| {
        let world = World::new(bins!());
        let desk = Desk::new(&world, ".", "");
        // Over the folder that the agent is watching.
        let disk = Disk::new(desk.folder(), "64k");
        desk.holds("A=old\n");
        disk.unmount();
        desk.put("new");
        desk.holds("A=new\n");
        desk.healed();
    });
}

#[test]
fn a_vanished_folder_is_waited_for() {
    let world = World::new(bins!());
    let folder = world.dir().join("rtx1080/home/app");
    std::fs::create_dir_all(&folder).unwrap();
    let desk = Desk::new(&world, "app", "");
    std::fs::remove_dir_all(&folder).unwrap();
    desk.put("new");
    desk.alarmed("does not exist");
    assert!(!folder.exists(), "the agent makes no folders");
    // A link in its place is not followed.
    let elsewhere = world.dir().join("rtx1080/home/elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
    desk.alarmed("is a symbolic link");
    assert!(names(&elsewhere).is_empty());
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    desk.holds("A=new\n");
    desk.healed();
}

/// The agent without a single right beyond its user's, so that root's files refuse it as anybody's.
fn start_without_rights(host: &mut Host) {
    let agent = host.command(host.bins.agent);
    let mut command = host.command("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(agent.get_program()).arg("run");
    host.agent = Some(Daemon::start(command, &host.log_file()));
}

#[test]
fn a_folder_of_somebody_else_keeps_the_old_file() {
    mounts::own(|| {
        let world = World::new(bins!());
        let folder = world.dir().join("rtx1080/home/app");
        std::fs::create_dir_all(&folder).unwrap();
        let mut desk = Desk::new(&world, "app", "");
        desk.host.stop();
        start_without_rights(&mut desk.host);
        let run = |program: &str, what: &str| {
            let ran = Command::new(program).arg(what).arg(&folder).status().unwrap();
            ran.success()
        };
        // A user's namespace knows no second user.
        let foreign = run("chown", "65534") || run("chmod", "0555");
        assert!(foreign);
        desk.put("new");
        desk.alarmed("Permission denied");
        desk.holds("A=old\n");
        assert!(run("chown", "0") && run("chmod", "0755"));
        desk.holds("A=new\n");
        desk.healed();
        let file = desk.file.metadata().unwrap();
        assert_eq!(file.mode() & 0o777, 0o600);
        assert_eq!(names(&folder), [".env"]);
    });
}
