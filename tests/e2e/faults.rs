//! Disks that are full, read-only or gone, folders that vanish or are somebody else's: the old
//! content stays, an alarm names file and reason, and all heals without a restart once the fault is
//! gone.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
            // Why stands in the alarm's line, or in the hint below it.
            let mut lines = ran.err.lines().skip_while(|line| !line.contains("E_TARGET"));
            let (alarm, hint) = (lines.next()?, lines.next().unwrap_or_default());
            if !alarm.contains(why) && !hint.contains(why) {
                return None;
            }
            assert!(alarm.contains(".env"), "{alarm}");
            assert_eq!(ran.code, 2);
            Some(())
        });
    }

    /// Waits until nothing is wrong any more.
    fn healed(&self) {
        self.host.is_well();
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
fn a_disk_that_holds_no_further_file_keeps_the_old_one() {
    mounts::own(|| {
        let world = World::new(bins!());
        let point = world.dir().join("rtx1080/home/disk");
        let _disk = Disk::new(&point, "64k,nr_inodes=5");
        let desk = Desk::new(&world, "disk", "");
        let filler = |n: usize| point.join(format!("filler-{n}"));
        let made = (0..9).take_while(|n| std::fs::File::create(filler(*n)).is_ok()).count();
        assert!((1..9).contains(&made), "{made}");
        desk.put("new");
        desk.alarmed("no inodes are left");
        desk.holds("A=old\n");
        std::fs::remove_file(filler(0)).unwrap();
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
fn a_file_that_is_mounted_over_ours_is_told() {
    mounts::own(|| {
        let world = World::new(bins!());
        let desk = Desk::new(&world, ".", "");
        let other = desk.folder().join("other");
        save(&other, "OTHER=1\n");
        let run = |program: &str, args: &[&Path]| {
            assert!(Command::new(program).args(args).status().unwrap().success());
        };
        run("mount", &[Path::new("--bind"), &other, &desk.file]);
        desk.alarmed("is a mount point");
        desk.put("new");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "OTHER=1\n");
        run("umount", &[&desk.file]);
        desk.holds("A=new\n");
        desk.healed();
        assert_eq!(names(desk.folder()).len(), 2, "{:?}", names(desk.folder()));
    });
}

#[test]
fn a_disk_that_does_not_answer_holds_up_its_own_files_alone() {
    mounts::own(|| {
        let world = World::new(bins!());
        std::fs::create_dir_all(world.dir().join("rtx1080/home/app")).unwrap();
        let desk = Desk::new(&world, "app", "on_change = \"cp .env seen\"");
        let away = desk.host.dir.join("home/away");
        // More than are written at once.
        let files: Vec<PathBuf> = (0..10).map(|n| away.join(format!("{n}/.env"))).collect();
        let config = desk.host.state().join("agent.toml");
        let mut text = std::fs::read_to_string(&config).unwrap();
        for file in &files {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            text += &format!("[[target]]\npath = {file:?}\nsecrets = [\"{SECRET}\"]\n");
        }
        save(&config, &text);
        for file in &files {
            watch::until(file, |text| text.ends_with("A=old\n"));
        }
        let hang = mounts::Hang::over(&away);
        for value in ["new", "newer"] {
            desk.put(value);
            desk.holds(&format!("A={value}\n"));
            let seen = desk.folder().join("seen");
            watch::until(&seen, |text| text.ends_with(&format!("A={value}\n")));
        }
        desk.alarmed("its disk does not answer");
        // Who adds another file is not held up by it, and ends.
        let other = desk.host.dir.join("home/other.env");
        let words = ["target", "add", other.to_str().unwrap(), SECRET];
        let _ = desk.host.agent_command(&words).ok();
        watch::until(&other, |text| text.ends_with("A=newer\n"));
        drop(hang);
        for file in &files {
            watch::until(file, |text| text.ends_with("A=newer\n"));
        }
        desk.healed();
    });
}

#[test]
fn a_log_that_nobody_keeps_does_not_grow_without_bound() {
    let world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    host.stop();
    let (log, full) = (host.state().join("agent.log"), 1 << 20);
    save(&log, &"x".repeat(full - 10));
    let mut command = host.command(host.bins.agent);
    command.arg("run");
    host.agent = Some(Daemon::start(command, &log));
    host.stop();
    let old = std::fs::read_to_string(log.with_extension("log.old")).unwrap();
    assert_eq!(old.len(), full - 10, "it was full with the first line");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.is_empty() && !text.contains("xx"), "{text}");
    assert_eq!(log.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_vanished_folder_is_waited_for() {
    let world = World::new(bins!());
    let folder = world.dir().join("rtx1080/home/app");
    std::fs::create_dir_all(&folder).unwrap();
    let desk = Desk::new(&world, "app", "");
    // At once: file by file, the agent would put back the first while the next goes.
    std::fs::rename(&folder, world.dir().join("rtx1080/home/gone")).unwrap();
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

/// Waits until `vault status` of a machine shows the alarm `code` with `text` in it, or no more.
fn alarm(host: &Host, code: &str, text: &str, stands: bool) {
    watch::poll(code, || {
        let err = host.vault(&["status"]).err;
        let found = err.lines().any(|line| line.contains(code) && line.contains(text));
        (found == stands).then_some(())
    });
}

/// Writes until no more write is acknowledged, and returns the last one that was, if any.
fn put_until_refused(host: &Host, why: &str) -> Option<String> {
    let mut last = None;
    for n in 0..100 {
        let value = format!("full-{n}");
        let ran = host.vault(&["kv", "put", SECRET, &format!("A={value}")]);
        if ran.code != 0 {
            assert!(ran.err.contains(why), "{}", ran.err);
            return last;
        }
        last = Some(value);
    }
    panic!("a full disk takes a hundred writes");
}

#[test]
fn with_a_full_state_folder_a_write_is_refused_and_what_was_acknowledged_stays() {
    mounts::own(|| {
        let world = World::new(bins!());
        let host = world.host("rtx1080");
        let disk = Disk::new(&host.state(), "8m");
        let mut host = world.owner_on(host);
        let vps = world.machine(&host, "vps", &["*"]);
        let _ = host.vault(&["kv", "put", SECRET, "A=old"]).ok();
        host.target(&[SECRET]);
        watch::until(&host.env_file(), |text| text.ends_with("A=old\n"));
        disk.fill();
        let last = put_until_refused(&host, "the disk of this host's database is full");
        let last = format!("A={}\n", last.as_deref().unwrap_or("old"));
        alarm(&host, "E_STATE", "agent.db", true);
        assert!(host.env().ends_with(&last), "{}", host.env());
        disk.make_room();
        let _ = host.vault(&["kv", "put", SECRET, "A=new"]).ok();
        watch::until(&host.env_file(), |text| text.ends_with("A=new\n"));
        alarm(&host, "E_STATE", "", false);
        let field = ["kv", "get", "-field=A", SECRET];
        watch::poll("vps has it", || (vps.vault(&field).out == "new").then_some(()));
        // Killed in that state, it has what it has acknowledged when it is back.
        disk.fill();
        let last = put_until_refused(&host, "is full").unwrap_or_else(|| "new".to_owned());
        host.agent.as_mut().unwrap().kill();
        disk.make_room();
        host.start();
        assert!(host.env().ends_with(&format!("A={last}\n")), "{}", host.env());
        assert_eq!(host.vault(&field).out, last);
    });
}

/// Reads a file again and again until told to stop, or for a minute; returns what it has held, one
/// after the other.
fn contents_until(file: &Path, over: &AtomicBool) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let end = Instant::now() + Duration::from_secs(60);
    while !over.load(Ordering::Relaxed) && Instant::now() < end {
        let now = std::fs::read_to_string(file).unwrap();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        std::thread::yield_now();
    }
    let mut once = seen.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "no content comes twice: {seen:?}");
    seen
}

#[test]
fn a_file_is_never_ahead_of_what_its_machine_remembers() {
    mounts::own(|| {
        let mut world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let _ = rtx.vault(&["kv", "put", SECRET, "A=old"]).ok();
        let mut vps = world.host("vps");
        let disk = Disk::new(&vps.state(), "8m");
        world.enrol(&rtx, &vps, &["*"]);
        vps.start();
        vps.target(&[SECRET]);
        watch::until(&vps.env_file(), |text| text.ends_with("A=old\n"));
        disk.fill();
        let (file, over) = (vps.env_file(), AtomicBool::new(false));
        let seen = std::thread::scope(|scope| {
            let seen = scope.spawn(|| contents_until(&file, &over));
            // What the database has room for still arrives.
            let stuck = (0..100).any(|n| {
                let _ = rtx.vault(&["kv", "put", SECRET, &format!("A=full-{n}")]).ok();
                vps.vault(&["status"]).err.contains("E_STATE")
            });
            over.store(true, Ordering::Relaxed);
            assert!(stuck, "a full disk takes a hundred changes");
            seen.join().unwrap()
        });
        alarm(&vps, "E_STATE", "agent.db", true);
        let before = vps.env();
        assert_eq!(seen.last(), Some(&before), "a file that was taken back: {seen:?}");
        // What it does remember it still puts right.
        std::fs::remove_file(vps.env_file()).unwrap();
        watch::until(&vps.env_file(), |text| text == before);
        vps.agent.as_mut().unwrap().kill();
        world.server.as_mut().unwrap().kill();
        disk.make_room();
        vps.start();
        let known = vps.vault(&["kv", "get", "-field=A", SECRET]).out;
        assert!(before.ends_with(&format!("A={known}\n")), "knows {known}, wrote {before}");
        assert_eq!(vps.env(), before);
        world.start();
        let newest = rtx.vault(&["kv", "get", "-field=A", SECRET]).out;
        watch::until(&vps.env_file(), |text| text.ends_with(&format!("A={newest}\n")));
        alarm(&vps, "E_STATE", "", false);
    });
}

#[test]
fn with_a_full_data_folder_a_write_is_refused_and_what_was_acknowledged_stays() {
    mounts::own(|| {
        let disk = std::cell::OnceCell::new();
        // The disk is the data folder's.
        let mut world = World::on_sqlite(bins!(), |data| {
            let _ = disk.set(Disk::new(data, "8m"));
        });
        let disk = disk.into_inner().unwrap();
        let host = world.owner("rtx1080");
        let _ = host.vault(&["kv", "put", SECRET, "A=old"]).ok();
        disk.fill();
        let last = put_until_refused(&host, "the server's disk is full: nothing was written");
        alarm(&host, "E_SERVER_FULL", "disk is full", true);
        // Killed in that state, it has what it has acknowledged when it is back.
        world.server.as_mut().unwrap().kill();
        disk.make_room();
        world.start();
        let history = || host.vault(&["kv", "get", "-field=A", SECRET]).out;
        let last = last.unwrap_or_else(|| "old".to_owned());
        watch::poll("the last acknowledged write", || (history() == last).then_some(()));
        watch::poll("writes work again", || {
            (host.vault(&["kv", "put", SECRET, "A=new"]).code == 0).then_some(())
        });
        alarm(&host, "E_SERVER_FULL", "", false);
        assert_eq!(history(), "new");
        let _ = host.vault(&["audit", "verify"]).ok();
        let log = host.vault(&["audit", "log", "--op", "put", "--format", "json"]).ok();
        let puts = log.matches("\"op\": \"put\"").count();
        let meta = host.vault(&["kv", "metadata", "get", "-format=json", SECRET]).ok();
        let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
        assert_eq!(meta["data"]["current_version"], puts, "one audit row for each write:\n{log}");
    });
}

#[test]
fn on_a_full_disk_machines_are_refused_and_the_owner_still_removes_one() {
    mounts::own(|| {
        let disk = std::cell::OnceCell::new();
        // The disk is the data folder's.
        let world = World::on_sqlite(bins!(), |data| {
            let _ = disk.set(Disk::new(data, "8m"));
        });
        let disk = disk.into_inner().unwrap();
        let host = world.owner("rtx1080");
        let _vps = world.machine(&host, "vps", &["secret/vps/"]);
        let _ = host.vault(&["kv", "put", SECRET, "A=old"]).ok();
        disk.fill();
        let full = "the server's disk is full: nothing was written";
        let _ = put_until_refused(&host, full);
        let _ = host.vault(&["machine", "remove", "vps", "--reason", "flooder", "--yes"]).ok();
        let reserve = world.data().join("reserve");
        assert_eq!(reserve.metadata().unwrap().len(), 0, "it was needed");
        // What the reserve has left is not for machines.
        let ran = host.vault(&["kv", "put", SECRET, "A=more"]);
        assert!(ran.code != 0 && ran.err.contains(full), "{}", ran.err);
        disk.make_room();
        watch::poll("writes work again", || {
            (host.vault(&["kv", "put", SECRET, "A=new"]).code == 0).then_some(())
        });
        assert_ne!(reserve.metadata().unwrap().len(), 0, "it is kept again");
        let log = host.vault(&["audit", "log", "--op", "machine_remove", "--format", "json"]).ok();
        assert_eq!(log.matches("\"op\": \"machine_remove\"").count(), 1, "{log}");
        let _ = host.vault(&["audit", "verify"]).ok();
    });
}
