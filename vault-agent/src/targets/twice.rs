//! What `target add --block` foretells: keys that stand in the file already, outside of the block,
//! and which of the two its readers take.

use host::term::Term;
use machine::config::Target;
use machine::render::{Format, Twice, twice};

/// Names told at most.
const MOST: usize = 8;

/// Warns of keys that would stand in `file` twice, once `body` is in its block.
pub(super) fn warn(target: &Target, file: &[u8], body: &[u8], term: &Term) {
    // Markers that are broken are refused elsewhere.
    let Ok(Twice { above, below }) = twice(target.format, file, body) else { return };
    let shown = target.path.display();
    for (names, place, wins, hint) in [
        (above, "above", "the vault's", "delete those lines, so that nobody edits them in vain"),
        (below, "below", "not the vault's", "delete those lines, or move them above the block"),
    ] {
        let stand = match names.len() {
            0 => continue,
            1 => "stands",
            _ => "stand",
        };
        let names = list(&names);
        let text = match target.format {
            Format::Yaml | Format::Toml => {
                format!("most readers of `{shown}` refuse a key that is there twice")
            }
            _ => format!("readers of `{shown}` take the last one, {wins}"),
        };
        term.say_hinted(format!("warning: {names} {stand} {place} the block too: {text}"), hint);
    }
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> =
        names.iter().take(MOST).map(|name| format!("`{}`", name.escape_debug())).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
