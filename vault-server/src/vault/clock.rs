//! How far the time of an entry may be from this server's clock: the server's own policy, no rule
//! of the log (design/trust, *Time*).

use shared::error::{Code, Result};
use shared::limits;
use shared::log::Entry;
use shared::name::Actor;
use shared::time::Time;

/// Refuses a machine's entry that bears another time than now: versions could be deleted by their
/// age for everybody at once, or never. An owner's is only warned about: it may have been signed a
/// while ago, and a wrong clock must not keep an owner from acting.
///
/// # Errors
/// `E_CLOCK`, naming both times.
pub(super) fn agrees(entry: &Entry, now: Time) -> Result<()> {
    let Entry { time, by, seq, .. } = entry;
    if time.apart(now) <= limits::CLOCK {
        return Ok(());
    }
    match by {
        Actor::Machine(name) => {
            let why = format!("`{name}` wrote at {time}, the server's clock says {now}");
            Err(Code::Clock.because(why))
        }
        Actor::Admin(_) | Actor::Root => {
            tracing::warn!(seq, %by, %time, %now, "an owner's entry bears another time");
            Ok(())
        }
    }
}
