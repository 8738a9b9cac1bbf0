//! Where text leaves the programs: through the terminal and the log, which take nothing that steers
//! them, and nowhere else.

use crate::rust::{Token, production};
use crate::tree::{File, files};
use crate::{check, pass};

/// The files that write to the standard streams: what people see, log lines, and what a program
/// that was started here says itself.
const DOORS: [&str; 3] =
    ["shared/host/src/term.rs", "shared/host/src/logging.rs", "vault-agent/cli/src/run/child.rs"];
/// Words that write past the doors; `tracing_subscriber` could set up another log.
const WORDS: [&str; 8] =
    ["print", "println", "eprint", "eprintln", "dbg", "stdout", "stderr", "tracing_subscriber"];

fn doors(file: &File) -> Vec<String> {
    let crates = ["shared/", "vault-agent/", "vault-server/"];
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    if !crates.iter().any(|name| file.path.starts_with(name))
        || is_test
        || DOORS.contains(&file.path.as_str())
    {
        return Vec::new();
    }
    let tokens = production(&file.text);
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(word) = token.word().filter(|word| WORDS.contains(word)) else { continue };
        let after = tokens.get(at + 1);
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let is_macro = after == Some(&Token::Sign('!'));
        // A child's streams are fields and methods; ours come from a module.
        let is_stream = matches!(word, "stdout" | "stderr");
        let is_ours = is_stream && before == Some(&Token::Path) && after == Some(&Token::Sign('('));
        let is_crate = word == "tracing_subscriber";
        if is_macro || is_ours || is_crate {
            faults.push(format!("{}: `{word}`: print with `host::term`", file.path));
        }
    }
    faults
}

#[test]
fn text_leaves_through_the_terminal_and_the_log() {
    pass(&files(".rs").iter().flat_map(doors).collect::<Vec<_>>());

    let bad = "fn a() { println!(\"x\"); eprint!(\"y\"); std::io::stdout().lock(); io::stderr(); }";
    let path = "vault-agent/src/a.rs";
    let fault = |word: &str| format!("{path}: `{word}`: print with `host::term`");
    let expected = ["println", "eprint", "stdout", "stderr"].map(fault);
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    check(&doors(&File::sample(path, bad)), &expected);
    for good in [
        "fn a() { term.print(x); child.stdout.take(); command.stdout(Stdio::piped()); }",
        "#[cfg(test)] mod tests { fn a() { println!(\"x\"); } }",
    ] {
        assert_eq!(doors(&File::sample(path, good)), Vec::<String>::new());
    }
    assert_eq!(doors(&File::sample("shared/host/src/term.rs", bad)), Vec::<String>::new());
}
