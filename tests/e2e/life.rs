//! Replays the page on the life of a host: every command of its transcripts, with the output that
//! it promises; and kills commands of it at any moment, after which the same line goes on.

use std::collections::HashMap;

use tests::{Host, PASSPHRASE, Ran, World, bins, find_line, run, watch};

use super::moment::{killed_at_change, moments};
use super::quickstart::{Step, keeps, transcript};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/guide/life.md");
const SECRET: &str = "secret/jjeco/telegram";
/// How the lines begin that people copy.
const COPIED: [&str; 3] = ["VLTM1-", "VLTP1-", "VLTA1-"];

/// The hosts of the page, and the lines that were printed last.
struct Page {
    hosts: HashMap<String, Host>,
    copied: HashMap<&'static str, String>,
}

impl Page {
    fn new(world: &World) -> Self {
        let rtx = world.owner("rtx1080");
        let home = rtx.dir.join("home");
        let issuer = "-custom-metadata=issuer=telegram";
        let _ = rtx.vault(&["kv", "put", SECRET, "BOT_TOKEN=1", "CHAT_ID=2"]).ok();
        let _ = rtx.vault(&["kv", "metadata", "put", issuer, SECRET]).ok();
        host::files::write_private(&home.join("new-token.txt"), b"3").unwrap();
        let page = std::fs::read(rtx.dir.join("kit.txt")).unwrap();
        host::files::write_private(&home.join("kit.txt"), &page).unwrap();
        let fresh = format!("{PASSPHRASE} of today\n");
        host::files::write_private(&home.join("fresh"), fresh.as_bytes()).unwrap();
        let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        let thinkpad = world.machine(&rtx, "thinkpad", &["*"]);
        reads(&vps);
        let hosts = [rtx, vps, thinkpad].map(|host| (host.name.clone(), host));
        Self { hosts: hosts.into(), copied: HashMap::new() }
    }

    /// Turns what the page says into what holds here: folders, what was copied, and the answers
    /// that a person would type at a prompt.
    fn localize(&self, step: &Step) -> String {
        let mut command = step.command.clone();
        for (start, line) in &self.copied {
            command = command.replace(&format!("{start}…"), line);
        }
        let state = self.hosts[&step.host].state();
        command = command.replace("~/.local/state/vault-agent", &state.display().to_string());
        match step.command.as_str() {
            "vault admin passphrase" => command.push_str(" --new-passphrase-file fresh"),
            line if line.starts_with("vault machine exposed") => {}
            line if line.starts_with("vault machine ") || line.contains("--kit ") => {
                command.push_str(" --yes");
            }
            _ => {}
        }
        command
    }

    fn run(&mut self, step: &Step) {
        let command = self.localize(step);
        if step.command.starts_with("mv ") {
            self.hosts.get_mut(&step.host).unwrap().stop();
        }
        let host = &self.hosts[&step.host];
        let line = match command.split_once(' ') {
            Some(("vault", rest)) => format!("{} {rest}", host.bins.vault),
            Some(("vault-agent", rest)) => format!("{} {rest}", host.bins.agent),
            _ => command.clone(),
        };
        // The hosts follow each other by some milliseconds; a person types slower.
        let mut tries = 250;
        let ran = watch::poll(&format!("`{command}`"), || {
            let ran = run(host.command("sh").arg("-c").arg(&line), "");
            tries -= 1;
            (tries == 0 || holds(step, &ran)).then_some(ran)
        });
        let promised = step.promised.join("\n");
        assert!(
            holds(step, &ran),
            "`{command}` promises\n{promised}\nbut exits {} with\n{}{}",
            ran.code,
            ran.out,
            ran.err
        );
        for start in COPIED.into_iter().filter(|start| ran.out.contains(start)) {
            self.copied.insert(start, find_line(&ran.out, start));
        }
        if command.starts_with("vault-agent join ") {
            let host = self.hosts.get_mut(&step.host).unwrap();
            host.stop();
            host.start();
            reads(&self.hosts[&step.host]);
        }
    }
}

/// Tells whether a command did what was promised; one that lists what is in use has its own code.
fn holds(step: &Step, ran: &Ran) -> bool {
    let code = if ran.out.contains("still in use") { 2 } else { 0 };
    ran.code == code && keeps(&step.promised, &ran.out.lines().collect::<Vec<_>>())
}

fn reads(host: &Host) {
    watch::poll("it reads", || (host.vault(&["kv", "get", SECRET]).code == 0).then_some(()));
}

#[test]
fn the_page_on_the_life_of_a_host_does_what_it_says() {
    let steps = transcript(&std::fs::read_to_string(PAGE).unwrap());
    assert!(steps.len() >= 16, "{} steps", steps.len());
    let world = World::new(bins!());
    let mut page = Page::new(&world);
    for step in &steps {
        page.run(step);
    }
}

/// Kills a command when a folder of its host has seen so many changes; tells whether it was killed.
pub(super) fn killed_at(host: &Host, folder: &str, args: &[&str], moment: usize) -> bool {
    program_killed_at(host, host.bins.vault, folder, args, moment)
}

pub(super) fn program_killed_at(
    host: &Host,
    program: &str,
    folder: &str,
    args: &[&str],
    moment: usize,
) -> bool {
    let mut command = host.command(program);
    command.args(args);
    killed_at_change(command, &host.state().join(folder), moment)
}

