//! One version's blob as the log describes it: owned facts for opening it off the async threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use shared::blob::{self, Blob, Expected, Kind, Opened, Place};
use shared::error::{Code, Error};
use shared::hash::Hash;
use shared::path::SecretPath;
use shared::signed::VaultId;

use super::types::Content;
use crate::state::retained::Retained;
use machine::identity::MachineKeys;

/// What is due at a place in the log.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) path: SecretPath,
    pub(super) ver: u64,
    pub(super) blob: Hash,
    /// Whether it is the path's newest version, whose ciphertext is kept.
    pub(super) newest: bool,
    pub(super) vault: VaultId,
    pub(super) size: u64,
    pub(super) commit: Hash,
    /// Number of readers and this machine's place; unknown for a version that this machine could
    /// not read when it was written, or whose readers changed within the entry that brought it.
    pub(super) readers: Option<(usize, usize)>,
}

impl Due {
    /// Returns what opening the blob needs once the log has dropped the version.
    pub(super) fn retained(&self, blob: Blob) -> Retained {
        let bytes = blob.into_bytes();
        let readers = self.readers.unwrap_or_else(|| (blob::stanzas(&bytes), 0));
        Retained { hash: self.blob, promise: self.commit, readers, bytes }
    }

    /// Returns how many readers the blob was made for.
    pub(super) fn readers_of(&self, blob: &Blob) -> usize {
        self.readers.map_or_else(|| blob::stanzas(blob.bytes()), |(readers, _)| readers)
    }

    /// Returns the same of a blob with that content for this machine alone.
    pub(super) fn given(&self, blob: &Blob) -> Self {
        let (size, readers) = (blob.bytes().len() as u64, Some((1, 0)));
        Self { blob: blob.id(), size, readers, ..self.clone() }
    }

    /// Checks and opens the blob.
    pub(super) fn open(&self, keys: &MachineKeys, blob: &Blob) -> Result<Opened, Error> {
        let readers = self.readers.unwrap_or_else(|| (self.readers_of(blob), 0));
        blob::open(&keys.age, &self.expected(readers), blob)
    }

    /// Checks and opens the blob and returns its content for sharing.
    pub(super) fn content(&self, keys: &MachineKeys, blob: &Blob) -> Result<Content, Error> {
        let opened = self.open(keys, blob).map_err(|error| self.refusal(error));
        let Opened { kind, content, .. } = opened?;
        if kind == Kind::Kv && !is_object(content.expose()) {
            let detail = format!("version {} of `{}` is no JSON object", self.ver, self.path);
            return Err(Code::BlobContext.because(detail));
        }
        Ok(Content { ver: self.ver, kind, bytes: Arc::new(content) })
    }

    /// Tells why a blob has not opened: an older version that was written for others is none of
    /// this machine's.
    pub(super) fn refusal(&self, error: Error) -> Error {
        let is_others = !self.newest && self.readers.is_none() && error.code == Code::BlobOpen;
        if is_others { Code::NotAReader.because(error.detail) } else { error }
    }

    /// Checks size and hash, before the bytes are kept.
    pub(super) fn check(&self, blob: &Blob) -> Result<(), Error> {
        self.expected(self.readers.unwrap_or_default()).check(blob)
    }

    fn expected(&self, (readers, position): (usize, usize)) -> Expected<'_> {
        let place = Place { vault: &self.vault, path: &self.path, ver: self.ver };
        let (blob, size, commit) = (self.blob, self.size, self.commit);
        Expected { place, blob, size, commit, readers, position }
    }
}

/// Tells whether content is a JSON object: the local API copies it into its answers as it is, so
/// its writer must not be able to end the object and go on.
pub(super) fn is_object(content: &[u8]) -> bool {
    let text = std::str::from_utf8(content).unwrap_or_default();
    serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kv_content_is_one_object() {
        for good in ["{}", r#"{"a":{"b":[1e9,"\u0000"]}}"#, " {\n} "] {
            assert!(is_object(good.as_bytes()), "{good}");
        }
        for bad in ["", "[]", "1", r#"{"a":1},"metadata":{}"#, "{} {}", r#"{"a":}"#, "{1:2}"] {
            assert!(!is_object(bad.as_bytes()), "{bad}");
        }
        assert!(!is_object(b"{\"a\":\"\xff\"}"));
    }
}
