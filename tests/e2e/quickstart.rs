//! Replays the long way of the book: every command of its transcript, on hosts of their own, with
//! the output it promises. `…` alone on a line stands for any lines, at a line's end for the rest
//! of it, and at the end of a line that people copy for what was printed. There is no systemd on
//! these hosts: what a unit would start is started as the unit says. The three commands of the
//! quickstart need ssh and systemd: `tests/interop/homelab` replays them.

use std::collections::HashMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Bins, Daemon, Host, MASTER, PASSPHRASE, Port, Ran, bins, find_line, run, watch};

const LONG_WAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/guide/by-hand.md");
const BOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/quickstart.md");
const GERMAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/de/schnellstart.md");
const HOSTS: [&str; 4] = ["rtx1080", "vps", "thinkpad", "nas"];

/// One command of the transcript and the output it promises.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Step {
    pub(crate) host: String,
    pub(crate) command: String,
    pub(crate) promised: Vec<String>,
}

/// Reads the steps out of the book's `console` blocks.
pub(crate) fn transcript(book: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in book.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside {
            match line.split_once("$ ").filter(|(host, _)| HOSTS.contains(host)) {
                Some((host, command)) => steps.push(Step {
                    host: host.to_owned(),
                    command: command.to_owned(),
                    promised: Vec::new(),
                }),
                None => steps.last_mut().unwrap().promised.push(line.to_owned()),
            }
        }
    }
    steps
}

/// Returns the part of a book below a heading, up to the next one of its rank or above.
pub(crate) fn section<'b>(book: &'b str, heading: &str) -> &'b str {
    let (_, below) = book.split_once(&format!("\n{heading}\n")).expect("the heading");
    let rank = heading.split(' ').next().map_or(0, str::len);
    let is_next = |at: &usize| {
        let marks = below[*at + 1..].split(' ').next().unwrap_or_default();
        !marks.is_empty() && marks.len() <= rank && marks.bytes().all(|byte| byte == b'#')
    };
    let end = below.match_indices("\n#").map(|(at, _)| at).find(is_next);
    &below[..end.unwrap_or(below.len())]
}

/// Tells whether `found` is what was promised.
pub(crate) fn keeps(promised: &[String], found: &[&str]) -> bool {
    let Some((first, rest)) = promised.split_first() else { return found.is_empty() };
    if first == "…" {
        return (0..=found.len()).any(|skipped| keeps(rest, &found[skipped..]));
    }
    let Some((line, later)) = found.split_first() else { return false };
    let same = match first.split_once('…') {
        Some((start, _)) => line.starts_with(start),
        None => squeeze(first) == squeeze(line),
    };
    same && keeps(rest, later)
}

/// Drops what column widths decide.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How the lines begin that people copy.
const COPIED: [&str; 3] = ["VLTS1-", "VLTM1-", "VLTP1-"];

/// The hosts of the book, and the lines that were printed last.
struct Homelab {
    dir: tempfile::TempDir,
    hosts: HashMap<String, Host>,
    daemons: Vec<Daemon>,
    copied: HashMap<&'static str, String>,
    port: Port,
}

