//! First contact with a file that holds what the secrets do not: the choice of a person what is to
//! become of it.

use anyhow::Result;

use crate::context::Global;
use host::shown::Shown;

/// Returns what `target add` has said, without a way out that is its own.
pub fn told(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter(|line| !line.starts_with("hint: "))
}

/// Shows what was refused, and asks for the flag that decides; `None` to leave the file alone.
pub fn ask(said: &str, global: &Global) -> Result<Option<&'static str>> {
    let term = &global.term;
    term.say(Shown::lines(told(said)));
    term.say("What is to become of it?");
    term.say("  b  keep its lines, and put the vault's into a marked block");
    term.say("  i  publish first what it holds, so that nothing is lost");
    term.say("  r  replace it; a copy stays beside it");
    term.say("Enter leaves it as it is.");
    let answer = term.read_line()?.unwrap_or_default();
    Ok(match answer.trim().to_ascii_lowercase().as_str() {
        "b" => Some("--block"),
        "i" => Some("--import"),
        "r" => Some("--replace"),
        _ => None,
    })
}
