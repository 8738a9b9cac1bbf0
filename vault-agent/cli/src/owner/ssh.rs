//! The other end of `vault machine add --ssh`: two commands over the user's own ssh. No secret
//! travels: public keys come back, pins go out.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use shared::name::Name;
use shared::token::{Line as _, MachineLine};
use shared::words::LABEL;

use host::hint::{hinted, parsed};

/// A host that the user can log in to.
pub struct Ssh<'a> {
    program: &'a str,
    host: &'a str,
    agent: &'a str,
}

impl<'a> Ssh<'a> {
    /// Takes a host as ssh does, and the agent's command there; refuses a host that ssh would take
    /// for an option.
    pub fn new(host: &'a str, agent: &'a str) -> Result<Self> {
        if host.is_empty() || host.starts_with('-') {
            bail!(hinted(
                format!("`{host}` is no host"),
                "name it as for ssh: HOST, USER@HOST or a name in ~/.ssh/config"
            ));
        }
        Ok(Self { program: "ssh", host, agent })
    }

    /// Has the host make its keys, or show those it has, and returns its machine line, once its six
    /// words are those that the host shows.
    pub fn init(&self, name: &Name) -> Result<MachineLine> {
        let printed = self.run("init", &format!("--name {name}"))?;
        let mut lines = printed.lines().map(str::trim);
        let Some(line) = lines.find(|line| line.starts_with(MachineLine::PREFIX)) else {
            bail!(hinted(
                format!("`vault-agent init` on `{}` printed no machine line", self.host),
                "compare `vault-agent --version` there with this machine's"
            ));
        };
        let line = parsed(MachineLine::from_line(line))?;
        let (words, shown) = (line.words().to_string(), lines.find_map(|l| l.strip_prefix(LABEL)));
        if shown != Some(words.as_str()) {
            bail!(hinted(
                format!(
                    "`{}` shows the words `{}`, but its line has `{words}`",
                    self.host,
                    shown.unwrap_or_default()
                ),
                "something changes what it prints on the way here: nothing was signed; run \
                 `vault-agent init` there and compare the words yourself"
            ));
        }
        if line.name != *name {
            bail!(hinted(
                format!("`{}` calls itself `{}` already", self.host, line.name),
                format!("add it by that name: `vault machine add {} --ssh …`", line.name)
            ));
        }
        Ok(line)
    }

    /// Has the host pin the vault.
    pub fn join(&self, pin_line: &str) -> Result<()> {
        self.run("join", pin_line).map(drop)
    }

    /// Runs a verb there; what it says on stderr, and ssh's own questions, reach the user.
    fn run(&self, verb: &str, rest: &str) -> Result<String> {
        let Self { program, host, agent } = self;
        let mut ssh = Command::new(program);
        ssh.args(["--", host, &format!("{agent} {verb} {rest}")]);
        ssh.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        let output = match ssh.output() {
            Ok(output) => output,
            Err(fault) if fault.kind() == ErrorKind::NotFound => bail!(hinted(
                "there is no `ssh` on this machine",
                "run `vault-agent init` there yourself and pass the line it prints"
            )),
            Err(fault) => return Err(fault).context("running ssh"),
        };
        if !output.status.success() {
            let hint = match output.status.code() {
                // What a shell says of a program that it does not find.
                Some(127) => "install it there, or say where it is with `--remote-agent`",
                Some(255) => "this is ssh's own failure: try `ssh` to that host by itself",
                Some(_) | None => "nothing is lost: mend it and run the same command again",
            };
            let text = format!("`{agent} {verb}` on `{host}` failed ({})", output.status);
            bail!(hinted(text, hint));
        }
        String::from_utf8(output.stdout).context("reading what the host printed")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use shared::keys::{Identity, SignKey};

    use super::*;

    /// A program that acts as ssh to a host where `vault-agent` is a function that runs `script`.
    fn fake(dir: &tempfile::TempDir, script: &str) -> String {
        let path = dir.path().join("ssh");
        let text = format!(
            "#!/bin/sh\nshift 2\nvault_agent() {{ {script}\n}}\nset -- $1\nshift\nvault_agent \"$@\"\n"
        );
        host::files::write_private(&path, text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path.display().to_string()
    }

    fn line(name: &str) -> MachineLine {
        let recipient = Identity::generate().recipient();
        MachineLine::new(name.parse().unwrap(), recipient, &SignKey::generate()).unwrap()
    }

    /// Prints the line and the words of `words`, as `vault-agent init` does.
    fn prints(line: &MachineLine, words: &MachineLine) -> String {
        format!("echo '{}'; echo '{LABEL}{}'", line.to_line().unwrap(), words.words())
    }

    fn init(script: &str) -> Result<MachineLine> {
        let dir = tempfile::tempdir().unwrap();
        let program = fake(&dir, script);
        let ssh = Ssh { program: &program, host: "vps", agent: "vault-agent" };
        ssh.init(&"vps".parse().unwrap())
    }

    #[test]
    fn the_machine_line_is_found_among_other_output() {
        let line = line("vps");
        let (args, prints) = ("test \"$*\" = 'init --name vps'", prints(&line, &line));
        let found = init(&format!("echo motd; {prints}; echo bye; {args}"));
        assert_eq!(found.unwrap(), line);
    }

    #[test]
    fn a_line_exchanged_on_the_way_is_refused_by_its_words() {
        let (real, exchanged) = (line("vps"), line("vps"));
        let fault = init(&prints(&exchanged, &real)).unwrap_err().to_string();
        let (real, exchanged) = (real.words(), exchanged.words());
        assert_eq!(
            fault,
            format!("`vps` shows the words `{real}`, but its line has `{exchanged}`")
        );
    }

    #[test]
    fn what_goes_wrong_there_is_named() {
        let other = line("nas");
        for (script, expected) in [
            ("exit 3".to_owned(), "`vault-agent init` on `vps` failed (exit status: 3)"),
            ("echo hello".to_owned(), "`vault-agent init` on `vps` printed no machine line"),
            (prints(&other, &other), "`vps` calls itself `nas` already"),
            ("echo VLTM1-abc".to_owned(), "E_TOKEN: machine line was cut"),
        ] {
            assert_eq!(init(&script).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_command_of_several_words_is_named_whole() {
        let dir = tempfile::tempdir().unwrap();
        let program = fake(&dir, "exit 3");
        let ssh = Ssh { program: &program, host: "vps", agent: "sudo vault-agent" };
        let fault = ssh.init(&"vps".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(fault, "`sudo vault-agent init` on `vps` failed (exit status: 3)");
    }

    #[test]
    fn a_host_that_looks_like_an_option_is_refused() {
        assert!(Ssh::new("-oProxyCommand=x", "vault-agent").is_err());
    }
}
