//! Looks at disks that may not answer, as that of a server which is away: a command is not to hang
//! for want of an answer that it can do without.

use std::sync::mpsc;
use std::time::Duration;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns what `look` finds; `None` if that takes too long: it is left to itself then.
pub(super) fn patiently<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, found) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(look());
    });
    found.recv_timeout(PATIENCE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_does_not_come_is_done_without() {
        assert_eq!(patiently(|| 1), Some(1));
        let (never, comes) = mpsc::channel::<u8>();
        assert_eq!(patiently(move || comes.recv().ok()), None);
        drop(never);
    }
}
