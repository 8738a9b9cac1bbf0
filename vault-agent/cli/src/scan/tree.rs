//! Walks files and folders for a scan: nothing is followed or waited for, and what is passed by is
//! told.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use host::files;
use host::hint::Failure;

/// File systems of the kernel's own making: what is in them is no file (`linux/magic.h`).
const NO_FILES: [i128; 9] = [
    0x9FA0,      // proc
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x6367_7270, // cgroup2
    0x0027_E0EB, // cgroup
    0x7363_6673, // securityfs
    0xCAFE_4A11, // bpf
    0x6165_676C, // pstore
];

/// Why something was passed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// Links are not followed.
    Link,
    /// A pipe, a socket or a device, which is not opened.
    Special(&'static str),
    /// Compressed objects of a git repository.
    Objects,
    /// A file system without files, such as /proc.
    Kernel,
}

impl Skipped {
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Link => "symbolic link",
            Self::Special(kind) => kind,
            Self::Objects => "git's object store (--git looks into it)",
            Self::Kernel => "file system of the kernel",
        }
    }
}

/// What a walk comes by.
pub enum Step {
    /// A regular file, open, up to the end that it had then: one that is written to while it is
    /// read has an end too.
    File(io::Take<File>),
    Skipped(Skipped),
}

/// Walks `root`, which somebody named: a link or a pipe there is a mistake to be told, not to be
/// passed by.
///
/// # Errors
/// What is named and cannot be looked into; whatever `visit` meets.
pub fn walk(
    root: &Path,
    mut visit: impl FnMut(&Path, io::Result<Step>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let shown = root.display();
    if root.is_relative() {
        // What is left of a deleted folder is empty, and would be clean.
        files::absolute(root).map_err(|why| Failure::remote(why.to_string()).hint(why.hint()))?;
    }
    let found =
        root.symlink_metadata().map_err(|why| Failure::remote(format!("`{shown}`: {why}")))?;
    if found.is_symlink() {
        let failure =
            Failure::remote(format!("`{shown}` is a symbolic link, which is not followed"));
        return Err(match root.canonicalize() {
            Ok(real) => failure.hint(format!("name `{}` instead", real.display())),
            Err(_) => failure.hint("it leads nowhere"),
        }
        .into());
    }
    if let Some(kind) = special(found.file_type()) {
        let text = format!("`{shown}` is a {kind}, which is not opened");
        return Err(Failure::remote(text).hint("name files and folders").into());
    }
    if is_kernels(root)? {
        let text = format!("`{shown}` is in a file system of the kernel, which holds no files");
        return Err(Failure::remote(text).into());
    }
    // Depth first in the order of names; a folder is listed only when its turn has come.
    let mut open: Vec<(PathBuf, u64)> = vec![(root.to_owned(), found.dev())];
    while let Some((path, device)) = open.pop() {
        if let Some(found) = step(&path, device, &mut open).transpose() {
            visit(&path, found)?;
        }
    }
    Ok(())
}

/// Opens one path, or puts what is in a folder on the list; the kernel's file systems begin where
/// the device is another than that of the folder around it.
fn step(path: &Path, device: u64, open: &mut Vec<(PathBuf, u64)>) -> io::Result<Option<Step>> {
    let found = path.symlink_metadata()?;
    if found.is_symlink() {
        return Ok(Some(Step::Skipped(Skipped::Link)));
    }
    if let Some(kind) = special(found.file_type()) {
        return Ok(Some(Step::Skipped(Skipped::Special(kind))));
    }
    // The name may have become a link or a pipe by now.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    if found.is_dir() {
        if device != found.dev() && is_kernels(path)? {
            return Ok(Some(Step::Skipped(Skipped::Kernel)));
        }
        if is_object_store(path) {
            return Ok(Some(Step::Skipped(Skipped::Objects)));
        }
        let inside: io::Result<Vec<PathBuf>> =
            path.read_dir()?.map(|entry| Ok(entry?.path())).collect();
        let mut inside = inside?;
        inside.sort_unstable_by(|a, b| b.cmp(a));
        open.extend(inside.into_iter().map(|path| (path, found.dev())));
        return Ok(None);
    }
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let opened = file.metadata()?;
    Ok(Some(match special(opened.file_type()) {
        Some(kind) => Step::Skipped(Skipped::Special(kind)),
        None => Step::File(file.take(opened.len())),
    }))
}

/// Returns what to call something that is neither file nor folder nor link.
fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_fifo() {
        Some("named pipe")
    } else if kind.is_socket() {
        Some("socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("device")
    } else {
        None
    }
}

fn is_kernels(path: &Path) -> io::Result<bool> {
    let kind = i128::from(rustix::fs::statfs(path)?.f_type);
    Ok(NO_FILES.contains(&kind))
}

/// Tells whether this is the folder `objects` of a git repository.
fn is_object_store(path: &Path) -> bool {
    path.ends_with("objects")
        && path.with_file_name("HEAD").is_file()
        && path.with_file_name("refs").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(root: &Path) -> Vec<String> {
        let mut seen = Vec::new();
        walk(root, |path, step| {
            let name = path.strip_prefix(root).unwrap().display();
            seen.push(match step {
                Ok(Step::File(file)) => format!("{name} {}", file.limit()),
                Ok(Step::Skipped(why)) => format!("{name} {}", why.text()),
                Err(why) => format!("{name} {why}"),
            });
            Ok(())
        })
        .unwrap();
        seen
    }

    #[test]
    fn links_pipes_and_object_stores_are_passed_by_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for inner in ["b", "repo/.git/objects/00", "repo/.git/refs", "objects"] {
            std::fs::create_dir_all(root.join(inner)).unwrap();
        }
        for (name, text) in [
            ("a", "1"),
            ("b/c", "22"),
            ("repo/.git/HEAD", "r"),
            ("repo/.git/objects/00/x", "z"),
            ("objects/y", ""),
        ] {
            let mut file = File::create(root.join(name)).unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(root.join("pipe")).status().unwrap();
        assert!(pipe.success());
        assert_eq!(
            seen(root),
            [
                "a 1",
                "b/c 2",
                "link symbolic link",
                "objects/y 0",
                "pipe named pipe",
                "repo/.git/HEAD 1",
                "repo/.git/objects git's object store (--git looks into it)",
            ]
        );
        for (name, text) in
            [("link", "is a symbolic link"), ("pipe", "is a named pipe"), ("no", "No such file")]
        {
            let why = walk(&root.join(name), |_, _| Ok(())).unwrap_err().to_string();
            assert!(why.contains(text), "{why}");
        }
    }

    #[test]
    fn the_kernels_file_systems_hold_no_files() {
        for name in ["/proc", "/proc/version"] {
            let why = walk(Path::new(name), |_, _| Ok(())).unwrap_err().to_string();
            assert!(why.contains("file system of the kernel"), "{why}");
        }
    }
}
