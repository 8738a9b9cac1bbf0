//! Scripts for a POSIX shell on another host, and as whom they run there. Each is sent on standard
//! input, so that no argument of a process shows it, and any login shell can start it.

use zeroize::Zeroizing;

/// What a program on the other side reads past before its own input begins: a password that `sudo`
/// may have left unread.
const BEGIN: &[u8] = b"vault-begin\n";

/// Reads up to that.
const SKIP: &str = "while read -r line; do case \"$line\" in vault-begin) break;; esac; done";

/// The line that is printed before a script's own words. A login may print anything before it, with
/// or without an end of its line.
pub const REACHED: &str = "\nvault-reached\n";

/// Prints it, for every login shell.
pub const REACH: &str = "echo; echo vault-reached";

/// Returns what a script itself has printed; all of it where the script has not begun.
pub fn own(printed: &str) -> &str {
    printed.split_once(REACHED).map_or(printed, |(_, own)| own)
}

/// Where the agent's state is there, as `$state`, and which programs are ours.
pub const OURS: &str = include_str!("ours.sh");

/// As whom a script runs.
#[derive(Clone)]
pub enum Rights {
    /// As the user who is logged in.
    Own,
    /// As root, by a `sudo` that asks nothing.
    Sudo,
    /// As root, by a `sudo` that wants this password.
    Password(Zeroizing<String>),
}

impl Rights {
    /// Returns the command line that runs `inner`, one line without single quotes, and what goes
    /// before its input. What `sudo` says is in English, as its words tell a wrong password.
    pub fn line(&self, inner: &str) -> (String, Vec<&[u8]>) {
        let inner = format!("{REACH}; {{ {REACH}; }} >&2; {inner}");
        match self {
            Self::Own => (format!("exec sh -c '{inner}'"), Vec::new()),
            Self::Sudo => (format!("exec env LC_ALL=C sudo -n -H -- sh -c '{inner}'"), Vec::new()),
            // Asked anew each time, so that it never stays unread.
            Self::Password(password) => (
                format!("exec env LC_ALL=C sudo -k -S -H -p \"\" -- sh -c '{SKIP}; {inner}'"),
                vec![password.as_bytes(), b"\n", BEGIN],
            ),
        }
    }
}

/// A script that begins with the values it works on.
#[derive(Debug, Default)]
pub struct Script(String);

impl Script {
    /// Begins one: a failure ends it, and programs speak English.
    pub fn new() -> Self {
        Self("set -eu\nLC_ALL=C\nexport LC_ALL\n".to_owned())
    }

    /// Sets a variable to a text, whatever is in it.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.0 += &format!("{name}={}\n", quoted(value));
        self
    }

    /// Sets `$@` to texts.
    #[must_use]
    pub fn arguments<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.0 += "set --";
        for word in words {
            self.0 += " ";
            self.0 += &quoted(word);
        }
        self.0 += "\n";
        self
    }

    /// Adds lines.
    #[must_use]
    pub fn then(mut self, lines: &str) -> Self {
        self.0 += lines;
        self.0 += "\n";
        self
    }

    /// Returns its text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn run(line: &str, input: &[&[u8]]) -> String {
        let mut sh = Command::new("sh");
        sh.args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sh.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        input.iter().for_each(|it| stdin.write_all(it).unwrap());
        drop(stdin);
        let printed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        own(&printed).to_owned()
    }

    #[test]
    fn values_arrive_as_they_are() {
        for value in ["a b", "it's", "$HOME `id` \\n", "\"*\"", "", "-n", "ä\nö"] {
            let script = Script::new().set("A", value).arguments([value, "x"]);
            let script = script.then("printf '%s|%s|%s' \"$A\" \"$1\" $#");
            let (line, before) = Rights::Own.line("exec sh -s");
            let input = [before, vec![script.text().as_bytes()]].concat();
            assert_eq!(run(&line, &input), format!("{value}|{value}|2"));
        }
    }

    #[test]
    fn a_password_that_sudo_leaves_unread_is_no_command() {
        let rights = Rights::Password(Zeroizing::new("echo stolen".to_owned()));
        let (line, before) = rights.line("exec sh -s");
        assert!(!line.contains("stolen"));
        // A `sudo` that asks for none, and one that reads its line.
        let line = line.strip_prefix("exec env LC_ALL=C sudo -k -S -H -p \"\" -- ").unwrap();
        let input = [before, vec![b"echo ran\n"]].concat();
        assert_eq!(run(line, &input), "ran\n");
        assert_eq!(run(&format!("read -r _; {line}"), &input), "ran\n");
    }

    #[test]
    fn sudo_speaks_english() {
        let dir = tempfile::tempdir().unwrap();
        let sudo = dir.path().join("sudo");
        host::files::write_private(&sudo, b"#!/bin/sh\necho \"$LC_ALL\"\n").unwrap();
        std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o700)).unwrap();
        for rights in [Rights::Sudo, Rights::Password(Zeroizing::new("x".to_owned()))] {
            let (line, _) = rights.line("exec true");
            let path = format!("LC_ALL=de_DE.UTF-8; PATH={}:$PATH", dir.path().display());
            assert_eq!(run(&format!("{path}; export LC_ALL PATH; {line}"), &[]), "C\n");
        }
    }
}
