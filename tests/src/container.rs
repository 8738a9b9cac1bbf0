//! A container as the network sees it: a network namespace, and a cable from there to the bridge of
//! this host. To be used in [`namespaces::own`] of the kind `--net`.
//!
//! [`namespaces::own`]: crate::namespaces::own

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};

use crate::{Ran, run, watch};

/// The bridge's address.
pub const BRIDGE: &str = "172.17.0.1";
/// The container's address.
pub const CONTAINER: &str = "172.17.0.2";

/// A container; gone when dropped, and its cable with it.
#[derive(Debug)]
pub struct Container {
    /// Keeps the namespace, and does nothing.
    holder: Child,
}

impl Container {
    /// Makes the namespace of a container. There is no cable yet, and no bridge.
    ///
    /// # Panics
    /// If this host has no network namespaces.
    #[must_use]
    pub fn new() -> Self {
        ip(&["link", "set", "lo", "up"]);
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
        let holder = unshare.spawn().expect("unshare(1) of util-linux is there");
        let net = |pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let ours = net(std::process::id());
        watch::poll("a namespace of its own", || {
            net(holder.id()).filter(|theirs| Some(theirs) != ours.as_ref()).map(drop)
        });
        Self { holder }
    }

    /// Brings up the bridge and the container's cable to it.
    ///
    /// # Panics
    /// If that fails.
    pub fn plug_in(&self) {
        let pid = self.holder.id().to_string();
        ip(&["link", "add", "docker0", "type", "bridge"]);
        ip(&["link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        ip(&["link", "set", "veth0", "master", "docker0", "up"]);
        ip(&["address", "add", &format!("{BRIDGE}/16"), "dev", "docker0"]);
        ip(&["link", "set", "docker0", "up"]);
        for line in [&format!("address add {CONTAINER}/16 dev eth0"), "link set eth0 up"] {
            let mut inside = self.enter(&Command::new("ip"));
            let _ = run(inside.args(line.split(' ')), "").ok();
        }
    }

    /// Returns a command that runs in the container's network, with the same environment.
    #[must_use]
    pub fn enter(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        inside.arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Sends a GET with these header lines from the container to a port of the bridge, and returns
    /// all that is answered.
    #[must_use]
    pub fn get(&self, port: u16, target: &str, lines: &[&str]) -> String {
        let mut request = format!("GET {target} HTTP/1.1\r\n");
        for line in lines {
            let _ = write!(request, "{line}\r\n");
        }
        request.push_str("Connection: close\r\n\r\n");
        let script = format!("exec 3<>/dev/tcp/{BRIDGE}/{port}; cat >&3; cat <&3");
        let mut bash = Command::new("bash");
        let _ = bash.args(["-euc", &script]);
        run(&mut self.enter(&bash), &request).ok()
    }
}

impl Default for Container {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs `ip ARGS`.
fn ip(args: &[&str]) {
    let Ran { code, err, .. } = run(Command::new("ip").args(args), "");
    assert!(code == 0, "ip {}: {err}", args.join(" "));
}
