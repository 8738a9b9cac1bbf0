//! The programs under test: where they lie, and running one to its end.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Paths of the three programs under test.
#[derive(Clone, Copy, Debug)]
pub struct Bins {
    /// The command line.
    pub vault: &'static str,
    /// The server.
    pub server: &'static str,
    /// The agent.
    pub agent: &'static str,
}

/// Names the programs that Cargo has just built for this test.
#[macro_export]
macro_rules! bins {
    () => {
        $crate::Bins {
            vault: env!("CARGO_BIN_EXE_e2e-vault"),
            server: env!("CARGO_BIN_EXE_e2e-vault-server"),
            agent: env!("CARGO_BIN_EXE_e2e-vault-agent"),
        }
    };
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Exit code, -1 if killed.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Returns standard output of a command that must have succeeded.
    ///
    /// # Panics
    /// If it failed.
    #[must_use]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "exit {}\n{}\n{}", self.code, self.out, self.err);
        self.out
    }
}

/// Makes an executable file of `source`, or of `text` where that is `/dev/stdin`. Another process
/// writes it: a file that this one has open for writing, its children that a neighbour test starts
/// just then have open too, and the kernel starts no such file.
///
/// # Panics
/// If it cannot be written.
pub fn executable(file: &Path, source: &Path, text: &str) {
    let mut install = Command::new("install");
    let _ = run(install.args(["-m", "755"]).args([source, file]), text).ok();
}

/// Makes a program for the shell.
///
/// # Panics
/// If it cannot be written.
pub fn script(file: &Path, text: &str) {
    executable(file, Path::new("/dev/stdin"), text);
}

/// Runs a command to its end, with `input` on its standard input.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command, input: &str) -> Ran {
    let piped = || Stdio::piped();
    command.stdin(piped()).stdout(piped()).stderr(piped());
    let mut child = command.spawn().expect("the program starts");
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("a child of ours");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
