//! Texts that were found to tell no value, and need not be looked at again until something changes.

use std::collections::VecDeque;

use shared::hash::Hash;
use tokio::sync::watch;

/// Most texts that are known.
const KNOWN: usize = 64;

/// Texts that tell nothing, as things stand.
pub(super) struct Harmless {
    changes: watch::Receiver<()>,
    known: VecDeque<Hash>,
}

impl Harmless {
    /// `changes` ticks when there may be other values.
    pub(super) const fn new(changes: watch::Receiver<()>) -> Self {
        Self { changes, known: VecDeque::new() }
    }

    /// Tells whether a text is known. What is looked at from now on counts as looked at after every
    /// change so far.
    pub(super) fn has(&mut self, text: &Hash) -> bool {
        if self.changes.has_changed().unwrap_or(true) {
            self.changes.mark_unchanged();
            self.known.clear();
        }
        self.known.contains(text)
    }

    pub(super) fn add(&mut self, text: Hash) {
        self.known.push_back(text);
        if self.known.len() > KNOWN {
            self.known.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_all_texts_looked_at_anew() {
        let (ticks, changes) = watch::channel(());
        let mut harmless = Harmless::new(changes);
        let texts: Vec<Hash> = (0..=KNOWN).map(|n| Hash::of(&[&n.to_le_bytes()])).collect();
        for text in &texts {
            assert!(!harmless.has(text));
            harmless.add(*text);
        }
        assert!(!harmless.has(&texts[0]), "the oldest goes");
        assert!(harmless.has(&texts[1]) && harmless.has(&texts[KNOWN]));
        ticks.send_replace(());
        assert!(!harmless.has(&texts[1]));
    }
}
