//! How far long work has got: one line on a terminal, written over and taken away at the end;
//! nothing elsewhere.

use host::term::Term;

/// Width of the bar in characters.
const WIDTH: usize = 24;

/// A line on the terminal.
pub struct Progress<'a> {
    term: &'a Term,
    all: usize,
    done: usize,
}

impl<'a> Progress<'a> {
    /// Starts with nothing done.
    pub fn start(term: &'a Term, all: usize) -> Self {
        Self { term, all, done: 0 }
    }

    /// Begins the next piece.
    pub fn step(&mut self, name: &str) {
        if self.term.err_is_tty {
            let line = line(self.done, self.all, name);
            self.term.show_instead(line);
        }
        self.done += 1;
    }

    /// Says how much is done of how much.
    pub fn at(&mut self, done: usize, all: usize, name: &str) {
        (self.done, self.all) = (done, all);
        if self.term.err_is_tty {
            self.term.show_instead(line(done, all, name));
        }
    }

    /// Takes the line away.
    pub fn end(self) {
        self.clear();
    }

    /// Takes the line away for now.
    pub fn clear(&self) {
        if self.term.err_is_tty {
            self.term.show_instead("");
        }
    }
}

fn line(done: usize, all: usize, name: &str) -> String {
    let filled = (done * WIDTH).checked_div(all).unwrap_or(0).min(WIDTH);
    let name: String = name.chars().take(40).collect();
    format!("[{}{}] {done}/{all} {name}", "#".repeat(filled), " ".repeat(WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill() {
        assert_eq!(line(0, 2, "a"), format!("[{}] 0/2 a", " ".repeat(24)));
        assert_eq!(line(1, 2, "b"), format!("[{}{}] 1/2 b", "#".repeat(12), " ".repeat(12)));
        assert_eq!(line(0, 0, ""), format!("[{}] 0/0 ", " ".repeat(24)));
    }
}
