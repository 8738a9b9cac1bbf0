//! Why a hook has failed: what this host lacks for it, and whether anything of it has been done.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use host::shown::Shown;
use rustix::io::Errno;

/// How a line is run.
const SHELL: [&str; 2] = ["sh", "-c"];

/// What a shell does itself, or reads as the beginning of more than one command.
const BUILT_IN: &str = " alias bg break case cd command continue eval exec exit export fc fg for \
                        function getopts hash if jobs local read readonly return select set shift \
                        source time times trap type ulimit umask unalias unset until wait while ";

/// What makes more than one command of a line, or has a shell do something before it looks for the
/// program.
const MORE: [&str; 8] = [";", "|", "&", "\n", "`", "$(", "<", ">"];

/// Words that are none of that, although they look so: what follows is not run, and output goes
/// where it leaves nothing.
const NO_MORE: [&str; 4] = ["&&", ">/dev/null", "2>/dev/null", "2>&1"];

/// Most bytes of a script that are read for its interpreter.
const FIRST_LINE: u64 = 256;

/// Why a hook has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct HookFault {
    /// For people.
    pub(in crate::daemon) text: String,
    /// Whether this host could not start it, for want of room or of the program, which tells
    /// nothing about the hook.
    pub(in crate::daemon) not_begun: bool,
}

impl From<String> for HookFault {
    fn from(text: String) -> Self {
        Self { text, not_begun: false }
    }
}

impl fmt::Display for HookFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl HookFault {
    /// A program that could not be started.
    pub(super) fn not_started(program: &str, folder: &Path, error: &io::Error) -> Self {
        let lacks = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOMEM) => Some("this host has no memory left for it"),
            Some(Errno::AGAIN) => Some("no more processes are allowed: `ulimit -u`, or a cgroup's"),
            Some(Errno::MFILE) => Some("the agent has no file descriptors left: `ulimit -n`"),
            Some(Errno::NFILE) => Some("this host has no file descriptors left: `fs.file-max`"),
            Some(Errno::NOENT) => return Self::lacks(program, folder),
            _ => None,
        };
        let why = lacks.map_or_else(|| error.to_string(), str::to_owned);
        Self { text: format!("cannot start `{program}`: {why}"), not_begun: lacks.is_some() }
    }

    /// A program that could not be started because it, its folder or its interpreter is not there.
    fn lacks(program: &str, folder: &Path) -> Self {
        if !folder.is_dir() {
            let folder = Shown::line(folder.display());
            return format!("cannot start `{program}`: no folder `{folder}` is there").into();
        }
        let Some(file) = find(program, folder) else { return Self::absent(program) };
        match interpreter(&file) {
            Some(name) => Self::no_interpreter(program, &name),
            None => format!("cannot start `{program}`: the loader that it names is missing").into(),
        }
    }

    /// A script that is there, for a program that is not.
    fn no_interpreter(script: &str, name: &str) -> Self {
        let ends = if name.ends_with('\r') { "; its lines end in CR LF, not LF" } else { "" };
        let name = Shown::line(name);
        format!("cannot start `{script}`: no interpreter `{name}` is there{ends}").into()
    }

    /// A program that is not there, such as Docker on a host that is still being set up.
    fn absent(program: &str) -> Self {
        let text = format!("no program `{program}` is there; the hook runs once it is");
        Self { text, not_begun: true }
    }
}

/// Returns why the shell of a line has found no program, if that is the one that the line begins
/// with, and nothing of the line has been done.
pub(super) fn not_found(command: &[String], folder: &Path) -> Option<HookFault> {
    let program = only_program(command)?;
    let Some(file) = find(program, folder) else { return Some(HookFault::absent(program)) };
    let name = interpreter(&file).filter(|name| !folder.join(name).exists())?;
    Some(HookFault::no_interpreter(program, &name))
}

/// Returns the program that a line for `sh` begins with, if that is one plain word and nothing of
/// the line is done without it: it is one command, or others follow by `&&` alone.
fn only_program(command: &[String]) -> Option<&str> {
    let [_, _, line] = command else { return None };
    let program = line.split_whitespace().next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
    let is_line = command.starts_with(&SHELL.map(str::to_owned));
    let is_built_in = BUILT_IN.contains(&format!(" {program} "));
    if !is_line || !program.chars().all(is_plain) || is_built_in {
        return None;
    }
    let is_more = |word: &str| MORE.iter().any(|more| word.contains(more));
    let mut words = line.trim().split([' ', '\t']).filter(|word| !NO_MORE.contains(word));
    (!words.any(is_more)).then_some(program)
}

/// Returns where a program is that runs in `folder`.
fn find(program: &str, folder: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<_> = match program.contains('/') {
        true => vec![PathBuf::new()],
        false => std::env::split_paths(&path).collect(),
    };
    let files = places.iter().map(|place| folder.join(place).join(program));
    files.into_iter().find(|file| file.is_file())
}

/// Returns what the first line of a script names to run it.
fn interpreter(script: &Path) -> Option<String> {
    let mut start = Vec::new();
    File::open(script).ok()?.take(FIRST_LINE).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    // For the system a carriage return is a part of the name.
    let mut words = line.split(|byte| b" \t".contains(byte));
    let name = words.find(|word| !word.is_empty())?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_lacks_is_named() {
        let fault = |errno: Errno| HookFault::not_started("x", Path::new("/"), &errno.into());
        for (errno, part) in [
            (Errno::NOMEM, "no memory"),
            (Errno::AGAIN, "processes"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::NFILE, "fs.file-max"),
        ] {
            let fault = fault(errno);
            assert!(fault.not_begun && fault.text.contains(part), "{fault}");
        }
        assert!(!fault(Errno::ACCESS).not_begun, "that is how it is");
    }
}
