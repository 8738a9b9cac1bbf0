//! Where computing happens: little of it at once, as handing it to a thread and back would take
//! longer; more of it on every core, off the async threads.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};

/// Agreements of keys (X25519, some 100 us each) that the other tasks of a thread may wait for.
const FEW: usize = 8;
/// Bytes encrypted or decrypted (some 1 ns each) that they may wait for.
const LITTLE: usize = 64 << 10;

/// Tells whether this much is done sooner than handed on.
pub(super) const fn is_small(agreements: usize, bytes: usize) -> bool {
    agreements <= FEW && bytes <= LITTLE
}

/// Has all cores do `tasks`, a share each; `None` if the program ends meanwhile.
pub(super) async fn shared<T, R>(
    tasks: Vec<T>,
    act: impl Fn(Vec<T>) -> R + Send + Sync + 'static,
) -> Option<Vec<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let (act, share) = (Arc::new(act), tasks.len().div_ceil(*CORES).max(1));
    let mut running = Vec::with_capacity(*CORES);
    let mut tasks = tasks.into_iter().peekable();
    while tasks.peek().is_some() {
        let (part, act) = (tasks.by_ref().take(share).collect(), Arc::clone(&act));
        running.push(tokio::task::spawn_blocking(move || act(part)));
    }
    let mut done = Vec::with_capacity(running.len());
    for part in running {
        done.push(part.await.ok()?);
    }
    Some(done)
}

/// Asked once: the answer lies in several files of the system.
static CORES: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get));

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_task_is_done_once() {
        for count in [0, 1, 2, 7, 100] {
            let done = shared((0..count).collect(), |part: Vec<usize>| part).await.unwrap();
            assert!(done.len() <= *CORES);
            assert_eq!(done.concat(), (0..count).collect::<Vec<_>>());
        }
    }
}
