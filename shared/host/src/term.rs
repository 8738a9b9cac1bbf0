//! The standard streams of a command, and the frame around failures.
//!
//! stdout is data, stderr is talk. Everything goes through [`Term`], so tests see what a person
//! sees.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Read, Write};

use crate::hint::{self, Exit, Failure};

/// The process's standard streams, or a test's buffers.
pub struct Term {
    input: RefCell<Box<dyn Read>>,
    out: RefCell<Box<dyn Write>>,
    err: RefCell<Box<dyn Write>>,
    /// Whether a person types.
    pub in_is_tty: bool,
    /// Whether a person reads stdout.
    pub out_is_tty: bool,
    /// Whether a person reads stderr.
    pub err_is_tty: bool,
}

impl Term {
    /// Takes the process's streams.
    pub fn std() -> Self {
        Self {
            in_is_tty: io::stdin().is_terminal(),
            out_is_tty: io::stdout().is_terminal(),
            err_is_tty: io::stderr().is_terminal(),
            ..Self::piped(io::stdin(), io::stdout(), io::stderr())
        }
    }

    /// Takes other streams, none of them a terminal.
    pub fn piped(
        input: impl Read + 'static,
        out: impl Write + 'static,
        err: impl Write + 'static,
    ) -> Self {
        Self {
            input: RefCell::new(Box::new(input)),
            out: RefCell::new(Box::new(out)),
            err: RefCell::new(Box::new(err)),
            in_is_tty: false,
            out_is_tty: false,
            err_is_tty: false,
        }
    }

    /// Writes data to stdout as it is.
    ///
    /// # Errors
    /// Whatever the stream says; a closed pipe too, which [`Term::fail`] takes for success.
    pub fn print(&self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        out.write_all(text.as_ref())?;
        out.flush()
    }

    /// Writes data and a line end to stdout.
    pub fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        self.print(format!("{}\n", text.as_ref()))
    }

    /// Says something on stderr; that nobody listens is no failure.
    pub fn say(&self, text: impl AsRef<str>) {
        self.show(format!("{}\n", text.as_ref()));
    }

    /// Says something on stderr, and the way out below it.
    pub fn say_hinted(&self, text: impl Display, hint: impl Display) {
        self.say(hint::with_hint(text, hint));
    }

    /// Shows a piece of a line on stderr; that nobody looks is no failure.
    pub fn show(&self, text: impl AsRef<str>) {
        let mut err = self.err.borrow_mut();
        let _ = err.write_all(text.as_ref().as_bytes()).and_then(|()| err.flush());
    }

    /// Reads all of stdin.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.input.borrow_mut().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads one line of stdin without its end, `None` at the end of input; never a byte of the
    /// next line.
    ///
    /// # Errors
    /// Whatever the stream says, and text that is not UTF-8.
    pub fn read_line(&self) -> io::Result<Option<String>> {
        let mut input = self.input.borrow_mut();
        let mut bytes = Vec::new();
        let mut byte = [0];
        while input.read(&mut byte)? == 1 && byte[0] != b'\n' {
            bytes.push(byte[0]);
        }
        if bytes.is_empty() && byte[0] != b'\n' {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "standard input is not UTF-8"))
    }

    /// Reports a failure, chain and hint, and tells what to end with; a reader that went away is
    /// success.
    pub fn fail(&self, error: &anyhow::Error) -> Exit {
        let closed = |cause: &(dyn std::error::Error + 'static)| {
            let error = cause.downcast_ref::<io::Error>();
            error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        };
        if error.downcast_ref::<Failure>().is_none() && error.chain().any(closed) {
            return Exit::OK;
        }
        match hint::hint(error) {
            Some(hint) => self.say_hinted(format_args!("{error:#}"), hint),
            None => self.say(format!("{error:#}")),
        }
        hint::exit(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(input: &'static [u8]) -> Term {
        Term::piped(input, io::sink(), io::sink())
    }

    #[test]
    fn lines_are_read_one_at_a_time() {
        let term = term(b"one\r\n\ntwo");
        for expected in [Some("one"), Some(""), Some("two"), None] {
            assert_eq!(term.read_line().unwrap().as_deref(), expected);
        }
        assert!(self::term(b"\xff\n").read_line().is_err());
    }

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_success() {
        let term = Term::piped(io::empty(), Closed, io::sink());
        let error = anyhow::Error::from(term.line("x").unwrap_err());
        assert_eq!(term.fail(&error), Exit::OK);
    }
}
