//! Which crate may use which: the whole list, held against the manifests and the resolved graph.

use std::process::Command;

use crate::tree::root;
use crate::{check, pass};

/// A crate of the workspace.
pub struct Rule {
    /// Name of the package.
    pub name: &'static str,
    /// Its folder.
    pub folder: &'static str,
    /// The crates of the workspace that it uses: all of them, and each stands above it here.
    uses: &'static [&'static str],
}

const fn rule(name: &'static str, folder: &'static str, uses: &'static [&'static str]) -> Rule {
    Rule { name, folder, uses }
}

/// Every crate, those first that use none. Nobody but the tests uses a program.
pub const CRATES: [Rule; 7] = [
    rule("shared", "shared", &[]),
    rule("host", "shared/host", &["shared"]),
    rule("vault-server", "vault-server", &["host", "shared"]),
    rule("machine", "vault-agent/machine", &["host", "shared"]),
    rule("vault-cli", "vault-agent/cli", &["host", "machine", "shared"]),
    rule("vault-agent", "vault-agent", &["host", "machine", "shared"]),
    rule(
        "tests",
        "tests",
        &["host", "machine", "shared", "vault-agent", "vault-cli", "vault-server"],
    ),
];

/// Packages that the program `vault` must not be built of: it has no database and no engine.
const NOT_IN_VAULT: [&str; 3] = ["rusqlite", "libsqlite3-sys", "vault-agent"];

fn manifest(folder: &str) -> toml::Table {
    let file = root().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(file).expect("a manifest");
    text.parse().expect("TOML")
}

/// Returns every manifest with the name of its package.
pub fn manifests() -> Vec<(&'static str, toml::Table)> {
    CRATES.iter().map(|rule| (rule.name, manifest(rule.folder))).collect()
}

/// Judges the list itself: complete, in order, every folder a member and every member a crate.
fn faults_of_list(rules: &[Rule], members: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let above = rules[..at].iter().map(|rule| rule.name).collect::<Vec<_>>();
        let late = rule.uses.iter().filter(|used| !above.contains(used));
        faults.extend(
            late.map(|used| format!("{}: uses `{used}`, which is not below it", rule.name)),
        );
        if !members.iter().any(|member| member == rule.folder) {
            faults.push(format!("{}: `{}` is no member of the workspace", rule.name, rule.folder));
        }
    }
    let ruled = |member: &String| rules.iter().any(|rule| rule.folder == member);
    let strangers = members.iter().filter(|member| !ruled(member));
    faults.extend(strangers.map(|member| format!("{member}: a member without a rule")));
    faults
}

/// Holds a manifest against its rule: no crate of ours more, and none less.
fn faults_of_manifest(rule: &Rule, manifest: &toml::Table) -> Vec<String> {
    let mut known = Vec::new();
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let table = manifest.get(section).and_then(toml::Value::as_table);
        known.extend(table.into_iter().flat_map(toml::Table::keys).map(String::as_str));
    }
    known.sort_unstable();
    known.dedup();
    let ours = known.iter().filter(|name| CRATES.iter().any(|rule| rule.name == **name));
    let wrong = ours.filter(|name| !rule.uses.contains(name));
    let mut faults: Vec<String> =
        wrong.map(|name| format!("{}: must not know `{name}`", rule.name)).collect();
    let vain = rule.uses.iter().filter(|used| !known.contains(used));
    faults.extend(vain.map(|used| format!("{}: does not use `{used}`: strike it here", rule.name)));
    faults
}

/// Returns the packages that a member is built of, features resolved for that member alone.
fn built_of(member: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").expect("Cargo runs its tests");
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--package", member, "--edges", "normal", "--prefix", "none"]);
    tree.args(["--format", "{p}", "--offline", "--locked"]).current_dir(root());
    let output = tree.output().expect("Cargo runs");
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{err}");
    let mut names: Vec<_> = out.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}

fn too_much(packages: &[String]) -> Vec<String> {
    let heavy = packages.iter().filter(|name| NOT_IN_VAULT.contains(&name.as_str()));
    heavy.map(|name| format!("`vault` is built of `{name}`")).collect()
}

#[test]
fn crates_know_only_what_is_below_them() {
    let workspace = manifest("");
    let members = workspace["workspace"]["members"].as_array().unwrap().iter();
    let members: Vec<String> = members.map(|member| member.as_str().unwrap().to_owned()).collect();
    pass(&faults_of_list(&CRATES, &members));
    for (rule, (_, manifest)) in CRATES.iter().zip(manifests()) {
        pass(&faults_of_manifest(rule, &manifest));
        assert_eq!(manifest["package"]["name"].as_str(), Some(rule.name), "{}", rule.folder);
    }
}

#[test]
fn a_wrong_list_and_a_wrong_manifest_are_found() {
    let rules = [rule("a", "a", &["b"]), rule("b", "b", &[])];
    check(
        &faults_of_list(&rules, &["a".to_owned(), "c".to_owned()]),
        &[
            "a: uses `b`, which is not below it",
            "b: `b` is no member of the workspace",
            "c: a member without a rule",
        ],
    );
    let sample =
        "[dependencies]\nserde = \"1\"\nshared = {}\n[dev-dependencies]\nvault-agent = {}\n";
    check(
        &faults_of_manifest(&CRATES[2], &sample.parse().unwrap()),
        &[
            "vault-server: must not know `vault-agent`",
            "vault-server: does not use `host`: strike it here",
        ],
    );
}

#[test]
fn vault_is_built_without_database_and_engine() {
    pass(&too_much(&built_of("vault-cli")));

    // The agent has both, so the question is asked rightly.
    check(
        &too_much(&built_of("vault-agent")),
        &[
            "`vault` is built of `libsqlite3-sys`",
            "`vault` is built of `rusqlite`",
            "`vault` is built of `vault-agent`",
        ],
    );
}
