//! Which layer of a crate may use which, which files may know the TLS library, and that no files
//! use each other in a circle.

use crate::crates::CRATES;
use crate::modules::{Arrow, Crate, circles};
use crate::tree::{File, code, files};
use crate::{check, pass};

/// The layers of every crate, from the bottom to the top: its top modules, each of which uses
/// those before it only. The crate's root uses all, and nobody uses it.
const LAYERS: [(&str, &[&str]); 7] = [
    (
        "shared",
        &[
            "error",
            "limits",
            "version",
            "duration",
            "hash",
            "text",
            "name",
            "path",
            "grant",
            "time",
            "keys",
            "plaintext",
            "signed",
            "claim",
            "head",
            "blob",
            "log",
            "audit",
            "scan",
            "report",
            "words",
            "token",
            "wire",
        ],
    ),
    (
        "host",
        &[
            "version",
            "clock",
            "exposition",
            "process",
            "shutdown",
            "account",
            "files",
            "config_fault",
            "shown",
            "hint",
            "man",
            "table",
            "term",
            "progress",
            "logging",
            "raw_keys",
            "store",
            "systemd",
        ],
    ),
    (
        "vault-server",
        &[
            "config", "meter", "metrics", "store", "datadir", "vault", "http", "check", "backup",
            "init", "restore", "relocate", "install", "health", "serve", "cli",
        ],
    ),
    (
        "machine",
        &[
            "paths", "ai_tools", "when", "binary", "scan", "render", "config", "running",
            "written", "identity", "joining", "remote", "local", "who", "findings",
        ],
    ),
    (
        "vault-cli",
        &[
            "argv", "sibling", "client", "print", "context", "kv", "vault", "owner", "fleet",
            "shell", "scan", "run", "compose", "podman", "dev", "dispatch",
        ],
    ),
    (
        "vault-agent",
        &[
            "metrics",
            "state",
            "engine",
            "scan",
            "daemon",
            "forward",
            "loopback",
            "page",
            "api",
            "place",
            "ask",
            "join",
            "run",
            "status",
            "halts",
            "targets",
            "sources",
            "hook",
            "forwards",
            "install",
            "uninstall",
            "arguments",
        ],
    ),
    (
        "tests",
        &[
            "port",
            "api",
            "watch",
            "namespaces",
            "mounts",
            "program",
            "neighbour",
            "container",
            "daemon",
            "host",
            "admin",
            "database",
            "world",
        ],
    ),
];

/// The only files of the programs that know the TLS library: all others talk to them.
const TLS: [&str; 4] = [
    "shared/host/src/raw_keys",
    "vault-server/src/store/sql/postgres/tls.rs",
    "vault-agent/cli/src/client/tls.rs",
    "vault-agent/src/forward/tls.rs",
];

/// Roots of what is compiled beside the crates: circles are sought there, too.
const ROOTS: [&str; 4] =
    ["tests/bench/main.rs", "tests/e2e/main.rs", "tests/evil/main.rs", "tests/tidy/main.rs"];

/// Returns the crate's arrows to a layer that is not below.
fn upwards(name: &str, layers: &[&str], krate: &Crate) -> Vec<String> {
    let rank = |file: &str| {
        let top = krate.top(file);
        top.map_or(Some(layers.len()), |top| layers.iter().position(|layer| *layer == top))
    };
    let is_up = |arrow: &Arrow| match (rank(&arrow.from), rank(&arrow.to)) {
        (Some(from), Some(to)) => from < to,
        // A module that is not listed is a fault of its own.
        (None, _) | (_, None) => false,
    };
    let wrong = krate.arrows().into_iter().filter(is_up);
    wrong
        .map(|Arrow { from, to, name: path }| {
            let to = krate.top(&to).unwrap_or("the crate's root").to_owned();
            format!("{name}: {from} uses `{path}`, but `{to}` is above it")
        })
        .collect()
}

