//! Text of units that `install` writes for systemd: words in it, and whether a person has edited
//! one since. What is in a unit, and the file system, are not here.

use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::hash::Hash;

use crate::hint::hinted;

/// Whose service manager runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The host's.
    Host,
    /// A user's own.
    User,
}

/// What is where a unit is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Absent,
    /// The very unit.
    Same,
    /// One that `install` wrote, and nobody has touched.
    Ours,
    /// One that somebody else wrote or edited.
    Edited,
}

/// Puts the first line before the text of a unit, by which an edit is noticed.
pub(super) fn marked(program: &str, text: &str) -> String {
    let mark = Hash::of(&[text.as_bytes()]);
    format!(
        "# Written by `{program} install`. Add to it by `systemctl edit`, not here. ({mark})\n{text}"
    )
}

/// Compares what is there with a marked unit.
pub(super) fn compare(there: Option<&str>, marked: &str) -> Found {
    let Some(there) = there else { return Found::Absent };
    if there == marked {
        return Found::Same;
    }
    let (first, rest) = there.split_once('\n').unwrap_or((there, ""));
    let mark = format!("({})", Hash::of(&[rest.as_bytes()]));
    if first.starts_with("# Written by ") && first.ends_with(&mark) {
        Found::Ours
    } else {
        Found::Edited
    }
}

/// Refuses the first path that no unit can name.
pub fn check_names<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    let odd = |path: &&PathBuf| path.to_str().is_none_or(|text| text.contains(char::is_control));
    match paths.into_iter().find(odd) {
        None => Ok(()),
        Some(odd) => Err(hinted(
            format!("no unit can name `{}`", odd.display().to_string().escape_debug()),
            "give it a name without control characters, in UTF-8",
        )),
    }
}

/// Writes a path, or another text, so that systemd takes it for one word of a list, and for nothing
/// else. Control characters cannot be written.
pub fn word(text: &str) -> String {
    let escaped = percent(text).replace('\\', "\\\\").replace('"', "\\\"");
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '\\' | '"' | '\'' | ';' | '#');
    if !text.is_empty() && text.chars().all(plain) { escaped } else { format!("\"{escaped}\"") }
}

/// As [`word`], for an argument in `ExecStart=`, where `$` names a variable.
pub fn argument(text: &str) -> String {
    word(text).replace('$', "$$")
}

/// Writes a text so that nothing in it is a specifier, for values that are no lists.
pub fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// Returns the lines by which a unit is skipped where its program is gone, as while its package is
/// removed: systemd would try to start it for ever.
pub fn needs(program: &Path) -> String {
    let program = percent(&program.to_string_lossy());
    format!("# Skipped while the program is gone.\nConditionFileIsExecutable={program}\n")
}

/// Tells whether a unit or a drop-in lets a folder, or one that it is in, be written, in a line of
/// one path as [`word`] writes it or of several that need no quotes.
pub fn lets_write(unit: &str, folder: &Path) -> bool {
    let bare = |path: &str| path.trim_start_matches(['-', '+']).to_owned();
    folder.ancestors().any(|folder| {
        let name = word(&folder.to_string_lossy());
        let same = |list: &str| {
            bare(&list.replacen("\"-", "\"", 1)) == name
                || list.split_whitespace().any(|path| bare(path) == name)
        };
        unit.lines().filter_map(|line| line.trim().strip_prefix("ReadWritePaths=")).any(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_unit_is_known() {
        let old = marked("vault-agent", "[Unit]\nA=1\n");
        let new = marked("vault-agent", "[Unit]\nA=2\n");
        assert_eq!(compare(None, &new), Found::Absent);
        assert_eq!(compare(Some(&new), &new), Found::Same);
        assert_eq!(compare(Some(&old), &new), Found::Ours);
        for edited in
            [old.replace("A=1", "A=3"), old.clone() + "\n", "[Unit]\n".to_owned(), String::new()]
        {
            assert_eq!(compare(Some(&edited), &new), Found::Edited, "{edited:?}");
        }
    }

    #[test]
    fn words_stay_words() {
        for (text, expected) in [
            ("/usr/bin/vault-agent", "/usr/bin/vault-agent"),
            ("/srv/my apps", "\"/srv/my apps\""),
            ("/srv/100%", "/srv/100%%"),
            ("/srv/\"x\"\\", "\"/srv/\\\"x\\\"\\\\\""),
            ("/srv/it's", "\"/srv/it's\""),
            ("", "\"\""),
        ] {
            assert_eq!(word(text), expected);
        }
        assert_eq!(argument("/srv/$HOME"), "/srv/$$HOME");
        assert_eq!(word("/srv/$HOME"), "/srv/$HOME");
    }

    #[test]
    fn folders_that_may_be_written_are_found() {
        let odd = ["/srv/my apps", "/srv/100%", "/srv/\"x\"\\", "/srv/it's", "/srv/$HOME", "/b"];
        let mut unit = String::from("[Service]\nReadWritePaths=/a -/b\nReadOnlyPaths=/c\n");
        for path in odd {
            unit += &format!("ReadWritePaths={}\n", word(&format!("-{path}")));
        }
        for path in odd.iter().chain(&["/a", "/b", "/a/x", "/srv/my apps/x"]) {
            assert!(lets_write(&unit, Path::new(path)), "{path}");
        }
        for path in ["/", "/c", "/ab", "/srv", "/srv/my", "/srv/100"] {
            assert!(!lets_write(&unit, Path::new(path)), "{path}");
        }
    }
}
