//! One ssh connection, over which every step on a host goes: the user's own ssh, with its known
//! hosts, its agent and its questions; or this very host, where the same steps need none. What is
//! run there does not live here.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::script::{REACH, REACHED, own};
use host::hint::{Failure, hinted};
use host::shown::Shown;

/// Most bytes that a host may print on the way in, and in each step.
const MOST: u64 = 1 << 20;

/// What ssh itself ends with when it fails.
const SSH_FAILED: i32 = 255;

/// How long a host may neither take nor say anything in a step.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often longer it may take where a service starts or stops, for which systemd has 90 s.
const SLOW: u32 = 4;

/// Bytes that are handed to ssh at once; each time is a sign of life.
const PIECE: usize = 64 << 10;

/// Between two looks whether the user has answered all that ssh asks.
const LOOK: Duration = Duration::from_millis(100);

/// Whatever a configuration says of this host, the steps alone are run, and it gets no way back to
/// this one: neither to an ssh-agent nor to a display or a port. Over a shared connection each step
/// asks for these anew.
const PLAIN: [&str; 5] = [
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
];

/// What is run on a host at once.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    name: &'a str,
    is_slow: bool,
}

impl<'a> Step<'a> {
    /// Names a step that answers soon.
    pub const fn new(name: &'a str) -> Self {
        Self { name, is_slow: false }
    }

    /// Names a step that waits for services or for a disk.
    pub const fn slow(name: &'a str) -> Self {
        Self { name, is_slow: true }
    }

    /// Returns what it is called.
    pub const fn name(self) -> &'a str {
        self.name
    }
}

/// A connection to a host; ended when dropped.
pub struct Connection {
    host: String,
    /// How long the host may be silent in a step that is not slow.
    patience: Duration,
    way: Way,
}

/// How steps get there.
enum Way {
    Ssh(Shared),
    /// This host, whose agent has this state folder, if it is not the usual one.
    Here(Option<PathBuf>),
}

/// A connection that all steps share.
struct Shared {
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
    /// What it printed, without what the login did.
    pub out: String,
    /// What it said on standard error; all of it where it has not begun.
    pub err: String,
}

impl Connection {
    /// Connects to a host as ssh names it: `[USER@]HOST`, or a name in `~/.ssh/config`. Whatever
    /// ssh asks, it asks the user.
    ///
    /// # Errors
    /// If there is no ssh, or it does not get there.
    pub fn open(program: &str, host: &str) -> Result<Self> {
        Self::open_within(program, host, PATIENCE)
    }

    /// As [`Connection::open`], to a host that may be silent for so long in a step.
    pub(super) fn open_within(program: &str, host: &str, patience: Duration) -> Result<Self> {
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
            "ServerAliveInterval=10",
            "ServerAliveCountMax=3",
            "ConnectTimeout=30",
        ]
        .iter()
        .chain(&PLAIN)
        {
            ssh.args(["-o", option]);
        }
        ssh.args(["--", host, &format!("{REACH}; exec cat")]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut master = ssh.spawn().map_err(|fault| no_ssh(fault, program))?;
        let stay = master.stdin.take();
        let printed = master.stdout.take().context("ssh has an output")?;
        let (host, program) = (host.to_owned(), program.to_owned());
        let mut shared = Shared { host: host.clone(), program, folder, master, stay };
        shared.wait_for(printed, patience)?;
        Ok(Self { host, patience, way: Way::Ssh(shared) })
    }

    /// Takes this very host, as `host`; `state` is its agent's folder, if it is not the usual one.
    /// Whoever runs this program runs the steps.
    pub fn here(host: &str, state: Option<PathBuf>) -> Self {
        Self { host: host.to_owned(), patience: PATIENCE, way: Way::Here(state) }
    }

    /// Returns the host as the user named it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Runs a command line there, with `input` on its standard input.
    ///
    /// # Errors
    /// If the connection is cut, the host prints more than it may, or it neither takes nor says
    /// anything for too long.
    pub fn run(&self, step: Step<'_>, line: &str, input: &[&[u8]]) -> Result<Ran> {
        let mut command = self.way.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own ends whole.
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().map_err(|fault| no_ssh(fault, &program))?;
        let limit = if step.is_slow { self.patience * SLOW } else { self.patience };
        let Some(Spoken { status, out, err }) = speak(child, input, limit)? else {
            bail!(hangs(&self.host, step.name, limit));
        };
        if out.len() as u64 > MOST || err.len() as u64 > MOST {
            let text = format!("`{}` prints more than {MOST} bytes in one step", self.host);
            bail!(hinted(text, "its shell prints something at each login: look at its profile"));
        }
        let text = |bytes: Vec<u8>| own(&String::from_utf8_lossy(&bytes)).to_owned();
        let ran = Ran { status, out: text(out), err: text(err) };
        if ran.is_cut() {
            bail!(self.cut(&ran));
        }
        Ok(ran)
    }

