//! What ends a program that serves. What it does then lives with the program.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Arguments of a command that serves.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ShutdownArgs {
    /// End when standard input ends, so that it does not outlive the program that started it
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// SIGTERM, SIGINT, SIGHUP, or the end of standard input.
pub struct Shutdown {
    signals: [Signal; 3],
    with_stdin: bool,
}

impl Shutdown {
    /// Takes the signals over.
    pub fn listen(args: ShutdownArgs) -> Result<Self> {
        let listen = |kind, name| signal(kind).with_context(|| format!("cannot listen for {name}"));
        let signals = [
            listen(SignalKind::terminate(), "SIGTERM")?,
            listen(SignalKind::interrupt(), "SIGINT")?,
            listen(SignalKind::hangup(), "SIGHUP")?,
        ];
        Ok(Self { signals, with_stdin: args.exit_with_stdin })
    }

    /// Waits for the first of them.
    pub async fn wait(self) {
        let [mut terminate, mut interrupt, mut hangup] = self.signals;
        let (gone, parent) = oneshot::channel();
        if self.with_stdin {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                let _ = gone.send(());
            });
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
            // Never, if standard input is not watched: the sender is gone.
            Ok(()) = parent => {}
        }
    }
}
