//! Names that stand in the vault's block and among its owner's lines too: which of the two a reader
//! takes is the dialect's rule, and not what people expect. Pure; no value is part of what is told.

use super::Format;
use super::block::{self, BrokenBlock};
use super::contact::assignments;
use super::parse::is_name;

/// Names that stand twice, in the order of the owner's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Twice {
    /// Above the block.
    pub above: Vec<String>,
    /// Below it.
    pub below: Vec<String>,
}

/// Looks for the names of `body`, the block's content, in the rest of `file`; a file without a
/// block will have it at its end.
///
/// # Errors
/// Markers that leave it open which lines are the owner's.
pub fn twice(format: Format, file: &[u8], body: &[u8]) -> Result<Twice, BrokenBlock> {
    let (above, below) = block::around(file)?;
    let ours = names(format, body);
    let both = |text: &[u8]| {
        let mut both: Vec<String> = Vec::new();
        for name in names(format, text) {
            if ours.contains(&name) && !both.contains(&name) {
                both.push(name);
            }
        }
        both
    };
    Ok(Twice { above: both(above), below: both(below) })
}

/// Lists the names that a text assigns. Of lines that do not parse, such as commands of a shell,
/// those that look like assignments count.
fn names(format: Format, text: &[u8]) -> Vec<String> {
    if let Ok(fields) = assignments(format, text) {
        return fields.into_iter().map(|field| field.name).collect();
    }
    let text = String::from_utf8_lossy(text);
    let name = |line: &str| {
        let line = line.trim_start();
        let (name, _) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        is_name(name.trim()).then(|| name.trim().to_owned())
    };
    text.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_on_either_side_of_the_block() {
        let check = |format, file: &str, above: &[&str], below: &[&str]| {
            let [above, below] =
                [above, below].map(|names| names.iter().map(|&name| name.to_owned()).collect());
            let body = if format == Format::Yaml { "\"A\": \"1\"\n" } else { "A=1\nB=2\n" };
            let found = twice(format, file.as_bytes(), body.as_bytes()).unwrap();
            assert_eq!(found, Twice { above, below }, "{file:?}");
        };
        let block = "# BEGIN vault-agent\nA=1\nB=2\n# END vault-agent\n";
        check(Format::Dotenv, "", &[], &[]);
        check(Format::Dotenv, "C=1\n", &[], &[]);
        check(Format::Dotenv, "export A='9'\nC=1\n", &["A"], &[]);
        check(Format::Dotenv, &format!("B=1\n{block}C=2\nA=1\n"), &["B"], &["A"]);
        check(Format::Dotenv, &format!("# A=1\n{block}"), &[], &[]);
        // What does not parse as a whole is looked at line by line.
        check(Format::Dotenv, "A=1\nA=2\n", &["A"], &[]);
        check(Format::Sh, "if true; then\n  export B=1\nfi\n", &["B"], &[]);
        // A line of a value is no assignment.
        check(Format::Dotenv, "C='\nA=1\n'\n", &[], &[]);
        check(Format::Yaml, "A: x\nC: y\n", &["A"], &[]);
        assert!(twice(Format::Dotenv, b"# END vault-agent\n", b"A=1\n").is_err());
    }
}
