//! The JSON around every answer, spliced together without a tree: content that is JSON already is
//! copied as it is. Which status means what lives in `error`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use zeroize::Zeroizing;

/// An answer of any route.
pub(super) type Answer = Response<Body>;

/// Where an answer comes from, as newer Vaults say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A KV mount.
    Kv,
    /// `sys/`.
    System,
    /// `auth/token/`.
    Token,
    /// Nowhere in particular: as Vault says of every 404, and to who shows no token.
    Nobody,
}

impl Source {
    const fn tail(self) -> &'static str {
        match self {
            Self::Kv => "\"mount_type\":\"kv\"}\n",
            Self::System => "\"mount_type\":\"system\"}\n",
            Self::Token => "\"mount_type\":\"token\"}\n",
            Self::Nobody => "\"mount_type\":\"\"}\n",
        }
    }
}

/// Bytes of an envelope besides its data.
const AROUND: usize = 256;

/// Answers 200 with `data` as `write` writes it: about `size` bytes of JSON.
pub(super) fn data(source: Source, size: usize, write: impl FnOnce(&mut Vec<u8>)) -> Answer {
    data_with(StatusCode::OK, source, size, write)
}

/// As [`data`], with another status.
pub(super) fn data_with(
    status: StatusCode,
    source: Source,
    size: usize,
    write: impl FnOnce(&mut Vec<u8>),
) -> Answer {
    // Never grown: growing would leave copies of a secret behind.
    let mut out = Vec::with_capacity(size + AROUND);
    open(&mut out);
    out.extend_from_slice(b"\"data\":");
    write(&mut out);
    out.extend_from_slice(b",\"wrap_info\":null,\"warnings\":null,\"auth\":null,");
    out.extend_from_slice(source.tail().as_bytes());
    bare(status, out)
}

/// Answers 200 with serializable `data`.
pub(super) fn json(source: Source, value: &impl Serialize) -> Answer {
    let text = to_json(value);
    data(source, text.len(), |out| out.extend_from_slice(&text))
}

/// Answers 200 with `data`, whose members stand once more beside it, as Vault's `sys/` does.
pub(super) fn doubled(value: &serde_json::Map<String, serde_json::Value>) -> Answer {
    let text = to_json(value);
    let inner = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
    let mut out = Vec::with_capacity(2 * text.len() + AROUND);
    open(&mut out);
    if let Some(inner) = inner.filter(|inner| !inner.is_empty()) {
        out.extend_from_slice(inner);
        out.push(b',');
    }
    out.extend_from_slice(b"\"data\":");
    out.extend_from_slice(&text);
    out.extend_from_slice(b",\"wrap_info\":null,\"warnings\":null,\"auth\":null,");
    out.extend_from_slice(Source::System.tail().as_bytes());
    bare(StatusCode::OK, out)
}

/// Answers 200 with `auth` instead of data.
pub(super) fn auth(value: &impl Serialize) -> Answer {
    let text = to_json(value);
    let mut out = Vec::with_capacity(text.len() + AROUND);
    open(&mut out);
    out.extend_from_slice(b"\"data\":null,\"wrap_info\":null,\"warnings\":null,\"auth\":");
    out.extend_from_slice(&text);
    out.push(b',');
    out.extend_from_slice(Source::Token.tail().as_bytes());
    bare(StatusCode::OK, out)
}

/// Answers with a warning and no data.
pub(super) fn warning(status: StatusCode, source: Source, text: &str) -> Answer {
    let mut out = Vec::with_capacity(text.len() + AROUND);
    open(&mut out);
    out.extend_from_slice(b"\"data\":null,\"wrap_info\":null,\"warnings\":[");
    string(&mut out, text);
    out.extend_from_slice(b"],\"auth\":null,");
    out.extend_from_slice(source.tail().as_bytes());
    bare(status, out)
}

/// Answers `{"errors":[…]}`; without a text the list is empty.
pub(super) fn errors(status: StatusCode, text: Option<&str>) -> Answer {
    let mut out = b"{\"errors\":[".to_vec();
    if let Some(text) = text {
        string(&mut out, text);
    }
    out.extend_from_slice(b"]}\n");
    bare(status, out)
}

/// Answers `{"errors":[text],"warnings":[more]}`.
pub(super) fn error_with_warning(status: StatusCode, text: &str, more: &str) -> Answer {
    let mut out = b"{\"errors\":[".to_vec();
    string(&mut out, text);
    out.extend_from_slice(b"],\"warnings\":[");
    string(&mut out, more);
    out.extend_from_slice(b"]}\n");
    bare(status, out)
}

/// Answers with a body that has no envelope.
pub(super) fn plain(value: &impl Serialize) -> Answer {
    let mut out = to_json(value);
    out.push(b'\n');
    bare(StatusCode::OK, out)
}

/// Answers 204.
pub(super) fn no_content() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

/// Answers without body and content type.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Answers with the very bytes, which are wiped once they are sent.
pub(super) fn bare(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Body::from(Bytes::from_owner(Zeroizing::new(body))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    // Exactly this: hvac and litehex compare the whole value.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Writes a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Only maps with keys that are no text fail, and there are none.
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}

fn open(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"request_id\":\"");
    out.extend_from_slice(&request_id());
    out.extend_from_slice(b"\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":0,");
}

/// Makes a UUID that is unique, not secret: a counter, scrambled under a seed of this process.
fn request_id() -> [u8; 36] {
    static SEED: OnceLock<(u64, u64)> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (first, second) = *SEED.get_or_init(seed);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let high = scramble(first.wrapping_add(count));
    let low = scramble(second.wrapping_sub(count));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    uuid(bytes)
}

/// Prints 16 bytes as a UUID.
pub(super) fn uuid(bytes: [u8; 16]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

fn seed() -> (u64, u64) {
    let mut bytes = [0; 16];
    // Without randomness the ids are still unique within this process.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let number = u128::from_be_bytes(bytes);
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    (u64::try_from(number >> 64).unwrap_or_default(), low)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection, so ids do not repeat.
const fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_and_differ() {
        let first = String::from_utf8(request_id().to_vec()).unwrap();
        let second = String::from_utf8(request_id().to_vec()).unwrap();
        assert_ne!(first, second);
        let lengths: Vec<usize> = first.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&first[14..15], "4");
    }

    #[test]
    fn content_type_is_exact() {
        let answer = errors(StatusCode::NOT_FOUND, None);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(no_content().headers().get(header::CONTENT_TYPE), None);
    }
}
