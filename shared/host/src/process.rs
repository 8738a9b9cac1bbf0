//! This process, what others see of it, and which program another one runs.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use shared::time::Time;

use crate::clock;

/// Ticks of a second in `/proc` (proc_pid_stat(5)), on every architecture.
const TICKS: u64 = 100;

/// The file that this process was started from, by the name that it had then.
static OWN_FILE: OnceLock<PathBuf> = OnceLock::new();

/// Notes which file this process was started from: at the start, as it may be moved later.
pub fn note_own_file() {
    if let Ok(file) = std::env::current_exe() {
        OWN_FILE.get_or_init(|| file);
    }
}

/// Returns since when this process runs a program that is no longer the file at its place, if it
/// does; as far as the disk tells. Nothing is known of a process that has noted no file.
pub fn replaced() -> Option<Time> {
    since_replaced(OWN_FILE.get()?)
}

fn since_replaced(file: &Path) -> Option<Time> {
    let found = match file.metadata() {
        // Its folder has changed when it went.
        Err(why) if why.kind() == ErrorKind::NotFound => file.parent()?.metadata(),
        found => found,
    };
    // What cannot be looked at is not accused.
    let at = found.ok().filter(|_| runs_another(std::process::id(), file))?.ctime();
    Some(Time::from_micros(u64::try_from(at).unwrap_or(0).saturating_mul(1_000_000)))
}

/// Tells whether a process runs another program than the one that `file` is now.
pub fn runs_another(pid: u32, file: &Path) -> bool {
    let Ok(now) = file.metadata() else { return true };
    match std::fs::metadata(format!("/proc/{pid}/exe")) {
        Ok(runs) => (runs.dev(), runs.ino()) != (now.dev(), now.ino()),
        // A process that hides from its own user: a file that is younger is another one.
        Err(_) => started(pid).is_some_and(|at| at < u64::try_from(now.ctime()).unwrap_or(0)),
    }
}

/// Returns when a process was started, in seconds since the epoch.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses too; the 22nd field is the 20th behind it.
    let ticks = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse::<u64>().ok()?;
    let now = clock::now().as_secs();
    now.checked_sub(clock::since_boot().as_secs())?.checked_add(ticks / TICKS)
}

/// How often the kernel's list of locks is looked through: it comes a page at a time, and one lock
/// less in between makes a look miss another one.
const LOOKS: usize = 8;

/// Returns the process that has a file locked by flock(2), as far as the kernel tells.
pub fn holder(lock: &Path) -> Option<u32> {
    let lock = lock.metadata().ok()?;
    // proc_locks(5): the device's number in hexadecimal, and the file's.
    let (major, minor) = (rustix::fs::major(lock.dev()), rustix::fs::minor(lock.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", lock.ino());
    let pid = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK").skip(3);
        let pid = words.next()?.parse().ok();
        pid.filter(|_| words.next() == Some(&file))
    };
    (0..LOOKS).find_map(|_| std::fs::read_to_string("/proc/locks").ok()?.lines().find_map(pid))
}

/// Leaves no core dump with keys in it, and lets no other process look in.
pub fn harden() -> Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("cannot switch core dumps off")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot make the process undumpable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_replaced_is_noticed() {
        let (pid, own) = (std::process::id(), std::env::current_exe().unwrap());
        assert!(!runs_another(pid, &own));
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        std::fs::copy(&own, &copy).unwrap();
        assert!(runs_another(pid, &copy) && runs_another(pid, &folder.path().join("none")));
        assert_eq!(since_replaced(&own), None);
        let minute = |at: Time| at.apart(clock::now()) < 60_000_000;
        for other in ["copy", "none"].map(|name| folder.path().join(name)) {
            assert!(since_replaced(&other).is_some_and(minute), "{}", other.display());
        }
        let (started, now) = (started(pid).unwrap(), clock::now().as_secs());
        assert!(started <= now + 1 && started + 3600 > now, "{started} {now}");
    }
}
