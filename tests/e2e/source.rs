//! Master files: every way to save one publishes one version, a change made elsewhere is written
//! back, and no edit is ever lost. Real editors save in `tests/interop/files`; here are the
//! system calls that they come down to.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Host, World, bins, watch};

const SECRET: &str = "secret/jjeco/api-keys";

/// A machine whose master file holds `text` and is published.
struct Desk {
    host: Host,
    file: PathBuf,
    /// A plain target of the same secret: shows when a version has arrived.
    copy: PathBuf,
    /// The master file of another secret.
    other: PathBuf,
}

impl Desk {
    fn new(world: &World, text: &str) -> Self {
        let mut host = world.owner("rtx1080");
        let file = host.dir.join("home/master/.env");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        let (copy, other) = (host.env_file(), file.with_file_name("other.master"));
        put(&file, text);
        put(&other, "N=0\n");
        host.stop();
        let mut config = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(host.state().join("agent.toml"))
            .unwrap();
        let (master, target) = (file.display(), copy.display());
        write!(config, "\n[[source]]\npath = \"{master}\"\nsecret = \"{SECRET}\"\n").unwrap();
        write!(config, "[[target]]\npath = \"{target}\"\nsecrets = [\"{SECRET}\"]\n").unwrap();
        let other_path = other.display();
        write!(config, "[[source]]\npath = \"{other_path}\"\nsecret = \"secret/other\"\n").unwrap();
        host.start();
        Self { host, file, copy, other }
    }

    fn version(&self) -> u64 {
        let meta = self.host.vault(&["kv", "metadata", "get", "-format=json", SECRET]);
        let meta: serde_json::Value = serde_json::from_str(&meta.out).unwrap_or_default();
        meta["data"]["current_version"].as_u64().unwrap_or(0)
    }

    /// Waits until the secret holds `line`, and returns its version.
    fn published(&self, line: &str) -> u64 {
        watch::until(&self.copy, |text| text.lines().any(|found| found == line));
        self.version()
    }

    /// Waits until everything saved so far has been looked at: what is saved later in another
    /// master is published.
    fn looked_at(&self) {
        put(&self.other, "N=looked\n");
        watch::poll("a later save is published", || {
            let got = self.host.vault(&["kv", "get", "-field=N", "secret/other"]);
            (got.out == "looked").then_some(())
        });
    }

    fn alarms(&self) -> String {
        let ran = self.host.vault(&["status"]);
        ran.out + &ran.err
    }

