//! A program that outlives the terminal: the hidden verb that makes its process the leader of a
//! session without one, and becomes that program. Its standard streams are what they were.

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, anyhow};

use crate::context::Global;
use crate::sibling;
use host::files;

/// The verb, with the program and its arguments behind it.
pub const VERB: &str = "__detached";

/// What a daemon needs of the environment; nothing else of a terminal's is handed on.
pub const KEPT: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
];

/// Bytes of a log above which it is set aside at the next start.
const LONGEST: u64 = 1 << 20;

/// Runs the verb; returns only if the program cannot be started.
pub fn run(words: &[OsString]) -> anyhow::Error {
    let Some((program, arguments)) = words.split_first() else {
        return anyhow!("no program is named");
    };
    if let Err(why) = rustix::process::setsid() {
        return anyhow::Error::from(why).context("leaving the terminal");
    }
    let why = Command::new(program).args(arguments).exec();
    anyhow::Error::from(why).context(format!("starting `{}`", Path::new(program).display()))
}

/// A program that was started so.
pub struct Detached {
    pub process: Child,
    pub log: PathBuf,
}

/// Starts a command detached; its log goes into `folder`, which is private.
pub fn start(name: &str, command: &Command, folder: &Path, global: &Global) -> Result<Detached> {
    files::create_dir_private(folder)?;
    let log = folder.join(format!("{name}.log"));
    set_aside(&log)?;
    let mut options = File::options();
    let out = options.create(true).append(true).mode(0o600).open(&log);
    let out = out.with_context(|| format!("making `{}`", log.display()))?;
    let err = out.try_clone().context("opening the log twice")?;
    let mut own = Command::new(sibling::vault()?);
    own.arg(VERB).arg(command.get_program()).args(command.get_args());
    own.env_clear();
    own.envs(KEPT.iter().filter_map(|name| Some((name, global.env(name)?))));
    own.current_dir("/").stdin(Stdio::null()).stdout(out).stderr(err);
    let process = own.spawn().with_context(|| format!("starting the {name}"))?;
    Ok(Detached { process, log })
}

fn set_aside(log: &Path) -> Result<()> {
    match log.metadata() {
        Ok(found) if found.len() > LONGEST => {
            let old = log.with_extension("log.old");
            std::fs::rename(log, &old).with_context(|| format!("moving `{}`", log.display()))
        }
        Ok(_) => Ok(()),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        Err(why) => Err(why).with_context(|| format!("looking at `{}`", log.display())),
    }
}
