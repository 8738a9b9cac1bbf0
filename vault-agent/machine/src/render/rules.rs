//! What the owner of a target asks for beyond its format.

use serde::Deserialize;

use super::header::Header;

/// What happens to lists and objects in a format of plain values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nested {
    /// They are refused; JSON, YAML and TOML hold them as they are.
    #[default]
    Refuse,
    /// Each value in them gets a name of its own, joined by `__`.
    Flatten,
}

/// What happens to values of several lines in `.env` files by the portable rule, which many readers
/// cannot take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multiline {
    /// They are refused.
    #[default]
    Refuse,
    /// They are written.
    Allow,
}

/// Which lines of a file are the vault's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// All of them.
    #[default]
    File,
    /// Those between two markers.
    Block,
}

/// What the owner of a target asked for beyond the format.
#[derive(Clone, Debug, Default)]
pub struct Rules<'a> {
    /// The only keys to write, if given: as the secrets have them.
    pub keys: Option<&'a [String]>,
    /// Names in the file for some keys, final.
    pub rename: &'a [(String, String)],
    /// What stands before all other names.
    pub prefix: &'a str,
    /// Whether all other names are in upper case.
    pub upper: bool,
    /// What happens to lists and objects.
    pub nested: Nested,
    /// What happens to values of several lines.
    pub multiline: Multiline,
    /// Dangerous names that are allowed all the same.
    pub allow_names: &'a [String],
    /// The text of the template.
    pub template: &'a str,
    /// What the file says about itself, where its format has comments.
    pub header: Option<&'a Header>,
    /// Which lines are the vault's.
    pub layout: Layout,
}
