//! Setup, machine, pin and admin lines: what people copy between terminals. A prefix, then
//! base64url of strict JSON and four bytes of its hash, so that a cut or mistyped line is noticed
//! at once.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::claim::Claim;
use crate::error::{Code, Error, Result};
use crate::hash::Hash;
use crate::keys::{Recipient, SignKey, Signature, VerifyKey};
use crate::limits;
use crate::log::Checkpoint;
use crate::name::Name;
use crate::signed::{VaultId, parse_strict};
use crate::words::Words;

const CHECK: usize = 4;

/// A line that people copy.
pub trait Line: Serialize + DeserializeOwned {
    /// What the line starts with, e.g. `VLTS1-`.
    const PREFIX: &'static str;
    /// What people call it, e.g. `setup line`.
    const NOUN: &'static str;

    /// Writes the line.
    ///
    /// # Errors
    /// `E_LIMITS` over 1 KiB.
    fn to_line(&self) -> Result<String> {
        let mut bytes =
            serde_json::to_vec(self).map_err(|why| Code::Token.because(why.to_string()))?;
        let check = checksum(Self::PREFIX, &bytes);
        bytes.extend_from_slice(&check);
        let line = format!("{}{}", Self::PREFIX, BASE64_URL_SAFE_NO_PAD.encode(bytes));
        if line.len() > limits::TOKEN {
            return Err(Code::Limits.because(format!("{} of {} bytes", Self::NOUN, line.len())));
        }
        Ok(line)
    }

    /// Reads the line; white space around it is ignored.
    ///
    /// # Errors
    /// `E_TOKEN` for another kind of line, a cut or mistyped one, or one with malformed fields;
    /// `E_BADSIG` if a machine's proof does not fit its keys.
    fn from_line(line: &str) -> Result<Self> {
        let line = line.trim();
        let refuse = |why: &str| Code::Token.because(format!("{} {why}", Self::NOUN));
        let rest = line
            .strip_prefix(Self::PREFIX)
            .ok_or_else(|| wrong_kind(Self::NOUN, Self::PREFIX, line))?;
        if line.len() > limits::TOKEN {
            return Err(refuse("is longer than 1 KiB"));
        }
        let bytes =
            BASE64_URL_SAFE_NO_PAD.decode(rest).map_err(|_| refuse("was cut or mistyped"))?;
        let (json, found) = bytes
            .len()
            .checked_sub(CHECK)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or_else(|| refuse("was cut"))?;
        if checksum(Self::PREFIX, json) != *found {
            return Err(refuse("was cut or mistyped"));
        }
        let parsed: Self = parse_strict(json)
            .map_err(|why| refuse(&format!("holds a bad field: {}", why.detail)))?;
        parsed.check()?;
        Ok(parsed)
    }

    /// Checks what the fields say together.
    ///
    /// # Errors
    /// The rule broken.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

fn checksum(prefix: &str, json: &[u8]) -> [u8; CHECK] {
    let hash = Hash::of(&[prefix.as_bytes(), json]);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

fn wrong_kind(noun: &str, prefix: &str, line: &str) -> Error {
    let known = [
        (SetupLine::PREFIX, "a setup line, for `vault init`"),
        (MachineLine::PREFIX, "a machine line, for `vault machine add`"),
        (PinLine::PREFIX, "a pin line, for `vault-agent join`"),
        (AdminLine::PREFIX, "an admin line, for `vault admin add`"),
    ];
    let is = known.iter().find(|(other, _)| line.starts_with(other));
    Code::Token.because(match is {
        Some((_, what)) => format!("{noun} expected, but this is {what}"),
        None => format!("{noun} does not start with `{prefix}`"),
    })
}

/// `VLTS1-…`, printed by `vault-server init`, used once by `vault init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupLine {
    /// Where the server listens, `host:port`, in the order to try.
    pub addresses: Vec<String>,
    /// Its TLS key.
    pub server: VerifyKey,
    /// One-time code that may post the genesis.
    pub claim: Hash,
}

impl Line for SetupLine {
    const PREFIX: &'static str = "VLTS1-";
    const NOUN: &'static str = "setup line";
}

/// `VLTM1-…`, printed by `vault-agent init`: public keys only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineLine {
    /// The name the machine wants.
    pub name: Name,
    /// Its encryption key.
    pub recipient: Recipient,
    /// Its signing and TLS key.
    pub sign: VerifyKey,
    /// [`Claim`] of the three, proved by the machine itself.
    pub proof: Signature,
}

impl MachineLine {
    /// Makes the line of the machine that holds the keys.
    ///
    /// # Errors
    /// `E_PARSE` if the claim cannot be written as JSON.
    pub fn new(name: Name, recipient: Recipient, key: &SignKey) -> Result<Self> {
        let sign = key.verify_key();
        let proof = Claim { name: &name, recipient: &recipient, sign: &sign }.prove(key)?;
        Ok(Self { name, recipient, sign, proof })
    }

    /// Returns the six words that the host of the machine shows, and the admin before signing: a
    /// line that was exchanged as a whole on the way has others.
    pub fn words(&self) -> Words {
        Words::of(&self.to_line().expect("name and keys are far below 1 KiB"))
    }
}

