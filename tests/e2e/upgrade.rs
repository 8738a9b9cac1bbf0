//! Programs of two versions: they work together in any order, hosts on old ones are named, and one
//! host is upgraded and goes back, killed after any step. As there is only one version to build,
//! the neighbour is the same program that goes by another one; what a neighbour may say more is
//! tried in `shared/src/wire`, `vault-server/tests/it/neighbours.rs` and `tests/evil/tomorrow.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;
use shared::hash::Hash;
use shared::log::Op;
use shared::signed::Purpose;
use tests::{Bins, Host, Ran, World, admin_key, bins, files_below, run, signed_by_admin, watch};

use crate::moment;

const SECRET: &str = "secret/app/env";
const OLD: &str = "0.7.3";
const NEW: &str = "0.8.0";

/// Waits until a status ends with `code` and says all of `parts`.
fn says(host: &Host, code: i32, parts: &[&str]) -> Ran {
    let mut before = String::new();
    watch::poll(&format!("exit {code}, {parts:?}"), || {
        let ran = host.vault(&["status"]);
        let all = format!("exit {}\n{}{}", ran.code, ran.out, ran.err);
        if all != before {
            println!("{all}");
        }
        let found = ran.code == code && parts.iter().all(|part| all.contains(part));
        before = all;
        found.then_some(ran)
    })
}

/// Returns the status for scripts.
fn document(host: &Host) -> Value {
    serde_json::from_str(&host.vault(&["status", "-format=json"]).out).unwrap()
}

/// Returns which program a machine runs, as a status has it.
fn program(status: &Value, of: &str) -> String {
    let machines = status["machines"].as_array().unwrap();
    let found = machines.iter().find(|it| it["machine"] == of).unwrap();
    found["program"]["version"].as_str().unwrap_or_default().to_owned()
}

/// Changes the secret from one host, and checks that it is everywhere and on record, and that all
/// is well.
fn all_is_right(owner: &Host, others: &[&Host], value: &str) {
    watch::poll(&format!("{value} is taken"), || {
        (owner.vault(&["kv", "put", SECRET, &format!("A={value}")]).code == 0).then_some(())
    });
    for host in others.iter().chain([&owner]) {
        watch::until(&host.env_file(), |text| text.contains(&format!("A={value}\n")));
        assert_eq!(host.vault(&["kv", "get", "-field=A", SECRET]).ok().trim_end(), value);
    }
    says(owner, 0, &[]);
    let _ = owner.vault(&["audit", "verify"]).ok();
    for host in others {
        watch::poll("its own status", || (host.agent_command(&["status"]).code == 0).then_some(()));
    }
}

/// A vault with two hosts that have a target each.
fn two_hosts(world: &World) -> [Host; 2] {
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", SECRET, "A=first"]).ok();
    let vps = world.machine(&rtx, "vps", &["secret/app/"]);
    for host in [&rtx, &vps] {
        host.target(&[SECRET]);
        watch::until(&host.env_file(), |text| text.contains("A=first\n"));
    }
    [rtx, vps]
}

/// Starts a host's agent anew, as a program of another version.
fn restart(host: &mut Host, version: &'static str) {
    host.stop();
    host.version = Some(version);
    host.start();
}

#[test]
fn neighbours_work_together_in_any_order_and_older_ones_are_named() {
    let mut world = World::new(bins!());
    let [mut rtx, mut vps] = two_hosts(&world);
    let mut before = ("", "", "");
    for (n, (server, agent, cli)) in [
        (OLD, OLD, OLD),
        // The server first, then a host, then its command line.
        (NEW, OLD, OLD),
        (NEW, NEW, OLD),
        (NEW, NEW, NEW),
        // The other way round, and back in the middle of it.
        (OLD, NEW, NEW),
        (OLD, NEW, OLD),
        (OLD, OLD, NEW),
    ]
    .into_iter()
    .enumerate()
    {
        if server != before.0 {
            world.server.take().unwrap().kill();
            world.version = Some(server);
            world.start();
        }
        if agent != before.1 {
            restart(&mut vps, agent);
        }
        if n == 0 {
            restart(&mut rtx, OLD);
        }
        before = (server, agent, cli);
        (rtx.version, vps.version) = (Some(cli), Some(cli));
        all_is_right(&rtx, &[&vps], &format!("{server}-{agent}-{cli}"));
        let (agent, server) = (format!("vault-agent {agent}"), format!("vault-server {server}"));
        let status = watch::poll("the programs are known", || {
            let status = document(&rtx);
            let is_told = program(&status, "vps") == agent;
            (is_told && status["server_program"]["version"] == server).then_some(status)
        });
        let told = says(&rtx, 0, &[]).err;
        let is_mixed = [&*server, &*agent, cli].iter().any(|it| it.ends_with(NEW));
        assert_eq!(told.contains("programs of 0.8.0"), is_mixed, "{told}");
        assert_eq!(
            told.contains("rtx1080 0.7.3"),
            is_mixed,
            "its own agent is the old one: {told}"
        );
        assert_eq!(status["older"].as_array().unwrap().is_empty(), !is_mixed);
    }
    (rtx.version, vps.version) = (None, None);
}

