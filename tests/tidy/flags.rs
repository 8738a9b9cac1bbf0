//! Every flag of the three programs stands in the reference. The flags are read from the sources'
//! `#[arg(…)]` attributes, so that the check needs no built program and no flag can hide.

use crate::tree::{File, code, files, root};
use crate::{check, pass};

/// Returns the long flags that a source file declares, as clap names them.
fn declared(file: &File) -> Vec<String> {
    let code = code(&file.text);
    let mut flags = Vec::new();
    for (at, opening) in code.match_indices("#[arg(") {
        let inside = &code[at + opening.len()..];
        let Some(end) = closing(inside) else { continue };
        let (attribute, field) = (&inside[..end], field_name(&inside[end + 1..]));
        // What is hidden from people is between our own programs.
        if !attribute.contains("hide = true") {
            flags.extend(long_name(attribute, &field));
        }
    }
    flags
}

/// Returns where the parenthesis that was open before `text` closes; those in strings do not count.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Returns the name of the field or argument that follows an attribute's closing parenthesis.
fn field_name(rest: &str) -> String {
    let mut lines = rest.lines().map(str::trim);
    let line = lines.find(|line| line.contains(':') && !line.starts_with("#[")).unwrap_or_default();
    let before = line.split(':').next().unwrap_or_default();
    before.split_whitespace().next_back().unwrap_or_default().replace('_', "-")
}

/// Returns the long name that an attribute gives: `long = "x"`, or the field's for a bare `long`.
fn long_name(attribute: &str, field: &str) -> Option<String> {
    let after = attribute
        .match_indices("long")
        .filter(|(at, _)| !attribute[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, word)| attribute[at + word.len()..].trim_start())
        .find(|after| after.is_empty() || after.starts_with([',', '=']))?;
    match after.strip_prefix('=') {
        Some(value) => {
            Some(value.trim_start().trim_start_matches('"').split('"').next()?.to_owned())
        }
        None => Some(field.to_owned()),
    }
}

/// Returns the flags that the reference does not name.
fn undocumented(flags: &[String], reference: &str) -> Vec<String> {
    let names = |flag: &String| {
        let long = format!("--{flag}");
        reference.match_indices(&long).any(|(at, _)| {
            !reference[at + long.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '-')
        })
    };
    flags
        .iter()
        .filter(|flag| !names(flag))
        .map(|flag| format!("`--{flag}`: not in reference/cli.md"))
        .collect()
}

#[test]
fn every_flag_is_in_the_reference() {
    let reference = std::fs::read_to_string(root().join("docs/src/reference/cli.md")).unwrap();
    let sources = files(".rs").into_iter().filter(|file| file.path.starts_with("vault-"));
    let mut flags: Vec<String> = sources.flat_map(|file| declared(&file)).collect();
    flags.sort_unstable();
    flags.dedup();
    assert!(
        flags.len() > 20,
        "only {} flags found: has the way to declare them changed?",
        flags.len()
    );
    pass(&undocumented(&flags, &reference));
}

#[test]
fn flags_are_read_as_clap_names_them() {
    let sample = File::sample(
        "vault-agent/src/cli/a.rs",
        r#"
        #[arg(long, value_name = "DIR (long)")]
        pub state_dir: PathBuf,
        /// Read
        #[arg(
            long = "read",
            default_value = "a)",
        )]
        #[serde(default)]
        reads: Vec<String>,
        // #[arg(long)] old: u8,
        #[arg(value_name = "LONG")]
        path: String,
        #[arg(short, long)] verbose: bool,
        #[arg(long, hide = true)] secret_handshake: bool,
        "#,
    );
    assert_eq!(declared(&sample), ["state-dir", "read", "verbose"]);
    check(
        &undocumented(&declared(&sample), "| `--state-dir DIR` | `--reader` | `--verbose` |"),
        &["`--read`: not in reference/cli.md"],
    );
}
