//! The text of `vault-agent.service`, derived from what the configuration has the agent do: pure.
//! Where it is written does not live here.

use std::path::{Path, PathBuf};

use anyhow::Result;
use host::systemd::{Credential, Whose, argument, check_names, needs, percent, word};
use machine::config::{Config, GitPolicy, HookAction, Private, Scan, Sink, Target};

/// Where mail waits that the host is to send.
const SPOOL: &str = "/var/spool";

/// What the unit is made from.
pub struct Facts {
    /// Whose manager runs it.
    pub whose: Whose,
    pub program: PathBuf,
    /// The state folder, if it is not at its usual place.
    pub state: Option<PathBuf>,
    /// The configuration file, if it is not at its usual place.
    pub config: Option<PathBuf>,
    /// Variables that tell a user's places, and their values.
    pub variables: Vec<(&'static str, String)>,
    /// Keys that systemd is to open.
    pub sealed: Vec<Credential>,
    /// Folders that the agent writes in, beside its own.
    pub writable: Vec<PathBuf>,
    /// Mount points right below `/` that somebody else mounts and unmounts.
    pub mounts: Vec<PathBuf>,
    /// Files that the agent reads.
    pub read: Vec<PathBuf>,
    /// Whether hooks send signals.
    pub signals: bool,
    /// Whether hooks run programs, about which nothing is known.
    pub commands: bool,
    /// Whether the host scans itself, at a lower priority.
    pub scans: bool,
}

impl Facts {
    /// Makes facts of a configuration; `work_tree` tells the root of the git work tree that a path
    /// is in.
    pub fn new(
        whose: Whose,
        program: PathBuf,
        config: &Config,
        work_tree: impl Fn(&Path) -> Option<PathBuf>,
    ) -> Self {
        let mut facts = Self {
            whose,
            read: vec![program.clone()],
            program,
            state: None,
            config: None,
            variables: Vec::new(),
            sealed: Vec::new(),
            writable: Vec::new(),
            mounts: Vec::new(),
            signals: false,
            commands: false,
            scans: config.scan.is_some(),
        };
        facts.scan(config.scan.as_ref());
        for target in &config.targets {
            facts.target(target, &work_tree);
        }
        for source in &config.sources {
            facts.write_in(source.path.parent());
        }
        config.forwards.iter().for_each(|forward| facts.forward(&forward.to));
        let sockets =
            [&config.api.socket, &config.credentials.as_ref().and_then(|all| all.socket.clone())];
        for socket in sockets.into_iter().flatten() {
            facts.write_in(socket.parent());
        }
        facts
    }

    /// Adds where a scan looks: homes are read, and so is what is named.
    fn scan(&mut self, scan: Option<&Scan>) {
        let Some(scan) = scan else { return };
        let (homes, named): (Vec<&String>, Vec<&String>) =
            scan.paths.iter().partition(|path| path.starts_with('~'));
        if !homes.is_empty() || !scan.presets.is_empty() || scan.containers.is_any() {
            self.read.extend(["/home", "/root"].map(PathBuf::from));
        }
        let plain = |path: &String| PathBuf::from(path.split('*').next().unwrap_or_default());
        self.read.extend(named.into_iter().map(plain));
    }

    fn forward(&mut self, sink: &Sink) {
        match sink {
            Sink::File(file) => self.write_in(file.path.parent()),
            // It is a program, which puts mail where it is sent from.
            Sink::Mail(_) => {
                self.commands = true;
                self.write_in(Some(Path::new(SPOOL)));
            }
            Sink::Webhook(hook) => {
                let files = [Some(&hook.url), hook.token.as_ref(), hook.hmac.as_ref()];
                self.read.extend(files.into_iter().flatten().filter_map(|private| match private {
                    Private::File(file) => Some(file.clone()),
                    Private::Here(_) | Private::Secret { .. } => None,
                }));
            }
            Sink::Journal(_) | Sink::Syslog(_) => {}
        }
    }

    fn target(&mut self, target: &Target, work_tree: impl Fn(&Path) -> Option<PathBuf>) {
        match target.require_mount.as_deref().filter(|point| target.path.starts_with(point)) {
            // A folder that is named is a mount of its own for the agent, and no sign of what is
            // mounted there. The folder above it is none, and what is mounted below comes and goes.
            Some(point) => match point.parent().filter(|above| above.parent().is_some()) {
                Some(above) => self.write_in(Some(above)),
                None => self.mounts.push(point.to_owned()),
            },
            None => self.write_in(target.path.parent()),
        }
        self.git(target.git, work_tree(&target.path));
        self.read.extend(target.template_file.clone());
        match target.on_change.as_ref().map(|hook| &hook.action) {
            Some(HookAction::Command(_)) => self.commands = true,
            Some(HookAction::Signal { pid_file, .. }) => {
                self.signals = true;
                self.read.push(pid_file.clone());
            }
            Some(HookAction::Systemd { .. }) | None => {}
        }
    }