    /// Leads a port of this host's loopback to one of the other's, for as long as this lives.
    ///
    /// # Errors
    /// If ssh does not do so: a host may forbid it.
    pub(super) fn forward(&self, here: u16, there: u16) -> Result<()> {
        let Way::Ssh(shared) = &self.way else { return Ok(()) };
        let lead = format!("127.0.0.1:{here}:127.0.0.1:{there}");
        let mut ssh = Command::new(&shared.program);
        ssh.args(["-q", "-O", "forward", "-L", &lead, "-S"]).arg(socket(&shared.folder));
        ssh.args(["--", &shared.host]).stdin(Stdio::null()).stdout(Stdio::null());
        let led = ssh.output().map_err(|fault| no_ssh(fault, &shared.program))?;
        if led.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&led.stderr);
        let text = format!("ssh leads no port to `{}`: {}", self.host, why.trim());
        bail!(hinted(text, "`AllowTcpForwarding` of its sshd_config must let this user"))
    }

    /// Tells whether the connection still stands.
    pub(super) fn stands(&mut self) -> Result<bool> {
        match &mut self.way {
            Way::Ssh(shared) => Ok(shared.master.try_wait().context("looking at ssh")?.is_none()),
            Way::Here(_) => Ok(true),
        }
    }

    /// Says that ssh itself has failed.
    fn cut(&self, ran: &Ran) -> Failure {
        let why = ran.err.lines().last().unwrap_or("no word why");
        Failure::local(format!("the connection to `{}` was cut: {why}", self.host))
            .hint("nothing is lost: run the same command again, which goes on where this one ended")
    }
}

impl Way {
    /// Prepares what runs a command line there.
    fn command(&self, line: &str) -> Command {
        match self {
            Self::Ssh(shared) => {
                let mut ssh = Command::new(&shared.program);
                ssh.args(["-T", "-S"]).arg(socket(&shared.folder));
                // Where the connection is gone, no other is made in silence.
                let alone = ["ControlMaster=no", "ProxyCommand=false", "BatchMode=yes"];
                for option in alone.iter().chain(&PLAIN) {
                    ssh.args(["-o", option]);
                }
                ssh.args(["--", &shared.host, line]);
                ssh
            }
            Self::Here(state) => {
                let mut sh = Command::new("sh");
                sh.args(["-c", line]);
                if let Some(state) = state {
                    sh.env("VAULT_STATE_DIR", state);
                }
                // An agent that is started has no use for these.
                for name in ["VAULT_TOKEN", "VAULT_PASSPHRASE_FILE"] {
                    sh.env_remove(name);
                }
                sh
            }
        }
    }
}

/// Says that a host hangs.
fn hangs(host: &str, step: &str, limit: Duration) -> Failure {
    let text = format!("`{host}` has given no sign of life for {}: {step}", span(limit));
    Failure::local(text).hint(format!(
        "look what hangs there: a disk, perhaps; nothing is lost: once `{host}` answers, run the \
         same command again, which goes on where this one ended"
    ))
}

impl Shared {
    /// Waits until the host says that it is reached: for its login as long as for a step, for the
    /// user's answers before it as long as they take.
    fn wait_for(&mut self, printed: impl Read + Send + 'static, patience: Duration) -> Result<()> {
        let (reached, news) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut said, mut printed) = (Vec::new(), BufReader::new(printed.take(MOST)));
            while printed.read_until(b'\n', &mut said).is_ok_and(|bytes| bytes > 0) {
                if said.ends_with(REACHED.as_bytes()) {
                    // Nobody listens where the login took too long.
                    let _ = reached.send(());
                    return;
                }
            }
        });
        let mut asked = None;
        loop {
            match news.recv_timeout(LOOK) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // ssh makes its socket once the user is let in.
            let is_in = asked.is_some() || socket(&self.folder).exists();
            if is_in && asked.get_or_insert_with(Instant::now).elapsed() > patience {
                bail!(hangs(&self.host, "the login", patience));
            }
        }
        self.stay = None;
        let status = self.master.wait().context("waiting for ssh")?;
        bail!(hinted(
            format!("ssh did not get to `{}` ({status})", self.host),
            "try `ssh` to that host by itself, with `sudo` if this was, which has root's keys and \
             known hosts; nothing was signed, and nothing is changed"
        ))
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

impl Drop for Shared {
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

fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds => format!("{seconds} s"),
    }
}

/// What a program left.
struct Spoken {
    status: ExitStatus,
    out: Vec<u8>,
    err: Vec<u8>,
}

/// Gives a program its input and takes what it prints, for as long as one of them goes on; `None`
/// if neither does within `limit`: its group is ended then.
fn speak(mut child: Child, input: &[&[u8]], limit: Duration) -> Result<Option<Spoken>> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let group = Pid::from_child(&child);
    let (life, signs) = mpsc::channel();
    let (out, err, is_over) = std::thread::scope(|scope| {
        let taken = life.clone();
        scope.spawn(move || {
            let mut pieces = input.iter().flat_map(|it| it.chunks(PIECE));
            // A step that needs no more of its input ends before it has read it.
            let _ = stdin.map(|mut stdin| {
                pieces.try_for_each(|piece| stdin.write_all(piece).map(|()| alive(&taken)))
            });
        });
        let heard = life.clone();
        let out = scope.spawn(move || read(stdout, &heard));
        let err = scope.spawn(move || read(stderr, &life));
        let is_over = loop {
            match signs.recv_timeout(limit) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        if !is_over {
            // It may have ended just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let nothing = || Ok(Vec::new());
        (
            out.join().unwrap_or_else(|_| nothing()),
            err.join().unwrap_or_else(|_| nothing()),
            is_over,
        )
    });
    let status = child.wait().context("waiting for ssh")?;
    if !is_over {
        return Ok(None);
    }
    Ok(Some(Spoken { status, out: out?, err: err? }))
}

/// Notes a sign of life; nobody listens any more once the step is given up.
fn alive(signs: &Sender<()>) {
    let _ = signs.send(());
}

fn socket(folder: &TempDir) -> PathBuf {
    folder.path().join("s")
}

/// Reads all of a stream, or a byte more than it may have.
fn read(stream: Option<impl Read>, signs: &Sender<()>) -> Result<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; PIECE]);
    let Some(mut stream) = stream.map(|stream| stream.take(MOST + 1)) else { return Ok(bytes) };
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why).context("reading what the host printed"),
        }
        alive(signs);
    }
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
