//! The standard streams of a command, and the frame around failures.
//!
//! stdout is data, stderr is talk. Everything goes through [`Term`], so tests see what a person
//! sees; and text for people goes through [`Shown`], so that none of it steers their terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Read, Write};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use shared::text::is_invisible;
use zeroize::Zeroizing;

use crate::hint::{self, Exit, Failure};
use crate::shown::Shown;

/// How much a terminal shows, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In a row.
    pub columns: usize,
    /// One below the other.
    pub rows: usize,
}

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

    /// Returns how much the terminal on stdout shows now, if it is one that tells.
    pub fn out_size(&self) -> Option<Size> {
        let told = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|_| self.out_is_tty)?;
        let size = Size { columns: told.ws_col.into(), rows: told.ws_row.into() };
        (size.columns > 0 && size.rows > 0).then_some(size)
    }

    /// Ends the process once nobody reads stdout any more, as if that had been noticed by writing:
    /// for a command that has nothing to write for hours.
    pub fn end_with_reader(&self) {
        std::thread::spawn(|| {
            let out = io::stdout();
            let mut asked = [PollFd::new(&out, PollFlags::empty())];
            let gone = PollFlags::ERR | PollFlags::HUP;
            loop {
                match rustix::event::poll(&mut asked, None) {
                    Ok(_) if asked[0].revents().intersects(gone) => std::process::exit(0),
                    Err(Errno::INTR) => {}
                    // Such an output is never gone, as far as anybody can tell.
                    Ok(_) | Err(_) => return,
                }
            }
        });
    }

    /// Writes data for programs to stdout, byte for byte.
    ///
    /// # Errors
    /// Whatever the stream says; a closed pipe too, which [`Term::fail`] takes for success.
    pub fn data(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = self.out.borrow_mut();
        out.write_all(bytes.as_ref())?;
        out.flush()
    }

    /// Writes a document that programs parse, and a line end, to stdout: as it is; on a terminal as
    /// people see it, which for JSON means the same.
    pub fn document(&self, text: impl AsRef<str>) -> io::Result<()> {
        if self.out_is_tty {
            return self.line(Shown::text(text));
        }
        self.data(format!("{}\n", text.as_ref()))
    }

    /// Writes a piece of such a document.
    pub fn piece(&self, text: impl AsRef<str>) -> io::Result<()> {
        if self.out_is_tty {
            return self.print(Shown::text(text));
        }
        self.data(text.as_ref())
    }

    /// Writes a value to stdout, byte for byte, with a line end for people only.
    ///
    /// # Errors
    /// On a terminal, for a value that would steer it or not be seen: whoever copied what is shown
    /// instead had another value.
    pub fn value(&self, value: &[u8]) -> anyhow::Result<()> {
        if self.out_is_tty {
            let refused = |what: &str| {
                Failure::local(format!("the value {what}: a terminal would not show it as it is"))
                    .hint("send it to a file or a program: `… > FILE`, `… | cat -v`")
            };
            let text = std::str::from_utf8(value).map_err(|_| refused("is not text"))?;
            // A carriage return before the end of a line does nothing.
            if !is_plain(&Zeroizing::new(text.replace("\r\n", "\n"))) {
                return Err(refused("holds control or invisible characters").into());
            }
        }
        self.data(value)?;
        if self.out_is_tty && !value.ends_with(b"\n") {
            self.data("\n")?;
        }
        Ok(())
    }

    /// Writes text for people to stdout.
    pub fn print(&self, text: impl Into<Shown>) -> io::Result<()> {
        self.data(text.into().as_bytes())
    }

    /// Writes text for people and a line end to stdout.
    pub fn line(&self, text: impl Into<Shown>) -> io::Result<()> {
        self.print(text.into().ended())
    }

    /// Shows lines on stdout, which must be a terminal, in place of all that stands there.
    pub fn screen(&self, text: impl Into<Shown>) -> io::Result<()> {
        self.data(format!("\x1b[H\x1b[2J{}", text.into().ended()))
    }

    /// Says something on stderr; that nobody listens is no failure.
    pub fn say(&self, text: impl Into<Shown>) {
        self.show(text.into().ended());
    }

    /// Says something on stderr, and the way out below it.
    pub fn say_hinted(&self, text: impl Into<Shown>, hint: impl Into<Shown>) {
        self.say(hint::with_hint(text, hint));
    }

    /// Shows a piece of a line on stderr; that nobody looks is no failure.
    pub fn show(&self, text: impl Into<Shown>) {
        self.tell(&text.into());
    }

    /// Shows a line on stderr, which must be a terminal, in place of the one that stands there.
    pub fn show_instead(&self, text: impl Into<Shown>) {
        self.tell(&format!("\r\x1b[K{}", text.into()));
    }

    fn tell(&self, text: &str) {
        let mut err = self.err.borrow_mut();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// Reads all of stdin.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.input.borrow_mut().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads so many bytes of stdin, or what there is, to the end of `bytes`.
    ///
    /// # Errors
    /// Whatever the stream says.
    pub fn read_up_to(&self, most: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.input.borrow_mut().by_ref().take(most).read_to_end(bytes)?;
        Ok(())
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
            Some(hint) => self.say_hinted(hint::shown(error), hint),
            None => self.say(hint::shown(error)),
        }
        hint::exit(error)
    }
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| is_invisible(c) && !matches!(c, '\n' | '\t'))
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

    #[test]
    fn a_document_is_data_until_a_person_reads_it() {
        let json = "{\n  \"a\": \"\u{9b}2J\u{202E}\"\n}";
        for (tty, expected) in [
            (false, format!("{json}\n")),
            (true, "{\n  \"a\": \"\\u009b2J\\u202e\"\n}\n".to_owned()),
        ] {
            let (mut reader, writer) = io::pipe().unwrap();
            let mut term = Term::piped(io::empty(), writer, io::sink());
            term.out_is_tty = tty;
            term.document(json).unwrap();
            drop(term);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_value_is_shown_as_it_is_or_not_at_all() {
        for (value, shown) in [
            (&b"plain \xc3\xa9"[..], Some("plain é\n")),
            (b"one\n\ttwo\r\n", Some("one\n\ttwo\r\n")),
            (b"", Some("\n")),
            (b"a\x1b[2J", None),
            (b"a\rb", None),
            (b"a\xc2\x9bb", None),
            ("a\u{202E}b".as_bytes(), None),
            (b"\xff", None),
        ] {
            for tty in [false, true] {
                let (mut reader, writer) = io::pipe().unwrap();
                let mut term = Term::piped(io::empty(), writer, io::sink());
                term.out_is_tty = tty;
                let answer = term.value(value);
                drop(term);
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).unwrap();
                if tty {
                    assert_eq!(answer.is_ok(), shown.is_some(), "{value:?}");
                    assert_eq!(bytes, shown.unwrap_or_default().as_bytes());
                } else {
                    answer.unwrap();
                    assert_eq!(bytes, value);
                }
            }
        }
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