#[test]
fn a_program_that_is_too_old_for_this_one_is_wrong_until_it_is_not() {
    let mut world = World::new(bins!());
    let [mut rtx, mut vps] = two_hosts(&world);
    assert!(world.server.take().unwrap().stop());
    world.version = Some(OLD);
    world.start();
    restart(&mut vps, "0.5.1");
    restart(&mut rtx, OLD);
    let told = "vps: runs vault-agent 0.5.1: too old for this program, 0.7.3";
    says(&rtx, 2, &[told, "hint: install vault-agent 0.7.3 on vps"]);
    restart(&mut vps, "0.6.0");
    all_is_right(&rtx, &[&vps], "two");
    // One that says to be ever so new is named, and makes nobody else wrong.
    restart(&mut vps, "99.0.0");
    says(&rtx, 0, &["programs of 99.0.0, as on vps, are not everywhere: rtx1080 0.7.3"]);
}

/// Puts a program into a folder of the world's own, so that it can be replaced.
fn place(world: &World, program: &str, name: &str) -> &'static str {
    let folder = world.dir().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let (file, new) = (folder.join(name), folder.join(format!(".{name}.new")));
    tests::executable(&new, Path::new(program), "");
    fs::rename(&new, &file).unwrap();
    Box::leak(file.to_str().unwrap().to_owned().into_boxed_str())
}

#[test]
fn a_running_program_that_is_not_its_file_is_named_with_what_to_type() {
    let mut world = World::new(bins!());
    let original = world.bins;
    let [rtx, mut vps] = two_hosts(&world);
    vps.stop();
    vps.bins.agent = place(&world, original.agent, "vault-agent");
    vps.start();
    assert!(world.server.take().unwrap().stop());
    world.bins.server = place(&world, original.server, "vault-server");
    world.start();
    all_is_right(&rtx, &[&vps], "one");

    let _ = place(&world, original.agent, "vault-agent");
    let _ = place(&world, original.server, "vault-server");
    // In the seconds of an upgrade nobody is told.
    assert_eq!(says(&rtx, 0, &[]).code, 0);
    let restart = "hint: `systemctl restart vault-agent` (or with `--user`)";
    let own = watch::poll("its own status says so", || {
        let ran = vps.agent_command(&["status"]);
        (ran.code == 2 && ran.out.contains("no longer the file on its disk")).then_some(ran.out)
    });
    assert!(own.contains(&restart.replace("hint: ", "hint     ")), "{own}");
    let told = says(
        &rtx,
        2,
        &[
            "vps: runs vault-agent ",
            &format!("{restart} on vps"),
            "the server says that it runs vault-server ",
            "hint: `systemctl restart vault-server` (or with `--user`) on the server's host",
        ],
    );
    assert!(told.err.contains("NOT WELL: 2 things are wrong"), "{}", told.err);
    for host in [&rtx, &vps] {
        assert!(host.env().contains("A=one\n"), "{}", host.name);
    }

    vps.stop();
    vps.start();
    assert!(world.server.take().unwrap().stop());
    world.start();
    all_is_right(&rtx, &[&vps], "two");
}

/// A systemd that notes what it is asked, and knows one running process.
fn systemctl(host: &Host, pid: u32) {
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>\"$HOME/asked\"\ncase \"$*\" in *MainPID*) echo {pid};; esac\n"
    );
    let file = host.dir.join("home/systemctl");
    tests::script(&file, &script);
}

/// One host whose agent a systemd runs that is played here.
struct Upgraded {
    host: Host,
    original: Bins,
}

impl Upgraded {
    /// Prepares `vault-agent install`.
    fn install(&self) -> Command {
        let runtime = self.host.dir.join("runtime");
        fs::create_dir_all(runtime.join("systemd/private")).unwrap();
        systemctl(&self.host, self.host.agent.as_ref().unwrap().pid());
        let mut command = self.host.command(self.host.bins.agent);
        let home = self.host.dir.join("home");
        let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("XDG_RUNTIME_DIR", runtime).args(["install", "--user"]);
        command
    }

    /// Does what systemd was asked for since the last time; tells whether that was a restart.
    fn obey(&mut self) -> bool {
        let asked = self.host.dir.join("home/asked");
        let said = fs::read_to_string(&asked).unwrap_or_default();
        let _ = fs::remove_file(&asked);
        let restarts = said.contains(" restart vault-agent.service");
        if restarts {
            self.host.stop();
            self.host.start();
        }
        restarts
    }