    /// Waits until an alarm says `text`.
    fn alarmed(&self, text: &str) {
        watch::poll(text, || self.alarms().contains(text).then_some(()));
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    fn copies(&self) -> Vec<PathBuf> {
        let mut found = tests::files_below(self.file.parent().unwrap());
        found.retain(|path| path.to_string_lossy().contains(".env.conflict-"));
        found
    }
}

fn put(path: &Path, text: &str) {
    File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn run(program: &str, args: &[&str]) {
    let ran = Command::new(program).args(args).output().unwrap();
    assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Ways to save, by the system calls that they come down to.
type Save = fn(&Path, &str);

/// nano, and VS Code on most systems: the file is emptied and written again.
fn in_place(file: &Path, text: &str) {
    let mut open = OpenOptions::new().write(true).truncate(true).open(file).unwrap();
    open.write_all(text.as_bytes()).unwrap();
    open.sync_all().unwrap();
}

/// vim, backupcopy=yes: a copy first, then in place, with a swap file beside it.
fn vim_copy(file: &Path, text: &str) {
    let (swap, backup) = (file.with_file_name("..env.swp"), file.with_file_name(".env~"));
    put(&swap, "b0VIM");
    std::fs::copy(file, &backup).unwrap();
    in_place(file, text);
    std::fs::remove_file(backup).unwrap();
    std::fs::remove_file(swap).unwrap();
}

/// vim, backupcopy=no: the old file is renamed away and a new one written, after a probe named
/// 4913.
fn vim_rename(file: &Path, text: &str) {
    let (probe, backup) = (file.with_file_name("4913"), file.with_file_name(".env~"));
    put(&probe, "");
    std::fs::remove_file(probe).unwrap();
    std::fs::rename(file, &backup).unwrap();
    put(file, text);
    std::fs::remove_file(backup).unwrap();
}

/// Editors with atomic saves, and `sed -i`: a new file takes the name.
fn rename_over(file: &Path, text: &str) {
    let new = file.with_file_name(".env.tmp-1");
    put(&new, text);
    std::fs::rename(new, file).unwrap();
}

/// Emptied, closed, and written in two goes.
fn twice(file: &Path, text: &str) {
    put(file, "");
    let (first, second) = text.split_at(text.find('\n').unwrap() + 1);
    put(file, first);
    OpenOptions::new().append(true).open(file).unwrap().write_all(second.as_bytes()).unwrap();
}

/// cp, really.
fn copied(file: &Path, text: &str) {
    let other = file.with_file_name("other");
    put(&other, text);
    run("cp", &[other.to_str().unwrap(), file.to_str().unwrap()]);
    std::fs::remove_file(other).unwrap();
}

#[test]
fn every_way_to_save_publishes_exactly_one_version() {
    let world = World::new(bins!());
    let desk = Desk::new(&world, "# keys\nA=0\nB=keep\n");
    assert_eq!(desk.published("A=0"), 1, "a file without a secret becomes version 1");
    let ways: [(&str, Save); 6] = [
        ("in place", in_place),
        ("vim, backupcopy=yes", vim_copy),
        ("vim, backupcopy=no", vim_rename),
        ("rename", rename_over),
        ("twice", twice),
        ("cp", copied),
    ];
    for ((name, save), version) in ways.into_iter().zip(2..) {
        save(&desk.file, &format!("# keys\nA=way-{version}\nB=keep\n"));
        assert_eq!(desk.published(&format!("A=way-{version}")), version, "{name}");
    }
    let file = desk.file.to_str().unwrap();
    run("sed", &["-i", "s/^A=.*/A=sed/", file]);
    assert_eq!(desk.published("A=sed"), 8, "sed -i");
    // Equal content, other comments: nothing to publish. The next save shows that it is so.
    in_place(&desk.file, "A='sed' # new comment\n\nB=keep\n");
    desk.looked_at();
    in_place(&desk.file, "A=last # new comment\nB=keep\n");
    assert_eq!(desk.published("A=last"), 9, "equal content is no version");
}

#[test]
fn a_save_that_is_no_env_file_publishes_nothing_and_names_the_line() {
    let world = World::new(bins!());
    let desk = Desk::new(&world, "A=0\n");
    assert_eq!(desk.published("A=0"), 1);
    in_place(&desk.file, "A=1\nB='never closed\n");
    desk.alarmed("line 2");
    assert!(!desk.alarms().contains("never closed"), "no value in an alarm");
    in_place(&desk.file, "");
    desk.alarmed("holds no variable");
    std::fs::remove_file(&desk.file).unwrap();
    desk.alarmed("is missing");
    assert_eq!(desk.version(), 1);
    // Half a file in the hands of a program that has not closed it is nobody's news.
    let mut open =
        OpenOptions::new().write(true).create(true).truncate(true).open(&desk.file).unwrap();
    open.write_all(b"A=half\n").unwrap();
    desk.looked_at();
    assert_eq!(desk.version(), 1);
    open.write_all(b"B=whole\n").unwrap();
    drop(open);
    assert_eq!(desk.published("B=whole"), 2);
    watch::poll("the alarm is over", || (!desk.alarms().contains("E_SOURCE")).then_some(()));
}

#[test]
fn half_a_file_is_held_until_it_is_whole_or_meant() {
    let world = World::new(bins!());
    let whole: String = (0..27).map(|n| format!("KEY{n}=value-{n}\n")).collect();
    let desk = Desk::new(&world, &whole);
    assert_eq!(desk.published("KEY26=value-26"), 1);
    // The disk was full: 3 of 27 lines are left, and half of the last one.
    in_place(&desk.file, "KEY0=value-0\nKEY1=value-1\nKEY2=val");
    desk.alarmed("has lost 24 of 27 keys");
    desk.looked_at();
    in_place(&desk.file, whole.strip_suffix("-26\n").unwrap());
    desk.alarmed("ends in the middle of a line");
    desk.looked_at();
    assert_eq!(desk.version(), 1);
    let over = || (!desk.alarms().contains("E_SOURCE_SHRUNK")).then_some(());
    in_place(&desk.file, &whole);
    watch::poll("the file is whole again", over);
    in_place(&desk.file, "KEY0=alone\n");
    desk.alarmed("E_SOURCE_SHRUNK");
    assert_eq!(desk.version(), 1);
    let _ = desk.host.agent_command(&["source", "confirm", desk.file.to_str().unwrap()]).ok();
    assert_eq!(desk.published("KEY0=alone"), 2);
    watch::poll("it was meant", over);
}

#[test]
fn a_change_made_elsewhere_is_written_into_its_line() {
    let world = World::new(bins!());
    let desk =
        Desk::new(&world, "# The lab's keys\nA=0   # Jonas\n\nexport B='two words'\nOLD=x\n");
    assert_eq!(desk.published("A=0"), 1);
    let _ = desk.host.vault(&["kv", "put", SECRET, "A=new", "B=two words", "C=it's"]).ok();
    let text = watch::until(&desk.file, |text| text.contains("A=new"));
    assert_eq!(text, "# The lab's keys\nA=new   # Jonas\n\nexport B='two words'\nC=\"it's\"\n");
    let _ = desk.host.vault(&["kv", "patch", SECRET, "C=patched"]).ok();
    let text = watch::until(&desk.file, |text| text.contains("C=\"patched\""));
    in_place(&desk.file, &text.replace("A=new", "A=own"));
    assert_eq!(desk.published("A=own"), 4, "writing back has published nothing");
    assert!(desk.copies().is_empty());
}

#[test]
fn an_edit_that_meets_a_change_is_kept() {
    let world = World::new(bins!());
    let mut desk = Desk::new(&world, "A=0\nB=0\n");
    let other = world.machine(&desk.host, "vps", &["*"]);
    let _ = desk.host.vault(&["access", "set", "vps", "--read", "*", "--write", "*", "--yes"]).ok();
    assert_eq!(desk.published("A=0"), 1);
    desk.host.stop();
    watch::poll("vps may write", || {
        (other.vault(&["kv", "put", SECRET, "A=theirs", "B=0"]).code == 0).then_some(())
    });
    in_place(&desk.file, "# mine\nA=mine\nB=0\n");
    desk.host.start();
    watch::until(&desk.file, |text| text.contains("A=theirs"));
    assert_eq!(desk.text(), "# mine\nA=theirs\nB=0\n");
    desk.alarmed("E_CONFLICT");
    let [copy] = &desk.copies()[..] else { panic!("one copy") };
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "# mine\nA=mine\nB=0\n");
    assert_eq!(desk.version(), 2);
    std::fs::remove_file(copy).unwrap();
    watch::poll("the alarm goes with the copy", || {
        (!desk.alarms().contains("E_CONFLICT")).then_some(())
    });
}

#[test]
fn an_edit_made_without_the_server_is_published_when_it_is_back() {
    let mut world = World::new(bins!());
    let mut desk = Desk::new(&world, "A=0\n");
    assert_eq!(desk.published("A=0"), 1);
    let status = |text: &str| {
        watch::poll(text, || desk.host.agent_command(&["status"]).out.contains(text).then_some(()));
    };
    status("(source)");
    world.server.as_mut().unwrap().kill();
    in_place(&desk.file, "A=offline\n");
    status("an edit is published when");
    // Over a restart of the agent too.
    desk.host.stop();
    desk.host.start();
    world.start();
    assert_eq!(desk.published("A=offline"), 2);
    assert!(desk.copies().is_empty());
}

#[test]
fn file_and_secret_that_differ_from_the_start_are_both_kept() {
    let world = World::new(bins!());
    let mut desk = Desk::new(&world, "A=0\n");
    assert_eq!(desk.published("A=0"), 1);
    desk.host.stop();
    std::fs::remove_file(desk.host.state().join("sources.json")).unwrap();
    in_place(&desk.file, "A=file\n");
    desk.host.start();
    watch::until(&desk.file, |text| text == "A=0\n");
    desk.alarmed("E_CONFLICT");
    assert_eq!(std::fs::read_to_string(&desk.copies()[0]).unwrap(), "A=file\n");
    assert_eq!(desk.version(), 1);
}

#[test]
fn a_file_that_says_what_its_secret_holds_is_adopted_as_it_is() {
    let world = World::new(bins!());
    let text = "# mine\nA='0'\n";
    let mut desk = Desk::new(&world, text);
    assert_eq!(desk.published("A=0"), 1);
    desk.host.stop();
    std::fs::remove_file(desk.host.state().join("sources.json")).unwrap();
    desk.host.start();
    in_place(&desk.file, "# mine\nA=1\n");
    assert_eq!(desk.published("A=1"), 2, "adopting it has published nothing");
    assert!(desk.copies().is_empty());
}
