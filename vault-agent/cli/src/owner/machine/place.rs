//! The file that is to be kept right on another host, as it was typed on this one: where it lies
//! there, and which secrets are in it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use shared::grant::Grants;
use shared::name::Name;
use shared::path::SecretPath;

use crate::context::Global;
use host::account;
use host::hint::hinted;
use machine::config::Config;
use machine::local::TargetRow;

/// A file on whatever host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below the home folder of the user there.
    Home(String),
    /// A whole path.
    Whole(String),
}

impl Place {
    /// Reads what was typed. A path below one of the `homes` is one that a shell has made of `~/…`:
    /// it means the home folder there.
    ///
    /// # Errors
    /// If it is no whole path.
    pub fn read(text: &str, homes: &[String]) -> Result<Self> {
        let below = |home: &str| text.strip_prefix(home)?.strip_prefix('/');
        let mut homes = homes.iter().map(|home| home.trim_end_matches('/'));
        let rest = text
            .strip_prefix("~/")
            .or_else(|| homes.find_map(|home| below(home).filter(|_| !home.is_empty())));
        let is_plain = |text: &str| {
            !text.is_empty() && !text.ends_with('/') && !text.chars().any(char::is_control)
        };
        match rest {
            Some(rest) if is_plain(rest) => Ok(Self::Home(rest.to_owned())),
            None if text.starts_with('/') && is_plain(text) => Ok(Self::Whole(text.to_owned())),
            Some(_) | None => Err(hinted(
                format!("`{text}` is no whole path of a file"),
                "write it from the top, such as /srv/app/.env, or ~/app/.env",
            )),
        }
    }

    /// Returns the whole path where `home` is the home folder.
    pub fn below(&self, home: &str) -> String {
        match self {
            Self::Home(rest) => format!("{}/{rest}", home.trim_end_matches('/')),
            Self::Whole(path) => path.clone(),
        }
    }

    /// Returns it as people call it.
    pub fn shown(&self) -> String {
        match self {
            Self::Home(rest) => format!("~/{rest}"),
            Self::Whole(path) => path.clone(),
        }
    }

    /// Tells whether a machine means it by this name in its report; `home` is its home folder.
    pub fn is(&self, name: &str, home: &str) -> bool {
        name == self.shown() || name == self.below(home)
    }
}

/// Returns the secrets that are to be in the file: those that are named, else those that this host
/// has in the file of that name, else another machine.
///
/// # Errors
/// If nothing tells, or the machine is not to read one of them.
pub fn secrets(
    named: &[SecretPath],
    place: &Place,
    read: &Grants,
    rows: impl FnOnce() -> Result<Vec<TargetRow>>,
    global: &Global,
) -> Result<Vec<SecretPath>> {
    let mut found = named.to_vec();
    if found.is_empty() {
        found = own(place, global)?;
    }
    if found.is_empty() {
        found = others(place, &rows()?);
    }
    if found.is_empty() {
        bail!(hinted(
            format!("nothing says which secret `{}` is to hold", place.shown()),
            "name it with `--secret PATH`; it is guessed where another host has a target of that \
             name already"
        ));
    }
    match found.iter().find(|path| !read.cover(path)) {
        None => Ok(found),
        Some(path) => Err(hinted(
            format!("`{}` is to hold `{path}`, which the machine may not read", place.shown()),
            format!("add `--read {path}`"),
        )),
    }
}

/// Returns what this host has in the file of that name.
fn own(place: &Place, global: &Global) -> Result<Vec<SecretPath>> {
    let config = Config::load_or_default(&global.paths()?.config)?;
    let home = global.env("HOME").unwrap_or_default();
    let is_it = |path: &Path, owner: Option<&str>| {
        path.to_str().is_some_and(|path| place.is(path, &home))
            || place.is(&account::tilde(path, owner), &home)
    };
    let target = config.targets.iter().find(|it| is_it(&it.path, it.owner.as_deref()));
    Ok(target.map(|it| it.secrets.clone()).unwrap_or_default())
}

/// Returns what the first other machine has in it, as it reports.
fn others(place: &Place, rows: &[TargetRow]) -> Vec<SecretPath> {
    let mut by_machine: BTreeMap<&Name, Vec<SecretPath>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.target == place.shown()) {
        by_machine.entry(&row.machine).or_default().push(row.secret.clone());
    }
    by_machine.into_values().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_ones_home_means_the_home_there() {
        // As root by `sudo`, whose home is not what the shell has written out.
        let homes = ["/root", "/home/jonas"].map(str::to_owned);
        let read = |text: &str| Place::read(text, &homes);
        let home = Place::Home("J-Jeco/.env".to_owned());
        assert_eq!(read("~/J-Jeco/.env").unwrap(), home);
        assert_eq!(read("/home/jonas/J-Jeco/.env").unwrap(), home);
        assert_eq!(read("/root/J-Jeco/.env").unwrap(), home);
        assert_eq!(home.below("/root"), "/root/J-Jeco/.env");
        assert!(home.is("~/J-Jeco/.env", "/root") && home.is("/root/J-Jeco/.env", "/root"));
        assert!(!home.is("/home/jonas/J-Jeco/.env", "/root"));
        let whole = Place::Whole("/home/jonas2/.env".to_owned());
        assert_eq!(read("/home/jonas2/.env").unwrap(), whole);
        assert_eq!(Place::read("/a/.env", &["/".to_owned()]).unwrap().shown(), "/a/.env");
        for text in ["J-Jeco/.env", "~/", "/srv/", "", "/a\nb", "~jonas/.env"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
