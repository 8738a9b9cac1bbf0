//! The header of an age file, of which a reader needs one stanza: the others are counted, not parsed, so that opening costs
//! the same for a thousand readers as for three. The file's hash was compared with the signed one before, and what is not
//! found this way is left to age's own parser.

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
/// What a recipient's stanza starts with, and the end of the line before; age adds one of a random tag ("grease").
const RECIPIENT: &[u8] = b"\n-> X25519 ";
/// What the key that authenticates the header is derived for.
const MAC_LABEL: &[u8] = b"header";

/// An age file, taken apart.
pub(super) struct File<'a> {
    /// All lines but the last.
    lines: &'a [u8],
    /// What follows the header.
    pub(super) payload: &'a [u8],
}

impl<'a> File<'a> {
    /// Takes a file apart; `None` if it does not look like one.
    pub(super) fn split(bytes: &'a [u8]) -> Option<Self> {
        let end = bytes.starts_with(VERSION).then(|| memmem::find(bytes, END))??;
        let (lines, rest) = bytes.split_at(end + 1);
        let mac = memchr::memchr(b'\n', rest)?;
        Some(Self { lines, payload: &rest[mac + 1..] })
    }

    /// Returns the number of recipients, and where the stanza of the one at `position` starts.
    pub(super) fn recipients(&self, position: usize) -> (usize, Option<usize>) {
        let (mut count, mut own) = (0, None);
        for before in memmem::find_iter(self.lines, RECIPIENT) {
            if count == position {
                own = Some(before + 1);
            }
            count += 1;
        }
        (count, own)
    }

    /// Opens the stanza at `start`: returns a header with this stanza alone, and the file's key. `None` if the stanza is
    /// somebody else's.
    pub(super) fn alone(&self, start: usize, me: &x25519::Identity) -> Option<(Vec<u8>, FileKey)> {
        let rest = &self.lines[start..];
        let end = memmem::find(rest, STANZA).map_or(rest.len(), |before| before + 1);
        let (_, parsed) = read::age_stanza(&rest[..end]).ok()?;
        let key = age::Identity::unwrap_stanza(me, &Stanza::from(parsed))?.ok()?;
        let mut alone = [VERSION, &rest[..end], &END[1..END.len() - 1]].concat();
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
