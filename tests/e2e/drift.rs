//! Somebody else changes a target: whatever his way of saving, it is put back, once; a program that
//! insists is left to win for a while, with an alarm.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tests::{Daemon, Host, World, bins, mounts, watch};

const SECRET: &str = "secret/app";

const RIGHT: &str = "A=right\n";

/// Makes each of `names` in the machine's home a target.
fn targets(host: &Host, names: &[&str], more: &str) {
    let tables = names.iter().map(|name| {
        let file = host.dir.join("home").join(name);
        format!(
            "[[target]]\npath = \"{}\"\nsecrets = [\"{SECRET}\"]\nheader = false\n{more}\n",
            file.display()
        )
    });
    put(&host.state().join("agent.toml"), &tables.collect::<String>());
}

fn put(file: &Path, text: &str) {
    File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
}

type Change = fn(&Path);

/// An editor that saves by renaming, `sed -i`, `git checkout`.
fn renamed(file: &Path) {
    let new = file.with_extension("new");
    put(&new, "A=edited\n");
    std::fs::rename(new, file).unwrap();
}

fn truncated(file: &Path) {
    put(file, "A=edited, and longer\n");
}

fn appended(file: &Path) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(b"B=1\n").unwrap();
}

/// Written in two goes without being closed between them.
fn twice(file: &Path) {
    let mut open = OpenOptions::new().write(true).truncate(true).open(file).unwrap();
    open.write_all(b"A=").unwrap();
    open.sync_all().unwrap();
    open.write_all(b"edited\n").unwrap();
}

fn removed(file: &Path) {
    std::fs::remove_file(file).unwrap();
}

fn opened_to_all(file: &Path) {
    std::fs::set_permissions(file, Permissions::from_mode(0o666)).unwrap();
}

fn restored(log: &str, name: &str) -> usize {
    let about = |line: &&str| line.contains("and put back") && line.contains(&format!("/{name}"));
    log.lines().filter(about).count()
}

#[test]
fn every_way_to_change_a_target_is_put_back_once() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=right"]).ok();
    let ways: [(&str, Change); 6] = [
        ("renamed.env", renamed),
        ("truncated.env", truncated),
        ("appended.env", appended),
        ("twice.env", twice),
        ("removed.env", removed),
        ("opened.env", opened_to_all),
    ];
    let names = ways.map(|(name, _)| name);
    targets(&host, &names, "");
    let home = host.dir.join("home");
    for (name, change) in ways {
        let file = home.join(name);
        watch::until(&file, |text| text == RIGHT);
        change(&file);
        watch::poll(name, || {
            let right = std::fs::read_to_string(&file).is_ok_and(|text| text == RIGHT)
                && file.metadata().is_ok_and(|found| found.permissions().mode() & 0o777 == 0o600);
            (right && restored(&host.agent.as_ref()?.log(), name) > 0).then_some(())
        });
    }
    // A later change goes through the same loop: by then a second restoration would have been seen.
    let _ = host.vault(&["kv", "put", SECRET, "A=new"]).ok();
    for name in names {
        watch::until(&home.join(name), |text| text == "A=new\n");
        assert_eq!(restored(&host.agent.as_ref().unwrap().log(), name), 1, "{name}");
    }
}

/// Edits of equal length, each made in the moment in which the agent's own write is seen, where
/// times are coarse.
#[test]
fn an_edit_within_the_tick_of_the_agents_own_write_is_put_back() {
    mounts::own(|| {
        let world = World::new(bins!());
        let host = world.owner("rtx1080");
        let _ = host.vault(&["kv", "put", SECRET, "A=first"]).ok();
        let names: Vec<String> = (0..60).map(|n| format!("race/{n}.env")).collect();
        let home = host.dir.join("home");
        mounts::coarse(&home.join("race"));
        targets(&host, &Vec::from_iter(names.iter().map(String::as_str)), "");
        for name in &names {
            watch::until(&home.join(name), |text| text == "A=first\n");
        }
        let mut left: Vec<_> = names.iter().map(|name| home.join(name)).collect();
        std::thread::scope(|scope| {
            let edits = scope.spawn(move || {
                let mut hidden = 0;
                while !left.is_empty() {
                    left.retain(|file| {
                        let written = std::fs::read(file).is_ok_and(|bytes| bytes == b"A=right\n");
                        if written {
                            hidden += usize::from(edit_in_place(file));
                        }
                        !written
                    });
                }
                hidden
            });
            let _ = host.vault(&["kv", "put", SECRET, "A=right"]).ok();
            assert!(edits.join().unwrap() > 0, "no edit came within the tick");
        });
        for name in &names {
            watch::until(&home.join(name), |text| text == RIGHT);
            watch::until(&host.log_file(), |log| restored(log, name) == 1);
        }
    });
}

