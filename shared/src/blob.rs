//! Sealing and opening one version of a secret: an age file whose payload names its own place in
//! the log and commits to its content (design/trust, *Records*, blob). Keys live in `keys`.

mod header;
mod reader;

use std::fmt::Display;
use std::io::{Read as _, Write as _};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};
use crate::hash::Hash;
use crate::keys::{Identity, Recipient, random};
use crate::limits;
use crate::path::SecretPath;
use crate::plaintext::Plaintext;
use crate::signed::{VaultId, parse_strict};

use header::WholeHeader;
use reader::Reader;

const MAGIC: &[u8] = b"vault-payload/v1\n";
const COMMIT: &[u8] = b"vault-commit/v1";
const NONCE: usize = 32;
/// The payload is padded to a multiple of this.
const STEP: usize = 512;

/// Where a blob belongs; it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The vault.
    pub vault: &'a VaultId,
    /// The secret.
    pub path: &'a SecretPath,
    /// The version.
    pub ver: u64,
}

/// What the content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A JSON object, as KV v2 allows.
    Kv,
    /// Bytes.
    Raw,
}

/// A blob ready to be put into the log.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The age file.
    pub bytes: Vec<u8>,
    /// Its SHA-256.
    pub id: Hash,
    /// Commitment to nonce and content.
    pub commit: Hash,
}

/// An age file and its SHA-256, which is computed once: what was compared with the log on its way
/// in is not hashed again to be opened.
#[derive(Clone, Debug)]
pub struct Blob {
    bytes: Vec<u8>,
    id: Hash,
}

/// An opened blob.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What the content is.
    pub kind: Kind,
    /// The content.
    pub content: Plaintext,
    nonce: Zeroizing<[u8; NONCE]>,
}

/// What the log says of a blob, which the blob must match.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its place.
    pub place: Place<'a>,
    /// SHA-256 of the age file.
    pub blob: Hash,
    /// Bytes of the age file.
    pub size: u64,
    /// Commitment to nonce and content.
    pub commit: Hash,
    /// Number of readers, recovery included.
    pub readers: usize,
    /// This reader's place among them, from 0: its stanza is tried first, so that opening takes
    /// one curve operation for three readers and for a thousand.
    pub position: usize,
}

#[derive(Serialize, Deserialize)]
struct Header {
    vault: VaultId,
    path: SecretPath,
    ver: u64,
    kind: Kind,
    len: u64,
}

/// Encrypts `content` to `recipients`, in the order of [`crate::log::readers`].
///
/// # Errors
/// `E_LIMITS` for content over 768 KiB or an age file over 1 MiB; `E_KEY` for an unusable
/// recipient.
pub fn seal(
    place: Place<'_>,
    kind: Kind,
    content: &[u8],
    recipients: &[Recipient],
) -> Result<Sealed> {
    seal_with(place, kind, content, &random(), recipients)
}

/// Encrypts opened content to other `recipients`, with the same commitment.
pub fn reseal(place: Place<'_>, opened: &Opened, recipients: &[Recipient]) -> Result<Sealed> {
    seal_with(place, opened.kind, opened.content.expose(), &opened.nonce, recipients)
}

/// Computes the commitment to a nonce and a content.
pub fn commit(nonce: &[u8; NONCE], content: &[u8]) -> Hash {
    Hash::of(&[COMMIT, nonce, content])
}

fn seal_with(
    place: Place<'_>,
    kind: Kind,
    content: &[u8],
    nonce: &[u8; NONCE],
    recipients: &[Recipient],
) -> Result<Sealed> {
    let (size, path) = (content.len(), place.path);
    if size > limits::CONTENT {
        let why = format!("content of {size} bytes for `{path}`, 768 KiB at most");
        return Err(Code::Limits.because(why));
    }
    let payload = payload(place, kind, content, nonce)?;
    let recipients: Vec<age::x25519::Recipient> =
        recipients.iter().map(Recipient::to_age).collect::<Result<_>>()?;
    let refuse = |why: &dyn Display| Code::Key.because(format!("encrypting `{path}`: {why}"));
    let encryptor =
        age::Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient))
            .map_err(|why| refuse(&why))?;
    let mut bytes = Vec::with_capacity(payload.len() + 160 * recipients.len() + 1024);
    let mut writer = encryptor.wrap_output(&mut bytes).map_err(|why| refuse(&why))?;
    writer.write_all(&payload).and_then(|()| writer.finish()).map_err(|why| refuse(&why))?;
    if bytes.len() > limits::BLOB {
        let why = format!("blob of {} bytes for `{path}`", bytes.len());
        return Err(Code::Limits.because(why));
    }
    Ok(Sealed { id: Hash::of(&[&bytes]), commit: commit(nonce, content), bytes })
}

