//! What kind of host is at the other end: asked by one script for any POSIX shell, and read as text
//! of a stranger. What follows from it does not live here.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::script::Script;
use host::hint::hinted;

/// The script; its last lines say which addresses answer.
const SCRIPT: &str = include_str!("probe.sh");
const END: &str = "vault-probe-end";
/// Longest line of an answer in bytes.
const LINE: usize = 4096;
/// Most lines of an answer.
const LINES: usize = 200;

/// How the user becomes root there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// They are.
    Own,
    /// By `sudo`, which asks nothing.
    Sudo,
    /// By `sudo`, which asks for a password.
    Password,
    /// There is no `sudo`.
    None,
}

/// A host, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Seconds since the epoch, by its clock.
    pub time: u64,
    /// What `uname -m` says, as Rust names it.
    pub arch: String,
    /// `glibc 2.36`, `musl`, or nothing known.
    pub libc: Option<String>,
    /// The user who is logged in.
    pub user: String,
    /// That user's home folder.
    pub home: String,
    /// Whether the host's systemd runs.
    pub systemd: bool,
    /// Whether the user's systemd runs.
    pub manager: bool,
    /// `lxc`, `docker`, `wsl`, if it is one.
    pub container: Option<String>,
    /// How the user becomes root.
    pub root: Root,
    /// Room for the programs in KiB, as far as known.
    pub free: Option<u64>,
    /// The folder in which no program may run, if that is where ours would go.
    pub noexec: Option<String>,
    /// The agent that is there, and its version.
    pub agent: Option<(String, String)>,
    /// Which addresses answer from there; `None` where it cannot tell.
    pub answers: Vec<(String, Option<bool>)>,
}

/// Returns the script that asks; `user` says that the agent is to be that user's own.
pub fn script(user: bool, addresses: &[String]) -> Script {
    let role = if user { "user" } else { "host" };
    let script = Script::new().set("role", role);
    script.arguments(addresses.iter().map(String::as_str)).then(SCRIPT)
}

impl Probe {
    /// Reads what the script printed.
    ///
    /// # Errors
    /// The first thing that no honest shell would have printed.
    pub fn read(printed: &str, addresses: &[String]) -> Result<Self> {
        let lines = printed.lines().map(str::trim_end);
        let (mut fields, mut answers, mut is_whole) = (BTreeMap::new(), Vec::new(), false);
        for line in lines.take(LINES) {
            if line == END {
                is_whole = true;
                break;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| line.len() <= LINE) else {
                bail!(odd(line));
            };
            match key {
                "yes" | "no" | "unknown" if addresses.iter().any(|it| it == value) => {
                    answers.push((value.to_owned(), (key != "unknown").then_some(key == "yes")));
                }
                _ if KEYS.contains(&key) && fields.insert(key, value).is_none() => {}
                _ => bail!(odd(line)),
            }
        }
        if !is_whole {
            bail!(hinted(
                "the host did not answer whole what kind of host it is",
                "it needs a POSIX shell as `sh`: try `ssh HOST sh -c 'echo ok'`"
            ));
        }
        Self::of(&fields, answers)
    }

