//! Namespaces of a test's own (namespaces(7)): what it changes there nobody else sees.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

/// Set in the process that has namespaces of its own.
const INSIDE: &str = "TEST_WITH_OWN_NAMESPACES";

/// Runs `body` in namespaces of its own, by starting this very test once more in there: as root, or
/// as a user where the system lets users have namespaces. `kinds` are options of unshare(1).
///
/// # Panics
/// If `body` does, or if there are no such namespaces here, with the reason.
pub fn own<F: FnOnce()>(kinds: &[&str], body: F) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = path.split_once("::").expect("a test in a module");
    let mut command = Command::new("unshare");
    command.args(kinds);
    let root = Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0);
    if !root {
        command.arg("--map-root-user");
    }
    let this = std::env::current_exe().expect("a program");
    command.arg(this).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let ran = command.output().expect("unshare(1) of util-linux is there");
    let [out, err] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(
        ran.status.success() && out.contains(" 1 passed;"),
        "`{test}` failed in namespaces of its own (unshare: root, or user namespaces, are needed):\n{out}\n{err}"
    );
}
