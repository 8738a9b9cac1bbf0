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

    /// Has it another port, if it had that of a server that moves to another one.
    pub fn moved(mut self, from: Option<u16>, to: u16) -> Self {
        let host = from.and_then(|old| self.at.strip_suffix(&format!(":{old}")));
        if let Some(host) = host {
            self.at = format!("{host}:{to}");
        }
        self
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
    /// The vault, if it is made.
    pub made: Option<String>,
    pub addresses: &'a [Address],
    pub port: u16,
    pub runs: &'a Runs,
    /// The user, beside root, whom the host's agent serves.
    pub allowed: Option<String>,
    /// Folders and files, as people see them.
    pub files: [String; 4],
    pub published: Option<Published<'a>>,
}

impl Plan<'_> {
    /// Says it in six lines.
    pub fn shown(&self) -> Shown {
        let Self { names, runs, allowed, files: [data, settings, state, config], .. } = self;
        let Names { host, vault, admin } = names;
        let machine = match &self.made {
            Some(made) => format!("`{host}` of vault {made}"),
            None => format!("`{host}`, the first of vault `{vault}`, with admin `{admin}`"),
        };
        let rows = [
            ("machine", machine),
            ("addresses", self.addresses()),
            ("port", format!("{}, where the other machines come in", self.port)),
            ("runs", how(runs, allowed.as_deref())),
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
            let there = if self.made.is_some() { "as they are" } else { "none yet" };
            return format!("{there}: `--import FILE` takes a .env in");
        };
        let (count, shown) = (keys.len(), &keys[..keys.len().min(KEYS)]);
        let more = if count > KEYS { format!(" and {} more", count - KEYS) } else { String::new() };
        let noun = if count == 1 { "key" } else { "keys" };
        let kept = target.as_ref().map(|file| format!("; {file} is kept right"));
        let list = shown.join(", ");
        format!("{path} from {file}, {count} {noun}: {list}{more}{}", kept.unwrap_or_default())
    }
}

fn how(runs: &Runs, allowed: Option<&str>) -> String {
    let text = match runs {
        Runs::Units(Whose::Host) => {
            "system units vault-server and vault-agent, now and with the host".to_owned()
        }
        Runs::Units(Whose::User) => "units of this user (`systemctl --user`), now and with the \
                                     host; `sudo vault setup` makes system units instead"
            .to_owned(),
        Runs::Processes(why) => {
            format!(
                "plain processes until the next boot, as {why}; the same line starts them again"
            )
        }
    };
    match allowed {
        Some(user) => format!("{text}; `{user}` may use the agent, as root may"),
        None => text,
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

    const OF_HOST: [&str; 4] = [
        "/var/lib/vault-server",
        "/etc/vault-server/server.toml",
        "/var/lib/vault-agent",
        "/etc/vault-agent/agent.toml",
    ];
    const OF_USER: [&str; 4] = [
        "~/.local/state/vault-server",
        "~/.config/vault-server/server.toml",
        "~/.local/state/vault-agent",
        "~/.config/vault-agent/agent.toml",
    ];

    fn with(
        runs: &Runs,
        [made, allowed]: [Option<&str>; 2],
        published: Option<Published<'_>>,
    ) -> String {
        let address =
            |at: &str, name: &str| Address { at: at.to_owned(), interface: Some(name.to_owned()) };
        let files = match runs {
            Runs::Units(Whose::Host) => OF_HOST,
            Runs::Units(Whose::User) | Runs::Processes(_) => OF_USER,
        };
        let plan = Plan {
            names: &names(),
            made: made.map(str::to_owned),
            addresses: &[address("192.168.17.1:8443", "enp3s0"), address("10.8.0.3:8443", "wg0")],
            port: 8443,
            runs,
            allowed: allowed.map(str::to_owned),
            files: files.map(str::to_owned),
            published,
        };
        assert_eq!(plan.shown().lines().count(), 6);
        plan.shown().to_string()
    }

    fn shown(runs: &Runs, published: Option<Published<'_>>) -> String {
        with(runs, [None, None], published)
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
                with(&Runs::Units(Whose::Host), [None, Some("jonas")], None),
                with(&Runs::Units(Whose::User), [Some("4f2a81c09d3e"), None], None),
            ]
            .join("\n\n")
        );
    }

    #[test]
    fn the_guide_shows_the_very_plan() {
        let guide = include_str!("../../../../../docs/src/guide/setup.md");
        let (_, shown_there) = guide.split_once("this will be made on this host:\n").unwrap();
        let path = "secret/jjeco/api-keys".parse().unwrap();
        let master = include_str!("../../../../../docs/examples/env.master");
        let lines = master.lines().filter(|line| !line.starts_with('#'));
        let mut keys: Vec<&str> = lines.filter_map(|line| Some(line.split_once('=')?.0)).collect();
        keys.sort_unstable();
        let (file, target) = ("~/.env.master".to_owned(), Some("~/J-Jeco/.env".to_owned()));
        let published = Some(Published { path: &path, file, keys, target });
        let plan = shown(&Runs::Units(Whose::User), published);
        for (there, here) in shown_there.lines().zip(plan.lines()) {
            // A long line is cut.
            match there.strip_suffix('…') {
                Some(start) => assert!(here.starts_with(start), "{there} is not\n{here}"),
                None => assert_eq!(there, here),
            }
        }
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