    fn of(fields: &BTreeMap<&str, &str>, answers: Vec<(String, Option<bool>)>) -> Result<Self> {
        let text = |key: &str, fits: fn(&str) -> bool| match fields.get(key) {
            Some(value) if !value.is_empty() && fits(value) => Ok(Some((*value).to_owned())),
            Some(value) => Err(odd(&format!("{key}={value}"))),
            None => Ok(None),
        };
        let must = |key: &str, fits| text(key, fits)?.ok_or_else(|| odd(&format!("no {key}")));
        let number = |key: &str| match fields.get(key).map(|value| value.parse::<u64>()) {
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(odd(&format!("{key}={}", fields[key]))),
            None => Ok(None),
        };
        let system = must("system", plain)?;
        if system != "Linux" {
            bail!(hinted(format!("it runs {system}"), "agents run on Linux"));
        }
        let arch = match &*must("arch", plain)? {
            "amd64" => "x86_64".to_owned(),
            "arm64" => "aarch64".to_owned(),
            other => other.to_owned(),
        };
        let root = match &*must("root", plain)? {
            "own" => Root::Own,
            "sudo" => Root::Sudo,
            "password" => Root::Password,
            "none" => Root::None,
            other => bail!(odd(&format!("root={other}"))),
        };
        let agent = match (text("agent", whole)?, text("version", words)?) {
            (Some(file), Some(version)) => Some((file, version)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => bail!(odd("an agent without its version")),
        };
        Ok(Self {
            time: number("time")?.ok_or_else(|| odd("no time"))?,
            arch,
            libc: text("libc", words)?,
            user: must("user", words)?,
            home: must("home", whole)?,
            systemd: fields.contains_key("systemd"),
            manager: fields.contains_key("manager"),
            container: text("container", plain)?,
            root,
            free: number("free")?,
            noexec: text("noexec", whole)?,
            agent,
            answers,
        })
    }

    /// Returns how many seconds its clock is ahead of `now`, behind it if negative.
    pub fn clock_off(&self, now: u64) -> i64 {
        let off = self.time.abs_diff(now).min(i64::MAX as u64).cast_signed();
        if self.time < now { -off } else { off }
    }

    /// Tells whether an address answers from there; not that none does where it cannot tell.
    pub fn is_reached(&self) -> bool {
        self.answers.is_empty() || self.answers.iter().any(|(_, answer)| *answer != Some(false))
    }
}

/// What a line may be about, beside addresses.
const KEYS: [&str; 15] = [
    "time",
    "system",
    "arch",
    "uid",
    "user",
    "home",
    "libc",
    "systemd",
    "manager",
    "container",
    "root",
    "free",
    "noexec",
    "agent",
    "version",
];

fn plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn words(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

/// A whole path.
fn whole(text: &str) -> bool {
    text.starts_with('/') && !text.chars().any(char::is_control)
}

fn odd(line: &str) -> anyhow::Error {
    let line: String = line.chars().take(100).collect();
    hinted(
        format!("the host answers oddly what kind of host it is: `{line}`"),
        "its shell or its programs are not what they seem: look at it before it gets any secret",
    )
}

/// A host for tests: of this machine's kind, with nothing on it.
#[cfg(test)]
pub fn sample() -> Probe {
    Probe {
        time: 0,
        arch: std::env::consts::ARCH.to_owned(),
        libc: None,
        user: "jonas".to_owned(),
        home: "/home/jonas".to_owned(),
        systemd: false,
        manager: false,
        container: None,
        root: Root::Own,
        free: None,
        noexec: None,
        agent: None,
        answers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    const ANSWER: &str = "time=1700000000\nsystem=Linux\narch=x86_64\n\
        uid=1000\nuser=jonas\nhome=/home/jonas\nlibc=glibc 2.36\nsystemd=host\ncontainer=lxc\n\
        root=password\nfree=123456\nagent=/usr/local/bin/vault-agent\nversion=vault-agent 0.1.0\n\
        yes=10.8.0.3:8443\nno=192.168.17.1:8443\nvault-probe-end\nbye\n";

    fn addresses() -> Vec<String> {
        ["10.8.0.3:8443", "192.168.17.1:8443"].map(str::to_owned).to_vec()
    }

    #[test]
    fn an_answer_is_read() {
        let found = Probe::read(ANSWER, &addresses()).unwrap();
        assert_eq!((found.root, found.systemd, found.manager), (Root::Password, true, false));
        assert_eq!(found.agent.as_ref().unwrap().1, "vault-agent 0.1.0");
        assert_eq!(found.answers[1], ("192.168.17.1:8443".to_owned(), Some(false)));
        assert!(found.is_reached());
        assert_eq!((found.clock_off(1_699_999_700), found.clock_off(1_700_000_005)), (300, -5));
        let away = ANSWER.replace("yes=10", "no=10");
        assert!(!Probe::read(&away, &addresses()).unwrap().is_reached());
        let untold = ANSWER.replace("yes=10", "unknown=10");
        assert!(Probe::read(&untold, &addresses()).unwrap().is_reached());
    }

    #[test]
    fn what_a_stranger_prints_is_refused_and_named() {
        for (from, to, named) in [
            ("arch=x86_64", "arch=x86_64\u{1b}[2K", "arch=x86_64"),
            ("arch=x86_64\n", "", "no arch"),
            ("uid=1000", "uid=1000\nuid=0", "uid=0"),
            ("uid=1000", "shell=x", "shell=x"),
            ("free=123456", "free=-1", "free=-1"),
            ("home=/home/jonas", "home=jonas", "home=jonas"),
            ("root=password", "root=yes", "root=yes"),
            ("yes=10.8.0.3:8443", "yes=6.6.6.6:1", "yes=6.6.6.6:1"),
            ("version=vault-agent 0.1.0\n", "", "an agent without its version"),
            ("system=Linux", "system=Darwin", "it runs Darwin"),
            ("vault-probe-end", "", "``"),
            ("vault-probe-end\nbye\n", "", "did not answer whole"),
        ] {
            let fault = Probe::read(&ANSWER.replace(from, to), &addresses()).unwrap_err();
            assert!(fault.to_string().contains(named), "{fault}");
        }
        let endless = ANSWER.replace("vault-probe-end", &"no=10.8.0.3:8443\n".repeat(LINES));
        assert!(Probe::read(&endless, &addresses()).is_err());
    }

    /// Runs the script by a shell of this machine.
    fn ask(shell: &[&str], addresses: &[String]) -> Probe {
        let script = script(true, addresses);
        let (program, rest) = shell.split_first().unwrap();
        let mut sh = Command::new(program);
        sh.args(rest).arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sh.spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.text().as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{out:?}");
        Probe::read(std::str::from_utf8(&out.stdout).unwrap(), addresses).unwrap()
    }

    #[test]
    fn a_posix_shell_answers_for_this_machine() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [open.local_addr().unwrap().to_string(), "127.0.0.1:1".to_owned()];
        let found = ask(&["sh"], &addresses);
        assert_eq!(found.arch, std::env::consts::ARCH);
        assert!(found.free.unwrap() > 0 && found.noexec.is_none(), "{found:?}");
        let now = host::clock::now().as_micros() / 1_000_000;
        assert!(found.clock_off(now).abs() < 60);
        let told: Vec<_> = found.answers.iter().map(|(_, answer)| *answer).collect();
        // A host without any program that could tell says so.
        assert!(told == [Some(true), Some(false)] || told == [None, None], "{told:?}");
    }
}
