//! A vault without any machine, recovered by its kit and its server; killed and repeated.

use std::fs;
use std::process::Command;

use tests::{Host, Ran, World, bins, run, watch};

use crate::aftermath::file_opens;
use crate::moment::killed_at;
use crate::recovery::{SECRET, at_moments, kit, put, test, types};
use crate::stories::{age_key, is_well};

/// A vault whose machines have all burnt: a server, and the kit on paper.
struct Burnt {
    world: World,
    kit: String,
    nas: Host,
}

impl Burnt {
    fn new() -> Self {
        let world = World::new(bins!());
        let mut rtx = world.owner("rtx1080");
        let mut vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        for (path, value) in [(SECRET, "1"), (SECRET, "2"), ("secret/mail", "3")] {
            put(&rtx, path, value);
        }
        rtx.stop();
        vps.stop();
        let paper = world.dir().join("paper.txt");
        fs::rename(kit(&rtx), &paper).unwrap();
        // One was not burnt, but taken.
        fs::copy(age_key(&rtx), world.dir().join("taken.key")).unwrap();
        fs::remove_dir_all(&rtx.dir).unwrap();
        fs::remove_dir_all(&vps.dir).unwrap();
        let nas = world.host("nas");
        types(&nas, "another horse battery staple");
        Self { kit: paper.to_str().unwrap().to_owned(), nas, world }
    }

    fn command(&self) -> Command {
        let mut command = self.unasked();
        command.arg("--yes");
        command
    }

    /// Nobody can be asked here: it stops once it is begun.
    fn unasked(&self) -> Command {
        let mut command = self.nas.command(self.nas.bins.vault);
        command.args(["recover", self.world.address(), "--kit", &self.kit, "--name", "nas"]);
        command.args(["--admin", "jonas"]);
        command
    }

    /// Looks at what a finished recovery leaves.
    fn check(&mut self, said: &Ran) {
        assert_eq!(said.code, 0, "{}", said.err);
        let right = "`nas` is a machine of the vault `home`, and `jonas` an admin: \
                     2 secrets in 3 versions";
        assert!(said.err.contains(right), "{}", said.err);
        assert!(said.err.contains("vault machine remove rtx1080"), "{}", said.err);
        assert!(!self.nas.state().join("recovering.json").exists());
        self.nas.start();
        let read = |args: &[&str]| self.nas.vault(&[&["kv", "get", "-field=K"], args].concat());
        assert_eq!(read(&[SECRET]).ok().trim(), "2");
        assert_eq!(read(&["-version=1", SECRET]).ok().trim(), "1");
        assert_eq!(read(&["secret/mail"]).ok().trim(), "3");
        for lost in ["rtx1080", "vps"] {
            let _ = self.nas.vault(&["machine", "remove", lost, "--yes"]).ok();
        }
        put(&self.nas, SECRET, "4");
        let tested = test(&self.nas, &self.kit);
        assert!(tested.err.contains("it opens all of 4 versions"), "{}", tested.err);
        self.nas.target(&[SECRET]);
        watch::until(&self.nas.env_file(), |text| text.ends_with("\nK=4\n"));
        is_well(&self.nas);
        let database = self.world.tables();
        // Version 1 could be read there, and still is what it was.
        let newest = "SELECT bytes FROM blob WHERE path = 'secret/mail' OR ver = 3";
        let mut blobs = database.prepare(newest).unwrap();
        let blobs = blobs.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let taken = self.world.dir().join("taken.key");
        for blob in blobs.map(Result::unwrap) {
            assert!(!file_opens(&taken, &blob), "who has the key of a lost machine reads nothing");
        }
    }
}

