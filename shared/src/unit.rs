//! Text of units that `install` writes for systemd: words in it, and whether a person has edited one since. What stands in a
//! unit, and the file system, are not here.

use std::path::{Path, PathBuf};

use crate::hash::Hash;

/// What is where a unit is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
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
#[must_use]
pub fn marked(program: &str, text: &str) -> String {
    let mark = Hash::of(&[text.as_bytes()]);
    format!(
        "# Written by `{program} install`. Add to it by `systemctl edit`, not here. ({mark})\n{text}"
    )
}

/// Compares what is there with a marked unit.
#[must_use]
pub fn compare(there: Option<&str>, marked: &str) -> Found {
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

/// Writes a path, or another text, so that systemd takes it for one word of a list, and for nothing else. Control characters
/// cannot be written.
#[must_use]
pub fn word(text: &str) -> String {
    let escaped = percent(text).replace('\\', "\\\\").replace('"', "\\\"");
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '\\' | '"' | '\'' | ';' | '#');
    if !text.is_empty() && text.chars().all(plain) { escaped } else { format!("\"{escaped}\"") }
}

/// As [`word`], for an argument in `ExecStart=`, where `$` names a variable.
#[must_use]
pub fn argument(text: &str) -> String {
    word(text).replace('$', "$$")
}

/// Writes a text so that nothing in it is a specifier, for values that are no lists.
#[must_use]
pub fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// Returns the paths that a unit or a drop-in names in `ReadWritePaths=`, as [`word`] writes them.
pub fn writable(unit: &str) -> impl Iterator<Item = PathBuf> {
    unit.lines().filter_map(|line| line.trim().strip_prefix("ReadWritePaths=")).flat_map(words)
}

/// Tells whether one of `paths` is a folder of `file`, or the file itself.
#[must_use]
pub fn covers(paths: &[PathBuf], file: &Path) -> bool {
    paths.iter().any(|path| file.starts_with(path))
}

/// Splits a list of paths, each with or without quotes, and without what marks one that may be missing.
fn words(line: &str) -> Vec<PathBuf> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.replace("%%", "%").chars().collect::<Vec<_>>().into_iter();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    let paths = words.iter().map(|word| word.trim_start_matches(['-', '+']));
    paths.filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
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
    fn writable_paths_read_back() {
        let odd = ["/srv/my apps", "/srv/100%", "/srv/\"x\"\\", "/srv/it's", "/srv/$HOME", "/b"];
        let mut unit = String::from("[Service]\nReadWritePaths=/a -/b\nReadOnlyPaths=/c\n");
        for path in odd {
            unit += &format!("ReadWritePaths={}\n", word(&format!("-{path}")));
        }
        let paths: Vec<PathBuf> = writable(&unit).collect();
        let expected = ["/a", "/b"].iter().chain(&odd).map(PathBuf::from);
        assert_eq!(paths, expected.collect::<Vec<_>>());
        assert!(covers(&paths, Path::new("/a/x/.env")));
        assert!(!covers(&paths, Path::new("/ab/.env")));
        assert!(!covers(&paths, Path::new("/c/.env")));
    }
}
