//! Encryption and signing keys: making, parsing, refusing weak ones. What is signed lives in
//! `signed`.

use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret as _;
use ed25519_dalek::Signer as _;
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};
use crate::hash::unhex;
use crate::text::{clip, text_serde};

const RECIPIENT_HRP: bech32::Hrp = bech32::Hrp::parse_unchecked("age");

/// An Ed25519 public key: 64 lower-case hex digits; canonical and not of small order.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey(ed25519_dalek::VerifyingKey);

impl VerifyKey {
    /// Parses 32 bytes.
    ///
    /// # Errors
    /// `E_KEY` for bytes that are no curve point, not canonical, or of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let refuse = |why| Code::Key.because(format!("signing key {why}"));
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .map_err(|_| refuse("is not a curve point"))?;
        if key.is_weak() {
            return Err(refuse("is weak"));
        }
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(refuse("is not canonical"));
        }
        Ok(Self(key))
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies strictly: canonical `s`, no small-order points (RFC 8032, section 5.1.7, and
    /// stricter).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl FromStr for VerifyKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = unhex(text)
            .ok_or_else(|| Code::Key.because("signing key is not 64 lower-case hex digits"))?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(self.as_bytes()))
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyKey({:.8}…)", self.to_string())
    }
}

/// An Ed25519 secret key; also the machine's TLS key.
pub struct SignKey(ed25519_dalek::SigningKey);

impl SignKey {
    /// Makes a key from the operating system's randomness.
    pub fn generate() -> Self {
        Self(ed25519_dalek::SigningKey::generate(&mut OsRng))
    }

    /// Rebuilds the key from its 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Parses the hex form that [`SignKey::to_text`] writes; white space around it is ignored.
    ///
    /// # Errors
    /// `E_KEY` for anything but 64 lower-case hex digits.
    pub fn from_text(text: &str) -> Result<Self> {
        let seed = unhex(text.trim()).ok_or_else(|| {
            Code::Key.because("secret signing key is not 64 lower-case hex digits")
        })?;
        Ok(Self::from_seed(&Zeroizing::new(seed)))
    }

    /// Returns the seed as 64 hex digits, for key files.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(base16ct::lower::encode_string(self.seed().as_ref()))
    }

    /// Returns the seed.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Returns the public half.
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.0.verifying_key())
    }

    /// Signs `message`; records are signed through [`crate::signed`] only.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignKey(..)")
    }
}

/// An age X25519 public key, `age1…`: canonical, contributory, printing back equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// `E_KEY` for a non-canonical coordinate or a point of low order: encrypting to either would
    /// fail, and with it every later write to each path that the holder may read.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self> {
        if !is_canonical(&bytes) {
            return Err(Code::Key.because("recipient is not canonical"));
        }
        let probe = StaticSecret::from([9; 32]).diffie_hellman(&PublicKey::from(bytes));
        if !probe.was_contributory() {
            return Err(Code::Key.because("recipient is of low order"));
        }
        Ok(Self(bytes))
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns age's own type.
    ///
    /// # Errors
    /// `E_KEY` if age refuses what this type accepted.
    pub(crate) fn to_age(&self) -> Result<age::x25519::Recipient> {
        self.to_string().parse().map_err(|why: &str| Code::Key.because(format!("recipient: {why}")))
    }
}

/// Tells whether `bytes` is below 2^255 - 19 (RFC 7748, section 5).
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    let at_least_p = *high == 0x7f && middle.iter().all(|b| *b == 0xff) && *low >= 0xed;
    *high < 0x80 && !at_least_p
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| Code::Key.because(format!("recipient `{}` {why}", clip(text)));
        let (hrp, bytes) = bech32::decode(text).map_err(|_| refuse("is not Bech32"))?;
        if hrp != RECIPIENT_HRP {
            return Err(refuse("does not start with `age1`"));
        }
        let bytes = bytes.try_into().map_err(|_| refuse("does not hold 32 bytes"))?;
        let recipient = Self::from_bytes(bytes)?;
        if recipient.to_string() != text {
            return Err(refuse("does not print back equal"));
        }
        Ok(recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<bech32::Bech32, _>(f, RECIPIENT_HRP, &self.0)
            .map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({:.12}…)", self.to_string())
    }
}

/// An age X25519 secret key, `AGE-SECRET-KEY-1…`.
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// Makes a key from the operating system's randomness.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Parses `AGE-SECRET-KEY-1…`; white space around it is ignored.
    ///
    /// # Errors
    /// `E_KEY` for anything else.
    pub fn from_text(text: &str) -> Result<Self> {
        let identity = text.trim().parse();
        Ok(Self(identity.map_err(|why| Code::Key.because(format!("decryption key: {why}")))?))
    }

    /// Returns `AGE-SECRET-KEY-1…`, for key files and the kit.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// Returns the public half.
    ///
    /// # Panics
    /// Never: a key made from a clamped scalar is canonical and contributory.
    pub fn recipient(&self) -> Recipient {
        self.0.to_public().to_string().parse().expect("a derived recipient is valid")
    }

    pub(crate) const fn as_age(&self) -> &age::x25519::Identity {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// Returns `N` random bytes.
pub fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    OsRng.fill_bytes(bytes.as_mut());
    bytes
}

/// An Ed25519 signature: 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub(crate) [u8; 64]);

impl Signature {
    /// Wraps 64 bytes; they are judged when verified.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Returns the 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || Code::Parse.because("a signature is not 128 lower-case hex digits");
        unhex(text).map(Self).ok_or_else(malformed)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:.8}…)", self.to_string())
    }
}

text_serde!(VerifyKey, Recipient, Signature);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_as_their_name_only() {
        assert_eq!(format!("{:?}", SignKey::generate()), "SignKey(..)");
        assert_eq!(format!("{:?}", Identity::generate()), "Identity(..)");
    }

    #[test]
    fn keys_read_back() {
        let sign = SignKey::generate();
        assert_eq!(SignKey::from_text(&sign.to_text()).unwrap().verify_key(), sign.verify_key());
        let identity = Identity::generate();
        let again = Identity::from_text(&identity.to_text()).unwrap();
        assert_eq!(again.recipient(), identity.recipient());
        let text = identity.recipient().to_string();
        assert_eq!(text.parse::<Recipient>().unwrap().to_string(), text);
        assert!(text.to_uppercase().parse::<Recipient>().is_err());
    }

    #[test]
    fn weak_signing_keys_are_refused() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        for weak in [[0; 32], identity_point, [0xff; 32]] {
            assert_eq!(VerifyKey::from_bytes(&weak).unwrap_err().code, Code::Key);
        }
    }

    #[test]
    fn low_order_and_non_canonical_recipients_are_refused() {
        let one = {
            let mut b = [0; 32];
            b[0] = 1;
            b
        };
        let p_minus_1 = {
            let mut b = [0xff; 32];
            b[0] = 0xec;
            b[31] = 0x7f;
            b
        };
        let p_plus_9 = {
            let mut b = [0xff; 32];
            b[0] = 0xf6;
            b[31] = 0x7f;
            b
        };
        let high_bit = {
            let mut b = [9; 32];
            b[31] = 0x89;
            b
        };
        for bad in [[0; 32], one, p_minus_1, p_plus_9, high_bit] {
            assert_eq!(Recipient::from_bytes(bad).unwrap_err().code, Code::Key);
        }
    }
}
