//! What `vault setup` will do, and the six lines that say so before it does. Pure.

use shared::path::SecretPath;

use super::addresses::Chosen;
use super::daemons::Runs;
use crate::owner::init::Names;
use host::shown::Shown;
use host::systemd::Whose;

/// Names of keys that are shown.
const KEYS: usize = 20;

/// An address for agents, and the interface that has it, where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host:port`.
    pub at: String,
    pub interface: Option<String>,
}

impl Address {
    /// Puts the port behind an address of this host.
    pub fn of(chosen: &Chosen, port: u16) -> Self {
        let at = std::net::SocketAddr::new(chosen.address, port).to_string();
        Self { at, interface: Some(chosen.name.clone()) }
    }

    /// Takes `HOST` or `HOST:PORT` as somebody has written it.
    pub fn given(text: &str, port: u16) -> Self {
        let bare = text.parse::<std::net::IpAddr>().map(|ip| match ip {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let has_port =
            |text: &str| text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let at = match bare {
            Ok(host) => format!("{host}:{port}"),
            Err(_) if has_port(text) => text.to_owned(),
            Err(_) => format!("{text}:{port}"),
        };
        Self { at, interface: None }
    }
}

/// A secret to be published, by the names of its keys.
#[derive(Debug)]
pub struct Published<'a> {
    pub path: &'a SecretPath,
    /// The file, as it was named.
    pub file: String,
    pub keys: Vec<&'a str>,
    /// The file to be kept right, as it was named.
    pub target: Option<String>,
}

/// What will be done.
#[derive(Debug)]
pub struct Plan<'a> {
    pub names: &'a Names,
    pub addresses: &'a [Address],
    pub port: u16,
    pub runs: &'a Runs,
    /// Folders and files, as people see them.
    pub files: [String; 4],
    pub published: Option<Published<'a>>,
}

impl Plan<'_> {
    /// Says it in six lines.
    pub fn shown(&self) -> Shown {
        let Self { names, runs, files: [data, settings, state, config], .. } = self;
        let Names { host, vault, admin } = names;
        let rows = [
            ("machine", format!("`{host}`, the first of vault `{vault}`, with admin `{admin}`")),
            ("addresses", self.addresses()),
            ("port", format!("{}, where the other machines come in", self.port)),
            ("runs", how(runs)),
            ("files", format!("{data}, {settings}, {state}, {config}")),
            ("secrets", self.secrets()),
        ];
        Shown::lines(rows.map(|(what, text)| format!("  {what:<9}  {text}")))
    }

    fn addresses(&self) -> String {
        let shown = |address: &Address| match &address.interface {
            Some(name) => format!("{} ({name})", address.at),
            None => address.at.clone(),
        };
        self.addresses.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    fn secrets(&self) -> String {
        let Some(Published { path, file, keys, target }) = &self.published else {
            return "none yet: `--import FILE` takes a .env in".to_owned();
        };
        let (count, shown) = (keys.len(), &keys[..keys.len().min(KEYS)]);
        let more = if count > KEYS { format!(" and {} more", count - KEYS) } else { String::new() };
        let noun = if count == 1 { "key" } else { "keys" };
        let kept = target.as_ref().map(|file| format!("; {file} is kept right"));
        let list = shown.join(", ");
        format!("{path} from {file}, {count} {noun}: {list}{more}{}", kept.unwrap_or_default())
    }
}

fn how(runs: &Runs) -> String {
    match runs {
        Runs::Units(Whose::Host) => {
            "system units vault-server and vault-agent, now and with the host".to_owned()
        }
        Runs::Units(Whose::User) => "units of this user (`systemctl --user`), now and with the \
                                     host; `sudo vault setup` serves all its users"
            .to_owned(),
        Runs::Processes(why) => {
            format!(
                "plain processes until the next boot, as {why}; the same line starts them again"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            host: "rtx1080".parse().unwrap(),
            vault: "home".parse().unwrap(),
            admin: "admin".parse().unwrap(),
        }
    }

    fn shown(runs: &Runs, published: Option<Published<'_>>) -> String {
        let address =
            |at: &str, name: &str| Address { at: at.to_owned(), interface: Some(name.to_owned()) };
        let files = [
            "/var/lib/vault-server",
            "/etc/vault-server/server.toml",
            "/var/lib/vault-agent",
            "/etc/vault-agent/agent.toml",
        ];
        let plan = Plan {
            names: &names(),
            addresses: &[address("192.168.17.1:8443", "enp3s0"), address("10.8.0.3:8443", "wg0")],
            port: 8443,
            runs,
            files: files.map(str::to_owned),
            published,
        };
        assert_eq!(plan.shown().lines().count(), 6);
        plan.shown().to_string()
    }

    #[test]
    fn the_plan_is_six_lines() {
        let path = "secret/jjeco/env".parse().unwrap();
        let keys = vec!["OPENAI_API_KEY", "TELEGRAM_TOKEN"];
        let (file, target) = (".env.master".to_owned(), Some("~/J-Jeco/.env".to_owned()));
        let published = Some(Published { path: &path, file, keys, target });
        let none = "systemd does not run here";
        insta::assert_snapshot!(
            [
                shown(&Runs::Units(Whose::Host), published),
                shown(&Runs::Units(Whose::User), None),
                shown(&Runs::Processes(none), None),
            ]
            .join("\n\n")
        );
    }

    #[test]
    fn of_many_keys_the_first_are_named() {
        let path = "secret/a/b".parse().unwrap();
        let names: Vec<String> = (0..30).map(|n| format!("K{n}")).collect();
        let keys = names.iter().map(String::as_str).collect();
        let published = Some(Published { path: &path, file: "x".to_owned(), keys, target: None });
        let text = shown(&Runs::Units(Whose::Host), published);
        assert!(text.contains("30 keys: K0, ") && text.ends_with("K19 and 10 more"), "{text}");
    }

    #[test]
    fn a_given_address_gets_the_port_unless_it_has_one() {
        for (given, expected) in [
            ("10.8.0.3", "10.8.0.3:8443"),
            ("vault.lan", "vault.lan:8443"),
            ("vault.lan:443", "vault.lan:443"),
            ("fd00::5", "[fd00::5]:8443"),
            ("[fd00::5]:1", "[fd00::5]:1"),
        ] {
            assert_eq!(Address::given(given, 8443).at, expected);
        }
    }
}
