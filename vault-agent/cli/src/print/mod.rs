//! What commands print: data in every format that HashiCorp's CLI knows. No command's own layout
//! lives here.

pub mod exit;
pub mod go;
pub mod table;
mod versions;
pub mod yaml;

use std::str::FromStr;

use host::hint::Failure;
use serde_json::Value;

pub use versions::ranges;

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// Two spaces of indent, keys sorted.
    Json,
    /// Keys sorted.
    Yaml,
    /// HashiCorp's format for a few commands that do not exist here.
    Pretty,
    /// A field's bare value, or an answer as it came.
    Raw,
    /// `KEY=VALUE` lines, of secrets only.
    Env,
}

impl FromStr for Format {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text.to_ascii_lowercase().as_str() {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "yaml" | "yml" => Ok(Self::Yaml),
            "pretty" => Ok(Self::Pretty),
            "raw" => Ok(Self::Raw),
            "env" | "dotenv" => Ok(Self::Env),
            _ => Err(Failure::local(format!("Invalid output format: {text}"))
                .hint("use table, json, yaml, pretty or raw; kv get knows env as well")),
        }
    }
}

/// Renders data in a format that is not a table; refuses those that HashiCorp's `kv` commands
/// refuse, in its words.
pub fn data(format: Format, value: &Value) -> Result<String, Failure> {
    match format {
        Format::Json | Format::Table => Ok(go::json(value)),
        Format::Yaml => Ok(yaml::yaml(value).trim_end().to_owned()),
        Format::Pretty => Err(Failure::local(
            "Could not parse output: cannot use the pretty formatter for this type",
        )),
        Format::Raw => Err(Failure::local("This command does not support the -format=raw option.")),
        Format::Env => Err(Failure::local("This command does not support the -format=env option.")
            .hint("`vault kv get` and `vault export` do")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_formats_are_refused() {
        assert_eq!("JSON".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("xml".parse::<Format>().unwrap_err().text, "Invalid output format: xml");
    }
}
