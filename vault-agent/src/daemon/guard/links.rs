//! Where a path leads: the links on the way, and the place at its end. Watching them does not live
//! here.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links that are followed; the kernel follows no more either (path_resolution(7)).
const MOST: usize = 40;

/// Returns every link on the way to an absolute path, each by its real place, and last the place
/// that it leads to, whether anything is there or not.
pub(super) fn ways(path: &Path) -> Vec<PathBuf> {
    let (mut links, mut at) = (Vec::new(), PathBuf::from("/"));
    let mut rest = parts(path);
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links.len() < MOST => {
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
                links.push(next);
            }
            Ok(_) | Err(_) => at = next,
        }
    }
    links.push(at);
    links
}

/// Returns the names that a path goes through.
fn parts(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        for (link, to) in [("a/up", "../a/b"), ("x", "a/up/y"), ("loop", "loop"), ("a/b/y", "..")] {
            symlink(to, root.join(link)).unwrap();
        }
        let check = |path: &str, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(|way| root.join(way)).collect();
            assert_eq!(ways(&root.join(path)), expected, "{path}");
        };
        check("a/b/.env", &["a/b/.env"]);
        check("none/.env", &["none/.env"]);
        check("a/up/.env", &["a/up", "a/b/.env"]);
        check("x", &["x", "a/up", "a/b/y", "a"]);
        check("x/../.env", &["x", "a/up", "a/b/y", ".env"]);
        assert_eq!(ways(&root.join("loop")).len(), MOST + 1);
    }
}
