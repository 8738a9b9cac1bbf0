//! `layout = "block"`: the vault's lines between two markers of a file that is otherwise its
//! owner's.
//!
//! What the file must hold is a function of what it holds now: everything outside the markers
//! stays, byte for byte.

use std::ops::Range;

use shared::plaintext::Plaintext;

use super::text::Text;

/// The line before the vault's lines.
const BEGIN: &str = "# BEGIN vault-agent";

/// The line after them.
const END: &str = "# END vault-agent";

/// Markers that leave it open which lines are the vault's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BrokenBlock {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Returns `file` with `body` as its block: in the place of the old one, else at the end.
///
/// # Errors
/// Markers without a partner, or more than one pair; the file is to be kept as it is.
pub fn put(file: &[u8], body: &Plaintext) -> Result<Plaintext, BrokenBlock> {
    let (before, after) = around(file)?;
    let mut out = Text::default();
    out.push_bytes(before);
    if !before.is_empty() && !before.ends_with(b"\n") {
        out.push("\n");
    }
    out.push(BEGIN);
    out.push("\n");
    out.push_bytes(body.expose());
    out.push(END);
    out.push("\n");
    out.push_bytes(after);
    Ok(out.finish())
}

/// Returns `file` without its block; `None` if nothing but the block is in it.
pub fn take(file: &[u8]) -> Result<Option<Plaintext>, BrokenBlock> {
    let Some(found) = find(file)? else { return Ok(Some(Plaintext::from(file))) };
    let mut out = Text::default();
    out.push_bytes(&file[..found.start]);
    out.push_bytes(&file[found.end..]);
    let rest = out.finish();
    Ok((!rest.is_empty()).then_some(rest))
}

/// Returns what stands above the block and what below it; all of a file without one is above.
///
/// # Errors
/// As [`put`].
pub fn around(file: &[u8]) -> Result<(&[u8], &[u8]), BrokenBlock> {
    let found = find(file)?.unwrap_or(file.len()..file.len());
    Ok((&file[..found.start], &file[found.end..]))
}

/// Returns what stands between the markers; `None` if there is no block.
///
/// # Errors
/// As [`put`].
pub fn body(file: &[u8]) -> Result<Option<&[u8]>, BrokenBlock> {
    let Some(found) = find(file)? else { return Ok(None) };
    let block = &file[found];
    let start = block.iter().position(|byte| *byte == b'\n').map_or(block.len(), |at| at + 1);
    let last = block.trim_ascii_end().iter().rposition(|byte| *byte == b'\n');
    let end = last.map_or(start, |at| at + 1);
    Ok(Some(&block[start..end.max(start)]))
}

/// Tells whether a line of `text` would be taken for a marker.
pub fn has_marker(text: &str) -> bool {
    text.split(['\n', '\r']).any(|line| line.starts_with(BEGIN) || line.starts_with(END))
}

/// Returns where the block is, both markers included.
fn find(file: &[u8]) -> Result<Option<Range<usize>>, BrokenBlock> {
    let broken = |line: usize, what| Err(BrokenBlock { line, what });
    let mut start: Option<(usize, usize)> = None;
    let mut found: Option<Range<usize>> = None;
    let mut at = 0;
    for (number, line) in file.split_inclusive(|b| *b == b'\n').enumerate() {
        let number = number + 1;
        let marker = line.trim_ascii_end();
        if marker == BEGIN.as_bytes() {
            if start.is_some() {
                let what = "a second `# BEGIN vault-agent` before `# END vault-agent`";
                return broken(number, what);
            }
            if found.is_some() {
                return broken(number, "a second block of `# BEGIN vault-agent`");
            }
            start = Some((at, number));
        } else if marker == END.as_bytes() {
            let Some((start, _)) = start.take() else {
                return broken(number, "`# END vault-agent` without `# BEGIN vault-agent`");
            };
            found = Some(start..at + line.len());
        } else if marker.starts_with(BEGIN.as_bytes()) || marker.starts_with(END.as_bytes()) {
            return broken(number, "a marker with more on its line");
        }
        at += line.len();
    }
    match start {
        Some((_, number)) => broken(number, "`# BEGIN vault-agent` without `# END vault-agent`"),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# BEGIN vault-agent\nA=1\n# END vault-agent\n";

    fn check(file: &str, with: &str, without: Option<&str>) {
        let body = Plaintext::from(&b"A=1\n"[..]);
        let text = |bytes: &Plaintext| String::from_utf8(bytes.expose().to_vec()).unwrap();
        let put_in = put(file.as_bytes(), &body).unwrap();
        assert_eq!(text(&put_in), with, "{file:?}");
        assert_eq!(put(put_in.expose(), &body).unwrap(), put_in, "{file:?}");
        assert_eq!(super::body(put_in.expose()), Ok(Some(body.expose())), "{file:?}");
        assert_eq!(
            take(put_in.expose()).unwrap().as_ref().map(text).as_deref(),
            without,
            "{file:?}"
        );
    }

    #[test]
    fn only_the_block_is_the_vaults() {
        check("", BLOCK, None);
        check("X=1\n", &format!("X=1\n{BLOCK}"), Some("X=1\n"));
        check("X=1", &format!("X=1\n{BLOCK}"), Some("X=1\n"));
        let old = "X=1\r\n# BEGIN vault-agent\r\nOLD=1\n# END vault-agent\nY=2";
        check(old, &format!("X=1\r\n{BLOCK}Y=2"), Some("X=1\r\nY=2"));
        check("# BEGIN vault-agent\n# END vault-agent", BLOCK, None);
        check(
            "\u{FEFF}X=\"\n#\n\"\n",
            &format!("\u{FEFF}X=\"\n#\n\"\n{BLOCK}"),
            Some("\u{FEFF}X=\"\n#\n\"\n"),
        );
    }

    #[test]
    fn broken_markers_are_refused() {
        for (file, line) in [
            ("# BEGIN vault-agent\nA=1\n", 1),
            ("A=1\n# END vault-agent\n", 2),
            ("# BEGIN vault-agent\n# BEGIN vault-agent\n# END vault-agent\n", 2),
            ("# END vault-agent\n# BEGIN vault-agent\n", 1),
            ("# BEGIN vault-agent (mine)\n", 1),
            (&format!("{BLOCK}x\n{BLOCK}"), 5),
            (&format!("{BLOCK}# END vault-agent\n"), 4),
        ] {
            let body = Plaintext::from(&b"A=1\n"[..]);
            assert_eq!(put(file.as_bytes(), &body).unwrap_err().line, line, "{file:?}");
            assert_eq!(take(file.as_bytes()).unwrap_err().line, line, "{file:?}");
            assert_eq!(super::body(file.as_bytes()).unwrap_err().line, line, "{file:?}");
        }
    }

    #[test]
    fn values_that_look_like_markers_are_known() {
        assert!(has_marker("x\n# END vault-agent\ny"));
        assert!(has_marker("x\r# BEGIN vault-agent"));
        assert!(!has_marker("x # END vault-agent"));
    }
}