impl Line for MachineLine {
    const PREFIX: &'static str = "VLTM1-";
    const NOUN: &'static str = "machine line";

    fn check(&self) -> Result<()> {
        let Self { name, recipient, sign, proof } = self;
        Claim { name, recipient, sign }.verify(proof)
    }
}

/// `VLTP1-…`, printed by `vault machine add`: what the new machine pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinLine {
    /// Where the server listens, in the order to try.
    pub addresses: Vec<String>,
    /// Its TLS keys.
    pub server: Vec<VerifyKey>,
    /// The vault.
    pub vault: VaultId,
    /// The machine the line is for.
    pub name: Name,
    /// An entry of the log, and its hash, from which on the server has that key: for a machine that
    /// has slept through the change of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<(u64, Hash)>,
    /// What the machine may start from, by the word of who made the line: the newest checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

impl Line for PinLine {
    const PREFIX: &'static str = "VLTP1-";
    const NOUN: &'static str = "pin line";
}

/// `VLTA1-…`, printed by `vault admin add NAME` on the host of a new admin: a public key only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminLine {
    /// The name of the admin.
    pub name: Name,
    /// The vault that the key is for.
    pub vault: VaultId,
    /// What it signs is verified with this.
    pub key: VerifyKey,
}

impl AdminLine {
    /// Returns the six words that the new admin and the holder of the recovery kit compare.
    pub fn words(&self) -> Words {
        Words::of(&self.to_line().expect("a name and two keys are far below 1 KiB"))
    }
}

impl Line for AdminLine {
    const PREFIX: &'static str = "VLTA1-";
    const NOUN: &'static str = "admin line";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Identity;

    fn machine() -> MachineLine {
        let recipient = Identity::generate().recipient();
        MachineLine::new("vps".parse().unwrap(), recipient, &SignKey::generate()).unwrap()
    }

    #[test]
    fn lines_read_back() {
        let line = machine();
        let text = format!("  {}\n", line.to_line().unwrap());
        assert_eq!(MachineLine::from_line(&text).unwrap(), line);
    }

    #[test]
    fn every_cut_and_every_flip_is_noticed() {
        let text = machine().to_line().unwrap();
        for cut in 0..text.len() {
            assert_eq!(MachineLine::from_line(&text[..cut]).unwrap_err().code, Code::Token);
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(bytes).unwrap();
            if flipped != text {
                assert_eq!(MachineLine::from_line(&flipped).unwrap_err().code, Code::Token, "{at}");
            }
        }
    }

    #[test]
    fn a_key_exchanged_on_the_way_breaks_the_proof() {
        let (line, other) = (machine(), machine());
        let nas = "nas".parse().unwrap();
        for forged in [
            MachineLine { recipient: other.recipient.clone(), ..line.clone() },
            MachineLine { sign: other.sign.clone(), ..line.clone() },
            MachineLine { name: nas, ..line.clone() },
            MachineLine { proof: other.proof, ..line },
        ] {
            // Its checksum is right: somebody made it on purpose.
            let fault = MachineLine::from_line(&forged.to_line().unwrap()).unwrap_err();
            assert_eq!((fault.code, &*fault.detail), (Code::BadSig, &*proof_of(&forged.name)));
        }
    }

    fn proof_of(name: &Name) -> String {
        format!("proof of machine `{name}`")
    }

    #[test]
    fn a_line_exchanged_as_a_whole_has_other_words() {
        let (key, recipient) = (SignKey::generate(), Identity::generate().recipient());
        let name = || "vps".parse().unwrap();
        let line = MachineLine::new(name(), recipient, &key).unwrap();
        let pasted = MachineLine::from_line(&format!(" {}\n", line.to_line().unwrap())).unwrap();
        assert_eq!(pasted.words(), line.words());
        // All are sound lines: only the words tell.
        let other = Identity::generate().recipient();
        for exchanged in [
            machine(),
            MachineLine::new(name(), other, &key).unwrap(),
            MachineLine::new("nas".parse().unwrap(), line.recipient.clone(), &key).unwrap(),
        ] {
            let exchanged = MachineLine::from_line(&exchanged.to_line().unwrap()).unwrap();
            assert_ne!(exchanged.words(), line.words());
        }
    }

    #[test]
    fn an_admin_line_reads_back_and_another_key_has_other_words() {
        let line = |seed| AdminLine {
            name: "anna".parse().unwrap(),
            vault: Hash::of(&[b"vault"]),
            key: SignKey::from_seed(&[seed; 32]).verify_key(),
        };
        let text = line(1).to_line().unwrap();
        assert!(text.starts_with("VLTA1-"));
        assert_eq!(AdminLine::from_line(&text).unwrap(), line(1));
        assert_ne!(line(1).words(), line(2).words());
        let cut = AdminLine::from_line(&text[..text.len() - 1]).unwrap_err();
        assert_eq!(cut.detail, "admin line was cut or mistyped");
    }

    #[test]
    fn another_kind_of_line_is_named() {
        let fault = SetupLine::from_line(&machine().to_line().unwrap()).unwrap_err();
        assert_eq!(
            fault.detail,
            "setup line expected, but this is a machine line, for `vault machine add`"
        );
    }
}
