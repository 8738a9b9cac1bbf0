//! The only place that signs and verifies: DSSE pre-authentication encoding over the bytes that
//! are stored and served (design/trust, *Signatures*). Which keys count is decided elsewhere.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Result};
use crate::hash::Hash;
use crate::keys::{SignKey, Signature, VerifyKey};
use crate::name::Actor;

/// The hash of a vault's genesis; part of every later signature's type.
pub type VaultId = Hash;

/// What a signature is for. The type string is never transmitted: each side supplies it from its
/// own pinned vault id, so a signature from another vault or for another purpose fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `vault-genesis/v1`.
    Genesis,
    /// `vault-entry/v1 <vault id>`.
    Entry(VaultId),
    /// `vault-machine/v1`: made before the machine knows its vault.
    Machine,
    /// `vault-head/v1 <vault id>`.
    Head(VaultId),
    /// `vault-seen/v1 <vault id>`.
    Seen(VaultId),
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genesis => f.write_str("vault-genesis/v1"),
            Self::Entry(vault) => write!(f, "vault-entry/v1 {vault}"),
            Self::Machine => f.write_str("vault-machine/v1"),
            Self::Head(vault) => write!(f, "vault-head/v1 {vault}"),
            Self::Seen(vault) => write!(f, "vault-seen/v1 {vault}"),
        }
    }
}

/// Encodes `"DSSEv1" SP len(type) SP type SP len(body) SP body` (DSSE protocol, *PAE*).
pub fn pae(purpose: Purpose, body: &[u8]) -> Vec<u8> {
    let kind = purpose.to_string();
    let mut encoded = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).into_bytes();
    encoded.extend_from_slice(body);
    encoded
}

/// A signed record as stored and served: the body's very bytes, never rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Who says to have signed; the body repeats it.
    pub by: Actor,
    /// Strict JSON; base64 in the envelope's own.
    #[serde(with = "base64_text")]
    pub body: Vec<u8>,
    /// Over the body's pre-authentication encoding.
    pub sig: Signature,
}

impl Envelope {
    /// Writes `record` as JSON and signs it.
    ///
    /// # Errors
    /// `E_PARSE` if the record cannot be written as JSON.
    pub fn sign<T: Serialize>(
        key: &SignKey,
        by: Actor,
        purpose: Purpose,
        record: &T,
    ) -> Result<Self> {
        let body =
            serde_json::to_vec(record).map_err(|why| Code::Parse.because(why.to_string()))?;
        Ok(Self::sign_body(key, by, purpose, body))
    }

    /// Signs a body that was written before, e.g. one an admin has been shown.
    pub fn sign_body(key: &SignKey, by: Actor, purpose: Purpose, body: Vec<u8>) -> Self {
        let sig = sign_detached(key, purpose, &body);
        Self { by, body, sig }
    }

    /// Verifies the signature strictly.
    ///
    /// # Errors
    /// `E_BADSIG`.
    pub fn verify(&self, key: &VerifyKey, purpose: Purpose) -> Result<()> {
        if verifies(key, purpose, &self.body, &self.sig) {
            Ok(())
        } else {
            Err(Code::BadSig.because(format!("signature of `{}`", self.by)))
        }
    }

    /// Parses the body strictly: it must be exactly what this program would write for the value.
    ///
    /// # Errors
    /// `E_PARSE`.
    pub fn parse<T: DeserializeOwned + Serialize>(&self) -> Result<T> {
        parse_strict(&self.body)
    }

    /// Refuses a body of more than `most` bytes; `noun` says what the body is.
    ///
    /// # Errors
    /// `E_LIMITS`.
    pub fn check_size(&self, most: usize, noun: &str) -> Result<()> {
        let size = self.body.len();
        if size <= most {
            return Ok(());
        }
        Err(Code::Limits.because(format!("{noun} of {size} bytes")))
    }

    /// Hashes the body's pre-authentication encoding.
    pub fn hash(&self, purpose: Purpose) -> Hash {
        Hash::of(&[&pae(purpose, &self.body)])
    }
}

/// Signs bytes that travel apart from their signature.
#[must_use]
pub(crate) fn sign_detached(key: &SignKey, purpose: Purpose, body: &[u8]) -> Signature {
    Signature(key.sign(&pae(purpose, body)))
}

/// Verifies what [`sign_detached`] made.
pub(crate) fn verifies(key: &VerifyKey, purpose: Purpose, body: &[u8], sig: &Signature) -> bool {
    key.verifies(&pae(purpose, body), sig.as_bytes())
}

/// Parses JSON that must be byte for byte what serde writes for the value: no white space, no
/// unknown, missing, repeated or reordered field, no other spelling of a number or a string.
///
/// # Errors
/// `E_PARSE`.
pub fn parse_strict<T: DeserializeOwned + Serialize>(body: &[u8]) -> Result<T> {
    let parsed: T =
        serde_json::from_slice(body).map_err(|why| Code::Parse.because(why.to_string()))?;
    let rewritten =
        serde_json::to_vec(&parsed).map_err(|why| Code::Parse.because(why.to_string()))?;
    if rewritten == body {
        Ok(parsed)
    } else {
        Err(Code::Parse.because("body is not in canonical form"))
    }
}

/// Bytes as base64, for serde.
pub(crate) mod base64_text {
    use std::fmt;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_str(Base64)
    }

    /// Reads the text where it stands: a large one is in memory once.
    struct Base64;

    impl Visitor<'_> for Base64 {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("base64")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            BASE64_STANDARD.decode(text).map_err(E::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pae_is_the_published_encoding() {
        let vault = Hash::ZERO;
        assert_eq!(
            pae(Purpose::Genesis, b"hello world"),
            b"DSSEv1 16 vault-genesis/v1 11 hello world"
        );
        let entry = pae(Purpose::Entry(vault), b"");
        assert_eq!(entry, format!("DSSEv1 79 vault-entry/v1 {vault} 0 ").as_bytes());
    }

    #[test]
    fn another_vault_or_purpose_does_not_verify() {
        let key = SignKey::generate();
        let (ours, theirs) = (Hash::of(&[b"a"]), Hash::of(&[b"b"]));
        let envelope = Envelope::sign(&key, Actor::Root, Purpose::Entry(ours), &1).unwrap();
        envelope.verify(&key.verify_key(), Purpose::Entry(ours)).unwrap();
        for wrong in [Purpose::Entry(theirs), Purpose::Seen(ours), Purpose::Genesis] {
            let fault = envelope.verify(&key.verify_key(), wrong).unwrap_err();
            assert_eq!(fault.code, Code::BadSig);
        }
    }

    #[test]
    fn parsing_takes_one_spelling_only() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Pair {
            a: u64,
            b: String,
        }
        assert_eq!(parse_strict::<Pair>(br#"{"a":1,"b":"x"}"#).unwrap().a, 1);
        for bad in [
            r#"[1,"x"]"#,
            r#"{"b":"x","a":1}"#,
            r#"{"a":1, "b":"x"}"#,
            r#"{"a":1,"b":"x","c":0}"#,
            r#"{"a":1,"a":1,"b":"x"}"#,
            r#"{"a":1,"b":"\u0078"}"#,
            r#"{"a":1.0,"b":"x"}"#,
            r#"{"a":1}"#,
            "{\"a\":1,\"b\":\"x\"}\n",
        ] {
            assert_eq!(
                parse_strict::<Pair>(bad.as_bytes()).unwrap_err().code,
                Code::Parse,
                "{bad}"
            );
        }
    }
}
