//! Where the log ends, as the server signs it: two of its heads that differ prove a fork, and no
//! member can forge one (design/trust, *Records*, signed head).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::hash::Hash;
use crate::keys::{SignKey, Signature, VerifyKey};
use crate::signed::{Purpose, VaultId, sign_detached, verifies};

/// Where a log ends; signed under `vault-head/v1 <vault id>` as compact JSON in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Hash of the last entry that resumed, or the vault id.
    pub epoch: Hash,
    /// The last entry's position; 0 is the genesis.
    pub seq: u64,
    /// Its hash.
    pub head: Hash,
}

/// A head and the server's signature: vouches for the entry and for every one below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// As in [`Head`].
    pub epoch: Hash,
    /// As in [`Head`].
    pub seq: u64,
    /// As in [`Head`].
    pub head: Hash,
    /// By a listed key of the server.
    pub sig: Signature,
}

impl Head {
    /// Signs the head with the server's key.
    ///
    /// # Errors
    /// `E_PARSE` if the head cannot be written as JSON.
    pub fn sign(self, key: &SignKey, vault: VaultId) -> Result<SignedHead> {
        let sig = sign_detached(key, Purpose::Head(vault), &self.body()?);
        let Self { epoch, seq, head } = self;
        Ok(SignedHead { epoch, seq, head, sig })
    }

    fn body(self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self).map_err(|why| Code::Parse.because(why.to_string()))
    }
}

/// Writes `SEQ:HEAD:EPOCH`, as people pass it on.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, seq, head } = self;
        write!(f, "{seq}:{head}:{epoch}")
    }
}

impl FromStr for Head {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once(':').and_then(|(seq, hashes)| {
            let (head, epoch) = hashes.split_once(':')?;
            Some(Self {
                epoch: epoch.parse().ok()?,
                seq: seq.parse().ok()?,
                head: head.parse().ok()?,
            })
        });
        // One way to write each: no sign, no zeros in front.
        parsed.filter(|head| head.to_string() == text).ok_or_else(|| {
            Code::Token.because("a head is written as the alarm shows it, SEQ:HEAD:EPOCH")
        })
    }
}

impl SignedHead {
    /// Returns what is signed.
    pub const fn place(&self) -> Head {
        let Self { epoch, seq, head, .. } = *self;
        Head { epoch, seq, head }
    }

    /// Verifies the head: one of `keys` must have signed it.
    ///
    /// # Errors
    /// `E_BADSIG`.
    pub fn verify(&self, keys: &[VerifyKey], vault: VaultId) -> Result<()> {
        let body = self.place().body()?;
        if keys.iter().any(|key| verifies(key, Purpose::Head(vault), &body, &self.sig)) {
            return Ok(());
        }
        let (seq, head) = (self.seq, self.head.short());
        Err(Code::BadSig.because(format!("the server's signature of head {seq} {head}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_as_it_is_shown_and_no_other_way() {
        let (epoch, hash) = (Hash::of(&[b"e"]), Hash::of(&[b"h"]));
        let head = Head { epoch, seq: 7, head: hash };
        let text = head.to_string();
        assert_eq!(text, format!("7:{hash}:{epoch}"));
        assert_eq!(text.parse::<Head>().unwrap(), head);
        for bad in [
            String::new(),
            format!("7:{hash}"),
            format!("+7:{hash}:{epoch}"),
            format!("07:{hash}:{epoch}"),
            format!("7:{hash}:{epoch}:"),
            format!("7:{hash}:{}", &epoch.to_string()[1..]),
        ] {
            assert_eq!(bad.parse::<Head>().unwrap_err().code, Code::Token, "{bad}");
        }
    }

    #[test]
    fn a_head_verifies_as_it_was_signed_only() {
        let (key, other, vault) = (SignKey::generate(), SignKey::generate(), Hash::of(&[b"v"]));
        let head = Head { epoch: vault, seq: 7, head: Hash::of(&[b"h"]) };
        let signed = head.sign(&key, vault).unwrap();
        signed.verify(&[other.verify_key(), key.verify_key()], vault).unwrap();
        let refused = |signed: SignedHead, key: &SignKey, vault| {
            let fault = signed.verify(&[key.verify_key()], vault).unwrap_err();
            assert_eq!(fault.code, Code::BadSig);
        };
        refused(signed, &other, vault);
        refused(signed, &key, Hash::ZERO);
        refused(SignedHead { epoch: Hash::ZERO, ..signed }, &key, vault);
        refused(SignedHead { seq: 8, ..signed }, &key, vault);
        refused(SignedHead { head: Hash::ZERO, ..signed }, &key, vault);
    }
}
