//! What another host needs to know, in the words of a shell.

use serde_json::json;
use shared::keys::VerifyKey;
use shared::log::Checkpoint;
use shared::name::Name;
use shared::signed::VaultId;
use shared::words::VaultWords;

use host::shown::{Shown, quoted};

/// What another host needs to know.
pub(super) struct Invitation {
    pub(super) name: Name,
    pub(super) vault: VaultId,
    pub(super) addresses: Vec<String>,
    pub(super) server: Vec<VerifyKey>,
    /// What the host may start from.
    pub(super) checkpoint: Option<Checkpoint>,
    /// The lists, as flags.
    pub(super) grants: Vec<String>,
    /// The addresses that this command was told, as flags.
    pub(super) named: Vec<String>,
    /// Where this host's state is, as flags.
    pub(super) place: Vec<String>,
}

impl Invitation {
    /// Returns what is typed on a host without ssh.
    pub(super) fn ask(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(|one| quoted(one)).collect();
        format!(
            "vault-agent join --wait {} --vault {} --name {}",
            addresses.join(" "),
            VaultWords::of(&self.vault),
            self.name
        )
    }

    /// Returns what is typed on this host then.
    fn approve(&self) -> String {
        let words = [&self.grants[..], &self.place].concat();
        let words: String = words.iter().map(|word| format!(" {}", quoted(word))).collect();
        format!("vault machine approve {}{words}", self.name)
    }

    pub(super) fn for_people(&self) -> Shown {
        let name = &self.name;
        // What it may read is to be decided then.
        let open = if self.grants.is_empty() { " --read PREFIX" } else { "" };
        Shown::lines([
            format!("on `{name}`, if it reaches this host by ssh under some name HOST:"),
            format!("  ssh HOST {} --via HOST | sh", quoted_twice(&self.again())),
            format!("or, with vault-agent installed there, on `{name}`:"),
            format!("  {}", self.ask()),
            "and then here, after comparing the six words that it shows:".to_owned(),
            format!("  {}{open}", self.approve()),
        ])
    }

    /// Returns this very command, for a shell.
    fn again(&self) -> Vec<String> {
        let words = ["vault", "machine", "invite", self.name.as_str()].map(str::to_owned);
        let flags = [&self.grants[..], &self.named, &self.place].concat();
        words.into_iter().chain(flags).collect()
    }

    pub(super) fn for_programs(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "vault": self.vault,
            "words": VaultWords::of(&self.vault),
            "addresses": self.addresses,
            "server": self.server,
            "command": self.ask(),
            "approve": self.approve(),
        })
    }
}

/// Quotes words for a shell whose words another shell reads, as behind `ssh HOST`.
pub(super) fn quoted_twice(words: &[String]) -> String {
    let twice = |word: &String| {
        let once = quoted(word);
        // Double quotes are easier on the eye where nothing in them is special.
        if once != *word && !once.contains(['"', '$', '`', '\\', '!']) {
            format!("\"{once}\"")
        } else {
            quoted(&once)
        }
    };
    words.iter().map(twice).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn two_shells_leave_every_word_as_it_was() {
        let words = ["plain", "*", "secret/a b/", "it's", "a$HOME", "back\\slash", "`id`", "!x"];
        let words = words.map(str::to_owned);
        let inner = quoted_twice(&words);
        // What ssh does: joins its arguments with spaces for a shell there.
        let script = format!("over() {{ sh -c \"printf '%s|' $*\"; }}; over {inner}");
        let out = Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let expected: String = words.iter().map(|word| format!("{word}|")).collect();
        assert_eq!(String::from_utf8_lossy(&out.stdout), expected, "{script}");
    }
}
