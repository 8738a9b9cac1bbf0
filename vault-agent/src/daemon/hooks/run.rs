//! Runs one hook once: a process group of its own, output to the log with values masked, killed
//! when it takes too long.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::fault::not_found;
use super::{HookFault, Mask};
use machine::config::{Hook, HookAction, HookSignal};

/// What a process group gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How long output is read after the hook has ended: a child left behind may hold the pipe for
/// ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Longer lines are left out of the log: a value could be cut in two and pass the mask.
const LONGEST_LINE: usize = 16 * 1024;

/// More output of one run is read and dropped.
const MOST_LINES: usize = 1_000;

/// What stands in the log instead.
const UNSHOWN: &str = "(more lines are not shown)";

/// The exit code of a shell that finds no such program.
const NOT_FOUND: i32 = 127;

/// Variables of the agent itself that no child is to inherit.
const OWN_VARIABLES: &[&str] = &[
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "VAULT_TOKEN",
    "VAULT_PASSPHRASE_FILE",
    "CREDENTIALS_DIRECTORY",
];

/// Runs `hook` in `folder` and waits for its end.
///
/// # Errors
/// What failed, for people.
pub(super) async fn run(hook: &Hook, folder: &Path, mask: &Mask) -> Result<(), HookFault> {
    match &hook.action {
        HookAction::Command(command) => process(command, hook.timeout, folder, mask).await,
        HookAction::Systemd { unit, action } => {
            let scope = (!rustix::process::geteuid().is_root()).then_some("--user");
            let words = ["systemctl", "--no-ask-password"].into_iter().chain(scope);
            let words = words.chain([action.as_str(), "--", unit]).map(str::to_owned);
            process(&words.collect::<Vec<_>>(), hook.timeout, folder, mask).await
        }
        HookAction::Signal { signal, pid_file } => Ok(send(*signal, pid_file)?),
    }
}

async fn process(
    command: &[String],
    limit: Duration,
    folder: &Path,
    mask: &Mask,
) -> Result<(), HookFault> {
    let [program, arguments @ ..] = command else { return Err("no command".to_owned().into()) };
    let fault = |error: io::Error| HookFault::not_started(program, folder, &error);
    let mut process = Command::new(program);
    process.args(arguments).current_dir(folder).process_group(0);
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in OWN_VARIABLES {
        process.env_remove(name);
    }
    let mut child = process.spawn().map_err(fault)?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let output = (child.stdout.take(), child.stderr.take());
    let mut reading = Box::pin(async {
        tokio::join!(show(program, output.0, mask), show(program, output.1, mask));
    });
    let mut read = false;
    let ended = timeout(limit, async {
        loop {
            tokio::select! {
                ended = child.wait() => return ended,
                () = &mut reading, if !read => read = true,
            }
        }
    });
    let Ok(ended) = ended.await else {
        group.stop(&mut child).await;
        return Err(format!("timeout after {limit:?}").into());
    };
    // Its first process has ended: the number may be another's from now on.
    group.0 = None;
    if !read {
        let _ = timeout(LAST_WORDS, reading).await;
    }
    let ended = ended.map_err(|error| format!("the end of `{program}` is not known: {error}"))?;
    match (ended.code(), ended.signal()) {
        (Some(0), _) => Ok(()),
        (Some(NOT_FOUND), _) if let Some(fault) = not_found(command, folder) => Err(fault),
        (Some(code), _) => Err(format!("exit {code}").into()),
        (None, signal) => Err(format!("killed by signal {}", signal.unwrap_or_default()).into()),
    }
}

/// The process group of a running hook; dropping it asks the group to end.
struct Group(Option<Pid>);

impl Group {
    /// Ends the group, the hard way if need be, and waits for its first process.
    async fn stop(mut self, child: &mut Child) {
        let Some(pid) = self.0.take() else { return };
        let _ = rustix::process::kill_process_group(pid, Signal::TERM);
        let _ = timeout(GRACE, child.wait()).await;
        // Its children may have outlived it, or not cared: the group is gone for certain after
        // this.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        let _ = child.wait().await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process_group(pid, Signal::TERM);
        }
    }
}

/// Logs what comes out of a pipe, line by line, up to [`MOST_LINES`]; the rest is read and dropped.
async fn show(name: &str, pipe: Option<impl AsyncRead + Unpin>, mask: &Mask) {
    let Some(pipe) = pipe else { return };
    let mut pipe = BufReader::new(pipe);
    let mut shown = 0_usize;
    while let Ok(Some(line)) = next_line(&mut pipe).await {
        shown = shown.saturating_add(1);
        match line {
            _ if shown == MOST_LINES + 1 => tracing::info!(hook = name, "{UNSHOWN}"),
            _ if shown > MOST_LINES => {}
            Line::Whole(line) => tracing::info!(hook = name, "{}", mask.apply(&line)),
            Line::TooLong => tracing::info!(hook = name, "(a line of more than 16 KiB)"),
        }
    }
}

/// A line of output.
enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// Read over, not kept.
    TooLong,
}