/// Changes a file and not its length, and puts back when it was last changed, as some editors do;
/// tells whether its times are what they were.
fn edit_in_place(file: &Path) -> bool {
    let mut open = OpenOptions::new().write(true).open(file).unwrap();
    let times =
        |found: Metadata| (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
    let found = open.metadata().unwrap();
    open.write_all(b"A=wrong\n").unwrap();
    open.set_modified(found.modified().unwrap()).unwrap();
    times(open.metadata().unwrap()) == times(found)
}

#[test]
fn a_change_is_left_where_it_is_to_be_reported_only() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=right"]).ok();
    targets(&host, &[".env"], "drift = \"report\"");
    watch::until(&host.env_file(), |text| text == RIGHT);
    appended(&host.env_file());
    watch::poll("the alarm", || {
        let ran = host.vault(&["status"]);
        (ran.code == 2 && ran.err.contains("E_DRIFT") && ran.err.contains("/.env")).then_some(())
    });
    assert_eq!(host.env(), "A=right\nB=1\n");
    let _ = host.vault(&["kv", "put", SECRET, "A=new"]).ok();
    watch::until(&host.env_file(), |text| text == "A=new\n");
    host.is_well();
}

#[test]
fn without_watches_files_are_looked_at_now_and_then() {
    let world = World::new(bins!());
    let mut host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=right"]).ok();
    targets(&host, &[".env"], "");
    host.stop();
    // A user namespace has a limit of its own for watches, which anybody may lower.
    let script = "echo 0 > /proc/sys/user/max_inotify_watches; exec \"$0\" run";
    let agent = host.command(host.bins.agent);
    let mut command = host.command("unshare");
    command.args(["--user", "--map-root-user", "sh", "-euc", script]).arg(agent.get_program());
    host.agent = Some(Daemon::start(command, &host.log_file()));
    watch::until(&host.env_file(), |text| text == RIGHT);
    watch::poll("the alarm", || host.vault(&["status"]).err.contains("E_WATCH").then_some(()));
    renamed(&host.env_file());
    watch::until(&host.env_file(), |text| text == RIGHT);
}

/// A program that writes into a file again and again, until dropped.
struct Insisting(Child);

impl Drop for Insisting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_that_insists_wins_for_a_while_and_raises_an_alarm() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    let _ = host.vault(&["kv", "put", SECRET, "A=right"]).ok();
    targets(&host, &[".env"], "");
    let file = host.env_file();
    watch::until(&file, |text| text == RIGHT);
    let mut shell = Command::new("sh");
    shell.args(["-c", "while :; do echo A=mine > \"$1\"; sleep 0.05; done", "sh"]).arg(&file);
    let insisting = Insisting(shell.stdin(Stdio::null()).spawn().unwrap());
    watch::poll("the alarm", || {
        let ran = host.vault(&["status"]);
        let named = |line: &str| line.contains("E_DRIFT") && line.contains("/.env");
        (ran.code == 2 && ran.err.lines().any(named)).then_some(())
    });
    watch::until(&file, |text| text == "A=mine\n");
    let log = host.agent.as_ref().unwrap().log();
    assert!(restored(&log, ".env") <= 5, "no endless fight:\n{log}");
    drop(insisting);
    let _ = host.vault(&["kv", "put", SECRET, "A=new"]).ok();
    watch::until(&file, |text| text == "A=new\n");
    host.is_well();
}
