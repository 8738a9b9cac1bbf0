//! Six words that two people, or one person at two screens, compare: 66 bits of a line's hash; and
//! twelve that name a vault where its id is typed by hand. The line itself lives in `token`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error};
use crate::hash::Hash;
use crate::signed::VaultId;
use crate::text::Text;

/// The English list of BIP-39: 2,048 words in alphabetical order, told apart by their first four
/// letters.
const ENGLISH: &str = include_str!("words/english.txt");
/// Bits that one word stands for.
const BITS: usize = 11;
/// Words shown. Making another line with the same ones takes 2^66 signatures.
const WORDS: usize = 6;
/// Words that name a vault: 132 bits, as nobody is there to compare while a program seeks another
/// genesis with the same ones.
const VAULT_WORDS: usize = 12;
/// Longest text that is read as a vault's words, in bytes.
const VAULT_TEXT: usize = 256;

/// What the words are called where a program prints them for another to read.
pub const LABEL: &str = "words: ";

/// The six words of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words([&'static str; WORDS]);

impl Words {
    /// Returns the words of a text: the first 66 bits of its SHA-256, 11 for each word, the highest
    /// first.
    pub fn of(text: &str) -> Self {
        Self(first(&Hash::of(&[text.as_bytes()])))
    }
}

/// Returns the words of the first bits of a hash, 11 for each, the highest first.
fn first<const N: usize>(hash: &Hash) -> [&'static str; N] {
    let bit = |at: usize| usize::from(hash.as_bytes()[at / 8] >> (7 - at % 8) & 1);
    let index = |n: usize| (n * BITS..(n + 1) * BITS).fold(0, |index, at| index << 1 | bit(at));
    std::array::from_fn(|n| ENGLISH.lines().nth(index(n)).expect("the list has 2^11 words"))
}

/// The twelve words of a vault: the first 132 bits of its id. Written with `-` between them, so
/// that no shell takes them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultWords([&'static str; VAULT_WORDS]);

impl VaultWords {
    /// Returns the words of a vault.
    pub fn of(vault: &VaultId) -> Self {
        Self(first(vault))
    }
}

impl fmt::Display for VaultWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.join("-"))
    }
}

impl FromStr for VaultWords {
    type Err = Error;

    /// Reads the words, with `-` or white space between them.
    ///
    /// # Errors
    /// `E_TOKEN` for another number of words, or one that is not in the list.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > VAULT_TEXT {
            return Err(Code::Token.because("the words of a vault are twelve, and no more"));
        }
        let text = text.to_lowercase();
        let typed = text.split(|c: char| c == '-' || c.is_whitespace());
        let typed: Vec<&str> = typed.filter(|word| !word.is_empty()).collect();
        let known = |word: &&str| {
            ENGLISH.lines().find(|known| known == word).ok_or_else(|| {
                let word = Text::<32>::lossy(word);
                Code::Token.because(format!("`{word}` is not a word of the list (BIP-39, English)"))
            })
        };
        let found = typed.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        let words = found.try_into().map_err(|found: Vec<_>| {
            Code::Token.because(format!("a vault has twelve words, not {}", found.len()))
        })?;
        Ok(Self(words))
    }
}

impl Serialize for VaultWords {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VaultWords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_bip_39() {
        assert_eq!(ENGLISH.lines().count(), 1 << BITS);
        // As published with the proposal, in bitcoin/bips and in every wallet.
        let known = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda";
        assert_eq!(Hash::of(&[ENGLISH.as_bytes()]).to_string(), known);
    }

    #[test]
    fn each_word_stands_for_eleven_bits_from_the_top() {
        // SHA-256 of "abc" begins ba7816bf 8f01cfea 41.
        let list: Vec<&str> = ENGLISH.lines().collect();
        let expected = [1491, 1541, 1407, 240, 231, 1961].map(|index: usize| list[index]);
        assert_eq!(Words::of("abc"), Words(expected));
        assert_eq!(Words::of("abc").to_string(), expected.join(" "));
        assert_ne!(Words::of("abd"), Words::of("abc"));
    }

    #[test]
    fn a_vault_is_named_by_twelve_words() {
        let vault = Hash::of(&[b"abc"]);
        let words = VaultWords::of(&vault);
        let text = words.to_string();
        assert!(text.starts_with(&Words::of("abc").to_string().replace(' ', "-")), "{text}");
        let spaced = text.replace('-', " ").to_uppercase();
        for typed in [text.clone(), spaced, format!(" {text}\n")] {
            assert_eq!(typed.parse(), Ok(words), "{typed}");
        }
        let other = VaultWords::of(&Hash::of(&[b"abd"]));
        assert_ne!(other, words);
        let json = serde_json::to_string(&words).unwrap();
        assert_eq!(serde_json::from_str::<VaultWords>(&json).unwrap(), words);
        for (typed, why) in [
            ("", "a vault has twelve words, not 0"),
            ("abandon ability", "a vault has twelve words, not 2"),
            (&Words::of("abc").to_string(), "a vault has twelve words, not 6"),
            (&format!("{text}-zoo"), "a vault has twelve words, not 13"),
            ("abandon-abillity", "`abillity` is not a word of the list (BIP-39, English)"),
            (&"a".repeat(300), "the words of a vault are twelve, and no more"),
        ] {
            let fault = typed.parse::<VaultWords>().unwrap_err();
            assert_eq!((fault.code, fault.detail.as_str()), (Code::Token, why));
        }
        let hostile = "\u{1b}[2Jx".parse::<VaultWords>().unwrap_err();
        assert!(!hostile.detail.contains('\u{1b}'), "{hostile}");
    }
}
