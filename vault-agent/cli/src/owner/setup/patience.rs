//! Waiting for what another program does, and tells nobody of.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for something to be there, looking again and again.
pub fn wait<T>(
    patience: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if begun.elapsed() > patience {
            return Ok(None);
        }
        #[expect(clippy::disallowed_methods, reason = "nobody tells of it")]
        std::thread::sleep(PAUSE);
    }
}
