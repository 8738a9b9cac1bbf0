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
    })
    .expect("inotify works");
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
pub fn poll<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let (_sender, never) = mpsc::channel::<()>();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen in a minute");
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
}

/// Makes a watcher that hears of changes alone: not of the reads that a test makes to see them.
///
/// # Errors
/// If the system has no more watches.
pub fn watcher(
    mut handler: impl notify::EventHandler,
) -> notify::Result<notify::RecommendedWatcher> {
    let opened = |kind| matches!(kind, EventKind::Access(AccessKind::Open(_)));
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.as_ref().is_ok_and(|event| opened(event.kind)) {
            handler.handle_event(event);
        }
    })
}
