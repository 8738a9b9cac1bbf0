//! The days on which an owner needs the paper, one story each, with the command of it killed and
//! typed again. After each every `.env` is right, the status is 0, the audit log is whole, and who
//! was put out reads nothing.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::aftermath::file_opens;
use crate::moment::{killed_at, one};
use crate::moving::with_port;
use crate::recovery::{SECRET, kit, put, test, types};
use tests::{Host, Ran, World, bins, find_line, run, watch};

const MAIL: &str = "secret/mail";

/// A vault of three hosts, whose kit is on paper.
struct Home {
    world: World,
    rtx: Host,
    vps: Host,
    nas: Host,
    paper: String,
}

impl Home {
    fn new() -> Self {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        put(&rtx, SECRET, "1");
        put(&rtx, MAIL, "1");
        let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        let nas = world.machine(&rtx, "nas", &["*"]);
        for host in [&rtx, &vps, &nas] {
            host.target(&[SECRET]);
        }
        let paper = world.dir().join("paper.txt");
        fs::rename(kit(&rtx), &paper).unwrap();
        let home = Self { world, rtx, vps, nas, paper: paper.to_str().unwrap().to_owned() };
        home.is_right("1");
        home
    }

    fn is_right(&self, value: &str) {
        for host in [&self.rtx, &self.vps, &self.nas] {
            watch::until(&host.env_file(), |text| text.ends_with(&format!("\nK={value}\n")));
        }
    }

    /// Looks at what holds after every story; the keys in `out` are in other hands.
    fn ends_well(mut self, out: &[PathBuf]) {
        put(&self.rtx, SECRET, "2");
        put(&self.rtx, MAIL, "2");
        self.is_right("2");
        for host in [&self.rtx, &self.vps, &self.nas] {
            is_well(host);
        }
        let tested = test(&self.nas, &self.paper);
        assert_eq!(tested.code, 0, "{}", tested.err);
        self.world.server.as_mut().unwrap().stop();
        let database = self.world.tables();
        let mut blobs = database.prepare("SELECT path, bytes FROM blob").unwrap();
        let mut rows = blobs.query(()).unwrap();
        let mut seen = 0;
        while let Some(row) = rows.next().unwrap() {
            let (path, blob): (Option<String>, Vec<u8>) =
                (row.get(0).unwrap(), row.get(1).unwrap());
            for key in out {
                assert!(!file_opens(key, &blob), "{} opens a version of {path:?}", key.display());
            }
            assert!(path.as_deref() != Some(MAIL) || !file_opens(&age_key(&self.vps), &blob));
            seen += 1;
        }
        assert!(seen >= 4, "{seen} blobs");
    }
}

