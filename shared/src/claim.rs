//! What a machine says of itself before it belongs to a vault: its name and keys, signed by its own
//! key, so that nobody can exchange one of them on the way (design/trust, *Records*).

use serde::Serialize;

use crate::error::{Code, Result};
use crate::keys::{Recipient, SignKey, Signature, VerifyKey};
use crate::name::Name;
use crate::signed::{Purpose, sign_detached, verifies};

/// Name and keys of a machine, signed under `vault-machine/v1` as compact JSON in this order.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Claim<'a> {
    /// The name the machine wants.
    pub name: &'a Name,
    /// Its encryption key.
    pub recipient: &'a Recipient,
    /// Its signing and TLS key.
    pub sign: &'a VerifyKey,
}

impl Claim<'_> {
    /// Proves the claim with the machine's own key.
    ///
    /// # Errors
    /// `E_PARSE` if the claim cannot be written as JSON.
    pub fn prove(&self, key: &SignKey) -> Result<Signature> {
        Ok(sign_detached(key, Purpose::Machine, &self.body()?))
    }

    /// Verifies a proof.
    ///
    /// # Errors
    /// `E_BADSIG`.
    pub fn verify(&self, proof: &Signature) -> Result<()> {
        if verifies(self.sign, Purpose::Machine, &self.body()?, proof) {
            return Ok(());
        }
        Err(Code::BadSig.because(format!("proof of machine `{}`", self.name)))
    }

    fn body(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|why| Code::Parse.because(why.to_string()))
    }
}
