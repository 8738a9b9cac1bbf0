//! An age file as age's parser reads it quickly.
//!
//! The parser starts over after each line that it was given: with 1,000 recipients that takes some
//! 600 ms. Given the header at once it parses it once.

use std::io::{BufRead, Read, Result};

use memchr::{memchr, memmem};

/// What the last line of a header starts with, and the end of the line before.
const LAST_LINE: &[u8] = b"\n--- ";

/// An age file that hands out its whole header as its first "line".
pub(super) struct WholeHeader<'a>(pub(super) &'a [u8]);

impl Read for WholeHeader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for WholeHeader<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        Ok(self.0)
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }

    fn read_until(&mut self, byte: u8, line: &mut Vec<u8>) -> Result<usize> {
        let last = memmem::find(self.0, LAST_LINE).map_or(0, |before| before + LAST_LINE.len());
        let end = memchr(byte, &self.0[last..]).map_or(self.0.len(), |at| last + at + 1);
        let (header, rest) = self.0.split_at(end);
        line.extend_from_slice(header);
        self.0 = rest;
        Ok(header.len())
    }
}