pub(crate) fn is_well(host: &Host) {
    host.is_well();
    let verified = host.vault(&["audit", "verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

/// Kills a command of `host` at a moment chosen by MATRIX_SEED, and runs it again unless `is_done`.
fn twice(host: &Host, most: usize, args: &[&str], is_done: impl Fn() -> bool) -> Option<Ran> {
    let command = || {
        let mut command = host.command(host.bins.vault);
        command.args(args);
        command
    };
    let is_killed = killed_at(command(), &host.dir, one(most));
    println!("`vault {}` was killed: {is_killed}", args.join(" "));
    if is_done() {
        return None;
    }
    let again = run(&mut command(), "");
    assert_eq!(again.code, 0, "{}{}", again.out, again.err);
    Some(again)
}

pub(crate) fn age_key(host: &Host) -> PathBuf {
    host.state().join("identity/age.key")
}

/// Runs those commands that take something back, and name what the owner does not know.
fn take_back(said: &str, host: &Host, kit: &str, foreign: impl Fn(&str) -> bool) {
    let lines = said.lines().filter_map(|line| line.strip_prefix("  to take it back: "));
    for command in lines.filter(|line| foreign(line)) {
        let command = command.replace("--kit FILE", &format!("--kit {kit}"));
        let words = command.split(' ').skip(1).chain(["--yes"]).collect::<Vec<_>>();
        let _ = host.vault(&words).ok();
    }
}

fn signs(host: &Host) {
    for sleeps in ["--sleeps", "--sleeps=false"] {
        let _ = host.vault(&["machine", "set", "vps", sleeps, "--yes"]).ok();
    }
}

fn signs_nothing(host: &Host) {
    let refused = watch::poll("the admin is out", || {
        let ran = host.vault(&["machine", "set", "vps", "--sleeps", "--yes"]);
        (ran.code != 0).then_some(ran)
    });
    assert!(refused.err.contains("E_UNKNOWN_ACTOR"), "{}", refused.err);
    assert!(refused.err.contains("is no admin of this vault"), "{}", refused.err);
}

#[test]
fn a_passphrase_is_forgotten() {
    let home = Home::new();
    let Home { rtx, paper, .. } = &home;
    types(rtx, "a passphrase of the day after");
    assert_ne!(rtx.vault(&["machine", "set", "vps", "--sleeps", "--yes"]).code, 0);
    let (file, begun) = (rtx.state().join("admin/jonas.age"), rtx.state().join("appointing.json"));
    let old = fs::read(&file).unwrap();
    let args = ["recovery", "admin", "jonas", "--instead-of", "jonas", "--kit", paper, "--yes"];
    let _ = twice(rtx, 8, &args, || !begun.exists() && fs::read(&file).unwrap() != old);
    let listed = rtx.vault(&["admin", "list"]).ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    signs(rtx);
    home.ends_well(&[]);
}

/// A laptop of the vault, with the admin's key and passphrase, which somebody else has now.
fn stolen(home: &Home) -> Host {
    let thief = home.world.machine(&home.rtx, "laptop", &["*"]);
    let folder = thief.state().join("admin");
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    fs::copy(home.rtx.state().join("admin/jonas.age"), folder.join("jonas.age")).unwrap();
    thief
}

/// Adds machines for as long as the thief can.
fn races(world: &World, thief: &Host, stop: &AtomicBool) {
    for turn in 0.. {
        let more = world.host(&format!("evil-{turn}"));
        let line = find_line(&more.agent_command(&["init", "--name", &more.name]).ok(), "VLTM1-");
        let added = thief.vault(&["machine", "add", &line, "--read", "*", "--yes"]);
        if stop.load(Ordering::Relaxed) || added.code != 0 {
            return;
        }
    }
}

#[test]
fn a_thief_with_the_passphrase_races_the_owner_with_the_paper() {
    let home = Home::new();
    let Home { world, vps, paper, .. } = &home;
    let thief = stolen(&home);
    let evil = world.machine(&thief, "evil", &["*"]);
    let _ = thief.vault(&["access", "set", "vps", "--read", "*", "--yes"]).ok();
    types(vps, "a passphrase of the owner alone");
    let args = ["recovery", "admin", "anna", "--instead-of", "jonas", "--kit", paper, "--yes"];
    let (file, begun) = (vps.state().join("admin/anna.age"), vps.state().join("appointing.json"));
    let stop = AtomicBool::new(false);
    // They go on signing between the kill and the next try, too.
    let said = std::thread::scope(|scope| {
        let _racer = scope.spawn(|| races(world, &thief, &stop));
        let said = twice(vps, 6, &args, || !begun.exists() && file.exists());
        stop.store(true, Ordering::Relaxed);
        said
    });
    signs_nothing(&thief);
    let listed = vps.vault(&["machine", "list"]).ok();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    let foreign: Vec<&str> =
        names.filter(|name| name.starts_with("evil") || *name == "laptop").collect();
    assert!(foreign.contains(&"evil") && foreign.contains(&"laptop"), "{listed}");
    let removals = foreign.iter().map(|name| format!("vault machine remove {name}"));
    let mut backs: Vec<String> = removals.collect();
    backs.push("vault access set vps --read secret/jjeco/".to_owned());
    let named: String = backs.iter().map(|back| format!("  to take it back: {back}\n")).collect();
    // Killed after its last step it had said so, to nobody here.
    let out = said.map_or(named.clone(), |said| said.out);
    for line in named.lines() {
        assert!(out.lines().any(|it| it == line), "it does not say `{line}`: {out}");
    }
    take_back(&out, vps, paper, |line| backs.iter().any(|back| back == line));
    home.ends_well(&[age_key(&thief), age_key(&evil)]);
}

#[test]
fn a_stranger_has_photographed_the_kit() {
    let mut home = Home::new();
    let dir = home.world.dir().to_owned();
    let photo = dir.join("photo.txt");
    fs::copy(&home.paper, &photo).unwrap();
    let recovers = |name: &str| {
        let host = home.world.host(name);
        let kit = photo.to_str().unwrap();
        let args = ["recover", home.world.address(), "--kit", kit, "--admin", "eve", "--yes"];
        let said = host.vault(&[&args[..], &["--name", name]].concat());
        (host, said)
    };
    let (stranger, said) = recovers("stranger");
    assert_eq!(said.code, 0, "{}", said.err);

    let (rtx, begun) = (&home.rtx, home.rtx.state().join("renewal.json"));
    let new = dir.join("kit.html").to_str().unwrap().to_owned();
    let args = ["recovery", "renew", "--kit-confirmed", "--yes", "--kit", &home.paper];
    let args = [&args[..], &["--new-kit", &new, "--html"]].concat();
    let said = twice(rtx, 10, &args, || !begun.exists() && test(rtx, &new).code == 0);
    let backs = ["vault machine remove stranger", "vault admin remove eve --kit FILE"];
    let named = backs.map(|back| format!("  to take it back: {back}\n")).concat();
    let out = said.map_or(named.clone(), |said| said.out);
    for line in named.lines() {
        assert!(out.lines().any(|it| it == line), "it does not say `{line}`: {out}");
    }
    take_back(&out, rtx, &new, |line| backs.contains(&line));

    let args = ["recovery", "admin", "mallory", "--kit", photo.to_str().unwrap(), "--yes"];
    let refused = home.vps.vault(&args);
    assert!(refused.err.contains("root key is not that of the vault"), "{}", refused.err);
    let (again, refused) = recovers("again");
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(!again.state().join("pins.json").exists());
    let out = [age_key(&stranger), photo];
    home.paper = new;
    home.ends_well(&out);
}

#[test]
fn an_admin_leaves() {
    let home = Home::new();
    let Home { world, rtx, paper, .. } = &home;
    let thinkpad = world.machine(rtx, "thinkpad", &["*"]);
    let line = find_line(&thinkpad.vault(&["admin", "add", "anna"]).ok(), "VLTA1-");
    let _ = twice(rtx, 4, &["admin", "add", &line, "--kit", paper, "--yes"], || false);
    watch::poll("she is an admin", || {
        (thinkpad.vault(&["machine", "set", "vps", "--sleeps", "--yes"]).code == 0).then_some(())
    });
    signs(&thinkpad);
    let _ = twice(rtx, 4, &["admin", "remove", "anna", "--kit", paper, "--yes"], || false);
    signs_nothing(&thinkpad);
    let remove = ["machine", "remove", "thinkpad", "--reason", "left", "--yes"];
    let _ = twice(rtx, 8, &remove, || false);
    signs(rtx);
    home.ends_well(&[age_key(&thinkpad)]);
}

#[test]
fn the_last_sheet_is_lost_and_a_new_vault_takes_all() {
    let (old, new) = (World::new(bins!()), World::new(bins!()));
    let (lost, port) = with_port(&old);
    for (path, value) in [(SECRET, "1"), (SECRET, "2"), (MAIL, "3")] {
        put(&lost, path, value);
    }
    let rtx = new.owner("rtx1080");
    let paper = kit(&rtx);
    // No admin makes root another key.
    let refused = lost.vault(&["recovery", "renew", "--kit", &paper, "--kit-confirmed", "--yes"]);
    assert_ne!(refused.code, 0, "{}", refused.err);
    let from = format!("vault://{}/secret", port.address());
    let _ = twice(&rtx, 4, &["import", &from], || false);
    for (path, version, value) in [(SECRET, "1", "1"), (SECRET, "2", "2"), (MAIL, "1", "3")] {
        let args = ["kv", "get", "-field=K", "-version", version, path];
        assert_eq!(rtx.vault(&args).ok().trim(), value, "{path}");
    }
    rtx.target(&[SECRET]);
    watch::until(&rtx.env_file(), |text| text.ends_with("\nK=2\n"));
    is_well(&rtx);
    let tested = test(&rtx, &paper);
    assert_eq!(tested.code, 0, "{}", tested.err);
    assert!(tested.err.contains("it opens all of 3 versions"), "{}", tested.err);
}
