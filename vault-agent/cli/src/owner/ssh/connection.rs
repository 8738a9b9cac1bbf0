//! One ssh connection, over which every step on a host goes: the user's own ssh, with its known
//! hosts, its agent and its questions. What is run there does not live here.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use host::hint::{Failure, hinted};
use host::shown::Shown;

/// What the host says once it is reached. Nothing before it is ours: a login may print anything.
const REACHED: &str = "vault-reached";

/// Most bytes that a host may print on the way in, and in each step.
const MOST: u64 = 1 << 20;

/// What ssh itself ends with when it fails.
const SSH_FAILED: i32 = 255;

/// What a configuration may say of this host is run nowhere: the steps alone are.
const PLAIN: [&str; 2] = ["RemoteCommand=none", "PermitLocalCommand=no"];

/// A connection to a host; ended when dropped.
pub struct Connection {
    host: String,
    program: String,
    /// Holds the socket that all steps share; open to nobody else.
    folder: TempDir,
    master: Child,
    /// The connection lasts as long as this is open, and so never longer than this process.
    stay: Option<ChildStdin>,
}

/// What a step left.
#[derive(Debug)]
pub struct Ran {
    /// What it ended with.
    pub status: ExitStatus,
    /// What it printed.
    pub out: String,
    /// What it said on standard error.
    pub err: String,
}

impl Connection {
    /// Connects to a host as ssh names it: `[USER@]HOST`, or a name in `~/.ssh/config`. Whatever
    /// ssh asks, it asks the user.
    ///
    /// # Errors
    /// If there is no ssh, or it does not get there.
    pub fn open(program: &str, host: &str) -> Result<Self> {
        if host.is_empty() || host.starts_with('-') {
            bail!(hinted(
                format!("`{host}` is no host"),
                "name it as for ssh: HOST, USER@HOST or a name in ~/.ssh/config"
            ));
        }
        // Short, as a socket's path has 108 bytes; private, as its holder can log in there.
        let mut folder = tempfile::Builder::new();
        folder.prefix("vault-").permissions(Permissions::from_mode(0o700));
        let folder = folder.tempdir_in("/tmp");
        let folder = folder.context("cannot make a folder for the ssh connection")?;
        let mut ssh = Command::new(program);
        ssh.args(["-M", "-T", "-S"]).arg(socket(&folder));
        for option in [
            "ControlPersist=no",
            "ClearAllForwardings=yes",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=3",
        ]
        .iter()
        .chain(&PLAIN)
        {
            ssh.args(["-o", option]);
        }
        ssh.args(["--", host, &format!("echo {REACHED}; exec cat")]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut master = ssh.spawn().map_err(|fault| no_ssh(fault, program))?;
        let stay = master.stdin.take();
        let printed = master.stdout.take().context("ssh has an output")?;
        let connection =
            Self { host: host.to_owned(), program: program.to_owned(), folder, master, stay };
        connection.wait_for(printed)
    }

    /// Waits until the host says that it is reached.
    fn wait_for(mut self, printed: impl Read) -> Result<Self> {
        let (mut line, mut printed) = (Vec::new(), BufReader::new(printed.take(MOST)));
        while printed.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            if line.trim_ascii_end() == REACHED.as_bytes() {
                return Ok(self);
            }
            line.clear();
        }
        self.stay = None;
        let status = self.master.wait().context("waiting for ssh")?;
        bail!(hinted(
            format!("ssh did not get to `{}` ({status})", self.host),
            "try `ssh` to that host by itself; nothing was signed, and nothing is changed"
        ))
    }

