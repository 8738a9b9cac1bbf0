//! The recovery kit in use: an admin appointed by it, also against one who has the old passphrase,
//! and a new kit that leaves the old one without power. Each is killed and repeated.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::aftermath::opens;
use crate::moment::{self, killed_at};
use crate::quickstart::{Step, keeps, transcript};
use tests::{Host, Ran, World, bins, run, watch};

pub(crate) const SECRET: &str = "secret/jjeco/api-keys";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/guide/recovery.md");

pub(crate) fn kit(host: &Host) -> String {
    host.dir.join("kit.txt").to_str().unwrap().to_owned()
}

/// Gives a host another passphrase to type.
pub(crate) fn types(host: &Host, passphrase: &str) {
    let file = host.dir.join("passphrase");
    let _ = fs::remove_file(&file);
    let mut private = fs::OpenOptions::new();
    let mut out = private.write(true).create_new(true).mode(0o600).open(file).unwrap();
    writeln!(out, "{passphrase}").unwrap();
}

pub(crate) fn put(host: &Host, path: &str, value: &str) {
    let _ = host.vault(&["kv", "put", path, &format!("K={value}")]).ok();
}

pub(crate) fn test(host: &Host, kit: &str) -> Ran {
    host.vault(&["recovery", "test", "--all", "--kit", kit])
}

#[test]
fn a_forgotten_passphrase_is_made_good_on_any_machine() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    put(&rtx, SECRET, "1");
    types(&rtx, "nobody knows it any more");
    let kit = kit(&rtx);
    let refused = rtx.vault(&["machine", "set", "vps", "--sleeps", "--yes"]);
    assert!(refused.err.contains("does not open with this passphrase"), "{}", refused.err);
    let refused = vps.vault(&["recovery", "admin", "jonas", "--kit", &kit, "--yes"]);
    assert!(refused.err.contains("`jonas` is an admin already"), "{}", refused.err);
    assert!(refused.err.contains("--instead-of jonas"), "{}", refused.err);
    let refused =
        vps.vault(&["recovery", "admin", "a", "--instead-of", "b", "--kit", &kit, "--yes"]);
    assert!(
        refused.err.contains("there is no admin `b`\nhint: there are: jonas"),
        "{}",
        refused.err
    );

    types(&vps, "another horse battery staple");
    let page = fs::read_to_string(&kit).unwrap();
    let args = ["recovery", "admin", "anna", "--instead-of", "jonas", "--kit", "-", "--yes"];
    let done = vps.vault_with(&args, &page.to_lowercase());
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("`root` signs for vault"), "{}", done.err);
    assert!(done.err.contains("remove the admin `jonas`"), "{}", done.err);
    assert!(done.err.contains("`anna` is an admin; its key is in `"), "{}", done.err);
    let secret = page.lines().find(|line| line.contains("VAULT-ROOT-SECRET-1")).unwrap();
    for text in [&done.out, &done.err] {
        assert!(!text.contains(&secret[40..]), "{text}");
    }
    let _ = vps.vault(&["machine", "set", "vps", "--sleeps", "--yes"]).ok();
    assert!(!vps.state().join("appointing.json").exists());
    // The old key signs nothing more, wherever it is.
    types(&rtx, tests::PASSPHRASE);
    watch::poll("the old admin is out", || {
        let refused = rtx.vault(&["machine", "set", "vps", "--sleeps=false", "--yes"]);
        refused.err.contains("E_UNKNOWN_ACTOR").then_some(())
    });
}

/// A machine on which somebody has the admin's key and its passphrase.
fn stolen(world: &World, owner: &Host) -> Host {
    let thief = world.machine(owner, "laptop", &["*"]);
    let folder = thief.state().join("admin");
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    fs::copy(owner.state().join("admin/jonas.age"), folder.join("jonas.age")).unwrap();
    thief
}

