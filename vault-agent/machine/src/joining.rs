//! First steps of a host that joins a vault: its name and its first configuration. Keys and pins
//! are `identity`'s.

use anyhow::{Context as _, Result};
use host::files;
use host::hint::Failure;
use shared::error::Code;
use shared::name::Name;

use crate::paths::Paths;

/// Returns this host's name in the grammar of machine names.
pub fn host_name() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = as_name(text.trim());
    name.ok_or_else(|| {
        Failure::local(format!("this host's name `{}` cannot name a machine", text.trim()))
            .hint(format!("pass `--name HOST`: {}", Code::Name.hint()))
            .into()
    })
}

/// Bends a host name into the grammar: lower case, up to the first dot, `-` for what is not
/// allowed.
fn as_name(host: &str) -> Option<String> {
    let first = host.split('.').next()?.to_lowercase();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bent: String = first.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    bent.trim_matches('-').parse::<Name>().ok().map(|name| name.to_string())
}

/// Writes a first configuration unless there is one; the users of `allow` may use the socket.
pub fn write_config(paths: &Paths, addresses: &[String], allow: &[String]) -> Result<()> {
    if paths.config.exists() {
        return Ok(());
    }
    if let Some(folder) = paths.config.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("making folder `{}`", folder.display()))?;
    }
    Ok(files::write_private(&paths.config, first_config(addresses, allow).as_bytes())?)
}

fn first_config(addresses: &[String], allow: &[String]) -> String {
    let list = |texts: &[String]| {
        texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!(
        "# The agent of this machine; `vault-agent target add` adds files.\n\
         server = [{}]     # the quickest that answers\n",
        list(addresses)
    );
    if !allow.is_empty() {
        text += &format!(
            "\n[api]\nallow = [{}]     # may use the agent's socket, as root does\n",
            list(allow)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Allow;

    #[test]
    fn the_first_configuration_is_toml() {
        let addresses = ["10.8.0.3:8443".to_owned(), "[::1]:1".to_owned()];
        let text = first_config(&addresses, &["jonas".to_owned()]);
        let config = crate::config::Config::parse(&text, Path::new("/agent.toml")).unwrap();
        assert_eq!(config.server, addresses);
        assert_eq!(config.api.allow, [Allow::User("jonas".to_owned())]);
        insta::assert_snapshot!(text, @r#"
        # The agent of this machine; `vault-agent target add` adds files.
        server = ["10.8.0.3:8443", "[::1]:1"]     # the quickest that answers

        [api]
        allow = ["jonas"]     # may use the agent's socket, as root does
        "#);
    }

    #[test]
    fn host_names_become_machine_names() {
        for (host, expected) in [
            ("rtx1080", Some("rtx1080")),
            ("Thinkpad.fritz.box", Some("thinkpad")),
            ("jonas_homelab-vps", Some("jonas-homelab-vps")),
            ("--x--", Some("x")),
            ("4770k", Some("4770k")),
            ("4770", None),
            ("", None),
            ("ÄÖ", None),
        ] {
            assert_eq!(as_name(host).as_deref(), expected, "{host}");
        }
    }
}
