//! `[credentials]` and `[[credential]]` of `agent.toml`: which unit of systemd gets what. Answering
//! systemd does not live here.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use shared::path::SecretPath;
use toml::Spanned;

use super::absolute::some_absolute;
use super::{hook, secret, source};

/// The socket that `LoadCredential=` names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// The socket, if not beside that of the local API.
    #[serde(deserialize_with = "some_absolute")]
    pub socket: Option<PathBuf>,
    /// Who gets what; unit and name once.
    #[serde(skip)]
    pub given: Vec<Credential>,
}

/// One credential of one unit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The unit, e.g. `ghost.service`.
    #[serde(deserialize_with = "unit")]
    pub unit: String,
    /// The name that the unit gives it in `LoadCredential=`.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// The secret.
    #[serde(deserialize_with = "secret::secret")]
    pub secret: SecretPath,
    /// The key whose value it is; `None` for the only one.
    pub key: Option<String>,
}

impl Credentials {
    /// Returns what `unit` gets as `name`.
    pub fn find(&self, unit: &str, name: &str) -> Option<&Credential> {
        self.given.iter().find(|given| given.unit == unit && given.name == name)
    }

    /// Puts both kinds of tables together; `None` where there are none.
    pub(super) fn gathered(
        table: Option<Self>,
        written: Vec<Spanned<Credential>>,
    ) -> Result<Option<Self>, source::Clash> {
        let mut all = match table {
            None if written.is_empty() => return Ok(None),
            table => table.unwrap_or_default(),
        };
        for credential in written {
            let at = credential.span().start;
            let Credential { unit, name, .. } = credential.get_ref();
            if all.find(unit, name).is_some() {
                return Err((at, "name", format!("`{unit}` has a credential `{name}` already")));
            }
            all.given.push(credential.into_inner());
        }
        Ok(Some(all))
    }
}

fn unit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    hook::checked_unit(String::deserialize(deserializer)?)
}

/// Takes what systemd takes for a credential's name.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let plain = |c: char| !c.is_control() && c != '/' && c != ':';
    if name.is_empty()
        || name.len() > 255
        || name == "."
        || name == ".."
        || !name.chars().all(plain)
    {
        return Err(D::Error::custom(format!(
            "`{}` is not a credential's name such as \"db-password\"",
            name.escape_debug()
        )));
    }
    Ok(name)
}