#[test]
fn a_thief_with_the_passphrase_is_out_and_all_that_came_from_them_is_named() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    put(&rtx, SECRET, "1");
    let thief = stolen(&world, &rtx);
    let _evil = world.machine(&thief, "evil", &["*"]);
    let _ = thief.vault(&["access", "set", "vps", "--read", "*", "--yes"]).ok();

    // They go on signing for as long as they can.
    let stop = AtomicBool::new(false);
    let kit = kit(&rtx);
    let said = std::thread::scope(|scope| {
        let _racer = scope.spawn(|| {
            for turn in 0.. {
                let sleeps = if turn % 2 == 0 { "--sleeps" } else { "--sleeps=false" };
                let set = thief.vault(&["machine", "set", "laptop", sleeps, "--yes"]);
                if stop.load(Ordering::Relaxed) || set.code != 0 {
                    break;
                }
            }
        });
        let args = ["recovery", "admin", "jonas", "--instead-of", "jonas", "--kit", &kit, "--yes"];
        types(&vps, "a passphrase of the owner alone");
        let said = vps.vault(&args);
        stop.store(true, Ordering::Relaxed);
        said
    });
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains(": added evil: reads *, writes -"), "{}", said.out);
    let mut back = said.out.lines().filter_map(|line| line.strip_prefix("  to take it back: "));
    let evil = back.find(|command| command.ends_with(" evil")).unwrap();
    assert_eq!(evil, "vault machine remove evil");
    let access = back.find(|command| command.starts_with("vault access")).unwrap();
    assert_eq!(access, "vault access set vps --read secret/jjeco/");
    for command in [evil, access] {
        let words = command.split(' ').skip(1).chain(["--yes"]).collect::<Vec<_>>();
        let _ = vps.vault(&words).ok();
    }
    let listed = vps.vault(&["machine", "list", "--all"]).ok();
    let row = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("evil").contains("removed"), "{listed}");
    assert!(row("vps").contains(" secret/jjeco/ "), "{listed}");
    let out = watch::poll("the thief is out", || {
        let set = thief.vault(&["machine", "set", "vps", "--sleeps", "--yes"]);
        (set.code != 0).then_some(set)
    });
    assert!(out.err.contains("E_BADSIG: `jonas`' key here was replaced"), "{}", out.err);
    let list = thief.vault(&["admin", "list"]);
    assert!(list.err.contains("`jonas` has had another key before"), "{}", list.err);
}

/// Tries a moment by MATRIX_SEED, or with MATRIX=full every one until the command ends by itself.
pub(crate) fn at_moments(most: usize, one: impl Fn(usize) -> bool) {
    if moment::all() {
        let last = (1..).find(|moment| !one(*moment)).unwrap();
        println!("it ends by itself before moment {last}");
    } else {
        one(moment::one(most));
    }
}

#[test]
fn appointing_is_killed_at_any_moment_and_the_same_line_goes_on() {
    at_moments(12, |moment| {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        let kit = kit(&rtx);
        types(&vps, "another horse battery staple");
        let command = || {
            let mut command = vps.command(vps.bins.vault);
            command.args(["recovery", "admin", "anna", "--instead-of", "jonas", "--yes"]);
            command.args(["--kit", &kit]);
            command
        };
        let is_killed = killed_at(command(), world.dir(), moment);
        let is_begun = vps.state().join("appointing.json").exists();
        println!("moment {moment}: killed {is_killed}, begun {is_begun}");
        if is_killed && (is_begun || !vps.state().join("admin/anna.age").exists()) {
            let again = run(&mut command(), "");
            assert_eq!(again.code, 0, "{}", again.err);
            assert_eq!(again.err.contains("going on with"), is_begun, "{}", again.err);
            assert!(again.err.contains("`anna` is an admin"), "{}", again.err);
        }
        assert!(!vps.state().join("appointing.json").exists());
        let _ = vps.vault(&["machine", "set", "vps", "--sleeps", "--yes"]).ok();
        let log = vps.vault(&["log"]).ok();
        assert_eq!(log.matches("made anna an admin").count(), 1, "{log}");
        is_killed
    });
}