/// Lays out `magic | u32be len(header) | header | nonce | content | zeros`.
fn payload(
    place: Place<'_>,
    kind: Kind,
    content: &[u8],
    nonce: &[u8; NONCE],
) -> Result<Zeroizing<Vec<u8>>> {
    let header = header(place, kind, content.len())?;
    let length = u32::try_from(header.len()).map_err(|_| Code::Limits.because("payload header"))?;
    let used = MAGIC.len() + 4 + header.len() + NONCE + content.len();
    // One allocation of the final size: growing would leave copies of the content behind.
    let mut payload = Zeroizing::new(Vec::with_capacity(used.next_multiple_of(STEP)));
    payload.extend_from_slice(MAGIC);
    payload.extend_from_slice(&length.to_be_bytes());
    payload.extend_from_slice(&header);
    payload.extend_from_slice(nonce);
    payload.extend_from_slice(content);
    payload.resize(used.next_multiple_of(STEP), 0);
    Ok(payload)
}

fn header(place: Place<'_>, kind: Kind, len: usize) -> Result<Vec<u8>> {
    let header = Header {
        vault: *place.vault,
        path: place.path.clone(),
        ver: place.ver,
        kind,
        len: len as u64,
    };
    serde_json::to_vec(&header).map_err(|why| Code::Parse.because(why.to_string()))
}

impl Blob {
    /// Hashes an age file.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { id: Hash::of(&[&bytes]), bytes }
    }

    /// Returns its SHA-256.
    pub const fn id(&self) -> Hash {
        self.id
    }

    /// Returns the age file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the age file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Opens a blob if it is the one in the log, with every check of age's own.
///
/// # Errors
/// `E_BLOB_SIZE`, `E_BLOB_HASH`, `E_BLOB_STANZAS`, `E_BLOB_OPEN`, `E_BLOB_CONTEXT`,
/// `E_BLOB_COMMIT`, `E_BLOB_PADDING`.
pub fn open(identity: &Identity, expected: &Expected<'_>, blob: &Blob) -> Result<Opened> {
    let fault = |code: Code| expected.fault(code);
    expected.check(blob)?;
    let reader = Reader::new(identity.as_age(), expected.readers, expected.position);
    let payload = decrypt(&reader, &blob.bytes).ok_or_else(|| fault(reader.refusal()))?;
    let opened = read_payload(expected.place, &payload).map_err(fault)?;
    if commit(&opened.nonce, opened.content.expose()) != expected.commit {
        return Err(fault(Code::BlobCommit));
    }
    Ok(opened)
}

impl Expected<'_> {
    /// Tells whether a blob is the one in the log.
    ///
    /// # Errors
    /// `E_BLOB_SIZE`, `E_BLOB_HASH`.
    pub fn check(&self, blob: &Blob) -> Result<()> {
        if blob.bytes.len() as u64 != self.size || blob.bytes.len() > limits::BLOB {
            return Err(self.fault(Code::BlobSize));
        }
        if blob.id != self.blob { Err(self.fault(Code::BlobHash)) } else { Ok(()) }
    }

    fn fault(&self, code: Code) -> Error {
        code.because(format!("version {} of `{}`", self.place.ver, self.place.path))
    }
}

fn decrypt(reader: &Reader<'_>, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let decryptor = age::Decryptor::new_buffered(WholeHeader(bytes)).ok()?;
    let reader: &dyn age::Identity = reader;
    let mut stream = decryptor.decrypt(std::iter::once(reader)).ok()?;
    let mut payload = Zeroizing::new(Vec::with_capacity(bytes.len()));
    stream.read_to_end(&mut payload).ok()?;
    Some(payload)
}

/// Takes a payload apart; its header must be, byte for byte, the one due at `place`.
fn read_payload(place: Place<'_>, payload: &[u8]) -> std::result::Result<Opened, Code> {
    let rest = payload.strip_prefix(MAGIC).ok_or(Code::BlobContext)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(Code::BlobContext)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Code::BlobContext)?;
    let (found, rest) = rest.split_at_checked(length).ok_or(Code::BlobContext)?;
    let Header { kind, len, .. } = parse_strict(found).map_err(|_| Code::BlobContext)?;
    let len = usize::try_from(len).map_err(|_| Code::BlobContext)?;
    if header(place, kind, len).map_err(|_| Code::BlobContext)? != found {
        return Err(Code::BlobContext);
    }
    let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(Code::BlobPadding)?;
    let (content, padding) = rest.split_at_checked(len).ok_or(Code::BlobPadding)?;
    if !payload.len().is_multiple_of(STEP)
        || padding.len() >= STEP
        || padding.iter().any(|b| *b != 0)
    {
        return Err(Code::BlobPadding);
    }
    Ok(Opened { kind, content: Plaintext::from(content), nonce: Zeroizing::new(*nonce) })
}

/// Counts the X25519 stanzas of an age file's header: how many it is encrypted to.
pub fn stanzas(bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .take_while(|line| !line.starts_with(b"---"))
        .filter(|line| line.starts_with(b"-> X25519 "))
        .count()
}

/// Tells whether `bytes` start as a binary age v1 file does: all a server can check.
pub fn looks_like_age(bytes: &[u8]) -> bool {
    bytes.starts_with(b"age-encryption.org/v1\n-> ")
}
