//! The header of an age file, of which a reader needs one stanza: the others are counted and authenticated, not parsed, so
//! that a thousand readers cost little more than three. What is not found this way is left to age's own parser.

use age::x25519;
use age_core::format::{FileKey, Stanza, read};
use age_core::primitives::hkdf;
use age_core::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use hmac::{Hmac, Mac as _};
use memchr::memmem;
use sha2::Sha256;

/// The first line.
const VERSION: &[u8] = b"age-encryption.org/v1\n";
/// What a stanza starts with, and the end of the line before.
const STANZA: &[u8] = b"\n-> ";
/// What the last line starts with, and the end of the line before.
const END: &[u8] = b"\n--- ";
/// Tag of the stanzas that count as recipients; age adds one of a random tag ("grease").
pub(super) const TAG: &str = "X25519";
/// What the key that authenticates the header is derived for.
const MAC_LABEL: &[u8] = b"header";

/// An age file, taken apart.
pub(super) struct File<'a> {
    /// All lines up to the last one's `---`: what is authenticated.
    lines: &'a [u8],
    /// The authenticator, in base64.
    mac: &'a [u8],
    /// What follows the header.
    pub(super) payload: &'a [u8],
}

impl<'a> File<'a> {
    /// Takes a file apart; `None` if it does not look like one.
    pub(super) fn split(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.starts_with(VERSION).then(|| memmem::find(bytes, END))??;
        let (lines, rest) = bytes.split_at(end + END.len() - 1);
        let rest = rest.get(1..)?;
        let (mac, payload) = rest.split_at(memchr::memchr(b'\n', rest)?);
        Some(Self { lines, mac, payload: payload.get(1..)? })
    }

    /// Returns where the recipients' stanzas start, in their order.
    pub(super) fn recipients(&self) -> impl Iterator<Item = usize> {
        let starts = memmem::find_iter(self.lines, STANZA).map(|at| at + 1);
        starts.filter(|at| {
            let tag = self.lines[at + STANZA.len() - 1..].strip_prefix(TAG.as_bytes());
            tag.and_then(<[u8]>::first).is_some_and(u8::is_ascii_whitespace)
        })
    }

    /// Opens the stanza at `start` and proves the whole header with what is in it: returns a header with this stanza alone,
    /// and the file's key. `None` if the stanza is somebody else's or the header is not as it was written.
    pub(super) fn alone(&self, start: usize, me: &x25519::Identity) -> Option<(Vec<u8>, FileKey)> {
        let rest = &self.lines[start..];
        let end = memmem::find(rest, STANZA).unwrap_or(rest.len() - (END.len() - 1));
        let stanza = &rest[..end + 1];
        let (_, parsed) = read::age_stanza(rest).ok()?;
        let key = age::Identity::unwrap_stanza(me, &Stanza::from(parsed))?.ok()?;
        authenticator(&key, self.lines)?.verify_slice(&BASE64.decode(self.mac).ok()?).ok()?;
        let mut alone = [VERSION, stanza, &END[1..END.len() - 1]].concat();
        let mac = authenticator(&key, &alone)?.finalize().into_bytes();
        alone.extend_from_slice(format!(" {}\n", BASE64.encode(mac)).as_bytes());
        Some((alone, key))
    }
}

fn authenticator(key: &FileKey, lines: &[u8]) -> Option<Hmac<Sha256>> {
    let key = hkdf(&[], MAC_LABEL, key.expose_secret());
    let mut mac = Hmac::new_from_slice(&key).ok()?;
    mac.update(lines);
    Some(mac)
}
