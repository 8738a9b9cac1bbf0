//! `vault dev`: one command, and a real server and agent are there to try out.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use tests::{Bins, MASTER, Port, Ran, bins, run, watch};

struct Dev {
    child: Child,
    printed: BufReader<ChildStdout>,
    port: Port,
}

impl Dev {
    fn start(bins: Bins, dir: &Path, more: &[&str]) -> Self {
        let port = Port::reserve();
        let _ = std::fs::remove_file(dir.join("vault/env"));
        let mut child = Command::new(bins.vault)
            .args(["dev", "--data", "vault", "--listen", &port.address().to_string()])
            .args(more)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints its screen once all is there.
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("A server and an agent run on this machine") {
            line.clear();
            assert_ne!(printed.read_line(&mut line).unwrap(), 0, "vault dev has ended");
        }
        assert!(dir.join("vault/env").exists(), "what the screen names is there");
        Self { child, printed, port }
    }

    fn sourced(&self, bins: Bins, dir: &Path, script: &str) -> Ran {
        let script =
            format!("set -eu; . vault/env; vault() {{ '{}' \"$@\"; }}; {script}", bins.vault);
        run(Command::new("sh").arg("-c").arg(script).current_dir(dir), "")
    }

    /// Stops it as Ctrl-C does and returns what it printed.
    fn interrupt(mut self) -> String {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        let mut printed = String::new();
        self.printed.read_to_string(&mut printed).unwrap();
        assert!(self.child.wait().unwrap().success(), "{printed}");
        assert!(TcpListener::bind(self.port.address()).is_ok(), "the port is free again");
        printed
    }
}

#[test]
fn a_first_run_imports_writes_and_keeps() {
    let bins = bins!();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = ["--import", MASTER, "--out", ".env"];
    let dev = Dev::start(bins, dir, &first);
    let env = watch::until(&dir.join(".env"), |text| text.contains("OPENAI_API_KEY="));
    let field = "vault kv get -field=OPENAI_API_KEY secret/dev";
    let value = dev.sourced(bins, dir, field).ok();
    assert!(env.contains(&format!("OPENAI_API_KEY={value}\n")), "{value}");
    let curl = "curl -sf -H \"X-Vault-Token: $VAULT_TOKEN\" \"$VAULT_ADDR/v1/secret/data/dev\"";
    assert!(dev.sourced(bins, dir, curl).ok().contains(&value));
    let _ = dev.sourced(bins, dir, "vault kv patch secret/dev OPENAI_API_KEY=changed").ok();
    watch::until(&dir.join(".env"), |text| text.contains("OPENAI_API_KEY=changed\n"));
    watch::poll("the report follows", || {
        (dev.sourced(bins, dir, "vault status").code == 0).then_some(())
    });
    let _ = dev.sourced(bins, dir, "vault audit verify").ok();
    let printed = dev.interrupt();
    assert!(printed.contains("vault kv get"), "{printed}");

    // The master file has not changed, the vault has: the second run must not undo the change.
    let dev = Dev::start(bins, dir, &first);
    assert_eq!(dev.sourced(bins, dir, field).ok(), "changed");
    dev.interrupt();
    let dev = Dev::start(bins, dir, &[]);
    assert_eq!(dev.sourced(bins, dir, field).ok(), "changed");
    let printed = dev.interrupt();
    assert!(printed.contains("kv patch secret/dev MY_KEY"), "what is there is kept: {printed}");
}
