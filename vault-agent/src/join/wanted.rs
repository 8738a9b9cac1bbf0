//! The vault that a host is to join, as a person names it: by twelve words, or by its whole id.

use std::str::FromStr;

use shared::error::Error;
use shared::signed::VaultId;
use shared::words::VaultWords;

/// A vault, as it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// By its id.
    Id(VaultId),
    /// By the words that the first bits of its id stand for.
    Words(VaultWords),
}

impl Wanted {
    /// Tells whether it is this one.
    pub(super) fn is(&self, vault: &VaultId) -> bool {
        match self {
            Self::Id(id) => id == vault,
            Self::Words(words) => VaultWords::of(vault) == *words,
        }
    }

    /// Returns the words, as the server is told them.
    pub(super) fn words(&self) -> VaultWords {
        match self {
            Self::Id(id) => VaultWords::of(id),
            Self::Words(words) => *words,
        }
    }
}

impl FromStr for Wanted {
    type Err = Error;

    /// Reads 64 hex digits or twelve words.
    ///
    /// # Errors
    /// `E_TOKEN`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim().parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Words),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::hash::Hash;

    use super::*;

    #[test]
    fn a_whole_id_is_compared_whole() {
        let id = Hash::of(&[b"vault"]);
        let mut bytes = *id.as_bytes();
        bytes[31] ^= 1;
        let twin = Hash::from_bytes(bytes);
        let (whole, words): (Wanted, Wanted) =
            (id.to_string().parse().unwrap(), VaultWords::of(&id).to_string().parse().unwrap());
        assert!(whole.is(&id) && words.is(&id));
        assert!(!whole.is(&twin) && words.is(&twin), "132 bits are the same");
        assert!(!words.is(&Hash::of(&[b"another"])));
        assert_eq!(whole.words(), words.words());
        assert!("six words are not enough at all".parse::<Wanted>().is_err());
    }
}
