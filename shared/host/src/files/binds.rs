//! What the tables of mounts tell, without asking any file system: where else a single file is
//! mounted, as Docker and Podman do it, so that who reads it there keeps seeing the old file when a
//! new one takes its name; and which files are on one file system.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What the kernel adds to the name of a file that is gone where it was mounted from.
const GONE: &[u8] = b"//deleted";

/// A line of a table of mounts (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The file system, as `major:minor`.
    device: Vec<u8>,
    /// What of it is mounted.
    root: Vec<u8>,
    /// Where.
    point: PathBuf,
}

/// All mounts that this process may look at, as they were at one moment.
#[derive(Debug)]
pub struct Mounts {
    own: Vec<Mount>,
    others: Vec<Vec<Mount>>,
}

impl Mounts {
    /// Reads the tables of all mount namespaces: some milliseconds.
    #[must_use]
    pub fn read() -> Self {
        let own = table(Path::new("/proc/self/mountinfo"));
        Self { own, others: others().iter().map(|file| table(file)).collect() }
    }

    /// Returns where the file at `path`, absolute and without links, is mounted by itself.
    #[must_use]
    pub fn of(&self, path: &Path) -> Vec<PathBuf> {
        let Some(wanted) = within(&self.own, path) else { return Vec::new() };
        let tables = std::iter::once(&self.own).chain(&self.others);
        let found: BTreeSet<PathBuf> =
            tables.flat_map(|mounts| elsewhere(mounts, &wanted, path)).collect();
        found.into_iter().collect()
    }
}

/// The file systems that this process sees, as they were at one moment.
#[derive(Debug)]
pub struct Devices(Vec<Mount>);

impl Devices {
    /// Reads the kernel's table: no file system is asked.
    #[must_use]
    pub fn read() -> Self {
        Self(table(Path::new("/proc/self/mountinfo")))
    }

    /// Tells whether two files, whose paths are absolute and without links, are on one file system:
    /// else they are not the same one.
    #[must_use]
    pub fn share(&self, one: &Path, other: &Path) -> bool {
        let device = |path| within(&self.0, path).map(|(device, _)| device);
        device(one) == device(other)
    }
}

/// The mount points that this process sees, as they were at one moment.
#[derive(Debug, Default)]
pub struct Points(Vec<PathBuf>);

impl Points {
    /// Reads the kernel's table: no file system is asked.
    #[must_use]
    pub fn read() -> Self {
        Self(table(Path::new("/proc/self/mountinfo")).into_iter().map(|it| it.point).collect())
    }

    /// Returns where the file system of the file at `path`, absolute and without links, is mounted.
    #[must_use]
    pub fn of(&self, path: &Path) -> &Path {
        let above = self.0.iter().filter(|point| path.starts_with(point));
        let nearest = above.max_by_key(|point| point.as_os_str().len());
        nearest.map_or(Path::new("/"), PathBuf::as_path)
    }

    /// Returns where more, or less, is mounted at another moment.
    #[must_use]
    pub fn other(&self, then: &Self) -> BTreeSet<PathBuf> {
        let mut counts: BTreeMap<&PathBuf, isize> = BTreeMap::new();
        for (points, one) in [(&self.0, -1), (&then.0, 1)] {
            for point in points {
                *counts.entry(point).or_default() += one;
            }
        }
        counts.into_iter().filter(|(_, more)| *more != 0).map(|(it, _)| it.clone()).collect()
    }
}

impl<const N: usize> From<[PathBuf; N]> for Points {
    fn from(points: [PathBuf; N]) -> Self {
        Self(points.into())
    }
}

/// Returns the tables of the other mount namespaces, one of each.
fn others() -> Vec<PathBuf> {
    let own = std::fs::read_link("/proc/self/ns/mnt").ok();
    let mut seen: BTreeSet<PathBuf> = own.into_iter().collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let folders = processes.map(|process| process.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit))
    });
    let is_new = |folder: &PathBuf| {
        std::fs::read_link(folder.join("ns/mnt")).is_ok_and(|name| seen.insert(name))
    };
    folders.filter(is_new).map(|folder| folder.join("mountinfo")).collect()
}