    /// Puts the programs of a version into their place, and installs them, killed at a moment;
    /// then the same command again.
    fn change(&mut self, world: &World, version: &'static str, moment: usize) {
        self.host.version = Some(version);
        let _ = place(world, self.original.agent, "vault-agent");
        let watched = self.host.dir.join("home");
        let was_killed = moment::killed_at(self.install(), &watched, moment);
        let at_once = self.obey();
        if !was_killed {
            println!("moment {moment} is after its end");
            assert!(at_once, "what was replaced is started anew");
        }
        let again = run(&mut self.install(), "");
        assert_eq!(again.code, 0, "{}", again.err);
        assert!(self.obey() || at_once, "killed at {moment}: {}", again.err);
        let idle = run(&mut self.install(), "");
        assert!(idle.err.contains("nothing to do"), "{}", idle.err);
        assert!(!self.obey(), "what is as it should be is left alone: {}", idle.err);
    }
}

/// Moments of an install: names that come and go while it writes the unit and asks systemd.
const MOMENTS: usize = 6;

#[test]
fn a_host_is_upgraded_and_goes_back_killed_after_any_step() {
    let world = World::new(bins!());
    let [rtx, mut vps] = two_hosts(&world);
    vps.stop();
    let original = vps.bins;
    vps.bins.agent = place(&world, original.agent, "vault-agent");
    vps.version = Some(OLD);
    vps.start();
    let mut upgraded = Upgraded { host: vps, original };
    let _ = run(&mut upgraded.install(), "");
    upgraded.obey();
    for moment in moment::moments(MOMENTS) {
        for version in [NEW, OLD] {
            upgraded.change(&world, version, moment);
            let vps = &mut upgraded.host;
            let value = format!("{version}-{moment}");
            all_is_right(&rtx, &[vps], &value);
            // Killed as soon as it runs, it starts with what is there.
            vps.agent.as_mut().unwrap().kill();
            vps.start();
            all_is_right(&rtx, &[vps], &format!("{value}-again"));
            watch::poll("its program is known", || {
                (program(&document(&rtx), "vps") == format!("vault-agent {version}")).then_some(())
            });
        }
    }
    let left = files_below(&upgraded.host.dir.join("home/.config"));
    assert!(left.iter().all(|file| file.ends_with("vault-agent.service")), "{left:?}");
}

#[test]
fn an_agent_that_goes_back_behind_its_log_says_so_and_touches_nothing() {
    let world = World::new(bins!());
    let [mut rtx, vps] = two_hosts(&world);
    let status = document(&rtx);
    let text = |name: &str| status[name].as_str().unwrap().parse::<Hash>().unwrap();
    let (vault, last) = (text("vault"), (status["seq"].as_u64().unwrap(), text("head")));
    rtx.stop();
    let (env, file) = (rtx.env(), rtx.state().join("agent.db"));
    // As a newer agent has left it.
    let key = admin_key(&rtx);
    let raise = vec![Op::FormatSet { format: 2 }];
    let entry = signed_by_admin(&key, vault, last, host::clock::now(), raise);
    let (seq, hash) = (i64::try_from(last.0 + 1).unwrap(), entry.hash(Purpose::Entry(vault)));
    let conn = Connection::open(&file).unwrap();
    let insert = "INSERT INTO log (seq, by, body, sig, hash) VALUES (?1, ?2, ?3, ?4, ?5)";
    let (by, sig) = (entry.by.to_string(), entry.sig.as_bytes());
    conn.execute(insert, (seq, by, &entry.body, sig, hash.as_bytes())).unwrap();
    conn.execute("UPDATE head SET seq = ?1, hash = ?2", (seq, hash.as_bytes())).unwrap();
    drop(conn);
    let before = held(&rtx.state());
    for verb in ["run", "once"] {
        let ran = rtx.agent_command(&[verb]);
        let told = "follows a log that only a newer program can judge: entry";
        assert!(ran.code != 0 && ran.err.contains(told), "{verb}: {}", ran.err);
        assert!(ran.err.contains("E_UPGRADE: format 2, this program knows 1"), "{}", ran.err);
        let way = "hint: install the vault-agent that ran here, or a newer one";
        assert!(ran.err.contains(way), "{verb}: {}", ran.err);
        assert_eq!(rtx.env(), env, "{verb}: the file stays");
        assert_eq!(held(&rtx.state()), before, "{verb}: nothing is changed");
    }
    // The others go on.
    assert_eq!(vps.vault(&["kv", "get", "-field=A", SECRET]).ok().trim_end(), "first");
    let conn = Connection::open(&file).unwrap();
    conn.execute("DELETE FROM log WHERE seq = ?1", [seq]).unwrap();
    let (seq, head) = (i64::try_from(last.0).unwrap(), last.1);
    conn.execute("UPDATE head SET seq = ?1, hash = ?2", (seq, head.as_bytes())).unwrap();
    drop(conn);
    rtx.start();
    all_is_right(&rtx, &[&vps], "two");
}

/// Returns every file of a state folder that holds something, with what it holds.
fn held(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = files_below(folder)
        .into_iter()
        // What SQLite and a lock leave beside a database says nothing.
        .filter(|file| {
            !file.to_string_lossy().contains("agent.db-") && !file.ends_with("agent.lock")
        })
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect();
    files.sort();
    files
}
