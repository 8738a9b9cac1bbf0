//! One `[[source]]` of `agent.toml`: a file that people edit, and the secret it is the master copy
//! of.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use shared::path::SecretPath;
use toml::Spanned;

use super::absolute::absolute;
use super::secret::secret;
use super::target::Target;

/// A master file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file; absolute.
    #[serde(deserialize_with = "absolute")]
    pub path: PathBuf,
    /// The secret that a save publishes, and that is written back when it changes elsewhere.
    #[serde(deserialize_with = "secret")]
    pub secret: SecretPath,
}

/// A source that cannot stand beside the others: its place in the file, the key, and why.
pub(super) type Clash = (usize, &'static str, String);

/// Takes sources whose file is in nobody else's hands, and whose secret has no other master.
pub(super) fn checked(
    written: Vec<Spanned<Source>>,
    targets: &[Arc<Target>],
) -> Result<Vec<Arc<Source>>, Clash> {
    let mut sources: Vec<Arc<Source>> = Vec::with_capacity(written.len());
    let targets: HashSet<&PathBuf> = targets.iter().map(|target| &target.path).collect();
    for source in written {
        let at = source.span().start;
        let Source { path, secret } = source.get_ref();
        let clash = |key, text: String| Err((at, key, text));
        if targets.contains(path) {
            let text = format!(
                "`{}` is a target already: what is edited there would be put back",
                path.display()
            );
            return clash("path", text);
        }
        if sources.iter().any(|other| other.path == *path) {
            return clash("path", format!("`{}` is a source already", path.display()));
        }
        if let Some(other) = sources.iter().find(|other| other.secret == *secret) {
            let text = format!("`{secret}` has a source already, `{}`", other.path.display());
            return clash("secret", text);
        }
        sources.push(Arc::new(source.into_inner()));
    }
    Ok(sources)
}
