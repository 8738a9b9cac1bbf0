//! Has it on record which versions files have got and how their hooks have ended. No file waits for
//! that, and none is the worse for it if it fails.

use tokio::task::JoinSet;

use super::slot::Slot;
use crate::engine::Engine;

/// Hands over what is to be told of a target now.
pub(super) fn tell(telling: &mut JoinSet<()>, engine: &Engine, slot: &mut Slot) {
    let facts = slot.told();
    if facts.is_empty() {
        return;
    }
    let (engine, file) = (engine.clone(), slot.name.clone());
    telling.spawn(async move {
        for fact in facts {
            if let Err(fault) = engine.record(fact).await {
                tracing::error!(file, "the audit log does not know of its versions: {fault:#}");
                return;
            }
        }
    });
}
