//! File systems of a test's own: small, full, read-only or gone, seen by that test and its children
//! alone.

use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::FdFlags;

use crate::namespaces;

/// Runs `body` in a mount namespace of its own, as [`namespaces::own`].
///
/// # Panics
/// If `body` does, or if file systems cannot be mounted here, with the reason.
pub fn own<F: FnOnce()>(body: F) {
    namespaces::own(&["--mount"], body);
}

/// Mounts a file system in memory at a folder, which is made if it is not there, whose times are no
/// finer than a tick of the kernel's clock: those of others are, since Linux 6.13, as soon as
/// somebody has looked at them.
///
/// # Panics
/// If it cannot be mounted.
pub fn coarse(point: &Path) {
    std::fs::create_dir_all(point).expect("a writable folder");
    run("mount", &["-t", "ramfs", "-o", "mode=0700", "test"], point);
}

/// A small file system in memory, mounted at a folder.
#[derive(Debug)]
pub struct Disk {
    point: PathBuf,
    size: &'static str,
}

impl Disk {
    /// Mounts a new one of `size`, e.g. `64k`, at a folder, which is made if it is not there.
    #[must_use]
    pub fn new(point: &Path, size: &'static str) -> Self {
        std::fs::create_dir_all(point).expect("a writable folder");
        let disk = Self { point: point.to_owned(), size };
        disk.mount();
        disk
    }

    /// Mounts an empty file system in place of one that was unmounted.
    pub fn mount(&self) {
        let options = format!("size={},mode=0700", self.size);
        run("mount", &["-t", "tmpfs", "-o", &options, "test"], &self.point);
    }

    /// Takes it away, and all that is in it.
    pub fn unmount(&self) {
        run("umount", &[], &self.point);
    }

    /// Allows or forbids to write on it.
    pub fn set_writable(&self, writable: bool) {
        // Of the mount alone: a user's namespace may not touch the other options.
        let options = if writable { "remount,bind,rw" } else { "remount,bind,ro" };
        run("mount", &["-o", options], &self.point);
    }

    /// Fills it to the last byte, until [`Disk::make_room`].
    ///
    /// # Panics
    /// If it does not become full.
    pub fn fill(&self) {
        let mut filler = std::fs::File::create(self.filler()).expect("a writable disk");
        let full = std::io::copy(&mut std::io::repeat(b'x'), &mut filler).expect_err("no room");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    /// Undoes [`Disk::fill`].
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still runs there may go on; the folder below can be removed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.point).output();
    }
}

/// A mounted file system that answers nothing, as that of a server which is away.
#[derive(Debug)]
pub struct Hang {
    point: PathBuf,
    /// Its other end, which nobody reads.
    _silent: std::fs::File,
}

impl Hang {
    /// Mounts one over a folder.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn over(point: &Path) -> Self {
        let mut both = std::fs::OpenOptions::new();
        let silent = both.read(true).write(true).open("/dev/fuse").expect("a kernel with FUSE");
        rustix::io::fcntl_setfd(&silent, FdFlags::empty()).expect("an open file");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", silent.as_raw_fd());
        run("mount", &["--internal-only", "-t", "fuse", "-o", &options, "silent"], point);
        rustix::io::fcntl_setfd(&silent, FdFlags::CLOEXEC).expect("an open file");
        Self { point: point.to_owned(), _silent: silent }
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        // Whoever waits for it gets an error when the other end is closed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.point).output();
    }
}

fn run(program: &str, args: &[&str], point: &Path) {
    let ran = Command::new(program).args(args).arg(point).output();
    let ran = ran.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let point = point.display();
    assert!(ran.status.success(), "{program} {point}: {}", String::from_utf8_lossy(&ran.stderr));
}
