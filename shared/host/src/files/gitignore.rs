//! What git ignores and tracks, read without git: simple patterns only, and in doubt "not ignored". Pure.

/// More `*` in one pattern would cost too much to match.
const MOST_STARS: usize = 4;

/// One line of a `.gitignore`, if it is one that is understood.
#[derive(Debug, PartialEq, Eq)]
struct Pattern<'a> {
    /// Whether it takes files back in.
    negated: bool,
    /// Whether it names the path from its own folder on, and not a file in any folder.
    anchored: bool,
    /// What must match, without leading and trailing `/`.
    glob: &'a str,
    /// Whether only a folder matches.
    folder: bool,
}

/// Returns what the last matching line of `file` says about `path`, relative to the file's folder:
/// ignored or not; `None` if no line matches.
pub(super) fn verdict(file: &str, path: &str) -> Option<bool> {
    file.lines()
        .rev()
        .filter_map(parse)
        .find(|pattern| matches(pattern, path))
        .map(|pattern| !pattern.negated)
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

/// Tells whether an index may track `path`, relative to its root: looks for the path itself, which every entry of
/// versions 2 and 3 holds, followed by NUL; version 4 shortens paths, so everything may be tracked.
pub(super) fn may_track(index: &[u8], path: &str) -> bool {
    let Some(version) = index.strip_prefix(b"DIRC").and_then(|rest| rest.get(..4)) else {
        return !index.is_empty();
    };
    let entry = [path.as_bytes(), b"\0"].concat();
    version > &[0, 0, 0, 3][..] || index.windows(entry.len()).any(|window| window == entry)
}

fn parse(line: &str) -> Option<Pattern<'_>> {
    let line = line.trim_end_matches([' ', '\r']);
    let (negated, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let folder = line.ends_with('/');
    let glob = line.trim_end_matches('/');
    let anchored = glob.contains('/');
    Some(Pattern { negated, anchored, glob: glob.trim_start_matches('/'), folder })
}

fn matches(pattern: &Pattern<'_>, path: &str) -> bool {
    // A pattern that is not understood ignores nothing, and takes back everything.
    let stars = pattern.glob.matches('*').count();
    if pattern.glob.contains(['[', '\\']) || pattern.glob.contains("**") || stars > MOST_STARS {
        return pattern.negated;
    }
    let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
    ends.iter().any(|end| {
        let part = &path[..*end];
        let is_folder = *end < path.len();
        let part = if pattern.anchored { part } else { part.rsplit('/').next().unwrap_or(part) };
        (is_folder || !pattern.folder) && glob(pattern.glob.as_bytes(), part.as_bytes())
    })
}

/// Matches `*` and `?`, neither of which crosses a `/`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            let reach = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=reach).any(|taken| glob(rest, &text[taken..]))
        }
        (Some((b'?', rest)), Some((c, text))) if *c != b'/' => glob(rest, text),
        (Some((p, rest)), Some((c, text))) if p == c => glob(rest, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, path: &str, expected: Option<bool>) {
        assert_eq!(verdict(file, path), expected, "{file:?} on {path:?}");
    }

    #[test]
    fn simple_patterns_are_understood() {
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
    fn in_doubt_nothing_is_ignored() {
        check("[.]env", ".env", None);
        check("**/.env", ".env", None);
        check(".env\n!**/x", ".env", Some(false));
    }

    #[test]
    fn lines_are_escaped() {
        assert_eq!(line_for("a b/[x]*.env"), "/a\\ b/\\[x]\\*.env");
        check(&line_for("a/.env"), "a/.env", Some(true));
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
