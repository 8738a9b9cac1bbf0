//! The program that runs: signals go to it, its exit code comes back, and a change starts it anew.

use std::ffi::OsString;
use std::io::{PipeReader, Read as _, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Arrivals, SignalKind, signal};
use tokio::sync::mpsc;

use super::environment::Environment;
use super::redact::{Redactor, Values};
use super::watch::Heard;
use host::hint::{Exit, Failure};
use host::term::Term;

/// How long output may still come from what the program has left behind.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What runs, and how.
pub(super) struct Program<'a> {
    pub(super) command: &'a [OsString],
    pub(super) redact: bool,
    pub(super) grace: Duration,
    /// If a person types there, the terminal sends its signals to the program as well.
    pub(super) term: &'a Term,
}

impl Program<'_> {
    /// Runs it until it ends by itself.
    pub(super) async fn run(
        &self,
        mut environment: Environment,
        mut changes: mpsc::Receiver<Heard>,
    ) -> anyhow::Result<Exit> {
        let mut signals = Signals::new()?;
        loop {
            let (mut child, output) = self.start(&environment)?;
            let changed = self.changed(&mut child, &mut signals, &mut changes).await?;
            let is_last = if changed.is_some() {
                self.term.say("a secret has changed: starting anew");
                self.stop(&mut child, &mut signals).await?
            } else {
                true
            };
            finish(output);
            match changed {
                Some(new) if !is_last => environment = new,
                Some(_) | None => return Ok(code(child.wait().await?)),
            }
        }
    }

    /// Waits until a secret changes; `None` if the program ends before.
    async fn changed(
        &self,
        child: &mut Child,
        signals: &mut Signals,
        changes: &mut mpsc::Receiver<Heard>,
    ) -> anyhow::Result<Option<Environment>> {
        loop {
            tokio::select! {
                status = child.wait() => return Ok(status.map(|_| None)?),
                signal = signals.next() => self.pass_on(child, signal),
                // Nothing is heard where nothing is watched.
                Some(heard) = changes.recv() => match heard {
                    Heard::Changed(new) => return Ok(Some(new)),
                    Heard::Trouble(why) => {
                        self.term.say(why);
                        self.term.say("the program keeps what it has");
                    }
                },
            }
        }
    }

    /// Ends the program for a new start; tells whether a signal says that there is to be none.
    async fn stop(&self, child: &mut Child, signals: &mut Signals) -> anyhow::Result<bool> {
        self.send(child, Signal::TERM);
        let mut is_last = false;
        let deadline = tokio::time::sleep(self.grace);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                status = child.wait() => return Ok(status.map(|_| is_last)?),
                signal = signals.next() => {
                    is_last |= matches!(signal, Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT);
                    self.pass_on(child, signal);
                }
                () = &mut deadline => {
                    self.send(child, Signal::KILL);
                    child.wait().await?;
                    return Ok(is_last);
                }
            }
        }
    }

    fn pass_on(&self, child: &Child, signal: Signal) {
        // What is typed at a terminal has reached the program already.
        if !(self.term.in_is_tty && matches!(signal, Signal::INT | Signal::QUIT)) {
            self.send(child, signal);
        }
    }

    /// Signals the program, with what it has started unless they share a terminal with us.
    fn send(&self, child: &Child, signal: Signal) {
        let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else {
            return;
        };
        // One that has just ended needs no signal.
        let _ = if self.term.in_is_tty {
            rustix::process::kill_process(pid, signal)
        } else {
            rustix::process::kill_process_group(pid, signal)
        };
    }

    /// Starts it, and with it the threads that redact what it prints.
    fn start(
        &self,
        environment: &Environment,
    ) -> anyhow::Result<(Child, Option<threads::Receiver<()>>)> {
        let (name, arguments) = self.command.split_first().context("no program is named")?;
        let mut command = Command::new(name);
        command.args(arguments);
        for (name, value) in &environment.variables {
            command.env(name, value.as_str());
        }
        if !self.term.in_is_tty {
            command.process_group(0);
        }
        let output = self.redact.then(|| redacted(&mut command, environment)).transpose()?;
        let child = command.spawn().map_err(|why| {
            if why.kind() == std::io::ErrorKind::ArgumentListTooLong {
                return too_much(environment);
            }
            let code = if why.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            let text = format!("`{}` cannot be started: {why}", name.display());
            Failure { text: text.into(), hint: None, exit: Exit(code) }
        })?;
        Ok((child, output))
    }
}

/// Tells that the values together are more than the system passes to a program.
fn too_much(environment: &Environment) -> Failure {
    let largest = environment.variables.iter().max_by_key(|(_, value)| value.len());
    let (name, size) = largest.map_or(("", 0), |(name, value)| (name, value.len()));
    let text = format!(
        "arguments and environment are together more than a program can be started with; the \
         largest value is `{name}`, {} KiB",
        size >> 10
    );
    let failure = Failure { text: text.into(), hint: None, exit: Exit(126) };
    failure.hint("name fewer keys with --key, or write the largest to a file with `vault export`")
}

/// As a shell tells it: the exit code, or 128 and the signal's number.
fn code(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// The signals that are passed on.
struct Signals([(Arrivals, Signal); 6]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            (signal(SignalKind::interrupt())?, Signal::INT),
            (signal(SignalKind::terminate())?, Signal::TERM),
            (signal(SignalKind::hangup())?, Signal::HUP),
            (signal(SignalKind::quit())?, Signal::QUIT),
            (signal(SignalKind::user_defined1())?, Signal::USR1),
            (signal(SignalKind::user_defined2())?, Signal::USR2),
        ]))
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (arrivals, signal) in &mut self.0 {
                if arrivals.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Starts the threads that redact what the program prints; each tells when it ends.
fn redacted(
    command: &mut Command,
    environment: &Environment,
) -> anyhow::Result<threads::Receiver<()>> {
    let values = Values::of(environment)?;
    let (done, ended) = threads::channel();
    let (out, out_end) = std::io::pipe()?;
    let (err, err_end) = std::io::pipe()?;
    command.stdout(out_end).stderr(err_end);
    pump(out, std::io::stdout(), Redactor::new(Arc::clone(&values)), done.clone())?;
    pump(err, std::io::stderr(), Redactor::new(values), done)?;
    Ok(ended)
}

/// Waits until all is shown, but not for ever for what others still hold open.
fn finish(output: Option<threads::Receiver<()>>) {
    if let Some(output) = output {
        // One word from each stream.
        let _ = (0..2).try_for_each(|_| output.recv_timeout(LAST_WORDS));
    }
}

fn pump(
    mut from: PipeReader,
    mut to: impl Write + Send + 'static,
    mut redactor: Redactor,
    done: threads::Sender<()>,
) -> anyhow::Result<()> {
    let work = move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n) = from.read(&mut buffer)
            && n > 0
        {
            // A reader that went away has seen enough; the program is to go on.
            let _ = to.write_all(&redactor.feed(&buffer[..n])).and_then(|()| to.flush());
        }
        let _ = to.write_all(&redactor.end()).and_then(|()| to.flush());
        let _ = done.send(());
    };
    std::thread::Builder::new().name("redact".to_owned()).spawn(work)?;
    Ok(())
}
