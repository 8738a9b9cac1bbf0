//! Looks for tens of thousands of texts at once in streams of any length, in one pass and bounded
//! memory. Pure.
//!
//! Not by `aho-corasick`: for the 28,000 forms of 3,000 values it reads at most 100 MB a second and
//! core where this reads 440 of random bytes and 660 of source, and takes most of a second to
//! begin.
//!
//! Of each text one window of a few bytes is chosen, the rarest among all. Every `step`-th position
//! of a stream is looked up in a small filter of these windows' pieces: a window holds a piece at
//! each of `step` offsets, so none can be missed (after Wu and Manber, *A fast algorithm for
//! multi-pattern searching*, 1994). Only what passes is compared in full.

use std::cmp::Reverse;
use std::io::{self, Read};

use zeroize::{Zeroize, Zeroizing};

use super::forms::{Bytes, Form};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
/// Most bytes of a piece, and most positions from one look-up to the next; a window is one byte
/// less than both together.
const PIECE: usize = 5;
const STEP: usize = 4;
/// What a look-up may read past the end of the text.
const SLACK: usize = 8;
/// Spreads pieces over the filter (Knuth's multiplicative hashing).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A text to look for, and whose it is.
struct Pattern {
    bytes: Bytes,
    of: Vec<(usize, Form)>,
}

/// A piece of a pattern's window.
#[derive(Clone, Copy, Zeroize)]
struct Piece {
    piece: u64,
    pattern: u32,
    offset: u32,
}

/// Texts to look for.
pub struct Patterns {
    all: Vec<Pattern>,
    /// Bytes of a piece, and positions from one look-up to the next.
    piece: usize,
    step: usize,
    /// A bit for each hash of a piece, whose number of bits is 64 - `shift`.
    filter: Vec<u64>,
    shift: u32,
    /// Pieces sorted by bucket, and where each bucket begins; a bucket is a word of the filter.
    pieces: Zeroizing<Vec<Piece>>,
    buckets: Vec<u32>,
    longest: usize,
}

/// A text that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Position of its first byte, from 0.
    pub at: u64,
    /// Line of that byte, from 1.
    pub line: u64,
    /// Whose it is.
    pub holder: usize,
    /// How it is written.
    pub form: Form,
}

