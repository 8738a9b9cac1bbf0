//! The tree that is judged: reading it, and what may stand at its root.

use std::path::{Path, PathBuf};

use crate::{check, pass};

/// The only visible folders at the root; build output aside.
const FOLDERS: [&str; 5] = ["docs", "shared", "tests", "vault-agent", "vault-server"];

/// A text file with its path from the root.
pub struct File {
    /// Joined by `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl File {
    /// Makes a sample.
    pub fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the root").into()
}

/// Reads every file below the fixed folders whose name ends in `ending`, in order of their paths.
pub fn files(ending: &str) -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    for folder in FOLDERS {
        collect(&root, &root.join(folder), ending, &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no `{ending}` file found");
    found
}

fn collect(root: &Path, folder: &Path, ending: &str, found: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !is_output(&path) && !name.starts_with('.') {
            collect(root, &path, ending, found);
        } else if path.is_file() && name.ends_with(ending) {
            let text = std::fs::read_to_string(&path).expect("readable UTF-8");
            let path = path.strip_prefix(root).expect("a path below the root");
            found.push(File { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

/// Tells build output: Cargo tags its folders, and the book is built into `docs/book`.
fn is_output(path: &Path) -> bool {
    path.join("CACHEDIR.TAG").exists() || path.ends_with("docs/book")
}

/// Returns the text with line comments blanked out, so that prose about code is not taken for code.
pub fn code(text: &str) -> String {
    let uncommented = |line: &str| match line.find("//") {
        // `://` is part of an address inside a string.
        Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
        Some(_) | None => line.to_owned(),
    };
    text.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

fn strangers(folders: &[String]) -> Vec<String> {
    let mut faults: Vec<String> = folders
        .iter()
        .filter(|name| !FOLDERS.contains(&name.as_str()))
        .map(|name| format!("{name}/: not a folder of this repository"))
        .collect();
    let missing = FOLDERS.iter().filter(|name| !folders.iter().any(|folder| folder == *name));
    faults.extend(missing.map(|name| format!("{name}/: missing")));
    faults
}

#[test]
fn the_root_holds_the_fixed_folders_only() {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && !is_output(&entry.path()) {
            folders.push(name);
        }
    }
    pass(&strangers(&folders));

    let sample = ["docs", "shared", "tests", "vault-agent", "scripts"].map(str::to_owned);
    check(
        &strangers(&sample),
        &["scripts/: not a folder of this repository", "vault-server/: missing"],
    );
}

#[test]
fn comments_are_no_code() {
    assert_eq!(code("a // b\nlet u = \"http://c\";"), "a \nlet u = \"http://c\";");
}