    /// Returns the host as the user named it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Runs a command line there, with `input` on its standard input.
    ///
    /// # Errors
    /// If the connection is cut, or the host prints more than it may.
    pub fn run(&self, line: &str, input: &[&[u8]]) -> Result<Ran> {
        let mut ssh = Command::new(&self.program);
        ssh.args(["-T", "-S"]).arg(socket(&self.folder));
        // Where the connection is gone, no other is made in silence.
        let alone = ["ControlMaster=no", "ProxyCommand=false", "BatchMode=yes"];
        for option in alone.iter().chain(&PLAIN) {
            ssh.args(["-o", option]);
        }
        ssh.args(["--", &self.host, line]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().map_err(|fault| no_ssh(fault, &self.program))?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (out, err) = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A step that needs no more of its input ends before it has read it.
                let _ = stdin.map(|mut stdin| input.iter().try_for_each(|it| stdin.write_all(it)));
            });
            let err = scope.spawn(move || read(stderr));
            (read(stdout), err.join())
        });
        let (out, err) = (out?, err.unwrap_or_else(|_| Ok(Vec::new()))?);
        let status = child.wait().context("waiting for ssh")?;
        if out.len() as u64 > MOST || err.len() as u64 > MOST {
            let text = format!("`{}` prints more than {MOST} bytes in one step", self.host);
            bail!(hinted(text, "its shell prints something at each login: look at its profile"));
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let ran = Ran { status, out: text(out), err: text(err) };
        if ran.is_cut() {
            bail!(self.cut(&ran));
        }
        Ok(ran)
    }

    /// Says that ssh itself has failed.
    fn cut(&self, ran: &Ran) -> Failure {
        let why = ran.err.lines().last().unwrap_or("no word why");
        Failure::local(format!("the connection to `{}` was cut: {why}", self.host))
            .hint("nothing is lost: run the same command again, which goes on where this one ended")
    }
}

impl Ran {
    fn is_cut(&self) -> bool {
        self.status.code() == Some(SSH_FAILED) || self.status.signal().is_some()
    }

    /// Returns what it said, as people see it: without a way out, which stands by itself.
    pub fn said(&self) -> Shown {
        let lines = self.err.lines().filter(|line| way_out(line).is_none());
        Shown::lines(lines.map(Shown::line))
    }

    /// Returns what it warned of, each with its way out as the host's word.
    pub fn warnings(&self, host: &str) -> Vec<Shown> {
        let mut found: Vec<Shown> = Vec::new();
        let mut is_inside = false;
        for line in self.err.lines() {
            let is_warning = line.starts_with("warning: ");
            if is_warning {
                found.push(Shown::line(line));
            } else if let Some(way) = way_out(line).filter(|_| is_inside) {
                let last = found.pop().unwrap_or_default();
                found.push(Shown::lines([last, says(host, way)]));
            }
            is_inside = is_warning;
        }
        found
    }

    /// Returns the way out that it named, if it named one, as the host's word: what a stranger
    /// advises is not ours to advise.
    pub fn advice(&self, host: &str) -> Option<Shown> {
        self.err.lines().rev().find_map(way_out).map(|way| says(host, way))
    }
}

/// Returns the way out that a line names.
fn way_out(line: &str) -> Option<&str> {
    let (word, way) = line.trim_start().split_at_checked("hint:".len())?;
    word.eq_ignore_ascii_case("hint:").then(|| way.trim_start())
}

fn says(host: &str, way: &str) -> Shown {
    Shown::line(format_args!("`{host}` says: {way}"))
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.stay.take());
        // It ends by itself where the other side still answers.
        let _ = Command::new(&self.program)
            .args(["-q", "-O", "exit", "-S"])
            .arg(socket(&self.folder))
            .args(["--", &self.host])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("s")
}

/// Reads all of a stream, or a byte more than it may have.
fn read(stream: Option<impl Read>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MOST + 1).read_to_end(&mut bytes).context("reading what the host printed")?;
    }
    Ok(bytes)
}

fn no_ssh(fault: std::io::Error, program: &str) -> anyhow::Error {
    if fault.kind() == ErrorKind::NotFound {
        return hinted(
            "there is no `ssh` on this machine",
            "run `vault-agent init` there yourself and pass the line it prints",
        );
    }
    anyhow::Error::from(fault).context(format!("running `{program}`"))
}
