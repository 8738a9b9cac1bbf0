//! Figures of whole processes: wall time paired with another program, peak memory, size.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `ours` and `theirs` in turn and returns the median wall time of each.
pub fn paired(ours: &mut Command, theirs: &mut Command, rounds: usize) -> (Duration, Duration) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        first.push(wall(ours));
        second.push(wall(theirs));
    }
    first.sort_unstable();
    second.sort_unstable();
    (first[rounds / 2], second[rounds / 2])
}

fn wall(command: &mut Command) -> Duration {
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let took = begun.elapsed();
    assert!(status.success(), "{command:?}");
    took
}

/// Returns the peak resident memory of `command` in bytes, as GNU time reports it.
pub fn peak(command: &Command) -> Option<u64> {
    let mut timed = Command::new("/usr/bin/time");
    timed.arg("-f").arg("%M").arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            timed.env(key, value);
        }
    }
    let output = timed.stdout(Stdio::null()).output().ok()?;
    let kilobytes =
        String::from_utf8_lossy(&output.stderr).lines().last()?.trim().parse::<u64>().ok()?;
    Some(kilobytes << 10)
}

/// Returns the resident memory of process `pid` in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