/// Reads one line, keeping no more than the longest; `None` at the end.
async fn next_line(pipe: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Line>> {
    let (mut line, mut too_long) = (Vec::new(), false);
    // With its end and one byte more than allowed.
    let most = LONGEST_LINE as u64 + 1;
    while (&mut *pipe).take(most).read_until(b'\n', &mut line).await? > 0 {
        if line.pop_if(|end| *end == b'\n').is_some() {
            return Ok(Some(if too_long { Line::TooLong } else { Line::Whole(line) }));
        }
        if line.len() > LONGEST_LINE {
            too_long = true;
            line.clear();
        }
    }
    Ok(match (too_long, line.is_empty()) {
        (true, _) => Some(Line::TooLong),
        (false, false) => Some(Line::Whole(line)),
        (false, true) => None,
    })
}

/// Signals the process whose number `pid_file` holds.
fn send(signal: HookSignal, pid_file: &Path) -> Result<(), String> {
    let fault = |why: &str| format!("pid file `{}` {why}", pid_file.display());
    let (found, text) = host::files::settings(pid_file)
        .map_err(|error| fault(&format!("cannot be read: {error}")))?;
    let number: i32 = text.trim().parse().map_err(|_| fault("holds no process number"))?;
    let pid = Some(number).filter(|number| *number > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| fault("holds no process number"))?;
    let process = Path::new(&format!("/proc/{number}")).metadata().map(|found| found.uid());
    let process = process.map_err(|_| fault("names a process that does not run"))?;
    // Whoever may write the file must not be able to aim at other users' processes.
    if ![0, process, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
        return Err(fault("belongs to another user than its process"));
    }
    let signal = match signal {
        HookSignal::Hup => Signal::HUP,
        HookSignal::Usr1 => Signal::USR1,
        HookSignal::Usr2 => Signal::USR2,
        HookSignal::Winch => Signal::WINCH,
        HookSignal::Term => Signal::TERM,
        HookSignal::Int => Signal::INT,
        HookSignal::Quit => Signal::QUIT,
    };
    rustix::process::kill_process(pid, signal)
        .map_err(|errno| format!("cannot signal process {number}: {errno}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, limit: Duration) -> Hook {
        let command = ["sh", "-c", line].map(str::to_owned).to_vec();
        Hook { action: HookAction::Command(command), timeout: limit, retries: 0 }
    }

    async fn outcome(line: &str, limit: Duration) -> String {
        let folder = tempfile::tempdir().unwrap();
        match run(&shell(line, limit), folder.path(), &Mask::default()).await {
            Ok(()) => "ok".to_owned(),
            Err(fault) => fault.text,
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn endings_are_told_apart() {
        assert_eq!(outcome("true", LONG).await, "ok");
        assert_eq!(outcome("echo x; exit 3", LONG).await, "exit 3");
        assert_eq!(outcome("kill -9 $$", LONG).await, "killed by signal 9");
        assert_eq!(outcome("sleep 60", Duration::from_millis(50)).await, "timeout after 50ms");
    }

    #[tokio::test]
    async fn a_timeout_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        // The grandchild holds the fifo open for writing until it dies.
        let hook = shell("(trap '' TERM; exec sleep 60 >fifo) & wait", Duration::from_millis(300));
        let reader = tokio::task::spawn_blocking(move || std::fs::read(fifo));
        let fault = run(&hook, folder.path(), &Mask::default()).await.unwrap_err();
        assert_eq!(fault.text, "timeout after 300ms");
        reader.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_child_left_behind_does_not_hold_the_hook() {
        let started = std::time::Instant::now();
        assert_eq!(outcome("sleep 20 & exit 0", LONG).await, "ok");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn hooks_run_in_the_targets_folder_without_our_variables() {
        let folder = tempfile::tempdir().unwrap();
        let hook =
            shell("pwd -P >out; test -z \"$NOTIFY_SOCKET\" && read x || echo no stdin >>out", LONG);
        run(&hook, folder.path(), &Mask::default()).await.unwrap();
        let real = folder.path().canonicalize().unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path().join("out")).unwrap(),
            format!("{}\nno stdin\n", real.display())
        );
    }

    #[tokio::test]
    async fn lines_are_read_whole_or_not_at_all() {
        let mut pipe = BufReader::new(&b"one\n\ntwo"[..]);
        for expected in [&b"one"[..], b"", b"two"] {
            assert!(
                matches!(next_line(&mut pipe).await.unwrap(), Some(Line::Whole(line)) if line == expected)
            );
        }
        assert!(next_line(&mut pipe).await.unwrap().is_none());
        let long = [vec![b'x'; LONGEST_LINE + 1], b"\nend".to_vec()].concat();
        let mut pipe = BufReader::new(&long[..]);
        assert!(matches!(next_line(&mut pipe).await.unwrap(), Some(Line::TooLong)));
        assert!(
            matches!(next_line(&mut pipe).await.unwrap(), Some(Line::Whole(line)) if line == b"end")
        );
    }

    #[tokio::test]
    async fn endless_output_is_a_bounded_log() {
        let counted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let log = Counted(counted.clone());
        let _logging = tracing::subscriber::set_default(log);
        let long = [vec![b'x'; LONGEST_LINE + 1], b"\n".to_vec()].concat();
        for line in [&b"x\n"[..], &long] {
            counted.store(0, std::sync::atomic::Ordering::Relaxed);
            let lines = line.repeat(MOST_LINES + 50);
            show("a", Some(&lines[..]), &Mask::default()).await;
            let count = counted.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(count, MOST_LINES + 1);
        }
    }

    /// Counts what is logged.
    struct Counted(std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl tracing::Subscriber for Counted {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_yet_is_named_and_says_nothing_about_the_hook() {
        let folder = tempfile::tempdir().unwrap();
        let begun = async |command: &[&str]| {
            let command = command.iter().map(ToString::to_string).collect();
            let action = HookAction::Command(command);
            let hook = Hook { action, timeout: LONG, retries: 0 };
            let fault = run(&hook, folder.path(), &Mask::default()).await.unwrap_err();
            (!fault.not_begun, fault.text)
        };
        let absent = |program: &str| {
            (false, format!("no program `{program}` is there; the hook runs once it is"))
        };
        assert_eq!(begun(&["no-docker", "compose", "up", "-d"]).await, absent("no-docker"));
        assert_eq!(begun(&["sh", "-c", "no-docker compose up -d"]).await, absent("no-docker"));
        assert_eq!(begun(&["sh", "-c", "./deploy now"]).await, absent("./deploy"));
        let line = "no-docker compose up -d >/dev/null 2>&1 && echo restarted";
        assert_eq!(begun(&["sh", "-c", line]).await, absent("no-docker"));
        // Something may have been done, or nobody knows.
        for line in [
            "no-docker start; echo restarted >>done; no-docker done",
            "no-docker start || no-docker restart",
            "no-docker start\nno-docker done",
            "true & no-docker",
            "no-docker | no-docker",
            "no-docker $(echo restarted >>done)",
            "no-docker `echo restarted >>done`",
            "no-docker >done",
            "true && no-docker",
            "exit 127",
            "cd / && no-docker",
            "A=1 no-docker",
            "sh -c 'exit 127'",
        ] {
            assert_eq!(begun(&["sh", "-c", line]).await, (true, "exit 127".to_owned()), "{line}");
        }
        drop(std::fs::File::create(folder.path().join("deploy")).unwrap());
        let not_a_program = (true, "exit 126".to_owned());
        assert_eq!(begun(&["sh", "-c", "./deploy now"]).await, not_a_program);
    }

    #[tokio::test]
    async fn a_script_that_is_there_fails_by_the_interpreter_or_the_folder_that_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let command = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (first, why) in [
            (
                r"#!/bin/sh\r\n",
                r"no interpreter `/bin/sh\r` is there; its lines end in CR LF, not LF",
            ),
            (r"#! /no/python -u\n", "no interpreter `/no/python` is there"),
        ] {
            // Nobody else's child may hold it open for writing: it could not be run.
            let write = shell(&format!("printf '{first}' >deploy; chmod +x deploy"), LONG);
            run(&write, folder.path(), &Mask::default()).await.unwrap();
            let fault = HookFault::from(format!("cannot start `./deploy`: {why}"));
            let action = HookAction::Command(command(&["./deploy", "now"]));
            let hook = Hook { action, timeout: LONG, retries: 0 };
            let run = run(&hook, folder.path(), &Mask::default()).await;
            assert_eq!(run, Err(fault.clone()));
            // What a shell makes of it is its own affair.
            let line = command(&["sh", "-c", "./deploy now && true"]);
            assert_eq!(not_found(&line, folder.path()), Some(fault));
        }
        let gone = folder.path().join("gone");
        let fault = run(&shell("true", LONG), &gone, &Mask::default()).await.unwrap_err();
        let text = format!("cannot start `sh`: no folder `{}` is there", gone.display());
        assert_eq!(fault, HookFault::from(text));
    }

    #[tokio::test]
    async fn signals_go_where_the_pid_file_points() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let hook = Hook {
            action: HookAction::Signal { signal: HookSignal::Term, pid_file: pid_file.clone() },
            timeout: LONG,
            retries: 0,
        };
        for bad in ["", "x", "0", "1", "-5", "999999999"] {
            host::files::replace(
                &pid_file.parent().unwrap().canonicalize().unwrap().join("pid"),
                bad.as_bytes(),
                host::files::Access::PRIVATE,
            )
            .unwrap();
            let fault = run(&hook, folder.path(), &Mask::default()).await.unwrap_err();
            assert!(fault.text.starts_with("pid file"), "{bad:?}: {fault}");
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let path = folder.path().canonicalize().unwrap().join("pid");
        host::files::replace(
            &path,
            format!("{}\n", child.id().unwrap()).as_bytes(),
            host::files::Access::PRIVATE,
        )
        .unwrap();
        run(&hook, folder.path(), &Mask::default()).await.unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(15));
    }
}
