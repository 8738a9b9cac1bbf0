//! All that is known of a leaked value, and what nobody here can know.

use shared::path::SecretPath;

use super::reached::{Host, hosts};
use super::steps::{Step, is_in_use, steps};
use crate::client::Client;
use crate::fleet::audit::when::seconds;
use crate::fleet::told::Told;
use crate::print::ranges;
use machine::local::{BLAST, Blast, STATUS, Status};

/// All that is known.
pub(super) struct Found {
    pub(super) blast: Blast,
    pub(super) key: Option<String>,
    pub(super) hosts: Vec<Host>,
    pub(super) steps: Vec<Step>,
    pub(super) told: Told,
}

pub(super) fn find(
    client: &Client,
    path: &SecretPath,
    version: Option<u64>,
    key: Option<String>,
) -> anyhow::Result<Found> {
    let mut query = vec![("path", path.to_string())];
    query.extend(version.map(|ver| ("version", ver.to_string())));
    query.extend(key.clone().map(|key| ("key", key)));
    let blast: Blast = client.get(BLAST, &query)?;
    let since = blast.versions.iter().map(|version| version.time).min().unwrap_or_default();
    let told = Told::of(client, path.as_str(), since)?;
    let status: Status = client.get(STATUS, &[])?;
    let hosts = hosts(&blast, &told, &status);
    let steps = steps(&blast, &hosts);
    Ok(Found { blast, key, hosts, steps, told })
}

impl Found {
    /// Tells whether the value is still somewhere where it is used, or nobody here knows.
    pub(super) fn is_in_use(&self) -> bool {
        let Blast { keys, unread, .. } = &self.blast;
        unread.is_some() || keys.iter().any(is_in_use) || self.hosts.iter().any(Host::holds)
    }

    /// Says what is asked about.
    pub(super) fn headline(&self) -> Vec<String> {
        let Blast { path, ver, versions, unread, .. } = &self.blast;
        let numbers: Vec<u64> = versions.iter().map(|version| version.ver).collect();
        let first = versions.first();
        let written = first.map(|it| {
            let by = it.by.to_string();
            let by = by.strip_prefix("machine:").unwrap_or(&by);
            format!(", written {} by {by}", seconds(it.time))
        });
        let written = written.unwrap_or_default();
        let line = match &self.key {
            Some(key) => format!("{key} of {path}, as in v{ver}: in {}{written}", ranges(&numbers)),
            None => format!("{path} v{ver}{written}"),
        };
        let unread = unread.iter().map(|why| format!("what is in it is not known here: {why}"));
        std::iter::once(line).chain(unread).collect()
    }

    /// Says what nobody here can know.
    pub(super) fn notes(&self) -> Vec<String> {
        let Blast { path, older, unjudged, unsearched, begins, .. } = &self.blast;
        let mut notes = Vec::new();
        if let Some(first) = older.first() {
            let named: Vec<String> =
                older.iter().map(|it| format!("{} since v{}", it.key, it.since)).collect();
            notes.push(format!(
                "some of its values are older: {}; `vault blast {path} --key {}` counts those \
                 versions too",
                named.join(", "),
                first.key
            ));
        }
        if !unjudged.is_empty() {
            let versions = ranges(unjudged);
            notes.push(format!(
                "whether {versions} held it is not known: what was in it is not here"
            ));
        }
        if *unsearched > 0 {
            let secrets = if *unsearched == 1 { "secret was" } else { "secrets were" };
            notes.push(format!(
                "{unsearched} {secrets} not looked through for copies: they are not on this host"
            ));
        }
        if let Some(begins) = begins {
            notes.push(format!(
                "a checkpoint stands for the log up to entry {begins}: of the time before, all \
                 hosts count that were granted the secret"
            ));
        }
        notes.extend(self.told.notes("who had and who read it"));
        for host in &self.hosts {
            notes.extend(host.left_behind().map(|file| {
                let (host, file) = (&host.name, &file.name);
                format!("removed machine {host} had it; its file {file} may still hold it")
            }));
        }
        for host in self.hosts.iter().filter(|host| host.removed.is_none()) {
            if let Some(heard) = &host.quiet {
                let since = heard.map_or_else(|| "ever".to_owned(), |at| format!("since {at}"));
                notes.push(format!(
                    "what was read on {} {since} is not told yet: it is not connected",
                    host.name
                ));
            }
        }
        notes
    }
}
