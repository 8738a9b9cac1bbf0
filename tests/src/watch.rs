//! Waiting for what a file holds, by its own change events.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, EventKind};
use notify::{RecursiveMode, Watcher as _};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `file` holds what `wanted` accepts and returns it.
///
/// # Panics
/// After a minute, with what the file held last.
pub fn until(file: &Path, wanted: impl Fn(&str) -> bool) -> String {
    let (sender, events) = mpsc::channel();
    let mut watcher = watcher(move |_| {
        let _ = sender.send(());
    });
    let folder = file.parent().expect("a file in a folder");
    watcher.watch(folder, RecursiveMode::NonRecursive).expect("the folder exists");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = std::fs::read_to_string(file).unwrap_or_default();
        if wanted(&found) {
            return found;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero() && events.recv_timeout(left).is_ok(),
            "{} never held what was awaited; it holds:\n{found}",
            file.display()
        );
    }
}

/// Runs `probe` again and again until it returns something.
///
/// # Panics
/// After a minute, with `what`.
pub fn poll<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    poll_with(what, probe, String::new)
}

/// As [`poll`], which says at the end how things stand.
///
/// # Panics
/// After a minute, with `what` and how things `stand`.
pub fn poll_with<T>(
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
    stand: impl FnOnce() -> String,
) -> T {
    let (_sender, never) = mpsc::channel::<()>();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        if Instant::now() >= deadline {
            panic!("{what} did not happen in a minute\n{}", stand());
        }
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
}

/// Makes a watcher that hears of changes alone: not of the reads that a test makes to see them.
///
/// # Panics
/// In one line, if the user's inotify instances are used up.
#[must_use]
pub fn watcher(mut handler: impl notify::EventHandler) -> notify::RecommendedWatcher {
    let opened = |kind| matches!(kind, EventKind::Access(AccessKind::Open(_)));
    watcher_of_all(move |event: notify::Result<notify::Event>| {
        if !event.as_ref().is_ok_and(|event| opened(event.kind)) {
            handler.handle_event(event);
        }
    })
}

/// Makes a watcher that hears of reads, too.
///
/// # Panics
/// As [`watcher`].
#[must_use]
pub fn watcher_of_all(handler: impl notify::EventHandler) -> notify::RecommendedWatcher {
    notify::recommended_watcher(handler).unwrap_or_else(|why| panic!("{}", no_inotify(&why)))
}

/// Says what a machine lacks that gives a test no inotify instance.
fn no_inotify(why: &notify::Error) -> String {
    let instances = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances");
    let instances = instances.unwrap_or_default();
    format!(
        "these tests need inotify, and this user's {} instances are used up ({why}): \
         `sysctl fs.inotify.max_user_instances=1024` as root allows more",
        instances.trim()
    )
}

#[test]
fn a_machine_without_inotify_instances_is_told_in_one_line() {
    let line = no_inotify(&notify::Error::generic("too many open files"));
    assert!(line.contains("instances are used up (too many open files): `sysctl "), "{line}");
    assert!(!line.contains('\n'), "{line}");
}
