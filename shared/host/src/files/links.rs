//! The links on the way to a file: to write where they lead only those are followed that belong to
//! people who are trusted with it; to watch the way all of them count.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::FileError;

/// How many links may follow each other (path_resolution(7)).
const MOST: usize = 40;

/// Where links lead.
#[derive(Debug, PartialEq, Eq)]
pub struct Followed {
    /// The path without any link.
    pub real: PathBuf,
    /// The links on the way.
    pub links: Vec<PathBuf>,
}

/// Follows the links in an absolute path, its last name included; each belongs to root or one of
/// `owners`.
///
/// What comes out is opened without following any more: a link that is exchanged meanwhile is
/// refused.
///
/// # Errors
/// [`FileError::ForeignLink`], or when the path cannot be looked at.
pub fn follow(path: &Path, owners: &[u32]) -> Result<Followed, FileError> {
    let (mut real, mut links) = (PathBuf::from("/"), Vec::new());
    let mut rest: VecDeque<OsString> = names(path);
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let here = real.join(&name);
        let found = match here.symlink_metadata() {
            Ok(found) => found,
            Err(why) if why.kind() == ErrorKind::NotFound => {
                real = here;
                real.extend(rest);
                break;
            }
            Err(why) => return Err(FileError::io("look at", &here)(why)),
        };
        if !found.is_symlink() {
            real = here;
            continue;
        }
        if found.uid() != 0 && !owners.contains(&found.uid()) {
            return Err(FileError::ForeignLink { path: here, uid: found.uid() });
        }
        let target = std::fs::read_link(&here).map_err(FileError::io("read", &here))?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        for name in names(&target).into_iter().rev() {
            rest.push_front(name);
        }
        links.push(here);
        if links.len() > MOST {
            return Err(FileError::Symlink(path.to_owned()));
        }
    }
    Ok(Followed { real, links })
}

/// Returns every link on the way to an absolute path, each by its real place, and last the place
/// that it leads to, whether anything is there or not.
pub fn ways(path: &Path) -> Vec<PathBuf> {
    let (mut links, mut at) = (Vec::new(), PathBuf::from("/"));
    let mut rest = names(path);
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
                for part in names(&target).into_iter().rev() {
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
fn names(path: &Path) -> VecDeque<OsString> {
    let plain = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    plain.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_of_trusted_people_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("releases/r1")).unwrap();
        symlink("releases/r1", root.join("current")).unwrap();
        symlink(root.join("current/../r1/.env"), root.join("releases/r1/link")).unwrap();
        let us = rustix::process::geteuid().as_raw();
        let followed = follow(&root.join("current/link"), &[us]).unwrap();
        assert_eq!(followed.real, root.join("releases/r1/.env"));
        assert_eq!(
            followed.links,
            [root.join("current"), root.join("releases/r1/link"), root.join("current")]
        );
        let plain = root.join("releases/r1/none/.env");
        assert_eq!(follow(&plain, &[]).unwrap(), Followed { real: plain, links: Vec::new() });
        symlink("loop", root.join("loop")).unwrap();
        assert!(matches!(follow(&root.join("loop"), &[us]), Err(FileError::Symlink(_))));
    }

    #[test]
    fn all_links_are_found_to_the_end() {
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

    #[test]
    fn a_link_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let link = root.join("link");
        symlink("/etc", &link).unwrap();
        let us = rustix::process::geteuid();
        let (owner, trusted): (u32, &[u32]) = if us.is_root() {
            rustix::fs::chownat(
                rustix::fs::CWD,
                &link,
                Some(rustix::fs::Uid::from_raw(65534)),
                None,
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap();
            (65534, &[1])
        } else {
            (us.as_raw(), &[])
        };
        let refused = follow(&link.join("passwd"), trusted).unwrap_err();
        let named = |path: &Path, uid| path == link && uid == owner;
        assert!(
            matches!(&refused, FileError::ForeignLink { path, uid } if named(path, *uid)),
            "{refused}"
        );
    }
}