    /// Adds where the links of a target lead now, for one whose links are followed.
    pub fn leads_to(
        &mut self,
        target: &Target,
        real: &Path,
        work_tree: impl Fn(&Path) -> Option<PathBuf>,
    ) {
        self.write_in(real.parent());
        self.git(target.git, work_tree(real));
    }

    fn git(&mut self, policy: GitPolicy, tree: Option<PathBuf>) {
        match policy {
            GitPolicy::Ignore => self.write_in(tree.as_deref()),
            // Copies of what was there before are kept out of git by a line in there.
            GitPolicy::Refuse => {
                self.write_in(tree.map(|root| root.join(".git/info")).as_deref());
            }
        }
    }

    /// Adds a folder that the agent writes in.
    pub fn write_in(&mut self, folder: Option<&Path>) {
        // What is in `/run` is made anew at each boot, maybe after the agent starts.
        let run = Path::new("/run");
        let runtime = folder.is_some_and(|folder| folder.starts_with(run));
        let folder = if runtime { Some(run) } else { folder };
        self.writable.extend(folder.map(Path::to_owned));
    }

    /// Refuses a path that no unit can name.
    pub fn check_names(&self) -> Result<()> {
        let given = [&self.state, &self.config].into_iter().flatten();
        check_names(given.chain(&self.writable).chain(&self.mounts).chain(&self.read))
    }

    pub fn unit(&self) -> String {
        // A fault that lasts, such as a full disk, is no reason to give up: no limit of starts.
        let mut unit = String::from(
            "[Unit]\nDescription=Vault agent: keeps files with secrets right\nStartLimitIntervalSec=0\n",
        );
        unit += &needs(&self.program);
        if self.whose == Whose::Host {
            unit += "# Files are right before the network is up, from the cache: no server is waited for.\n\
                     Before=network.target\n";
        }
        unit += "\n[Service]\nType=notify\n";
        let program = word(&self.program.to_string_lossy());
        unit += &format!("ExecStart={program} {}\n", self.arguments());
        unit += "Restart=on-failure\nRestartSec=1\nWatchdogSec=60\nTimeoutStopSec=30\n";
        for (name, value) in &self.variables {
            unit += &format!("Environment={}\n", word(&format!("{name}={value}")));
        }
        let target = match self.whose {
            Whose::Host => {
                self.host(&mut unit);
                "multi-user.target"
            }
            Whose::User => "default.target",
        };
        self.kernel(&mut unit);
        unit + &format!("\n[Install]\nWantedBy={target}\n")
    }

    /// Returns what follows the program's name.
    pub fn arguments(&self) -> String {
        let mut words = String::from("run");
        for (flag, path) in [("--state", &self.state), ("--config", &self.config)] {
            if let Some(path) = path {
                words += &format!(" {flag} {}", argument(&path.to_string_lossy()));
            }
        }
        words
    }

    /// What only the host's manager can do.
    fn host(&self, unit: &mut String) {
        if self.state.is_none() {
            *unit += "\n# Its own folders.\n\
                      StateDirectory=vault-agent\nStateDirectoryMode=0700\n\
                      RuntimeDirectory=vault-agent\nRuntimeDirectoryPreserve=restart\n";
        }
        for Credential { name, sealed, .. } in &self.sealed {
            let file = percent(&sealed.to_string_lossy());
            *unit += &format!("LoadCredentialEncrypted={name}:{file}\n");
        }
        if self.mounts.is_empty() {
            *unit += "\n# All else is read-only, but for the folders of targets and sources.\nProtectSystem=strict\n";
        } else {
            *unit += "\n# A mount point right below `/` that may be empty leaves no stricter choice.\nProtectSystem=full\n";
        }
        for folder in self.folders() {
            // One that is missing does not keep the agent from starting.
            *unit += &format!("ReadWritePaths={}\n", word(&format!("-{}", folder.display())));
        }
        let home = self.commands || self.touches(&["/home", "/root", "/run/user"]);
        *unit += if home { "ProtectHome=read-only\n" } else { "ProtectHome=yes\n" };
        if !self.touches(&["/tmp", "/var/tmp"]) {
            *unit += "PrivateTmp=yes\n";
        }
        *unit += "PrivateDevices=yes\nProtectClock=yes\nProtectControlGroups=yes\n\
                  ProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\n\
                  ProtectKernelTunables=yes\n\n\
                  # To write files of other users, give them away and set their mode";
        let (why, more) = match (self.commands, self.signals) {
            // `runuser -u jonas …`
            (true, _) => ("; to signal their processes", " CAP_KILL CAP_SETGID CAP_SETUID"),
            (false, true) => ("; to signal their processes", " CAP_KILL"),
            (false, false) => ("", ""),
        };
        *unit +=
            &format!("{why}.\nCapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER{more}\n");
    }

