//! From what the user typed to an API path. Making the real request does not live here.
//!
//! `-mount=secret app/db` names the mount; in `secret/app/db` the first segment is the mount, at
//! version 2. That holds for this machine's agent, so it is never asked. Elsewhere mounts may have
//! several segments or version 1: a write asks `sys/internal/ui/mounts` first (a wrong guess could
//! write to a wrong place), a read asks only after a 403 or 404.

use serde_json::Value;
use shared::path::{SecretPath, demand_nfc};

use crate::client::{Answer, Client, Error};
use host::hint::Failure;

/// What the user typed.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Typed {
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    pub mount: Option<String>,
    /// Secret, e.g. secret/app/db
    #[arg(value_name = "PATH")]
    pub path: String,
}

/// A secret's place, known or guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    mount: String,
    name: String,
    versioned: bool,
}

impl Route {
    /// Returns the API path of a kind: `data`, `metadata`, `delete`, …; version 1 has one path
    /// only.
    pub fn api(&self, kind: &str) -> String {
        let kind = if self.versioned { kind } else { "" };
        let parts = [self.mount.as_str(), kind, self.name.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// Returns mount and name as the user would type them.
    pub fn logical(&self) -> String {
        [self.mount.as_str(), self.name.as_str()].join("/").trim_matches('/').to_owned()
    }

    /// Returns the place of a name below this one.
    pub fn below(&self, name: &str) -> Self {
        let name = [self.name.trim_end_matches('/'), name].join("/");
        Self { name: name.trim_matches('/').to_owned(), ..self.clone() }
    }

    /// Returns the folder that this place is in, and its own name in there.
    pub fn parent(&self) -> Option<(Self, &str)> {
        if self.name.is_empty() {
            return None;
        }
        let (folder, own) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        Some((Self { name: folder.to_owned(), ..self.clone() }, own))
    }

    /// Tells whether the mount keeps versions.
    pub const fn is_versioned(&self) -> bool {
        self.versioned
    }

    /// Refuses what needs versions on a mount that keeps none.
    pub fn supports(&self, what: &str) -> Result<(), Failure> {
        if self.versioned {
            return Ok(());
        }
        Err(Failure::local(format!("{what} not supported on KV Version 1")))
    }

    /// As [`Route::supports`], in the words of the commands that read before they write.
    pub fn requires_versions(&self, what: &str) -> Result<(), Failure> {
        if self.versioned {
            return Ok(());
        }
        Err(Failure::remote(format!("K/V engine mount must be version 2 for {what}")))
    }
}

impl Typed {
    /// Takes the first segment for the mount.
    pub fn guess(&self) -> Route {
        let path = clean(&self.path);
        let (mount, name) = match &self.mount {
            Some(mount) => (clean(mount), path),
            None => match path.split_once('/') {
                Some((mount, name)) => (mount.to_owned(), name.to_owned()),
                None => (path, String::new()),
            },
        };
        Route { mount, name, versioned: true }
    }

    /// Takes the first segment for the mount, after a look at the grammar: `secret/a//b` and
    /// `secret/../b` are refused, not tidied up into another secret's name.
    fn checked(&self) -> Result<Route, Error> {
        let mount = self.mount.as_deref().map(|mount| format!("{}/", mount.trim_matches('/')));
        let whole = mount.unwrap_or_default() + self.path.trim().trim_start_matches('/');
        match whole.trim_end_matches('/').parse::<SecretPath>().and_then(|_| demand_nfc(&whole)) {
            Ok(()) => Ok(self.guess()),
            Err(why) => Err(Error::Setup(Failure::local(why.to_string()).hint(why.code.hint()))),
        }
    }

    /// Finds the place before a write.
    pub fn for_write(&self, client: &Client) -> Result<Route, Error> {
        if client.is_own_agent() { self.checked() } else { self.ask(client) }
    }

    /// Finds the place before reads that build on each other, such as a walk.
    pub fn for_read(&self, client: &Client) -> Result<Route, Error> {
        if client.is_own_agent() { Ok(self.guess()) } else { self.ask(client) }
    }

    /// Reads at the guessed place; if nothing is there, asks for the right place and reads again.
    /// Answers of any status are returned with the place they are about.
    pub fn read(
        &self,
        client: &Client,
        read: impl Fn(&Route) -> Result<Answer, Error>,
    ) -> Result<(Route, Answer), Error> {
        let mut route = self.guess();
        if client.is_own_agent() {
            // A mount alone is a place too: its names can be listed.
            let route = if route.name.is_empty() { route } else { self.checked()? };
            let answer = read(&route)?;
            return Ok((route, answer));
        }
        if client.only_shows() {
            route = self.ask(client).unwrap_or(route);
        }
        let answer = read(&route)?;
        if !matches!(answer.status, 403 | 404) || has_data(&answer) {
            return Ok((route, answer));
        }
        match self.ask(client) {
            Ok(known) if known != route => {
                let answer = read(&known)?;
                Ok((known, answer))
            }
            Ok(_) | Err(_) => Ok((route, answer)),
        }
    }

    /// Finds the place at an API that is not this machine's agent.
    pub fn ask(&self, client: &Client) -> Result<Route, Error> {
        let path = clean(&self.path);
        let asked = self.mount.as_deref().map_or_else(|| path.clone(), clean);
        let answer = client.ask(&format!("sys/internal/ui/mounts/{asked}"), &[])?;
        if answer.status == 404 {
            // A server from before there were versions.
            return Ok(Route { versioned: false, ..self.guess() });
        }
        let body: Value = answer.success()?.json()?;
        let data = &body["data"];
        let mount = data["path"].as_str().map(clean).unwrap_or_default();
        let versioned = data["options"]["version"].as_str() == Some("2");
        let name = match &self.mount {
            Some(_) => path,
            None => path.strip_prefix(&mount).map(clean).unwrap_or(path),
        };
        Ok(Route { mount, name, versioned })
    }
}

/// Tells whether there is content although the status may be an error, as of a deleted version.
pub fn has_data(answer: &Answer) -> bool {
    answer.json::<Value>().is_ok_and(|body| body["data"].is_object())
}

/// Drops spaces around a path and empty segments.
fn clean(path: &str) -> String {
    path.trim().split('/').filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(mount: Option<&str>, path: &str) -> Typed {
        Typed { mount: mount.map(str::to_owned), path: path.to_owned() }
    }

    #[test]
    fn paths_are_put_together() {
        for (mount, path, data) in [
            (None, "secret/app/db", "secret/data/app/db"),
            (None, "/secret//app/db/", "secret/data/app/db"),
            (None, "secret", "secret/data"),
            (None, " secret/ ", "secret/data"),
            (Some("secret"), "app/db", "secret/data/app/db"),
            (Some("/secret/"), "/app", "secret/data/app"),
            (Some("team/kv"), "app", "team/kv/data/app"),
            (Some("secret"), "", "secret/data"),
            (None, "secret/data/app", "secret/data/data/app"),
        ] {
            assert_eq!(typed(mount, path).guess().api("data"), data, "{mount:?} {path}");
        }
    }

    #[test]
    fn a_typed_name_has_one_form() {
        assert!(typed(None, "secret/\u{fc}").checked().is_ok());
        for (mount, path) in [(None, "secret/u\u{308}"), (Some("u\u{308}"), "a")] {
            let fault = typed(mount, path).checked().unwrap_err().to_string();
            assert!(fault.contains("normal form NFC"), "{fault}");
        }
    }

    #[test]
    fn version_1_has_one_path() {
        let route = Route { versioned: false, ..typed(None, "kv/app").guess() };
        assert_eq!(route.api("data"), "kv/app");
        assert_eq!(route.logical(), "kv/app");
    }
}
