//! The text of `vault-server.service`: pure. Where it is written does not live here.

use std::path::{Path, PathBuf};

use host::systemd::{Credential, Whose, argument, needs, percent, word};

/// The user that the host's server runs as, and its group.
pub const USER: &str = "vault-server";

/// Where the host's server keeps everything, unless told otherwise.
pub const USUAL: &str = "/var/lib/vault-server";

/// What glibc is told. Once it has freed a buffer of megabytes it keeps the like in its heaps. Of
/// these two are enough, not eight for each processor, and what has 128 KiB goes back at once.
pub const MALLOC: [(&str, &str); 2] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072")];

/// The server that is installed.
#[derive(Clone, Debug)]
pub struct Server {
    /// Whose manager runs it.
    pub whose: Whose,
    /// What follows `run`: flags and paths.
    pub arguments: Vec<String>,
    /// The data directory.
    pub data: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// Where its own backups go.
    pub backups: Option<PathBuf>,
    /// The port to listen on.
    pub port: u16,
}

impl Server {
    /// Returns the unit that starts `program`, for which systemd opens the `sealed` key.
    pub fn text(&self, program: &Path, sealed: Option<&Credential>) -> String {
        let mut unit =
            String::from("[Unit]\nDescription=Vault server: keeps the log and the ciphertext\n");
        unit +=
            "After=network-online.target\nWants=network-online.target\nStartLimitIntervalSec=0\n";
        unit += &needs(program);
        unit += "\n[Service]\nType=notify\n";
        unit += &format!("ExecStart={} run", word(&program.to_string_lossy()));
        for text in &self.arguments {
            unit += &format!(" {}", argument(text));
        }
        unit += "\nRestart=on-failure\nRestartSec=1\nWatchdogSec=60\nTimeoutStopSec=30\n";
        // Far above what the meters let callers hold, and what the log of a homelab takes.
        unit += "LimitNOFILE=65536\nMemoryHigh=512M\nMemoryMax=768M\n";
        unit += "# Large buffers go back to the system.\nEnvironment=";
        unit += &MALLOC.map(|(name, value)| format!("{name}={value}")).join(" ");
        unit += "\n";
        if self.whose == Whose::Host {
            self.host(&mut unit, program, sealed);
        }
        unit += "\nNoNewPrivileges=yes\nLimitCORE=0\nUMask=0077\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\n";
        unit += "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\nRestrictNamespaces=yes\nRestrictRealtime=yes\n";
        unit +=
            "RestrictSUIDSGID=yes\nSystemCallArchitectures=native\nSystemCallErrorNumber=EPERM\n";
        unit += "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n";
        unit += "\n[Install]\n";
        unit += if self.whose == Whose::User {
            "WantedBy=default.target\n"
        } else {
            "WantedBy=multi-user.target\n"
        };
        unit
    }

    /// What only the host's manager can do.
    fn host(&self, unit: &mut String, program: &Path, sealed: Option<&Credential>) {
        *unit += &format!(
            "\n# A user and a folder of its own; all else is read-only or out of sight.\nUser={USER}\n"
        );
        if self.data == Path::new(USUAL) {
            *unit += "StateDirectory=vault-server\nStateDirectoryMode=0700\n";
        } else {
            *unit += &format!("ReadWritePaths={}\n", word(&self.data.to_string_lossy()));
        }
        if let Some(backups) = &self.backups {
            // Where it is not there the server starts all the same, and says so.
            *unit += &format!("ReadWritePaths=-{}\n", word(&backups.to_string_lossy()));
        }
        if let Some(Credential { name, sealed, .. }) = sealed {
            let file = percent(&sealed.to_string_lossy());
            *unit += &format!("LoadCredentialEncrypted={name}:{file}\n");
        }
        let homes = ["/home", "/root", "/run/user"];
        let touches = |path: &Path| homes.iter().any(|home| path.starts_with(home));
        let places = [&self.data, &self.config, program].into_iter();
        let home = places.chain(self.backups.as_deref()).any(touches);
        *unit += if home { "ProtectHome=read-only\n" } else { "ProtectHome=yes\n" };
        *unit += "ProtectSystem=strict\nPrivateTmp=yes\nPrivateDevices=yes\nPrivateIPC=yes\nProtectProc=invisible\n";
        *unit +=
            "ProcSubset=pid\nProtectClock=yes\nProtectControlGroups=yes\nProtectHostname=yes\n";
        *unit += "ProtectKernelLogs=yes\nProtectKernelModules=yes\nProtectKernelTunables=yes\nRemoveIPC=yes\n";
        if self.port < 1024 {
            *unit += "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n";
        } else {
            *unit += "CapabilityBoundingSet=\nPrivateUsers=yes\n";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "/usr/local/bin/vault-server";

    fn server() -> Server {
        Server {
            whose: Whose::Host,
            arguments: vec!["--config".to_owned(), "/etc/vault-server/server.toml".to_owned()],
            data: USUAL.into(),
            config: "/etc/vault-server/server.toml".into(),
            backups: None,
            port: 8443,
        }
    }

    #[test]
    fn the_guide_shows_the_very_unit() {
        let guide = include_str!("../../../docs/src/guide/systemd.md");
        let unit = server().text(PROGRAM.as_ref(), None);
        assert!(guide.contains(&format!("```ini\n{unit}```\n")), "{unit}");
    }

    #[test]
    fn a_unit_allows_what_the_server_needs() {
        let sealed = crate::datadir::credential("/d%".as_ref());
        let check = |server: Server, lines: &[&str], others: &[&str]| {
            let unit = server.text(PROGRAM.as_ref(), Some(&sealed));
            for line in lines {
                assert!(unit.lines().any(|there| there == *line), "no {line} in {unit}");
            }
            for line in others {
                assert!(!unit.contains(line), "{line} in {unit}");
            }
        };
        check(
            Server { port: 443, ..server() },
            &["AmbientCapabilities=CAP_NET_BIND_SERVICE"],
            &["PrivateUsers"],
        );
        check(
            Server { data: "/home/j/a b".into(), ..server() },
            &["ReadWritePaths=\"/home/j/a b\"", "ProtectHome=read-only"],
            &["StateDirectory"],
        );
        check(server(), &["LoadCredentialEncrypted=vault-server.key:/d%%/server.key.sealed"], &[]);
        check(
            Server { whose: Whose::User, ..server() },
            &["WantedBy=default.target", "LimitNOFILE=65536", "MemoryMax=768M"],
            &["User=", "ProtectSystem"],
        );
    }
}
