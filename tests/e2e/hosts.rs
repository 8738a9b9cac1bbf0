//! What becomes of hosts, each story whole: another name, new keys, set up anew, copied, gone. A
//! command of it is killed at a moment, and the same line ends it. Afterwards every file is right,
//! nothing is wrong, and who was put out opens nothing that the server holds.

use std::cell::Cell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Host, World, bins, find_line, watch};

use super::aftermath::file_opens;
use super::life::{killed_at, program_killed_at};
use super::moment::moments;

const SECRET: &str = "secret/jjeco/app";

/// A server, its owner, and a host that reads; both keep a file right.
struct Fleet {
    world: World,
    rtx: Host,
    vps: Host,
    values: Cell<u32>,
}

impl Fleet {
    fn new() -> Self {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let _ = rtx.vault(&["kv", "put", SECRET, "K=0"]).ok();
        let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        for host in [&rtx, &vps] {
            host.target(&[SECRET]);
            watch::until(&host.env_file(), |text| text.contains("K=0"));
        }
        Self { world, rtx, vps, values: Cell::default() }
    }

    /// Keeps what a host has to open secrets with, as a thief does.
    fn steal(&self, host: &Host) -> PathBuf {
        let stolen = self.world.dir().join(format!("{}-{}.key", host.name, self.values.get()));
        let key = fs::read(host.state().join("identity/age.key")).unwrap();
        host::files::write_private(&stolen, &key).unwrap();
        stolen
    }

