//! What git ignores and tracks, read without git. Pure.

use ignore::Match;
use ignore::gitignore::GitignoreBuilder;

/// Returns what the last matching line of `file` says about `path`, relative to the file's folder:
/// ignored or not; `None` if no line matches.
pub(super) fn verdict(file: &str, path: &str) -> Option<bool> {
    let mut rules = GitignoreBuilder::new("");
    for line in file.lines() {
        // A pattern that is none matches nothing, as in git.
        let _ = rules.add_line(None, line);
    }
    match rules.build().ok()?.matched_path_or_any_parents(path, false) {
        Match::None => None,
        Match::Ignore(_) => Some(true),
        Match::Whitelist(_) => Some(false),
    }
}

/// Returns the line that ignores exactly `path`, relative to the folder of the `.gitignore`.
pub(super) fn line_for(path: &str) -> String {
    let mut line = String::from("/");
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\' | ' ') {
            line.push('\\');
        }
        line.push(c);
    }
    line
}

/// Tells whether an index may track `path`, relative to its root: looks for the path itself, which
/// every entry of versions 2 and 3 holds, followed by NUL; version 4 shortens paths, so everything
/// may be tracked.
pub(super) fn may_track(index: &[u8], path: &str) -> bool {
    let Some(version) = index.strip_prefix(b"DIRC").and_then(|rest| rest.get(..4)) else {
        return !index.is_empty();
    };
    let entry = [path.as_bytes(), b"\0"].concat();
    version > &[0, 0, 0, 3][..] || index.windows(entry.len()).any(|window| window == entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, path: &str, expected: Option<bool>) {
        assert_eq!(verdict(file, path), expected, "{file:?} on {path:?}");
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        check("", ".env", None);
        check("# .env\n\n*.log\n", ".env", None);
        check(".env\n", ".env", Some(true));
        check(".env", "a/b/.env", Some(true));
        check("/.env", "a/.env", None);
        check("a/.env", "a/.env", Some(true));
        check("a/.env", "b/a/.env", None);
        check(".env*\r\n", ".env.local", Some(true));
        check("*.env", "x.env", Some(true));
        check("?env", ".env", Some(true));
        check("a/*", "a/b/.env", Some(true));
        check("a/", "a/.env", Some(true));
        check(".env/", ".env", None);
        check(".env\n!.env", ".env", Some(false));
        check("!.env\n.env", ".env", Some(true));
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        check("[.]env", ".env", Some(true));
        check("**/.env", "a/b/.env", Some(true));
        check("a/**", "a/b/.env", Some(true));
        check("a/**/.env", "a/.env", Some(true));
        check(".env\n!**/x", ".env", Some(true));
        check(".env\n!**/.env", "a/.env", Some(false));
        check("[", ".env", None);
    }

    #[test]
    fn lines_are_escaped() {
        assert_eq!(line_for("a b/[x]*.env"), "/a\\ b/\\[x]\\*.env");
        for path in ["a/.env", "a b/[x]*.env", "!a/#b ", "a\\b?"] {
            check(&line_for(path), path, Some(true));
        }
    }

    #[test]
    fn an_index_tells_what_it_may_track() {
        let index = b"DIRC\0\0\0\x02\0\0\0\x01....\0\x04a/.env\0\0\0";
        assert!(may_track(index, "a/.env"));
        assert!(!may_track(index, "b/.env"));
        assert!(may_track(b"DIRC\0\0\0\x04", "b/.env"));
        assert!(!may_track(b"", "b/.env"));
        assert!(may_track(b"what?", "b/.env"));
    }
}
