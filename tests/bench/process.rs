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

/// Returns the time that process `pid` has spent on processors, in steps of 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold anything; user and system time are the 12th and 13th field
    // after it.
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Lets `pass` go by, and returns [`cpu`].
pub fn cpu_after(pid: u32, pass: Duration) -> Duration {
    let (_never, nothing) = std::sync::mpsc::channel::<()>();
    let waited = nothing.recv_timeout(pass);
    assert!(waited.is_err(), "nobody sends");
    cpu(pid)
}

/// Returns the private memory of process `pid` in bytes: what no file backs.
pub fn private(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