    /// Looks at everything after a story: `hosts` are right, and `out` opens nothing.
    fn is_right(&self, hosts: &[&Host], out: &[PathBuf]) {
        self.values.set(self.values.get() + 1);
        let value = format!("K={}-of-today", self.values.get());
        let _ = self.rtx.vault(&["kv", "put", SECRET, &value]).ok();
        for host in hosts {
            watch::until(&host.env_file(), |text| text.contains(&value));
            host.is_well();
        }
        let verified = self.rtx.vault(&["audit", "verify"]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        watch::poll("who is out opens nothing", || {
            let blobs = blobs(&self.world);
            assert!(!blobs.is_empty());
            (!out.iter().any(|key| blobs.iter().any(|blob| file_opens(key, blob)))).then_some(())
        });
    }

    /// Has an owner's command killed at a moment, and run again.
    fn killed(&self, args: &[&str], moment: usize) -> String {
        let is_killed = killed_at(&self.rtx, ".", args, moment);
        println!("moment {moment}: {}", if is_killed { "killed" } else { "it had ended" });
        let ran = self.rtx.vault(args);
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
        ran.out
    }
}

/// Returns every ciphertext that the server holds.
fn blobs(world: &World) -> Vec<Vec<u8>> {
    let tables = world.tables();
    let mut blobs = tables.prepare("SELECT bytes FROM blob").unwrap();
    let blobs = blobs.query_map([], |row| row.get(0)).unwrap();
    blobs.map(Result::unwrap).collect()
}

#[test]
fn a_thief_of_a_key_that_is_in_opens_what_it_reads() {
    let fleet = Fleet::new();
    let stolen = fleet.steal(&fleet.vps);
    let blobs = blobs(&fleet.world);
    assert!(
        blobs.iter().any(|blob| file_opens(&stolen, blob)),
        "what the others look for is found"
    );
}

#[test]
fn a_host_gets_another_name() {
    for moment in moments(12) {
        let mut fleet = Fleet::new();
        let _ = fleet.killed(&["machine", "rename", "vps", "web", "--yes"], moment);
        watch::until(&fleet.vps.state().join("pins.json"), |text| text.contains("\"web\""));
        fleet.is_right(&[&fleet.rtx, &fleet.vps], &[]);
        fleet.vps.stop();
        fleet.vps.start();
        fleet.is_right(&[&fleet.rtx, &fleet.vps], &[]);
    }
}

#[test]
fn the_owners_own_host_gets_new_keys_in_one_command() {
    for moment in moments(40) {
        let mut fleet = Fleet::new();
        let _ = fleet.rtx.vault(&["kv", "put", SECRET, "K=1"]).ok();
        let old = fleet.steal(&fleet.rtx);
        let before = fs::read(&old).unwrap();
        // Its agent is the test's own, and started by it; `tests/interop/enrol` leaves it to the
        // command.
        let _ = fleet.killed(&["machine", "rekey", "rtx1080", "--no-start", "--yes"], moment);
        let key = fleet.rtx.state().join("identity/age.key");
        assert_ne!(fs::read(&key).unwrap(), before);
        assert!(!fleet.rtx.state().join("rekey").exists(), "the old keys are wiped");
        // Until an agent runs with them, the same line finds all done.
        let again = fleet.rtx.vault(&["machine", "rekey", "rtx1080", "--no-start", "--yes"]);
        assert_eq!(again.code, 0, "{}", again.err);
        assert!(!again.err.contains("signs for vault"), "{}", again.err);
        fleet.rtx.stop();
        fleet.rtx.start();
        fleet.is_right(&[&fleet.rtx, &fleet.vps], &[old]);
        let first = fleet.rtx.vault(&["kv", "get", "-field=K", "-version=1", SECRET]);
        assert_eq!(first.ok(), "0", "what only its old keys opened came along");
        // Signed once, however often it was begun.
        let exposed = fleet.rtx.vault(&["machine", "exposed", "rtx1080"]);
        assert!(exposed.err.contains("`rtx1080` (number 3) is a machine"), "{}", exposed.err);
    }
}

#[test]
fn a_host_that_was_set_up_anew_takes_its_name_back() {
    for moment in moments(24) {
        let mut fleet = Fleet::new();
        let old = fleet.steal(&fleet.vps);
        fleet.vps.stop();
        let config = fs::read(fleet.vps.state().join("agent.toml")).unwrap();
        fs::remove_dir_all(fleet.vps.state()).unwrap();
        let line = fleet.vps.agent_command(&["init", "--name", "vps"]).ok();
        let line = find_line(&line, "VLTM1-");
        let read = ["--read", "secret/jjeco/", "--rekey", "--yes"];
        let pin = fleet.killed(&[&["machine", "add", &line][..], &read].concat(), moment);
        let join = ["join", &find_line(&pin, "VLTP1-")];
        program_killed_at(&fleet.vps, fleet.vps.bins.agent, ".", &join, moment);
        let _ = fleet.vps.agent_command(&join).ok();
        let access = host::files::Access::PRIVATE;
        host::files::replace(&fleet.vps.state().join("agent.toml"), &config, access).unwrap();
        fleet.vps.start();
        // Before the secret changes: a file with an older version would be somebody else's.
        watch::poll("its file is known again", || {
            (fleet.vps.vault(&["status"]).code == 0).then_some(())
        });
        fleet.is_right(&[&fleet.rtx, &fleet.vps], &[old]);
    }
}

#[test]
fn of_a_host_and_its_copy_one_gets_new_keys_and_the_other_is_out() {
    let moment = moments(16)[0];
    let mut fleet = Fleet::new();
    let old = fleet.steal(&fleet.vps);
    fleet.vps.stop();
    let mut twin = fleet.world.host("twin");
    let copied = Command::new("cp").arg("-a").args([fleet.vps.state(), twin.state()]).status();
    assert!(copied.unwrap().success());
    // The copy's files are its own.
    let config = fs::read_to_string(twin.state().join("agent.toml")).unwrap();
    let [from, to] = [&fleet.vps, &twin].map(|host| host.dir.display().to_string());
    write(&twin.state().join("agent.toml"), &config.replace(&from, &to));
    fleet.vps.start();
    twin.start();
    alternate(&fleet, &[&fleet.vps, &twin]);

    let made = fleet.vps.agent_command(&["init", "--rekey"]).ok();
    let line = find_line(&made, "VLTM1-");
    let pin = fleet.killed(&["machine", "rekey", "vps", &line, "--yes"], moment);
    let join = ["join", &find_line(&pin, "VLTP1-")];
    program_killed_at(&fleet.vps, fleet.vps.bins.agent, ".", &join, moment);
    let _ = fleet.vps.agent_command(&join).ok();
    fleet.vps.stop();
    fleet.vps.start();
    // The copy is out, keeps its file, and says so.
    watch::poll("the copy is told", || {
        twin.vault(&["status"]).err.contains("E_UNKNOWN_ACTOR").then_some(())
    });
    fleet.is_right(&[&fleet.rtx, &fleet.vps], std::slice::from_ref(&old));
    assert!(!twin.env().contains("of-today") && twin.env().contains("K="), "{}", twin.env());
    // An agent that is out says so to who joins with the line of before.
    let told = twin.agent_command(&join);
    assert_eq!(told.code, 2, "{}", told.err);
    assert!(told.err.contains("no machine's in the vault any more"), "{}", told.err);
    assert!(told.err.contains("it was removed, or has others there"), "{}", told.err);

    // It comes back under a name of its own.
    twin.stop();
    fs::rename(twin.state(), twin.dir.join("before")).unwrap();
    fleet.world.enrol(&fleet.rtx, &twin, &["secret/jjeco/"]);
    twin.start();
    // Its file is one of before, which nobody here has written.
    let file = twin.env_file();
    let add = ["target", "add", file.to_str().unwrap(), SECRET, "--replace"];
    let _ = twin.agent_command(&add).ok();
    fleet.is_right(&[&fleet.rtx, &fleet.vps, &twin], &[old]);
}

/// Has the hosts come to the server in turn, until all who are to be told of it are.
fn alternate(fleet: &Fleet, copies: &[&Host; 2]) {
    let port = fleet.world.address().rsplit_once(':').unwrap().1;
    let plain = copies.map(|copy| fs::read_to_string(copy.state().join("agent.toml")).unwrap());
    let kept = plain.each_ref().map(|text| {
        let lines = text.lines().filter(|line| !line.starts_with("server"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    });
    let (mut turn, mut told) = (0, [false; 3]);
    let hosts = [&fleet.rtx, copies[0], copies[1]];
    watch::poll("the owner, the host and its copy are told", || {
        let (at, server) = (turn % 2, ["127.0.0.1", "localhost"][turn / 2 % 2]);
        turn += 1;
        let text = format!("server = [\"{server}:{port}\"]\n{}", kept[at]);
        write(&copies[at].state().join("agent.toml"), &text);
        for (host, told) in hosts.iter().zip(&mut told) {
            sync(host);
            let said = host.vault(&["status"]).err;
            let is_told = said.contains("alarm E_CLONE");
            assert!(!is_told || said.contains("`vault machine rekey NAME --ssh HOST`"), "{said}");
            *told |= is_told;
        }
        told.iter().all(|it| *it).then_some(())
    });
}

/// Has a host exchange reports, which brings the news; one whose stream the other copy has just
/// taken is refused, and comes again.
fn sync(host: &Host) {
    let mut socket = UnixStream::connect(host.state().join("agent.sock")).unwrap();
    let head = "POST /v1/agent/sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n";
    socket.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}

fn write(file: &Path, text: &str) {
    host::files::replace(file, text.as_bytes(), host::files::Access::PRIVATE).unwrap();
}

#[test]
fn what_an_act_could_not_re_encrypt_is_told_on_every_host_until_it_is() {
    let mut fleet = Fleet::new();
    let nas = fleet.world.machine(&fleet.rtx, "nas", &["secret/jjeco/"]);
    watch::poll("it reads", || (nas.vault(&["kv", "get", SECRET]).code == 0).then_some(()));
    let said = |host: &Host| {
        let ran = host.vault(&["status"]);
        (ran.code, format!("{}{}", ran.out, ran.err))
    };
    let text =
        "1 version is still encrypted to the readers of before: who was put out still opens it";
    // The owner's host stops reading it, and so cannot re-encrypt it to those who stay.
    let lists = ["--read", "sys/,secret/other/", "--write", "*", "--yes"];
    let _ = fleet.rtx.vault(&[&["access", "set", "rtx1080"], &lists[..]].concat()).ok();
    assert!(!said(&fleet.rtx).1.contains(text), "the act itself has re-encrypted it");
    let _ = fleet.rtx.vault(&["machine", "remove", "vps", "--reason", "sold", "--yes"]);
    assert!(!said(&fleet.rtx).1.contains(text), "somebody may be at it");
    fleet.rtx.stop();
    fleet.rtx.start();
    let (code, told) = watch::poll("the owner is told", || {
        let told = said(&fleet.rtx);
        told.1.contains(text).then_some(told)
    });
    let cannot = format!("{text}; `rtx1080` may not read 1, and so not re-encrypt");
    assert!(code == 2 && told.contains(&cannot), "{told}");
    assert!(told.contains("`vault machine remove vps` re-encrypts it, on a host that"), "{told}");
    let json = fleet.rtx.vault(&["status", "-format=json"]).out;
    assert!(json.contains("\"not_re_encrypted\""), "{json}");
    // Who may read it is told without a restart, once nobody can be at it any more.
    watch::poll("the other is told", || {
        let (code, told) = said(&nas);
        (code == 2 && told.contains(text)).then_some(())
    });
    let _ = fleet.rtx.vault(&["kv", "put", SECRET, "K=new"]).ok();
    for host in [&fleet.rtx, &nas] {
        watch::poll("nobody is told any more", || (!said(host).1.contains(text)).then_some(()));
    }
}

/// Secrets of a host that goes.
const MANY: usize = 60;

#[test]
fn a_host_that_read_many_secrets_goes() {
    for moment in moments(12) {
        let fleet = Fleet::new();
        let out = fleet.steal(&fleet.vps);
        for n in 0..MANY {
            let (path, value) = (format!("secret/jjeco/many/{n}"), format!("K=value-{n}"));
            let _ = fleet.rtx.vault(&["kv", "put", &path, &value]).ok();
        }
        let last = format!("secret/jjeco/many/{}", MANY - 1);
        watch::poll("it reads the last", || {
            (fleet.vps.vault(&["kv", "get", &last]).code == 0).then_some(())
        });
        let third = fleet.world.machine(&fleet.rtx, "nas", &["secret/jjeco/"]);
        let remove = ["machine", "remove", "vps", "--reason", "sold", "--yes"];
        let _ = fleet.killed(&remove, moment);
        fleet.is_right(&[&fleet.rtx], &[out]);
        for n in 0..MANY {
            let read =
                third.vault(&["kv", "get", "-format=json", &format!("secret/jjeco/many/{n}")]);
            assert!(read.out.contains(&format!("value-{n}\"")), "{}{}", read.out, read.err);
        }
        let told = fleet.rtx.vault(&["log"]).ok();
        assert_eq!(told.matches("removed vps: sold").count(), 1, "{told}");
    }
}
