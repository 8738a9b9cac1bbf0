//! A buffer for secret text that leaves nothing behind when it grows.

use std::io::{self, Write};

use shared::plaintext::Plaintext;
use zeroize::Zeroize;

/// Text under construction: its old memory is wiped at every growth, and when dropped.
#[derive(Default)]
pub struct Text(Vec<u8>);

impl Text {
    /// Appends `more`.
    pub fn push(&mut self, more: &str) {
        self.push_bytes(more.as_bytes());
    }

    /// Appends `more`, whatever it is.
    pub fn push_bytes(&mut self, more: &[u8]) {
        let needed = self.0.len() + more.len();
        if needed > self.0.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.0.capacity() * 2).max(64));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = larger;
        }
        self.0.extend_from_slice(more);
    }

    /// Appends one character.
    pub fn push_char(&mut self, c: char) {
        self.push(c.encode_utf8(&mut [0; 4]));
    }

    /// Gives the text out.
    pub fn finish(mut self) -> Plaintext {
        Plaintext::new(std::mem::take(&mut self.0))
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push_bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
