//! One reader of an age file who knows their place among the others: age hands all stanzas over,
//! and the reader's own is tried first. What age checks of a file stays age's.

use std::cell::Cell;

use age::{DecryptError, x25519};
use age_core::format::{FileKey, Stanza};

use crate::error::Code;

/// What a recipient's stanza is called; age adds one of a random name ("grease").
const RECIPIENT: &str = "X25519";

/// A reader's key and place.
pub(super) struct Reader<'a> {
    identity: &'a x25519::Identity,
    readers: usize,
    position: usize,
    /// Whether the file is made for another number of readers.
    miscounted: Cell<bool>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(identity: &'a x25519::Identity, readers: usize, position: usize) -> Self {
        Self { identity, readers, position, miscounted: Cell::new(false) }
    }

    /// Returns why a file that has not opened is refused.
    pub(super) fn refusal(&self) -> Code {
        if self.miscounted.get() { Code::BlobStanzas } else { Code::BlobOpen }
    }
}

impl age::Identity for Reader<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.identity.unwrap_stanza(stanza)
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        let mut recipients = stanzas.iter().filter(|stanza| stanza.tag == RECIPIENT);
        if recipients.clone().count() != self.readers {
            self.miscounted.set(true);
            return None;
        }
        let own = recipients.nth(self.position).and_then(|stanza| self.unwrap_stanza(stanza));
        // The order is the writer's duty; a writer who broke it costs time, not access.
        own.or_else(|| self.identity.unwrap_stanzas(stanzas))
    }
}