    /// What the kernel does not do for the agent, nor for its hooks: any manager can have it so.
    fn kernel(&self, unit: &mut String) {
        *unit += "\nNoNewPrivileges=yes\nLimitCORE=0\nLockPersonality=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\n\
                  SystemCallArchitectures=native\nSystemCallErrorNumber=EPERM\nSystemCallFilter=@system-service\n\
                  # By netlink the kernel tells of another network.\n\
                  RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n";
        if !self.commands {
            // The programs that hooks run may make code while they run.
            *unit += "SystemCallFilter=~@privileged @resources\nSystemCallFilter=@chown\n";
            if self.scans {
                *unit +=
                    "# A scan of the host gives way to all others.\nSystemCallFilter=setpriority\n";
            }
            *unit += "RestrictNamespaces=yes\nMemoryDenyWriteExecute=yes\nUMask=0077\n";
        }
    }

    /// Returns the folders to be named: none inside another one, or where all is writable.
    fn folders(&self) -> Vec<&Path> {
        let all = || self.writable.iter().chain(&self.state);
        let inside = |folder: &PathBuf, outer: &PathBuf| folder.starts_with(outer);
        let mut named: Vec<&Path> = Vec::new();
        for folder in all() {
            let covered = all().any(|outer| inside(folder, outer) && outer != folder);
            let free = self.mounts.iter().any(|outer| inside(folder, outer));
            if !covered && !free && !named.contains(&folder.as_path()) {
                named.push(folder);
            }
        }
        named
    }

