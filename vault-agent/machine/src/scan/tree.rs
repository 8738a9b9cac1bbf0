//! Walks files and folders for a scan: nothing is followed or waited for, and what is passed by is
//! told. Each name is opened in its folder, which is open already: whoever exchanges a folder for a
//! link meanwhile leads nobody out of it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use host::files;
use host::hint::Failure;
use shared::text::like;

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

/// Folders inside each other that are entered: each holds a file descriptor.
const DEEPEST: usize = 256;

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
    /// Says it to people.
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
    /// Something that is not searched.
    Skipped(Skipped),
}

/// A name that is to be looked at.
struct Open {
    path: PathBuf,
    /// The folder that it is in, and its name there.
    folder: Option<Rc<OwnedFd>>,
    name: OsString,
    /// The device of that folder.
    device: u64,
    depth: usize,
    /// How many of the patterns lead here.
    matched: usize,
}

/// Walks `root`, which somebody named: a link or a pipe there is a mistake to be told, not to be
/// passed by.
///
/// # Errors
/// What is named and cannot be looked into; whatever `visit` meets.
pub fn walk(
    root: &Path,
    visit: impl FnMut(&Path, io::Result<Step>) -> anyhow::Result<()>,
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
    if let Some(kind) = special(FileType::from_raw_mode(found.mode())) {
        let text = format!("`{shown}` is a {kind}, which is not opened");
        return Err(Failure::remote(text).hint("name files and folders").into());
    }
    if is_kernels(rustix::fs::statfs(root).map_err(io::Error::from)?.f_type) {
        let text = format!("`{shown}` is in a file system of the kernel, which holds no files");
        return Err(Failure::remote(text).into());
    }
    below(root, &[], |_| false, visit)
}

