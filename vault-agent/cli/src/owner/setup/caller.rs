//! Who has called `vault setup`: as root by `sudo` that is the user behind it, who goes on by their
//! own name afterwards.

use std::path::Path;

use crate::context::Global;
use host::account::{self, User};
use host::shown::quoted;
use machine::paths::Paths;

/// What programs that make somebody root say of who called them.
const VARIABLES: [&str; 2] = ["SUDO_USER", "DOAS_USER"];

/// The user behind `sudo`, if there is one.
#[derive(Debug, Default)]
pub struct Caller(Option<User>);

impl Caller {
    pub fn find(global: &Global) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let name = VARIABLES.iter().find_map(|name| global.env(name)).filter(|_| is_root);
        Self(name.and_then(|name| account::user(&name)).filter(|user| user.uid != 0))
    }

    /// Returns the user, as `allow` of the agent's configuration takes it, if the agent's socket is
    /// where that user gets to.
    pub fn allowed(&self, paths: &Paths) -> Option<String> {
        let User { name, uid, .. } = self.0.as_ref()?;
        let is_host = paths.socket == Paths::of_host(None).socket;
        // Directories have names that are no word there.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let word = if name.chars().all(plain) { name.clone() } else { uid.to_string() };
        is_host.then_some(word)
    }

    /// Returns what stands before a command that only root can run.
    pub fn sudo(&self) -> &'static str {
        if self.0.is_some() { "sudo " } else { "" }
    }

    /// Tells whether the user has a vault of their own, at its usual place.
    pub fn has_own_vault(&self) -> bool {
        let pins = ".local/state/vault-agent/pins.json";
        self.0.as_ref().is_some_and(|user| user.home.join(pins).exists())
    }

    /// Shows a file as its reader calls it, for whom `~` is their own home.
    pub fn shown(&self, file: &Path) -> String {
        account::tilde(file, self.0.as_ref().map(|user| user.name.as_str()))
    }

    /// Shows a file as its reader would type it.
    pub fn typed(&self, file: &Path) -> String {
        let shown = self.shown(file);
        match shown.strip_prefix("~/") {
            Some(rest) => format!("~/{}", quoted(rest)),
            None => quoted(&shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        let (name, home) = (name.to_owned(), "/home/jonas".into());
        Caller(Some(User { name, uid: 1000, gid: 1000, home }))
    }

    #[test]
    fn who_called_sudo_may_use_the_agent_of_the_host() {
        let (host, own) = (Paths::of_host(None), Paths::resolve(Some("/x".into()), None).unwrap());
        assert_eq!(caller("jonas").allowed(&host).as_deref(), Some("jonas"));
        assert_eq!(caller("jonas@ad.lan").allowed(&host).as_deref(), Some("1000"));
        assert_eq!(caller("jonas").allowed(&own), None, "its socket is root's alone");
        assert_eq!(Caller::default().allowed(&host), None);
        assert_eq!((caller("jonas").sudo(), Caller::default().sudo()), ("sudo ", ""));
    }
}