    fn touches(&self, places: &[&str]) -> bool {
        let own = [&self.state, &self.config].into_iter().flatten();
        let mut all = own.chain(&self.writable).chain(&self.mounts).chain(&self.read);
        all.any(|path| places.iter().any(|place| path.starts_with(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(whose: Whose, config: &str) -> Facts {
        let config = Config::parse(config, Path::new("agent.toml")).unwrap();
        let tree = |path: &Path| path.starts_with("/srv/repo").then(|| "/srv/repo".into());
        Facts::new(whose, "/usr/local/bin/vault-agent".into(), &config, tree)
    }

    fn target(path: &str, more: &str) -> String {
        format!("[[target]]\npath = \"{path}\"\nsecrets = [\"secret/a\"]\n{more}\n")
    }

    #[test]
    fn the_guide_shows_the_very_units() {
        let guide = include_str!("../../../docs/src/guide/systemd.md");
        let config = target("/srv/ghost/.env", "");
        for whose in [Whose::Host, Whose::User] {
            let unit = facts(whose, &config).unit();
            assert!(guide.contains(&format!("```ini\n{unit}```\n")), "{unit}");
        }
    }

    #[test]
    fn a_unit_allows_what_the_configuration_needs() {
        let check = |config: &str, lines: &[&str], others: &[&str]| {
            let unit = facts(Whose::Host, config).unit();
            for line in lines {
                assert!(unit.lines().any(|there| there == *line), "no {line} in {unit}");
            }
            for line in others {
                assert!(!unit.contains(line), "{line} in {unit}");
            }
        };
        let tight = [
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "MemoryDenyWriteExecute=yes",
        ];
        check("", &tight, &["ReadWritePaths=", "CAP_KILL"]);
        check(
            &(target("/srv/a b/.env", "")
                + &target("/srv/a b/deep/.env", "")
                + &target("/home/j/.env", "")),
            &["ReadWritePaths=\"-/srv/a b\"", "ReadWritePaths=-/home/j", "ProtectHome=read-only"],
            &["deep"],
        );
        let forward = |rest: &str| format!("[[forward]]\nname = \"x\"\n{rest}\n");
        check(
            &forward("to = \"file\"\nfile = \"/srv/told/a.jsonl\""),
            &["ReadWritePaths=-/srv/told", "MemoryDenyWriteExecute=yes"],
            &["CAP_KILL"],
        );
        check(
            &forward("to = \"mail\"\nmail_to = [\"root\"]"),
            &["ReadWritePaths=-/var/spool"],
            &["MemoryDenyWriteExecute"],
        );
        check(
            &target("/srv/a/.env", "on_change = [\"docker\", \"compose\", \"up\", \"-d\"]"),
            &[
                "ProtectHome=read-only",
                "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID",
            ],
            &["MemoryDenyWriteExecute", "RestrictNamespaces", "UMask"],
        );
        check(
            &target("/srv/a/.env", "on_change = { systemd = \"a.service\" }"),
            &[
                "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER",
                "MemoryDenyWriteExecute=yes",
            ],
            &[],
        );
        check(
            &target("/srv/a/.env", "on_change = { signal = \"HUP\", pid_file = \"/tmp/a.pid\" }"),
            &["CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL"],
            &["PrivateTmp"],
        );
        check(
            &target("/srv/repo/app/.env", "git = \"ignore\""),
            &["ReadWritePaths=-/srv/repo"],
            &["repo/app"],
        );
        check(
            &target("/srv/repo/app/.env", ""),
            &["ReadWritePaths=-/srv/repo/.git/info", "ReadWritePaths=-/srv/repo/app"],
            &[],
        );
        check(&target("/run/ghost/.env", ""), &["ReadWritePaths=-/run"], &["/run/ghost"]);
        let scan = ["ProtectHome=read-only", "SystemCallFilter=setpriority", "PrivateTmp=yes"];
        check("[scan]\n", &scan, &["ReadWritePaths="]);
        let scan = "[scan]\npresets = []\npaths = [\"/srv/*/log\", \"/tmp/x\"]\n";
        check(scan, &["ProtectHome=yes", "SystemCallFilter=setpriority"], &["PrivateTmp"]);
        check(
            "[[source]]\npath = \"/srv/master/.env\"\nsecret = \"secret/a\"\n[api]\nsocket = \"/srv/api/sock\"\n",
            &["ReadWritePaths=-/srv/master", "ReadWritePaths=-/srv/api"],
            &[],
        );
    }

    #[test]
    fn where_links_lead_is_writable_too() {
        let text = target("/srv/current/.env", "follow = true");
        let config = Config::parse(&text, Path::new("agent.toml")).unwrap();
        let tree = |path: &Path| path.starts_with("/srv/repo").then(|| "/srv/repo".into());
        let mut facts = facts(Whose::Host, &text);
        facts.leads_to(&config.targets[0], Path::new("/srv/repo/releases/r1/.env"), tree);
        let unit = facts.unit();
        for folder in ["/srv/current", "/srv/repo/releases/r1", "/srv/repo/.git/info"] {
            assert!(unit.contains(&format!("\nReadWritePaths=-{folder}\n")), "{folder}: {unit}");
        }
    }

    #[test]
    fn a_mount_point_is_never_named_itself() {
        let disk = target("/mnt/usb/.env", "require_mount = \"/mnt/usb\"");
        let unit = facts(Whose::Host, &disk).unit();
        assert!(unit.contains("\nReadWritePaths=-/mnt\n") && !unit.contains("/mnt/usb"), "{unit}");
        let top = target("/usb/.env", "require_mount = \"/usb\"") + &target("/usb/b/.env", "");
        let unit = facts(Whose::Host, &top).unit();
        assert!(unit.contains("\nProtectSystem=full\n") && !unit.contains("/usb"), "{unit}");
    }

    #[test]
    fn places_of_ones_own_are_told() {
        let mut facts = facts(Whose::User, "");
        facts.state = Some("/srv/my $state%".into());
        facts.variables = vec![("XDG_CONFIG_HOME", "/c d".to_owned())];
        let unit = facts.unit();
        let start = "ExecStart=/usr/local/bin/vault-agent run --state \"/srv/my $$state%%\"\n";
        assert!(unit.contains(start), "{unit}");
        assert!(unit.contains("Environment=\"XDG_CONFIG_HOME=/c d\"\n"), "{unit}");
        facts.check_names().unwrap();
        facts.state = Some("/srv/a\nExecStart=/bin/evil".into());
        assert!(facts.check_names().is_err());
    }
}