/// Returns the modules that the list lacks, and those that it names in vain.
fn unlisted(name: &str, layers: &[&str], krate: &Crate) -> Vec<String> {
    let tops = krate.tops();
    let missing = tops.iter().filter(|top| !layers.contains(top));
    let mut faults: Vec<String> =
        missing.map(|top| format!("{name}: no layer is given for module `{top}`")).collect();
    let vain = layers.iter().filter(|layer| !tops.contains(layer));
    faults.extend(vain.map(|layer| format!("{name}: there is no module `{layer}`")));
    faults
}

/// Returns the circles, each on lines of its own.
fn round(krate: &Crate) -> Vec<String> {
    let shown = |circle: Vec<Arrow>| {
        let steps = circle.into_iter().map(|arrow| {
            let Arrow { from, to, name } = arrow;
            format!("\n    {from} uses {to} for `{name}`")
        });
        format!("files use each other in a circle:{}", steps.collect::<String>())
    };
    circles(&krate.arrows()).into_iter().map(shown).collect()
}

fn stray_tls(file: &File) -> Vec<String> {
    let sources = file.path.contains("/src/") && !file.path.starts_with("tests/");
    let sources = sources && !file.path.contains("/tests/");
    let allowed = TLS.iter().any(|known| {
        file.path
            .strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
    });
    let code = code(&file.text);
    let names = ["rustls::", "tokio_rustls::", "use rustls", "use tokio_rustls"];
    match names.iter().find(|name| sources && !allowed && code.contains(**name)) {
        Some(name) => vec![format!("{}: `{name}` belongs into {}", file.path, TLS.join(" or "))],
        None => Vec::new(),
    }
}

fn root_of(name: &str) -> String {
    let rule = CRATES.iter().find(|rule| rule.name == name).expect("a crate of the list");
    format!("{}/src/lib.rs", rule.folder)
}

/// Makes a crate of samples whose root is `a/lib.rs`.
fn sample(texts: &[(&str, &str)]) -> Crate {
    let files: Vec<File> = texts.iter().map(|(path, text)| File::sample(path, text)).collect();
    Crate::read(&files, "a/lib.rs")
}

#[test]
fn layers_know_only_what_is_below_them() {
    let all = files(".rs");
    let mut faults = Vec::new();
    for rule in &CRATES {
        let listed = LAYERS.iter().find(|(name, _)| *name == rule.name);
        let (name, layers) = listed.unwrap_or_else(|| panic!("{}: no layers", rule.name));
        let krate = Crate::read(&all, &root_of(name));
        faults.extend(unlisted(name, layers, &krate));
        faults.extend(upwards(name, layers, &krate));
    }
    pass(&faults);
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let all = files(".rs");
    let mut roots: Vec<String> = CRATES.iter().map(|rule| root_of(rule.name)).collect();
    roots.extend(ROOTS.map(str::to_owned));
    pass(&roots.iter().flat_map(|root| round(&Crate::read(&all, root))).collect::<Vec<_>>());
}

#[test]
fn an_arrow_up_is_found() {
    let low = ("a/low.rs", "pub fn low() {}");
    for (text, expected) in [
        ("use crate::high::High;", Some("crate::high::High")),
        ("use crate::{low::low, high::{self, High}};", Some("crate::high")),
        ("use super::high;", Some("super::high")),
        ("use super::super::a::high;", None),
        ("fn f() { crate::high::high() }", Some("crate::high::high")),
        ("use crate::high::*;", Some("crate::high")),
        ("mod inner { use super::super::high::High; }", Some("super::super::high::High")),
        ("use crate::High as Other;", Some("crate::High")),
        ("fn f() { crate::start() }", Some("crate::start")),
        ("// crate::high\n/* use crate::high; */ const A: &str = \"crate::high\";", None),
        ("#[cfg(test)] use crate::high::High; #[cfg(test)] mod t { use crate::high; }", None),
        ("pub(in crate::high) struct A; use high::High;", None),
        ("use crate::low; use std::high;", None),
    ] {
        let krate = sample(&[
            ("a/lib.rs", "mod mid; mod low; mod high; pub use high::High; pub fn start() {}"),
            low,
            ("a/mid.rs", text),
            ("a/high.rs", "pub struct High; pub fn high() {}"),
        ]);
        let above = if expected == Some("crate::start") { "the crate's root" } else { "high" };
        let fault = |path: &str| format!("a: a/mid.rs uses `{path}`, but `{above}` is above it");
        let found = upwards("a", &["low", "mid", "high"], &krate);
        assert_eq!(found, Vec::from_iter(expected.map(fault)), "{text}");
    }
}

