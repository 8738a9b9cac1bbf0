//! What a unit shields off by namespaces, on a host that lets nobody make any: an unprivileged
//! container without nesting. There a drop-in beside the unit goes without, and says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::systemctl;
use super::unit::Whose;
use crate::files::{self, Access};
use crate::term::Term;

/// What systemd ends a program with that it cannot shield off (systemd.exec(5)).
const NAMESPACE: &str = "226";

/// Settings that need a namespace of the program's own, and what is without each.
const OFF: [(&str, &str); 13] = [
    ("ProtectSystem", "no"),
    ("ProtectHome", "no"),
    ("ReadWritePaths", ""),
    ("ReadOnlyPaths", ""),
    ("InaccessiblePaths", ""),
    ("PrivateTmp", "no"),
    ("PrivateDevices", "no"),
    ("ProtectClock", "no"),
    ("ProtectControlGroups", "no"),
    ("ProtectHostname", "no"),
    ("ProtectKernelLogs", "no"),
    ("ProtectKernelModules", "no"),
    ("ProtectKernelTunables", "no"),
];

/// Returns the drop-in of a unit.
pub(super) fn file(unit: &Path) -> PathBuf {
    unit.with_extension("service.d").join("90-no-namespaces.conf")
}

/// Tells whether a unit has just failed for want of namespaces, in a container.
pub(super) fn is_wanting(whose: Whose, service: &str) -> bool {
    let status = systemctl::shown(whose, service, "ExecMainStatus");
    status.as_deref() == Some(NAMESPACE) && is_container()
}

/// Tells whether this host is a container.
fn is_container() -> bool {
    let mut detect = Command::new("systemd-detect-virt");
    detect.args(["--container", "--quiet"]).stdin(Stdio::null()).stdout(Stdio::null());
    detect.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Has the unit do without, and restarts it; what does not help is taken back.
///
/// # Errors
/// If it does not start so either.
pub(super) fn do_without(whose: Whose, service: &str, unit: &Path, term: &Term) -> Result<()> {
    let file = file(unit);
    let folder = file.parent().context("a drop-in has a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make folder `{}`", folder.display()))?;
    files::replace(&file, text().as_bytes(), Access { mode: 0o644, ..Access::PRIVATE })?;
    systemctl::call(whose, &["daemon-reload"])?;
    if let Err(why) = systemctl::call(whose, &["restart", service]) {
        files::remove(&file)?;
        systemctl::call(whose, &["daemon-reload"])?;
        return Err(why);
    }
    let names = OFF.iter().filter(|(_, value)| *value == "no").map(|(name, _)| *name);
    term.say_hinted(
        format!(
            "warning: this container lets systemd shield nothing off (226/NAMESPACE), so these \
             protections are off: {}",
            names.collect::<Vec<_>>().join(", ")
        ),
        format!(
            "with nesting allowed (Proxmox: `pct set ID --features nesting=1`), remove `{}` and \
             install again",
            file.display()
        ),
    );
    Ok(())
}

fn text() -> String {
    let lines = OFF.iter().map(|(name, value)| format!("{name}={value}\n"));
    let head = "# Written by install: this container lets systemd make no namespaces \
                (226/NAMESPACE).\n[Service]\n";
    head.to_owned() + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_takes_back_what_needs_namespaces_and_nothing_else() {
        let text = text();
        assert!(
            text.contains("[Service]\nProtectSystem=no\n") && text.contains("\nReadWritePaths=\n")
        );
        for kept in ["NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet"] {
            assert!(!text.contains(kept), "{kept}");
        }
        let unit = Path::new("/etc/systemd/system/vault-agent.service");
        let drop_in = "/etc/systemd/system/vault-agent.service.d/90-no-namespaces.conf";
        assert_eq!(file(unit), Path::new(drop_in));
    }
}