#[test]
fn a_host_gets_new_keys_and_goes_on_and_killed_at_any_moment_the_same_lines_do() {
    for moment in moments(16) {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let _ = rtx.vault(&["kv", "put", SECRET, "K=1"]).ok();
        let mut vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
        vps.target(&[SECRET]);
        watch::until(&vps.env_file(), |text| text.contains("K=1"));
        let _ = rtx.vault(&["machine", "rename", "vps", "web", "--yes"]).ok();
        watch::until(&vps.state().join("pins.json"), |text| text.contains("\"web\""));

        let made = vps.agent_command(&["init", "--rekey"]);
        assert_eq!(made.code, 0, "{}", made.err);
        assert_eq!(vps.agent_command(&["init", "--rekey"]).out, made.out);
        let line = find_line(&made.out, "VLTM1-");
        let other = rtx.vault(&["machine", "rekey", "rtx1080", &line, "--yes"]);
        assert!(other.code == 1 && other.err.contains("is for a machine `web`"), "{}", other.err);
        let rekey = ["machine", "rekey", "web", &line, "--yes"];
        let is_killed = killed_at(&rtx, ".", &rekey, moment);
        println!("moment {moment}: {}", if is_killed { "killed" } else { "it had ended" });
        let signed = rtx.vault(&rekey);
        assert_eq!(signed.code, 0, "{}", signed.err);
        let pin = find_line(&signed.out, "VLTP1-");
        let join = ["join", &pin];
        let bin = vps.bins.agent;
        let is_killed = program_killed_at(&vps, bin, ".", &join, moment);
        println!("moment {moment}: {}", if is_killed { "killed" } else { "it had ended" });
        let joined = vps.agent_command(&join);
        assert_eq!(joined.code, 0, "{}", joined.err);
        assert!(!vps.state().join("rekey").exists(), "the old keys are wiped");
        let old = vps.env();
        vps.stop();
        vps.start();
        assert_eq!(vps.env(), old);
        let _ = rtx.vault(&["kv", "put", SECRET, "K=2"]).ok();
        watch::until(&vps.env_file(), |text| text.contains("K=2"));
        vps.is_well();
        let exposed = rtx.vault(&["machine", "exposed", "web"]);
        assert!(exposed.err.contains("`web` (number 3) is a machine"), "{}", exposed.err);
        assert!(exposed.out.contains("v1-v2"), "{}", exposed.out);
        let again = vps.agent_command(&join);
        assert_eq!(again.code, 0, "{}", again.err);
    }
}

/// Secrets that are more than one request carries, so that the act goes first.
const MANY: usize = 9;

#[test]
fn killed_while_a_host_goes_the_same_line_goes_on() {
    let large = "x".repeat(600 << 10);
    for moment in moments(40) {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        for n in 0..MANY {
            let path = format!("secret/jjeco/{n}");
            let _ = rtx.vault_with(&["kv", "put", &path, "K=-"], &large).ok();
        }
        let vps = world.host("vps");
        world.enrol(&rtx, &vps, &["secret/other/"]);
        let history = ["access", "set", "vps", "--read", "secret/jjeco/", "--history", "--yes"];
        let remove = ["machine", "remove", "vps", "--reason", "stolen", "--yes"];
        for args in [&history[..], &remove[..]] {
            let is_killed = killed_at(&rtx, ".", args, moment);
            println!("moment {moment}: {}", if is_killed { "killed" } else { "it had ended" });
            let again = rtx.vault(args);
            assert_eq!(again.code, 0, "{}", again.err);
            let done = rtx.vault(args);
            assert_eq!(done.code, 0, "{}", done.err);
            assert!(!done.err.contains("signs for vault"), "all was done: {}", done.err);
        }
        let told = rtx.vault(&["log"]).ok();
        assert_eq!(told.matches("removed vps: stolen").count(), 1, "{told}");
    }
}

#[test]
fn a_new_reader_gets_the_earlier_versions_that_are_kept() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    for n in 1..=3 {
        let _ = rtx.vault(&["kv", "put", SECRET, &format!("K={n}")]).ok();
    }
    let vps = world.machine(&rtx, "vps", &["secret/other/"]);
    let set = ["access", "set", "vps", "--read", "secret/jjeco/", "--yes"];
    let _ = rtx.vault(&set).ok();
    reads(&vps);
    let earlier = vps.vault(&["kv", "get", "-version", "1", SECRET]);
    assert!(earlier.code == 2 && earlier.err.contains("E_NOT_A_READER"), "{}", earlier.err);
    let with = [&set[..], &["--history"]].concat();
    let ran = rtx.vault(&with);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("re-encrypt 2 versions"), "{}", ran.err);
    for version in ["1", "2", "3"] {
        let read = watch::poll("it is re-encrypted", || {
            let ran = vps.vault(&["kv", "get", "-field=K", "-version", version, SECRET]);
            (ran.code == 0).then_some(ran.out)
        });
        assert_eq!(read, version);
    }
    let again = rtx.vault(&with);
    assert!(again.code == 0 && again.err.contains("nothing changes"), "{}", again.err);
}
