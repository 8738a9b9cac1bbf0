//! The guide's transcripts of what befalls a server, replayed: it moves, it gets another key, it is
//! made anew of what the machines have.

use std::collections::HashMap;

use tests::{Host, Port, Ran, World, bins, find_line, run, watch};

use crate::quickstart::{Step, keeps, section, transcript};
use crate::restored::shows;
use crate::server::{listen_at, restart, three};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/guide/server.md");
const BACKUP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/guide/backup.md");

/// The address that the guide gives the server.
const THERE: &str = "192.168.17.2:8443";
/// What starts a server again.
const RESTART: &str = "systemctl --user restart vault-server";

/// The hosts of the guide, of which `nas` runs the server.
struct Guide {
    world: World,
    hosts: HashMap<&'static str, Host>,
    /// Where the server is to be.
    port: Port,
    /// The lines and the key that were printed last.
    printed: HashMap<&'static str, String>,
}

impl Guide {
    fn new() -> Self {
        let world = World::new(bins!());
        let (rtx, vps, thinkpad) = three(&world);
        let hosts = [("rtx1080", rtx), ("vps", vps), ("thinkpad", thinkpad)].into();
        Self { world, hosts, port: Port::reserve(), printed: HashMap::new() }
    }

    fn steps(book: &str, heading: &str) -> Vec<Step> {
        transcript(section(&std::fs::read_to_string(book).unwrap(), heading))
    }

    fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).unwrap()
    }

    /// Does a step, and looks whether the guide keeps what it promises.
    fn run(&mut self, step: &Step) {
        let Step { host, command, promised } = step;
        if command == RESTART {
            return restart(&mut self.world);
        }
        if command == "vault-server install --user" {
            return self.world.start();
        }
        let there = self.port.address().to_string();
        let mut line = command.replace(THERE, &there);
        for (start, printed) in &self.printed {
            line = line.replace(start, printed);
        }
        let ran = self.ran(host, &line);
        assert_eq!(ran.code, 0, "`{command}` says\n{}{}", ran.out, ran.err);
        let said = format!("{}{}", ran.err, ran.out).replace(&there, THERE);
        let lines: Vec<&str> = said.lines().collect();
        assert!(keeps(promised, &lines), "`{command}` promises\n{promised:?}\nbut says\n{said}");
        for (shown, start) in [("VLTP1-…", "VLTP1-"), ("VLTS1-…", "VLTS1-")] {
            if ran.out.contains(start) {
                self.printed.insert(shown, find_line(&ran.out, start));
            }
        }
        if command == "vault-server rekey" {
            self.printed.insert("KEY", ran.out.trim().to_owned());
        }
    }

    fn ran(&mut self, host: &str, line: &str) -> Ran {
        let (program, args) = line.split_once(' ').unwrap();
        let mut args: Vec<&str> = args.split(' ').collect();
        if program == "vault-server" {
            let there = self.port.address().to_string();
            if args[0] == "init" {
                args.extend(["--listen", &there]);
            }
            return self.world.server_command(&args);
        }
        let host = &self.hosts[host];
        if program == "vault-agent" {
            return host.agent_command(&args);
        }
        let code = self.world.data().join("resume-code");
        if args.starts_with(&["server", "adopt"]) {
            args.extend(["--code-file", code.to_str().unwrap()]);
        }
        if args[0] == "server" && !args.contains(&"--line") {
            args.push("--yes");
        }
        let typed = self.printed.get("VLTS1-…").cloned().unwrap_or_default();
        // A person types slower than an agent connects.
        let mut tries = 250;
        watch::poll(line, || {
            // What people see is both streams in one.
            let mut both = host.command("sh");
            both.args(["-c", "exec \"$@\" 2>&1", "sh", host.bins.vault]).args(&args);
            let ran = run(&mut both, &typed);
            tries -= 1;
            (ran.code == 0 || tries == 0).then_some(ran)
        })
    }
}

#[test]
fn a_server_moves_as_the_guide_says() {
    let mut guide = Guide::new();
    let steps = Guide::steps(SERVER, "## Moving it");
    assert_eq!(steps.len(), 2, "{steps:?}");
    guide.host("thinkpad").stop();
    guide.run(&steps[0]);
    // What the guide has done by hand.
    let there = guide.port.address().to_string();
    guide.world.server.as_mut().unwrap().stop();
    listen_at(&guide.world, &there);
    guide.world.start();
    guide.run(&steps[1]);
}

#[test]
fn a_server_gets_another_key_as_the_guide_says() {
    let mut guide = Guide::new();
    let steps = Guide::steps(SERVER, "## Another key");
    assert_eq!(steps.len(), 6, "{steps:?}");
    guide.host("thinkpad").stop();
    for step in &steps {
        if step.host == "thinkpad" {
            guide.host("thinkpad").start();
            shows(&guide.hosts["thinkpad"], "E_SERVER_PIN");
        }
        guide.run(step);
    }
    let thinkpad = &guide.hosts["thinkpad"];
    thinkpad.is_well();
}

#[test]
fn a_server_is_made_anew_as_the_guide_says() {
    let mut guide = Guide::new();
    let steps = Guide::steps(BACKUP, "### Without any backup");
    assert_eq!(steps.len(), 5, "{steps:?}");
    let thinkpad = guide.host("thinkpad");
    thinkpad.stop();
    let _ = guide.hosts["rtx1080"].vault(&["machine", "remove", "thinkpad", "--yes"]).ok();
    guide.world.server.as_mut().unwrap().kill();
    guide.world.burn();
    for step in &steps {
        guide.run(step);
    }
    for host in ["rtx1080", "vps"] {
        let host = &guide.hosts[host];
        host.is_well();
    }
}
