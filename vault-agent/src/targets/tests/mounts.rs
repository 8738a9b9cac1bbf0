//! Tests that need mounts of their own: each is run once more, in a mount namespace.

use std::process::Command;

/// Set in the process that has mounts of its own.
const INSIDE: &str = "TEST_WITH_OWN_MOUNTS";

/// Tells whether this process has mounts of its own; else runs the test of that name in one that
/// has.
pub fn are_own(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut inside = Command::new("unshare");
    inside.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        inside.arg("--map-root-user");
    }
    inside.arg(std::env::current_exe().unwrap());
    let ran = inside.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let [out, err] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(ran.status.success() && out.contains(" 1 passed;"), "{out}\n{err}");
    for line in err.lines().filter(|line| line.starts_with("not made here")) {
        eprintln!("{line}");
    }
    false
}
