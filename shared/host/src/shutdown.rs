//! What ends a program that serves. What it does then lives with the program.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Where the kernel tells which signals this process ignores (proc_pid_status(5)).
const STATUS: &str = "/proc/self/status";

/// Arguments of a command that serves.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ShutdownArgs {
    /// End when standard input ends, so that it does not outlive the program that started it
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// SIGTERM, SIGINT, SIGHUP, or the end of standard input.
pub struct Shutdown {
    terminate: Signal,
    /// `None` where whoever started this process has it ignored, as `nohup` has.
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
    with_stdin: bool,
}

impl Shutdown {
    /// Takes the signals over, but for those that are ignored: they stay so.
    pub fn listen(args: ShutdownArgs) -> Result<Self> {
        let listen = |kind, name| signal(kind).with_context(|| format!("cannot listen for {name}"));
        // Asked before any is taken over.
        let status = std::fs::read_to_string(STATUS).unwrap_or_default();
        let unless_ignored = |kind: SignalKind, name| {
            let is_taken = !ignores(&status, kind.as_raw_value());
            is_taken.then(|| listen(kind, name)).transpose()
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
            interrupt: unless_ignored(SignalKind::interrupt(), "SIGINT")?,
            hangup: unless_ignored(SignalKind::hangup(), "SIGHUP")?,
            with_stdin: args.exit_with_stdin,
        })
    }

    /// Waits for the first of them.
    pub async fn wait(self) {
        let Self { mut terminate, interrupt, hangup, with_stdin } = self;
        let (gone, parent) = oneshot::channel();
        if with_stdin {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                let _ = gone.send(());
            });
        }
        tokio::select! {
            _ = terminate.recv() => {}
            () = received(interrupt) => {}
            () = received(hangup) => {}
            // Never, if standard input is not watched: the sender is gone.
            Ok(()) = parent => {}
        }
    }
}

/// Waits for a signal; for ever for one that is ignored.
async fn received(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Tells whether a process with this `/proc/PID/status` ignores a signal.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tx\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(ignores(status, 1) && ignores(status, 13));
        assert!(!ignores(status, 2) && !ignores(status, 15) && !ignores("", 1));
    }
}