impl Homelab {
    fn new(bins: Bins) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for (name, program) in
            [("vault", bins.vault), ("vault-agent", bins.agent), ("vault-server", bins.server)]
        {
            symlink(program, bin.join(name)).unwrap();
        }
        script(&bin.join("docker"), "echo \"$@\" >> \"$HOME/docker.log\"");
        let hosts = HOSTS.map(|name| {
            let host = Host::new(name, dir.path().join(name), bins);
            let home = host.dir.join("home");
            std::fs::create_dir(home.join("J-Jeco")).unwrap();
            write(&home.join("passphrase"), PASSPHRASE);
            write(&home.join("new-key.txt"), "sk-brand-new");
            std::fs::copy(MASTER, home.join(".env.master")).unwrap();
            (name.to_owned(), host)
        });
        let copied = HashMap::new();
        Self { dir, hosts: hosts.into(), daemons: Vec::new(), copied, port: Port::reserve() }
    }

    /// Turns what the book says into what holds here: addresses, what was copied, and the answers
    /// that a person would type at a prompt.
    fn localize(&self, command: &str) -> String {
        let mut command = command.to_owned();
        for (start, line) in &self.copied {
            command = command.replace(&format!("{start}…"), line);
        }
        let data = format!("--data {}", self.dir.path().join("server").display());
        command = command.replace("--address 192.168.17.1:8443 --address 10.8.0.3:8443", "");
        if command.starts_with("vault-server init") {
            command = format!("{command} {data} --listen {}", self.port.address());
        } else if command.starts_with("vault-server install") {
            command = format!("{command} {data}");
        } else if command == "vault init" {
            command = format!("{command} --name rtx1080 --kit kit.txt --kit-confirmed");
        } else if command.starts_with("vault machine ") {
            command.push_str(" --yes");
        }
        command
    }

    fn shell(&self, host: &str, command: &str) -> Command {
        let path =
            format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = self.hosts[host].command("sh");
        shell.env("PATH", path).arg("-c").arg(command);
        shell
    }

    fn run(&mut self, step: &Step) {
        let command = self.localize(&step.command);
        // The fleet view follows the change by some milliseconds; a person types slower.
        let mut tries = if step.command == "vault status" { 250 } else { 1 };
        let promised = watch::poll(&format!("`{}`", step.command), || {
            // What a person pastes when asked.
            let typed = if step.command == "vault init" { &*self.copied["VLTS1-"] } else { "" };
            let ran = run(&mut self.shell(&step.host, &command), typed);
            tries -= 1;
            (tries == 0 || holds(step, &ran)).then_some(ran)
        });
        assert!(
            promised.code == 0 && holds(step, &promised),
            "`{}` promises\n{}\nbut exits {} with\n{}{}",
            step.command,
            step.promised.join("\n"),
            promised.code,
            promised.out,
            promised.err
        );
        for start in COPIED.into_iter().filter(|start| promised.out.contains(start)) {
            self.copied.insert(start, find_line(&promised.out, start));
        }
        if let Some(program) = step.command.strip_suffix(" install --user") {
            self.start(&step.host, program);
        }
    }

    /// Starts what the unit that was installed says, as systemd would.
    fn start(&mut self, host: &str, program: &str) {
        let units = self.hosts[host].dir.join("home/.config/systemd/user");
        let unit = std::fs::read_to_string(units.join(format!("{program}.service"))).unwrap();
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let log = self.dir.path().join(format!("{host}-{program}.log"));
        let shell = self.shell(host, &format!("exec {command}"));
        self.daemons.push(Daemon::start(shell, &log));
    }
}

fn holds(step: &Step, ran: &Ran) -> bool {
    keeps(&step.promised, &ran.out.lines().collect::<Vec<_>>())
}

fn write(file: &Path, text: &str) -> PathBuf {
    use std::io::Write as _;
    std::fs::File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
    file.to_owned()
}

/// Writes a program for the shell.
fn script(file: &Path, text: &str) {
    tests::script(file, &format!("#!/bin/sh\n{text}\n"));
}

#[test]
fn the_long_way_does_what_it_says() {
    let steps = transcript(&std::fs::read_to_string(LONG_WAY).unwrap());
    assert!(steps.len() >= 15, "{} steps", steps.len());
    let mut homelab = Homelab::new(bins!());
    for step in &steps {
        homelab.run(step);
    }
    let vps = homelab.hosts["vps"].dir.join("home");
    watch::until(&vps.join("docker.log"), |text| text.contains("compose up -d"));
    let env = std::fs::read_to_string(vps.join("J-Jeco/.env")).unwrap();
    assert!(env.contains("OPENAI_API_KEY=sk-brand-new\n"), "{env}");
}

#[test]
fn the_german_quickstart_has_the_same_commands_and_answers() {
    let read = |book| transcript(&std::fs::read_to_string(book).unwrap());
    assert_eq!(read(GERMAN), read(BOOK));
}

#[test]
fn a_broken_promise_is_noticed() {
    let promised = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(keeps(&promised("a\n…\nb  c"), &["a", "x", "y", "b c"]));
    assert!(keeps(&promised("VLTS1-…"), &["VLTS1-abc"]));
    assert!(!keeps(&promised("a"), &["a", "b"]));
    assert!(!keeps(&promised("a\n…\nb"), &["a", "c"]));
    assert!(!keeps(&promised(""), &["a"]));
}