fn piece_at(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut word = [0; 8];
    word[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(word)
}

impl Patterns {
    /// Takes texts with their holders; equal texts are looked for once. Empty texts must not be
    /// among them.
    pub fn new(texts: impl IntoIterator<Item = (Bytes, usize, Form)>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut all: Vec<Pattern> = Vec::with_capacity(texts.len());
        for (bytes, holder, form) in texts {
            match all.last_mut().filter(|last| last.bytes == bytes) {
                Some(last) => last.of.push((holder, form)),
                None => all.push(Pattern { bytes, of: vec![(holder, form)] }),
            }
        }
        let shortest = all.iter().map(|pattern| pattern.bytes.len()).min().unwrap_or(1);
        let longest = all.iter().map(|pattern| pattern.bytes.len()).max().unwrap_or(1);
        let piece = shortest.min(PIECE);
        let step = (shortest - piece + 1).min(STEP);
        let bits = (all.len() * step * 32).next_power_of_two().trailing_zeros().clamp(12, 24);
        let mut patterns = Self {
            all,
            piece,
            step,
            filter: vec![0; 1 << (bits - 6)],
            shift: 64 - bits,
            pieces: Zeroizing::default(),
            buckets: Vec::new(),
            longest,
        };
        patterns.index();
        patterns
    }

    fn hash(&self, piece: u64) -> usize {
        // Fits: at most 24 bits are left.
        usize::try_from(piece.wrapping_mul(SPREAD) >> self.shift).unwrap_or(0)
    }

    /// Chooses windows, and sorts their pieces into the filter and its buckets.
    fn index(&mut self) {
        let (len, step) = (self.piece, self.step);
        let mut counts = vec![0_u32; self.filter.len() * 64];
        let starts = |pattern: &Pattern| 0..=pattern.bytes.len() - len;
        for pattern in &self.all {
            for at in starts(pattern) {
                counts[self.hash(piece_at(&pattern.bytes, at, len))] += 1;
            }
        }
        let mut pieces = Zeroizing::new(Vec::with_capacity(self.all.len() * step));
        for (number, pattern) in (0_u32..).zip(&self.all) {
            let bytes = &pattern.bytes;
            let cost = |at: usize| counts[self.hash(piece_at(bytes, at, len))];
            let windows = 0..=bytes.len() - (len + step - 1);
            let window =
                windows.min_by_key(|from| ((*from..from + step).map(cost).max(), Reverse(*from)));
            let from = window.unwrap_or(0);
            for at in from..from + step {
                let offset = u32::try_from(at).unwrap_or(u32::MAX);
                pieces.push(Piece { piece: piece_at(bytes, at, len), pattern: number, offset });
            }
        }
        pieces.sort_unstable_by_key(|piece| self.hash(piece.piece));
        let mut buckets = vec![0_u32; self.filter.len() + 1];
        for piece in pieces.iter() {
            let hash = self.hash(piece.piece);
            self.filter[hash >> 6] |= 1 << (hash & 63);
            buckets[(hash >> 6) + 1] += 1;
        }
        for n in 1..buckets.len() {
            buckets[n] += buckets[n - 1];
        }
        (self.pieces, self.buckets) = (pieces, buckets);
    }

    /// Reads a stream to its end, through a space that is used again and again, and hands over what
    /// is found, by position; returns how many bytes there were.
    pub fn search(
        &self,
        mut input: impl Read,
        space: &mut Bytes,
        mut take: impl FnMut(Hit),
    ) -> io::Result<u64> {
        if space.len() < CHUNK + self.longest + SLACK {
            space.resize(CHUNK + self.longest + SLACK, 0);
        }
        let (mut kept, mut base, mut lines) = (0, 0_u64, 1_u64);
        let mut found = Vec::new();
        loop {
            let new = fill(&mut input, &mut space[kept..kept + CHUNK])?;
            let len = kept + new;
            self.look(space, len, kept, &mut found);
            found.sort_unstable();
            let (mut line, mut counted) = (lines, 0);
            for (at, pattern) in found.drain(..) {
                line += newlines(&space[counted..at]);
                counted = at;
                let pattern: &Pattern = &self.all[pattern];
                for (holder, form) in pattern.of.iter().copied() {
                    take(Hit { at: base + at as u64, line, holder, form });
                }
            }
            if new < CHUNK {
                return Ok(base + len as u64);
            }
            // What a text that goes on may have begun with is kept.
            let done = len - len.min(self.longest - 1);
            lines += newlines(&space[..done]);
            base += done as u64;
            space.copy_within(done..len, 0);
            kept = len - done;
        }
    }

    /// Returns a name of a file, or another short text, without what is looked for.
    pub fn masked(&self, name: &str, space: &mut Bytes) -> String {
        if !self.holds(name, space) {
            return name.to_owned();
        }
        let parts: Vec<&str> = name
            .split('/')
            .map(|part| if self.holds(part, space) { "***" } else { part })
            .collect();
        let masked = parts.join("/");
        if masked.contains("***") { masked } else { "***".to_owned() }
    }

    fn holds(&self, text: &str, space: &mut Bytes) -> bool {
        let mut is_in = false;
        // Reading from memory does not fail.
        let _ = self.search(text.as_bytes(), space, |_| is_in = true);
        is_in
    }

    /// Finds the patterns in the first `len` bytes of `space` that end behind `from`.
    fn look(&self, space: &[u8], len: usize, from: usize, found: &mut Vec<(usize, usize)>) {
        let mask = u64::MAX >> (64 - 8 * self.piece);
        let Some(last) = len.checked_sub(self.piece).filter(|_| !self.all.is_empty()) else {
            return;
        };
        let mut at = 0;
        while at <= last
            && let Some((_, rest)) = space.split_at_checked(at)
            && let Some(word) = rest.first_chunk::<8>()
        {
            let piece = u64::from_le_bytes(*word) & mask;
            let hash = self.hash(piece);
            if self.filter[hash >> 6] >> (hash & 63) & 1 == 1 {
                self.compare(&space[..len], at, piece, hash >> 6, from, found);
            }
            at += self.step;
        }
    }

    /// Compares whole patterns where the filter lets a piece pass.
    #[inline(never)]
    fn compare(
        &self,
        text: &[u8],
        at: usize,
        piece: u64,
        bucket: usize,
        from: usize,
        found: &mut Vec<(usize, usize)>,
    ) {
        let range = self.buckets[bucket] as usize..self.buckets[bucket + 1] as usize;
        for known in self.pieces[range].iter().filter(|known| known.piece == piece) {
            let pattern = known.pattern as usize;
            let bytes = &self.all[pattern].bytes;
            let Some(start) = at.checked_sub(known.offset as usize) else { continue };
            let end = start + bytes.len();
            if end > from && text.get(start..end) == Some(bytes) {
                found.push((start, pattern));
            }
        }
    }
}

/// Reads until the space is full or the stream ends.
fn fill(input: &mut impl Read, mut space: &mut [u8]) -> io::Result<usize> {
    let all = space.len();
    while !space.is_empty() {
        match input.read(space) {
            Ok(0) => break,
            Ok(n) => space = &mut space[n..],
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(all - space.len())
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(texts: &[&[u8]]) -> Patterns {
        let texts = texts.iter().enumerate();
        Patterns::new(texts.map(|(n, text)| (Zeroizing::new(text.to_vec()), n, Form::Plain)))
    }

    fn found(patterns: &Patterns, input: impl Read) -> Vec<(u64, u64, usize)> {
        let mut hits = Vec::new();
        patterns
            .search(input, &mut Bytes::default(), |hit| hits.push((hit.at, hit.line, hit.holder)))
            .unwrap();
        hits
    }

    #[test]
    fn texts_are_found_with_their_lines() {
        let all = patterns(&[b"hunter2hunter2", b"2hunter2", b"swordfish", b"hunter2hunter2"]);
        let text = b"x\nhunter2hunter2\n\nswordfish swordfis";
        let expected = [(2, 2, 0), (2, 2, 3), (8, 2, 1), (18, 4, 2)];
        assert_eq!(found(&all, &text[..]), expected);
        assert_eq!(found(&patterns(&[]), &text[..]), []);
        assert_eq!(found(&all, &b""[..]), []);
    }

    /// Hands out few bytes at a time.
    struct Drip<'a>(&'a [u8], usize);
    impl Read for Drip<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(space.len());
            self.0.read(&mut space[..n])
        }
    }

    #[test]
    fn texts_across_the_edge_of_a_chunk_are_found_once() {
        let all = patterns(&[b"hunter2hunter2", b"12345678"]);
        for cut in 0..=14 {
            let mut text = vec![b'\n'; 2 * CHUNK];
            let at = CHUNK - cut;
            text[at..at + 14].copy_from_slice(b"hunter2hunter2");
            text[2 * CHUNK - 8..].copy_from_slice(b"12345678");
            let (first, second) = (at as u64, 2 * CHUNK as u64 - 8);
            let expected = [(first, first + 1, 0), (second, second - 14 + 1, 1)];
            assert_eq!(found(&all, Drip(&text, 70_001)), expected, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(
            texts in prop::collection::vec("[ab]{4,12}", 1..20),
            text in "[abc]{0,300}",
        ) {
            let bytes: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            let mut expected = Vec::new();
            for (holder, pattern) in bytes.iter().enumerate() {
                let starts = text.as_bytes().windows(pattern.len()).enumerate();
                expected.extend(
                    starts.filter(|(_, w)| w == pattern).map(|(at, _)| (at as u64, 1, holder)),
                );
            }
            let mut hits = found(&patterns(&bytes), text.as_bytes());
            hits.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(hits, expected);
        }
    }
}