#[test]
fn a_circle_is_found() {
    let circle = |steps: &[(&str, &str, &str)]| {
        let steps =
            steps.iter().map(|(a, b, name)| format!("\n    a/{a}.rs uses a/{b}.rs for `{name}`"));
        format!("files use each other in a circle:{}", steps.collect::<String>())
    };
    let three = sample(&[
        ("a/lib.rs", "mod x;"),
        ("a/x/mod.rs", "mod p; mod q; mod r { pub mod s; }"),
        ("a/x/p.rs", "use super::{q::{self, Q}, r};"),
        ("a/x/q.rs", "fn f() { super::r::s::go() }"),
        ("a/x/r/s.rs", "use crate::x::p; pub fn go() { p::go() }"),
    ]);
    let steps = [
        ("x/p", "x/q", "super::q"),
        ("x/q", "x/r/s", "super::r::s::go"),
        ("x/r/s", "x/p", "p::go"),
    ];
    check(&round(&three), &[&circle(&steps)]);

    // What the file of a module defines is above what its children define.
    let parent = sample(&[
        ("a/lib.rs", "mod x;"),
        ("a/x.rs", "mod y; pub struct X; fn f() { y::go() }"),
        ("a/x/y.rs", "use super::X; pub fn go() {}"),
    ]);
    check(&round(&parent), &[&circle(&[("x", "x/y", "y::go"), ("x/y", "x", "super::X")])]);

    // What it only hands on is not its own.
    let face = sample(&[
        ("a/lib.rs", "mod x;"),
        ("a/x.rs", "mod y; mod z; pub use z::Z; fn f() { y::go() }"),
        ("a/x/y.rs", "use super::Z; pub fn go() {}"),
        ("a/x/z.rs", "pub struct Z;"),
    ]);
    check(&round(&face), &[]);
}

#[test]
fn a_module_missing_from_the_list_or_named_in_vain_is_found() {
    let krate = sample(&[("a/lib.rs", "mod x; mod y {} #[cfg(test)] mod z;"), ("a/x.rs", "")]);
    check(
        &unlisted("a", &["x", "old"], &krate),
        &["a: no layer is given for module `y`", "a: there is no module `old`"],
    );
}

#[test]
fn tls_stays_in_its_files() {
    pass(&files(".rs").iter().flat_map(stray_tls).collect::<Vec<_>>());

    let stray = File::sample("vault-server/src/http/mod.rs", "//! a\nuse rustls::ServerConfig;\n");
    check(
        &stray_tls(&stray),
        &["vault-server/src/http/mod.rs: `rustls::` belongs into shared/host/src/raw_keys or \
           vault-server/src/store/sql/postgres/tls.rs or vault-agent/cli/src/client/tls.rs or \
           vault-agent/src/forward/tls.rs"],
    );
    for path in ["shared/host/src/raw_keys.rs", "shared/host/src/raw_keys/accept.rs", TLS[1]] {
        assert!(stray_tls(&File::sample(path, "use rustls::ServerConfig;")).is_empty(), "{path}");
    }
    assert!(!stray_tls(&File::sample("shared/host/src/raw_keys_of.rs", "rustls::a()")).is_empty());
}
