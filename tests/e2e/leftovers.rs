//! What a command with the recovery kit leaves behind when it fails in its last step, and what a
//! note that outlived its command does later: nothing to a key or a kit that holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::recovery::{SECRET, kit, put, test, types};
use tests::{Host, Ran, World, bins};

const OTHER: &str = "a passphrase of the day after";

/// Runs a command whose standard output takes nothing.
fn to_nowhere(command: &mut Command) -> String {
    let nowhere = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let Output { status, stderr, .. } =
        command.stdin(Stdio::null()).stdout(nowhere).stderr(Stdio::piped()).output().unwrap();
    let err = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{err}");
    err
}

/// Puts a note back, as a kill before the last step leaves it.
fn leave(note: &[u8], place: &Path) {
    assert!(!place.exists());
    host::files::write_private(place, note).unwrap();
}

#[test]
fn a_renewal_that_is_over_stands_in_no_later_ones_way() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    put(&rtx, SECRET, "1");
    let file = |name: &str| world.dir().join(name).to_str().unwrap().to_owned();
    let kits = [kit(&rtx), file("2.txt"), file("3.txt"), file("4.txt")];
    let renew = |old: usize, more: &[&str]| {
        let mut command = rtx.command(rtx.bins.vault);
        command.args(["recovery", "renew", "--kit-confirmed", "--kit", &kits[old]]);
        command.args(["--new-kit", &kits[old + 1]]).args(more);
        command
    };
    let holds = |new: usize| {
        let tested = test(&rtx, &kits[new]);
        assert_eq!(tested.code, 0, "{}", tested.err);
        let refused = test(&rtx, &kits[new - 1]);
        assert!(refused.err.contains("root key is not that of the vault"), "{}", refused.err);
    };
    // Nobody can be asked here: it stops once it is begun.
    let stopped = tests::run(&mut renew(0, &[]), "");
    let place = rtx.state().join("renewal.json");
    let note = fs::read(&place).unwrap();
    assert_ne!(stopped.code, 0, "{}", stopped.err);
    let said = to_nowhere(&mut renew(0, &["--yes"]));
    assert!(said.contains("all is done, but what `root` signed was not shown"), "{said}");
    assert!(!place.exists());
    holds(1);

    leave(&note, &place);
    let done = tests::run(&mut renew(1, &["--yes"]), "");
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains(" holds; it is renewed now"), "{}", done.err);
    assert!(!place.exists());
    holds(2);

    leave(&note, &place);
    let done = tests::run(&mut renew(2, &["--yes"]), "");
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains(" is over: a third kit holds"), "{}", done.err);
    assert!(!place.exists());
    holds(3);
}

/// A host with an admin, and what it takes to appoint others there.
struct Home {
    _world: World,
    rtx: Host,
    kit: String,
    place: PathBuf,
}

impl Home {
    fn new() -> Self {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let (kit, place) = (kit(&rtx), rtx.state().join("appointing.json"));
        Self { _world: world, rtx, kit, place }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.rtx.command(self.rtx.bins.vault);
        command.args(["recovery", "admin", "--kit", &self.kit]).args(args);
        command
    }

    fn admin(&self, args: &[&str]) -> Ran {
        tests::run(self.command(args).arg("--yes"), "")
    }

    /// Begins, and stops at the question; returns the note.
    fn begun(&self, args: &[&str]) -> Vec<u8> {
        let stopped = tests::run(&mut self.command(args), "");
        assert_ne!(stopped.code, 0, "{}", stopped.err);
        fs::read(&self.place).unwrap()
    }

    fn key(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.rtx.state().join(format!("admin/{name}.age"))).ok()
    }

    /// Gives a key another passphrase.
    fn changes(&self, name: &str) {
        let new = self.rtx.dir.join("new-passphrase");
        let _ = fs::remove_file(&new);
        host::files::write_private(&new, OTHER.as_bytes()).unwrap();
        let new = new.to_str().unwrap();
        let args = ["admin", "passphrase", name, "--new-passphrase-file", new];
        let _ = self.rtx.vault(&args).ok();
    }
}

#[test]
fn an_appointment_that_is_over_takes_no_key_away() {
    let home = Home::new();
    let carl = ["carl", "--instead-of", "jonas"];
    let note = home.begun(&carl);
    let said = to_nowhere(home.command(&carl).arg("--yes"));
    assert!(said.contains("all is done, but what `jonas` signed was not shown"), "{said}");
    assert!(!home.place.exists() && home.key("jonas").is_none() && home.key("carl").is_some());

    let again = home.admin(&["jonas"]);
    assert_eq!(again.code, 0, "{}", again.err);
    home.changes("carl");
    let keys = ["jonas", "carl"].map(|name| home.key(name).unwrap());
    leave(&note, &home.place);
    let dora = home.admin(&["dora"]);
    assert_eq!(dora.code, 0, "{}", dora.err);
    assert!(!dora.err.contains("none any more"), "{}", dora.err);
    assert!(dora.err.contains("and stays as it is"), "{}", dora.err);
    assert_eq!(["jonas", "carl"].map(|name| home.key(name).unwrap()), keys);
    assert!(home.key("dora").is_some() && !home.place.exists());

    // A third key of that name.
    let again = home.admin(&["carl", "--instead-of", "carl"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let key = home.key("carl");
    leave(&note, &home.place);
    let eve = home.admin(&["eve"]);
    assert_eq!(eve.code, 0, "{}", eve.err);
    assert!(eve.err.contains(" is over: `carl` has another key now"), "{}", eve.err);
    assert_eq!(home.key("carl"), key);
    assert!(!home.place.exists());
}

#[test]
fn a_passphrase_that_is_not_the_one_of_that_time_is_refused_or_stays() {
    let home = Home::new();
    let jonas = ["jonas", "--instead-of", "jonas"];
    let (old, note) = (home.key("jonas"), home.begun(&jonas));
    types(&home.rtx, OTHER);
    let refused = home.admin(&jonas);
    assert_ne!(refused.code, 0, "{}", refused.err);
    assert!(refused.err.contains("does not open with this passphrase"), "{}", refused.err);
    assert!(refused.err.contains("give the one of that time"), "{}", refused.err);
    assert_eq!((home.key("jonas"), fs::read(&home.place).unwrap()), (old.clone(), note.clone()));
    types(&home.rtx, tests::PASSPHRASE);
    let done = home.admin(&jonas);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(home.key("jonas") != old && !home.place.exists());

    home.changes("jonas");
    let key = home.key("jonas");
    leave(&note, &home.place);
    types(&home.rtx, "forgotten and found again");
    let refused = home.admin(&jonas);
    assert!(refused.err.contains("does not open with this passphrase"), "{}", refused.err);
    types(&home.rtx, OTHER);
    let done = home.admin(&jonas);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("and stays as it is"), "{}", done.err);
    assert_eq!(home.key("jonas"), key);
    let _ = home.rtx.vault(&["machine", "set", "rtx1080", "--sleeps", "--yes"]).ok();
}