/// Returns file system and path in it of a file.
fn within(mounts: &[Mount], path: &Path) -> Option<(Vec<u8>, Vec<u8>)> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    // Of those at one point the last one lies on top.
    let mount = above.max_by_key(|mount| mount.point.as_os_str().len())?;
    let rest = path.strip_prefix(&mount.point).ok()?;
    let mut root = PathBuf::from(OsString::from_vec(mount.root.clone()));
    if !rest.as_os_str().is_empty() {
        root.push(rest);
    }
    Some((mount.device.clone(), root.into_os_string().into_vec()))
}

/// Returns where a file is mounted, but for its own path.
fn elsewhere(mounts: &[Mount], wanted: &(Vec<u8>, Vec<u8>), path: &Path) -> BTreeSet<PathBuf> {
    let (device, root) = wanted;
    let is_it = |mount: &&Mount| {
        mount.device == *device
            && mount.root.strip_suffix(GONE).unwrap_or(&mount.root) == *root
            && mount.point != path
    };
    mounts.iter().filter(is_it).map(|mount| mount.point.clone()).collect()
}

fn table(file: &Path) -> Vec<Mount> {
    let text = std::fs::read(file).unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(text: &[u8]) -> Option<Mount> {
    let mut fields = text.split(|byte| *byte == b' ').skip(2);
    let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
    let point = PathBuf::from(OsString::from_vec(unescaped(point)));
    Some(Mount { device: device.to_vec(), root: unescaped(root), point })
}

/// Undoes `\040` and the like.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_over_another_is_a_change_at_one_point() {
        let [root, mnt, file] = ["/", "/mnt", "/mnt/.env"].map(PathBuf::from);
        let before = Points::from([root.clone(), mnt.clone()]);
        assert_eq!(before.of(Path::new("/mnt/a/.env")), mnt);
        assert_eq!(before.of(Path::new("/mnt2/.env")), root);
        assert!(before.other(&Points::from([mnt.clone(), root.clone()])).is_empty());
        let twice = Points::from([root.clone(), mnt.clone(), mnt.clone(), file.clone()]);
        assert_eq!(before.other(&twice), [mnt.clone(), file.clone()].into());
        assert_eq!(twice.other(&before), [mnt, file].into());
    }

    #[test]
    fn a_single_file_is_found_where_it_is_mounted() {
        let text = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            22 21 8:2 /@home /home rw - btrfs /dev/sdb rw\n\
            90 21 8:2 /@home/a/x\\040y.env /run/secrets/app rw - btrfs /dev/sdb rw\n\
            91 21 8:2 /@home/a/x\\040y.env//deleted /run/old rw - btrfs /dev/sdb rw\n\
            92 21 8:2 /@home/a /mnt rw - btrfs /dev/sdb rw\n\
            93 21 8:1 /@home/a/x\\040y.env /run/other rw - ext4 /dev/sda1 rw\n\
            short\n";
        let mounts: Vec<Mount> = text.split(|byte| *byte == b'\n').filter_map(line).collect();
        assert_eq!(mounts.len(), 6);
        let path = Path::new("/home/a/x y.env");
        let wanted = within(&mounts, path).unwrap();
        assert_eq!(wanted, (b"8:2".to_vec(), b"/@home/a/x y.env".to_vec()));
        let found: Vec<_> = elsewhere(&mounts, &wanted, path).into_iter().collect();
        assert_eq!(found, [Path::new("/run/old"), Path::new("/run/secrets/app")]);
        assert!(elsewhere(&mounts, &wanted, Path::new("/run/old")).len() == 1);
        let own = Path::new("/run/secrets/app");
        assert_eq!(within(&mounts, own).unwrap(), wanted, "a file that is a mount point itself");
        let devices = Devices(mounts);
        for (other, expected) in
            [("/home/b", true), ("/mnt/x", true), ("/home", true), ("/b", false)]
        {
            assert_eq!(devices.share(path, Path::new(other)), expected, "{other}");
        }
    }
}
