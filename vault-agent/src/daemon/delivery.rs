//! How long versions take from their writer into a file, for the figures.

use std::time::Duration;

use shared::log::{Secret, Version};
use shared::time::Time;

use super::apply::Outcome;
use super::fault::TargetFault;
use super::slot::Slot;
use crate::engine::Engine;
use crate::metrics::METRICS;
use host::clock;

/// Counts the end of a task that has brought newer versions into a file; the slot still knows those
/// before. A file that is written for the first time tells nothing: its versions may be old.
pub(super) fn count(engine: &Engine, slot: &Slot, result: &Result<Outcome, TargetFault>) {
    let (Ok(Outcome::Changed(held, _)), Some(before)) = (result, &slot.written) else { return };
    let secrets = slot.target.secrets.iter();
    let newer = secrets.zip(held.versions.iter().zip(before)).filter_map(|(secret, (now, was))| {
        let now = now.filter(|now| was.is_none_or(|was| *now > was))?;
        engine.state(|state| {
            let find = |secret: &Secret| created(secret, now);
            state.secret(secret).and_then(find)
        })
    });
    let Some(newest) = newer.max() else { return };
    let micros = clock::now().as_micros().saturating_sub(newest.as_micros());
    METRICS.deliveries.observe(Duration::from_micros(micros));
}

fn created(secret: &Secret, ver: u64) -> Option<Time> {
    let is_it = |(of, version): (u64, &Version)| (of == ver).then_some(version.created);
    secret.versions().find_map(is_it)
}