/// Walks what the patterns lead to from `base`, name by name, and all below it, but for what is
/// left out. A name that is not there is no fault.
///
/// # Errors
/// Whatever `visit` meets.
pub fn below(
    base: &Path,
    patterns: &[String],
    left_out: impl Fn(&Path) -> bool,
    mut visit: impl FnMut(&Path, io::Result<Step>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let device = base.symlink_metadata().map_or(0, |found| found.dev());
    // Depth first in the order of names; a folder is listed only when its turn has come.
    let mut open = vec![Open {
        path: base.to_owned(),
        folder: None,
        name: base.as_os_str().to_owned(),
        device,
        depth: 0,
        matched: 0,
    }];
    while let Some(next) = open.pop() {
        let looked = step(&next, patterns, &left_out, &mut open);
        let is_absent = |why: &io::Error| why.kind() == io::ErrorKind::NotFound;
        if !patterns.is_empty() && looked.as_ref().is_err_and(is_absent) {
            continue;
        }
        if let Some(found) = looked.transpose() {
            visit(&next.path, found)?;
        }
    }
    Ok(())
}

/// Opens one name, or puts what is in a folder on the list; the kernel's file systems begin where
/// the device is another than that of the folder around it.
fn step(
    at: &Open,
    patterns: &[String],
    left_out: &impl Fn(&Path) -> bool,
    open: &mut Vec<Open>,
) -> io::Result<Option<Step>> {
    let folder: BorrowedFd<'_> = at.folder.as_ref().map_or(CWD, |folder| folder.as_fd());
    let found = rustix::fs::statat(folder, &at.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind == FileType::Symlink {
        return Ok(Some(Step::Skipped(Skipped::Link)));
    }
    if let Some(kind) = special(kind) {
        return Ok(Some(Step::Skipped(Skipped::Special(kind))));
    }
    // The name may have become a link or a pipe by now.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let rest = patterns.get(at.matched);
    if kind != FileType::Directory {
        if rest.is_some() {
            return Ok(None);
        }
        let file = File::from(rustix::fs::openat(folder, &at.name, flags, Mode::empty())?);
        let opened = file.metadata()?;
        return Ok(Some(match special(FileType::from_raw_mode(opened.mode())) {
            Some(kind) => Step::Skipped(Skipped::Special(kind)),
            None => Step::File(file.take(opened.len())),
        }));
    }
    // A folder on the way need not be readable.
    let is_plain = rest.is_some_and(|pattern| !pattern.contains('*'));
    let flags = if is_plain { flags | OFlags::PATH } else { flags } | OFlags::DIRECTORY;
    let inner = rustix::fs::openat(folder, &at.name, flags, Mode::empty())?;
    let device = rustix::fs::fstat(&inner)?.st_dev;
    if at.device != device && is_kernels(rustix::fs::fstatfs(&inner)?.f_type) {
        return Ok(Some(Step::Skipped(Skipped::Kernel)));
    }
    if is_object_store(&at.path) {
        return Ok(Some(Step::Skipped(Skipped::Objects)));
    }
    if at.depth >= DEEPEST {
        return Err(io::Error::other(format!("more than {DEEPEST} folders inside each other")));
    }
    let mut names = match rest {
        Some(plain) if is_plain => vec![OsString::from(plain)],
        _ => listed(&inner, rest)?,
    };
    names.sort_unstable_by(|a, b| b.cmp(a));
    let (inner, depth) = (Rc::new(inner), at.depth + 1);
    let matched = at.matched + usize::from(rest.is_some());
    for name in names {
        let path = at.path.join(&name);
        if !left_out(&path) {
            let folder = Some(Rc::clone(&inner));
            open.push(Open { path, folder, name, device, depth, matched });
        }
    }
    Ok(None)
}

/// Returns the names in a folder that are as a pattern says.
fn listed(folder: &OwnedFd, pattern: Option<&String>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let is_it = |pattern: &String| like(pattern, &name.to_string_lossy());
        if name != "." && name != ".." && pattern.is_none_or(is_it) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Returns what to call something that is neither file nor folder nor link.
fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => None,
        FileType::Fifo => Some("named pipe"),
        FileType::Socket => Some("socket"),
        _ => Some("device"),
    }
}

fn is_kernels(kind: impl Into<i128>) -> bool {
    NO_FILES.contains(&kind.into())
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
    fn patterns_lead_name_by_name_and_never_over_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for inner in ["jonas/.claude/projects/x", "anna/.claude", "eve", "out/.claude"] {
            std::fs::create_dir_all(root.join(inner)).unwrap();
        }
        for name in ["jonas/.claude/projects/x/a.jsonl", "jonas/.claude/tmp", "out/.claude/b"] {
            File::create(root.join(name)).unwrap();
        }
        File::create(root.join("anna/.claude/log")).unwrap();
        std::os::unix::fs::symlink(root.join("out/.claude"), root.join("eve/.claude")).unwrap();
        let patterns = ["*".to_owned(), ".claude".to_owned()];
        let mut seen = Vec::new();
        let left_out = |path: &Path| path.ends_with("tmp") || path.ends_with("out");
        below(root, &patterns, left_out, |path, step| {
            let name = path.strip_prefix(root).unwrap().display();
            seen.push(match step.unwrap() {
                Step::File(_) => name.to_string(),
                Step::Skipped(why) => format!("{name}: {}", why.text()),
            });
            Ok(())
        })
        .unwrap();
        let expected =
            ["anna/.claude/log", "eve/.claude: symbolic link", "jonas/.claude/projects/x/a.jsonl"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_folder_that_becomes_a_link_leads_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for inner in ["home/a", "home/b", "secret"] {
            std::fs::create_dir_all(root.join(inner)).unwrap();
        }
        for name in ["home/a/1", "home/b/x", "secret/x"] {
            File::create(root.join(name)).unwrap();
        }
        let mut seen = Vec::new();
        walk(&root.join("home"), |path, step| {
            // `b` is on the list by now, and becomes a link.
            if path.ends_with("1") {
                std::fs::rename(root.join("home/b"), root.join("away")).unwrap();
                std::os::unix::fs::symlink(root.join("secret"), root.join("home/b")).unwrap();
            }
            seen.push((path.to_owned(), matches!(step, Ok(Step::File(_)))));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(root.join("home/a/1"), true), (root.join("home/b"), false)]);
    }

    #[test]
    fn the_kernels_file_systems_hold_no_files() {
        for name in ["/proc", "/proc/version"] {
            let why = walk(Path::new(name), |_, _| Ok(())).unwrap_err().to_string();
            assert!(why.contains("file system of the kernel"), "{why}");
        }
    }
}
