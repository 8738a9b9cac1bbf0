//! The moment at which a command is killed, counted by what it has done in a folder so far.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tests::watch;

/// Runs a command, and kills it when so many names have come and gone anywhere below `folder`;
/// tells whether it was killed.
pub(crate) fn killed_at(command: Command, folder: &Path, moment: usize) -> bool {
    let is_name = |kind: EventKind| {
        let renamed = matches!(kind, EventKind::Modify(ModifyKind::Name(_)));
        kind.is_create() || kind.is_remove() || renamed
    };
    killed(command, folder, RecursiveMode::Recursive, is_name, moment)
}

/// As [`killed_at`], but counts every change of what stands in `folder` itself.
pub(crate) fn killed_at_change(command: Command, folder: &Path, moment: usize) -> bool {
    killed(command, folder, RecursiveMode::NonRecursive, |kind| !kind.is_access(), moment)
}

/// As [`killed_at`], but counts whatever happens to any file below `folder`, opening one too: for a
/// command that writes none itself, and has an agent do so.
pub(crate) fn killed_at_touch(command: Command, folder: &Path, moment: usize) -> bool {
    let (sender, events) = mpsc::channel();
    let watcher = watch::watcher_of_all(move |event: Result<notify::Event, _>| {
        if event.is_ok() {
            let _ = sender.send(());
        }
    });
    killed_after(command, watcher, &events, (folder, RecursiveMode::Recursive), moment)
}

fn killed(
    command: Command,
    folder: &Path,
    mode: RecursiveMode,
    counts: impl Fn(EventKind) -> bool + Send + 'static,
    moment: usize,
) -> bool {
    let (sender, events) = mpsc::channel();
    let watcher = watch::watcher(move |event: Result<notify::Event, _>| {
        if event.is_ok_and(|event| counts(event.kind)) {
            let _ = sender.send(());
        }
    });
    killed_after(command, watcher, &events, (folder, mode), moment)
}

fn killed_after(
    mut command: Command,
    mut watcher: RecommendedWatcher,
    events: &mpsc::Receiver<()>,
    (folder, mode): (&Path, RecursiveMode),
    moment: usize,
) -> bool {
    watcher.watch(folder, mode).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut seen = 0;
    while seen < moment {
        match events.recv_timeout(Duration::from_millis(20)) {
            Ok(()) => seen += 1,
            Err(_) if child.try_wait().unwrap().is_some() => return false,
            Err(_) => {}
        }
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

/// Tells whether all moments are to be tried.
pub(crate) fn all() -> bool {
    std::env::var("MATRIX").is_ok_and(|matrix| matrix == "full")
}

/// Returns one moment of so many, the first being 1: by MATRIX_SEED, else one in the middle.
pub(crate) fn one(most: usize) -> usize {
    let seed = std::env::var("MATRIX_SEED").ok().and_then(|seed| seed.parse::<usize>().ok());
    let seed = seed.unwrap_or(most / 2);
    let moment = seed % most + 1;
    println!("MATRIX_SEED={seed}: killed at moment {moment}");
    moment
}

/// Returns the moments to be tried, of so many.
pub(crate) fn moments(most: usize) -> Vec<usize> {
    if all() { (1..=most).collect() } else { vec![one(most)] }
}