#[test]
fn a_vault_without_any_machine_is_recovered_on_a_fresh_host() {
    let mut burnt = Burnt::new();
    let stranger = World::new(bins!());
    let other = kit(&stranger.owner("other"));
    let wrong = burnt.nas.vault(&["recover", burnt.world.address(), "--kit", &other, "--yes"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    assert!(!burnt.nas.state().join("pins.json").exists());
    let said = run(&mut burnt.command(), "");
    burnt.check(&said);
    let again = run(&mut burnt.command(), "");
    assert!(again.err.contains("this host is `nas` of vault"), "{}", again.err);
}

#[test]
fn a_recovery_that_was_begun_outlasts_one_of_another_vault() {
    let mut burnt = Burnt::new();
    let stopped = run(&mut burnt.unasked(), "");
    let begun = burnt.nas.state().join("recovering.json");
    assert!(stopped.code != 0 && begun.exists(), "{}", stopped.err);
    let kept = fs::read(&begun).unwrap();
    let other = World::new(bins!());
    let paper = kit(&other.owner("other"));
    let refused = burnt.nas.vault(&["recover", other.address(), "--kit", &paper, "--yes"]);
    assert_ne!(refused.code, 0, "{}", refused.err);
    assert!(refused.err.contains("the recovery of another vault, "), "{}", refused.err);
    assert!(
        refused.err.contains("makes this `nas` there, and `jonas` an admin"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains(begun.to_str().unwrap()), "{}", refused.err);
    assert_eq!(fs::read(&begun).unwrap(), kept);
    let said = run(&mut burnt.command(), "");
    burnt.check(&said);
}

#[test]
fn other_names_or_another_passphrase_than_those_begun_are_refused() {
    let mut burnt = Burnt::new();
    let stopped = run(&mut burnt.unasked(), "");
    let begun = burnt.nas.state().join("recovering.json");
    assert_ne!(stopped.code, 0, "{}", stopped.err);
    let kept = fs::read(&begun).unwrap();
    let args = ["recover", burnt.world.address(), "--kit", &burnt.kit, "--yes"];
    for (flag, other, first) in [("--name", "vps", "nas"), ("--admin", "anna", "jonas")] {
        let refused = burnt.nas.vault(&[&args[..], &[flag, other]].concat());
        let why = format!("`{flag} {other}`, but the recovery begun on ");
        assert!(refused.code != 0 && refused.err.starts_with(&why), "{}", refused.err);
        let way = format!("hint: go on with it: `{flag} {first}`");
        assert!(refused.err.contains(&way), "{}", refused.err);
    }
    types(&burnt.nas, "not the one of that time");
    let refused = burnt.nas.vault(&args);
    assert_ne!(refused.code, 0, "{}", refused.err);
    assert!(refused.err.contains("does not open with this passphrase"), "{}", refused.err);
    assert!(refused.err.contains("`vault recovery admin jonas --instead-of"), "{}", refused.err);
    assert_eq!(fs::read(&begun).unwrap(), kept);
    types(&burnt.nas, "another horse battery staple");
    let said = burnt.nas.vault(&args);
    burnt.check(&said);
}

#[test]
fn a_version_that_the_server_has_again_is_recovered_by_the_same_line() {
    let mut burnt = Burnt::new();
    let on_disk = |burnt: &mut Burnt, sql: &str| {
        burnt.world.server.as_mut().unwrap().stop();
        burnt.world.alter(sql);
        burnt.world.start();
    };
    on_disk(
        &mut burnt,
        "CREATE TABLE aside AS SELECT * FROM blob WHERE path = 'secret/mail';
         DELETE FROM blob WHERE path = 'secret/mail'",
    );
    for _ in 0..2 {
        let said = run(&mut burnt.command(), "");
        assert_eq!(said.code, 2, "{}", said.err);
        let why = "not recovered: version 1 of `secret/mail`: E_BLOB_ABSENT";
        assert!(said.err.contains(why), "{}", said.err);
        assert!(said.err.contains("hint: run the same command again"), "{}", said.err);
    }
    on_disk(&mut burnt, "INSERT INTO blob SELECT * FROM aside; DROP TABLE aside");
    let said = run(&mut burnt.command(), "");
    burnt.check(&said);
}

#[test]
fn a_recovery_is_killed_at_any_moment_and_the_same_line_goes_on() {
    at_moments(20, |moment| {
        let mut burnt = Burnt::new();
        let is_killed = killed_at(burnt.command(), burnt.world.dir(), moment);
        let is_there = |name: &str| burnt.nas.state().join(name).exists();
        let (is_begun, is_pinned) = (is_there("recovering.json"), is_there("pins.json"));
        println!("moment {moment}: killed {is_killed}, begun {is_begun}, pinned {is_pinned}");
        if is_begun || !is_pinned {
            let again = run(&mut burnt.command(), "");
            assert_eq!(again.err.contains("going on with"), is_begun, "{}", again.err);
            burnt.check(&again);
        }
        is_killed
    });
}
