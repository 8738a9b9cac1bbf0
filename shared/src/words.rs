//! Six words that two people, or one person at two screens, compare: 66 bits of a line's hash. The
//! line itself lives in `token`.

use std::fmt;

use crate::hash::Hash;

/// The English list of BIP-39: 2,048 words in alphabetical order, told apart by their first four
/// letters.
const ENGLISH: &str = include_str!("words/english.txt");
/// Bits that one word stands for.
const BITS: usize = 11;
/// Words shown. Making another line with the same ones takes 2^66 signatures.
const WORDS: usize = 6;

/// What the words are called where a program prints them for another to read.
pub const LABEL: &str = "words: ";

/// The six words of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words([&'static str; WORDS]);

impl Words {
    /// Returns the words of a text: the first 66 bits of its SHA-256, 11 for each word, the highest
    /// first.
    pub fn of(text: &str) -> Self {
        let hash = Hash::of(&[text.as_bytes()]);
        let bit = |at: usize| usize::from(hash.as_bytes()[at / 8] >> (7 - at % 8) & 1);
        let index = |n: usize| (n * BITS..(n + 1) * BITS).fold(0, |index, at| index << 1 | bit(at));
        let word = |n| ENGLISH.lines().nth(index(n)).expect("the list has 2^11 words");
        Self(std::array::from_fn(word))
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
}