#[test]
fn no_key_is_lost_to_an_appointment_under_another_name() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let kit = kit(&rtx);
    let nothing = test(&rtx, &kit);
    assert_eq!(nothing.code, 2, "{}", nothing.err);
    assert!(nothing.err.contains("nothing was opened"), "{}", nothing.err);
    let admin = |name: &str, more: &[&str]| {
        rtx.vault(&[&["recovery", "admin", name, "--kit", &kit], more].concat())
    };
    let file = |name: &str| rtx.state().join(format!("admin/{name}.age"));
    // Nobody can be asked here: it stops once it is begun.
    let stopped = admin("anna", &[]);
    assert_ne!(stopped.code, 0, "{}", stopped.err);
    let begun = rtx.state().join("appointing.json");
    let page = fs::read(&begun).unwrap();
    let refused = admin("bob", &["--yes"]);
    assert!(refused.err.contains("the appointment of `anna`"), "{}", refused.err);
    assert!(refused.err.contains("`vault recovery admin anna --kit FILE`"), "{}", refused.err);
    assert_eq!(fs::read(&begun).unwrap(), page);
    assert_eq!(admin("anna", &["--yes"]).code, 0);
    // As a kill before the last step leaves it.
    let key = fs::read(file("anna")).unwrap();
    fs::remove_file(file("anna")).unwrap();
    host::files::write_private(&begun, &page).unwrap();
    let done = admin("bob", &["--yes"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("`anna` is an admin; its key is in"), "{}", done.err);
    assert_eq!(fs::read(file("anna")).unwrap(), key);
    assert!(file("bob").exists() && !begun.exists());
    // One that waits to be appointed.
    let _ = rtx.vault(&["admin", "add", "carl"]).ok();
    let key = fs::read(file("carl")).unwrap();
    let refused = admin("carl", &["--yes"]);
    assert!(refused.err.contains("`vault admin add carl` prints its line"), "{}", refused.err);
    assert_eq!(fs::read(file("carl")).unwrap(), key);
    assert!(!begun.exists());
}

#[test]
fn a_renewal_whose_new_kit_is_lost_starts_over() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    put(&rtx, SECRET, "1");
    let (old, new) = (kit(&rtx), world.dir().join("new-kit.txt"));
    let new = new.to_str().unwrap();
    let args = ["recovery", "renew", "--kit-confirmed", "--kit", &old, "--new-kit", new];
    let renew = |more: &[&str]| rtx.vault(&[&args[..], more].concat());
    // Nobody can be asked here: it stops once it is begun.
    assert_ne!(renew(&[]).code, 0);
    let begun = rtx.state().join("renewal.json");
    let lost = fs::read(new).unwrap();
    fs::remove_file(new).unwrap();
    let refused = renew(&["--yes"]);
    assert!(refused.code != 0 && begun.exists(), "{}", refused.err);
    assert!(refused.err.contains("`--start-over` makes another"), "{}", refused.err);
    let done = renew(&["--yes", "--start-over"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(!begun.exists() && fs::read(new).unwrap() != lost);
    assert!(done.err.contains("backups from before open with it alone"), "{}", done.err);
    assert!(done.err.contains(&format!("print it, then `shred -u {new}`")), "{}", done.err);
    let tested = test(&rtx, new);
    assert_eq!(tested.code, 0, "{}", tested.err);
}

/// A vault whose versions do not fit into one request together.
struct Full {
    world: World,
    rtx: Host,
    old: String,
    new: PathBuf,
}

impl Full {
    fn new() -> Self {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let large = "x".repeat(700 << 10);
        for n in 0..7 {
            let _ = rtx.vault_with(&["kv", "put", "secret/large", "K=-"], &format!("{large}{n}"));
        }
        put(&rtx, SECRET, "1");
        put(&rtx, SECRET, "2");
        let (old, new) = (kit(&rtx), world.dir().join("new-kit.txt"));
        Self { world, rtx, old, new }
    }

    fn command(&self) -> Command {
        let mut command = self.rtx.command(self.rtx.bins.vault);
        command.args(["recovery", "renew", "--kit-confirmed", "--yes", "--kit", &self.old]);
        command.arg("--new-kit").arg(&self.new);
        command
    }

    /// Looks at what a finished renewal leaves.
    fn check(&mut self) {
        let Self { world, rtx, old, new } = self;
        let (old, new) = (old.as_str(), new.to_str().unwrap());
        assert!(!rtx.state().join("renewal.json").exists());
        assert!(!rtx.state().join("kit-shown.json").exists());
        let tested = test(rtx, new);
        assert_eq!(tested.code, 0, "{}", tested.err);
        assert!(tested.err.contains("it opens all of 9 versions"), "{}", tested.err);
        let refused = test(rtx, old);
        assert!(refused.err.contains("root key is not that of the vault"), "{}", refused.err);
        let args = ["recovery", "admin", "eve", "--kit", old, "--yes"];
        assert_eq!(rtx.vault(&args).code, 2);
        // What is on the server's disk does not open with the old kit, and does with the new one.
        world.server.as_mut().unwrap().stop();
        let database = world.tables();
        let mut blobs = database.prepare("SELECT bytes FROM blob").unwrap();
        let blobs = blobs.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let blobs: Vec<_> = blobs.map(Result::unwrap).collect();
        assert_eq!(blobs.len(), 9);
        let [new, old] = [new, old].map(|page| fs::read(page).unwrap());
        for blob in blobs {
            assert!(opens(&new, &blob) && !opens(&old, &blob));
        }
    }
}

#[test]
fn a_new_kit_opens_everything_and_the_old_one_nothing() {
    let mut full = Full::new();
    let vps = full.world.machine(&full.rtx, "vps", &["secret/jjeco/"]);
    let refused = vps.vault(&["recovery", "renew", "--kit", &full.old]);
    let why = "this machine does not read `secret/large`, and could not re-encrypt it";
    assert!(refused.err.starts_with(why), "{}", refused.err);
    let said = run(&mut full.command(), "");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.err.contains("replace the root key by "), "{}", said.err);
    assert!(said.err.contains("opens all that is kept: 9 versions"), "{}", said.err);
    assert!(said.err.contains("`root` signed 1 entry in the last 30 days"), "{}", said.err);
    let value = vps.vault(&["kv", "get", "-field=K", SECRET]).ok();
    assert_eq!(value.trim(), "2");
    full.check();
}

