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

/// Writes a first configuration unless there is one.
pub fn write_config(paths: &Paths, addresses: &[String]) -> Result<()> {
    if paths.config.exists() {
        return Ok(());
    }
    if let Some(folder) = paths.config.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("making folder `{}`", folder.display()))?;
    }
    Ok(files::write_private(&paths.config, first_config(addresses).as_bytes())?)
}

fn first_config(addresses: &[String]) -> String {
    let list: Vec<String> = addresses.iter().map(|address| format!("{address:?}")).collect();
    format!(
        "# The agent of this machine; `vault-agent target add` adds files.\n\
         server = [{}]     # tried in order\n",
        list.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_configuration_is_toml() {
        let text = first_config(&["10.8.0.3:8443".into(), "[::1]:1".into()]);
        let config = crate::config::Config::parse(&text, Path::new("/agent.toml")).unwrap();
        assert_eq!(config.server, ["10.8.0.3:8443", "[::1]:1"]);
        insta::assert_snapshot!(text, @r#"
        # The agent of this machine; `vault-agent target add` adds files.
        server = ["10.8.0.3:8443", "[::1]:1"]     # tried in order
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
