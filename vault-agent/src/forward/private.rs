//! Addresses, tokens and keys of those who are told: from the configuration, a file, or the vault,
//! where each read is on record. They are kept for some minutes, wiped, and never shown.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use shared::audit::{Fact, Op, Who};
use shared::blob::Kind;
use shared::path::SecretPath;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::fault::Fault;
use crate::engine::{Engine, Latest};
use host::{account, files};
use machine::config::Private;
use machine::render;

/// How long a value of the vault is kept while its version is the newest: records of reads must not
/// make records of reads.
const KEPT: Duration = Duration::from_mins(10);
/// The longest value, in bytes.
const LONGEST: usize = 4_096;

/// What one who is told needs, as last read.
#[derive(Default)]
pub struct Values(HashMap<(SecretPath, String), Kept>);

struct Kept {
    ver: u64,
    until: Instant,
    value: Zeroizing<String>,
}

impl Values {
    /// Returns a value for the one called `name`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn reveal(
        &mut self,
        engine: &Engine,
        name: &str,
        private: &Private,
    ) -> Result<Zeroizing<String>, Fault> {
        match private {
            Private::Here(hidden) => Ok(Zeroizing::new(hidden.0.clone())),
            Private::File(file) => of_file(file.clone()).await,
            Private::Secret { path, key } => self.of_vault(engine, name, path, key).await,
        }
    }

    async fn of_vault(
        &mut self,
        engine: &Engine,
        name: &str,
        path: &SecretPath,
        key: &str,
    ) -> Result<Zeroizing<String>, Fault> {
        let ver = match engine.latest(path) {
            Latest::Version { ver, .. } => ver,
            Latest::NotReadable => {
                return Err(Fault::new(format!("this machine may not read `{path}`")));
            }
            Latest::Unknown => return Err(Fault::new("nothing was heard from the server yet")),
            Latest::Missing => return Err(Fault::new(format!("there is no `{path}`"))),
            Latest::Deleted { .. } => return Err(Fault::new(format!("`{path}` is deleted"))),
        };
        let at = (path.clone(), key.to_owned());
        let now = Instant::now();
        if let Some(kept) = self.0.get(&at).filter(|kept| kept.ver == ver && kept.until > now) {
            return Ok(kept.value.clone());
        }
        let content = match engine.content(path, Some(ver)).await {
            Ok(content) => content,
            // What was there before may serve still.
            Err(why) => engine.last_good(path).await.ok_or_else(|| Fault::new(why.to_string()))?,
        };
        let of = content.ver;
        let bad = |why: String| Fault::new(format!("version {of} of `{path}` {why}"));
        if content.kind != Kind::Kv {
            return Err(bad("is one file, without keys".to_owned()));
        }
        let fields = render::fields(content.expose()).map_err(|why| bad(why.to_string()))?;
        let field = fields.iter().find(|field| field.name == key);
        let bytes = field.and_then(|field| field.value.bytes());
        let bytes = bytes.ok_or_else(|| bad(format!("has no text at `{key}`")))?;
        let value = line(bytes).ok_or_else(|| bad(format!("has no single line at `{key}`")))?;
        let read = Fact {
            who: Some(who(name)),
            path: Some(path.clone()),
            ver: Some(of),
            ..Fact::new(Op::LocalRead)
        };
        let recorded = engine.record(read).await;
        recorded.map_err(|why| Fault::new(format!("the read cannot be recorded: {why:#}")))?;
        self.0.insert(at, Kept { ver, until: now + KEPT, value: value.clone() });
        Ok(value)
    }

    /// Forgets what was read: the other side has refused it.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// Describes this process as the audit log does.
fn who(name: &str) -> Who {
    let uid = rustix::process::geteuid().as_raw();
    let login = account::login(uid).map(|login| format!(" ({login})")).unwrap_or_default();
    Who::lossy(&format!("vault-agent[{}] uid {uid}{login} for {name}", std::process::id()))
}

async fn of_file(file: PathBuf) -> Result<Zeroizing<String>, Fault> {
    let shown = file.display().to_string();
    let read = tokio::task::spawn_blocking(move || files::read_private_named(&file)).await;
    let read = read.map_err(|_| Fault::new(format!("`{shown}` cannot be read")))?;
    let bytes = read.map_err(|why| Fault::new(format!("{:#}", anyhow::Error::from(why))))?;
    let bytes = bytes.ok_or_else(|| Fault::new(format!("there is no `{shown}`")))?;
    line(&bytes).ok_or_else(|| Fault::new(format!("`{shown}` does not hold one line of text")))
}

/// Takes bytes that are one line of visible ASCII, without what surrounds it.
fn line(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let is_line = !text.is_empty()
        && text.len() <= LONGEST
        && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    is_line.then(|| Zeroizing::new(text.to_owned()))
}