#[test]
fn a_renewal_is_killed_at_any_moment_and_the_same_line_goes_on() {
    at_moments(20, |moment| {
        let mut full = Full::new();
        let is_killed = killed_at(full.command(), full.world.dir(), moment);
        let is_there = |name: &str| full.rtx.state().join(name).exists();
        let (is_shown, is_begun) = (is_there("kit-shown.json"), is_there("renewal.json"));
        println!("moment {moment}: killed {is_killed}, shown {is_shown}, begun {is_begun}");
        let is_done = !is_begun && test(&full.rtx, full.new.to_str().unwrap()).code == 0;
        if !is_done {
            let again = run(&mut full.command(), "");
            assert_eq!(again.code, 0, "{}", again.err);
            let is_void = is_shown && !is_begun;
            assert_eq!(again.err.contains("was never confirmed"), is_void, "{}", again.err);
            assert_eq!(again.err.contains("going on with the renewal"), is_begun, "{}", again.err);
        }
        full.check();
        is_killed
    });
}

#[test]
fn the_ways_back_do_what_the_guide_says() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let vps = world.machine(&rtx, "vps", &["*"]);
    for (path, value) in [(SECRET, "1"), (SECRET, "2"), ("secret/mail", "3")] {
        put(&rtx, path, value);
    }
    let (kit, new) = (kit(&rtx), world.dir().join("new-kit.txt"));
    let steps = transcript(&fs::read_to_string(PAGE).unwrap());
    assert_eq!(steps.len(), 6);
    let nas = world.host("nas");
    let mut kit = kit;
    for Step { host, command, promised } in &steps {
        if command.contains("admin anna") {
            // On the laptop that is about to be stolen.
            let _ = world.machine(&rtx, "laptop", &["*"]);
        }
        let mut command = command.replace("--kit -", &format!("--kit {kit}"));
        if !command.contains("recovery test") {
            command += " --yes";
        }
        if command.contains("recovery renew") {
            command += &format!(" --kit-confirmed --new-kit {}", new.display());
        }
        command = command.replace("10.8.0.3:8443", world.address());
        if host == "nas" {
            command += " --name nas";
        }
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let host = match host.as_str() {
            "nas" => &nas,
            "vps" => &vps,
            _ => &rtx,
        };
        let ran = host.vault(&words);
        let shown = ran.err + &ran.out;
        let holds = ran.code == 0 && keeps(promised, &shown.lines().collect::<Vec<_>>());
        if command.contains("recovery renew") {
            new.to_str().unwrap().clone_into(&mut kit);
        }
        assert!(holds, "`{command}` promises\n{}\nbut shows\n{shown}", promised.join("\n"));
    }
}

#[test]
fn a_renewal_takes_along_what_only_the_old_kit_opens() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    put(&rtx, SECRET, "1");
    put(&rtx, SECRET, "2");
    let vps = world.machine(&rtx, "vps", &["*"]);
    let first = || vps.vault(&["kv", "get", "-field=K", "-version=1", SECRET]);
    assert_ne!(first().code, 0, "it came later");
    let new = vps.dir.join("kit-2.txt");
    let args = ["recovery", "renew", "--kit-confirmed", "--yes", "--kit", &kit(&rtx), "--new-kit"];
    let done = vps.vault(&[&args[..], &[new.to_str().unwrap()]].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.err.contains("opens all that is kept: 2 versions"), "{}", done.err);
    assert_eq!(first().ok(), "1");
}
