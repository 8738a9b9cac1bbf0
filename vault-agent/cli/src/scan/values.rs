//! What is looked for: every value that the caller may read, taken from the local API and wiped in
//! the end.

use serde_json::Value;

use crate::client::Client;
use crate::context::Global;
use crate::kv::history::Version;
use crate::kv::read::Kind;
use crate::kv::replicate::End;
use crate::kv::{Route, Secret, say_age, walk};
use host::hint::Failure;
use machine::scan::forms::Bytes;
use machine::scan::guessable::{self, Why};
use machine::scan::values;

/// Where a value is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    pub secret: String,
    pub key: String,
    /// The newest version that holds it.
    pub version: u64,
}

/// What is looked for, and what not.
#[derive(Default)]
pub struct Values {
    pub held: Vec<(Holder, Bytes)>,
    pub secrets: usize,
    /// Values that would be found everywhere.
    pub left_out: Vec<(Holder, Why)>,
    /// Secrets that the caller may not read, and folders he may not list.
    pub closed: Vec<String>,
}

/// Which values count.
#[derive(Debug, clap::Args)]
pub struct Choice {
    /// Look for values of older versions too
    #[arg(long)]
    pub all_versions: bool,
    /// Look for all values from N bytes on, easy to guess or not [default: 8, if not easy to guess]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(4..=1024))]
    pub min_length: Option<u16>,
    /// Do not look for values of this key; repeatable
    #[arg(long = "not-key", value_name = "KEY")]
    pub not_keys: Vec<String>,
}

/// Reads all values; each version read is one record in the audit log.
pub fn read(global: &Global, client: &Client, choice: &Choice) -> anyhow::Result<Values> {
    let values = Values::default();
    let mut reader = Reader { global, client, choice, values, has_told_age: false, first: 0 };
    for route in walk::readable(client, &mut reader.values.closed)? {
        reader.secret(&route)?;
    }
    let values = reader.values;
    if values.secrets == 0 && !values.closed.is_empty() {
        let what = format!("none of the vault's secrets may be read here: {}", values.closed[0]);
        return Err(Failure::remote(what)
            .hint(
                "run this where secrets are read, or give this machine a grant: `vault access set`",
            )
            .into());
    }
    Ok(values)
}

struct Reader<'a> {
    global: &'a Global,
    client: &'a Client,
    choice: &'a Choice,
    values: Values,
    has_told_age: bool,
    /// Where the values of the secret at hand begin.
    first: usize,
}

impl Reader<'_> {
    fn secret(&mut self, route: &Route) -> anyhow::Result<()> {
        let older = if self.choice.all_versions { self.older(route)? } else { Vec::new() };
        self.first = self.values.held.len();
        let mut is_read = self.version(route, 0)?;
        for version in older {
            is_read |= self.version(route, version)?;
        }
        self.values.secrets += usize::from(is_read);
        Ok(())
    }

    /// Returns the versions below the newest whose content is there, newest first.
    fn older(&self, route: &Route) -> anyhow::Result<Vec<u64>> {
        let Some(kept) = End { client: self.client, route }.kept()? else { return Ok(Vec::new()) };
        let now = self.global.now().to_string();
        let newest = kept.data.get("current_version").and_then(Value::as_u64).unwrap_or(0);
        let live = |v: &Version| v.n != newest && !v.destroyed && !v.is_deleted(&now);
        Ok(kept.versions.iter().rev().filter(|v| live(v)).map(|v| v.n).collect())
    }

    /// Takes one version's values; tells whether its content is there.
    fn version(&mut self, route: &Route, version: u64) -> anyhow::Result<bool> {
        let answer = Kind::Version(version).ask(self.client, route)?;
        if answer.is_denied() {
            self.values.closed.push(format!("`{}` may not be read", route.logical()));
            return Ok(false);
        }
        if !std::mem::replace(&mut self.has_told_age, true) {
            say_age(self.global, &answer);
        }
        let secret = Secret::found(Ok(answer), "reading", &route.api("data"))?;
        let Some(secret) = secret else { return Ok(false) };
        let version = secret.version().unwrap_or(0);
        let data = secret.data.and_then(|mut data| data.remove("data"));
        let Some(Value::Object(data)) = data else { return Ok(false) };
        for (key, value) in data {
            if !self.choice.not_keys.contains(&key) {
                values::each(key, value, &mut |key, bytes| self.value(route, version, key, bytes));
            }
        }
        Ok(true)
    }

    fn value(&mut self, route: &Route, version: u64, key: String, bytes: Bytes) {
        let holder = Holder { secret: route.logical(), key, version };
        match guessable::judge(&bytes, self.choice.min_length.map(usize::from)) {
            None => {
                // What a value was before and is again is the newest version's.
                let mut held = self.values.held[self.first..].iter();
                if !held.any(|(newer, same)| newer.key == holder.key && *same == bytes) {
                    self.values.held.push((holder, bytes));
                }
            }
            Some(why) => self.values.left_out.push((holder, why)),
        }
    }
}
