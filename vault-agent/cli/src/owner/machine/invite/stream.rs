//! The invitation as a script for a POSIX shell, with both programs in it. A stream that was cut
//! runs nothing: its last line is the first that does anything.

use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use shared::hash::Hash;
use shared::token::{Line as _, PinLine};

use super::invitation::{Invitation, quoted_twice};
use crate::owner::ssh::OURS;
use crate::sibling;
use host::hint::{hinted, parsed};
use host::shown::quoted;
use host::term::Term;

/// The part that is the same for all.
const BODY: &str = include_str!("stream.sh");
/// Bytes of a program on one line of base64.
const LINE: usize = 57;
/// Bytes that are encoded at once.
const PIECE: usize = LINE << 10;

/// A program that the stream carries.
struct Program {
    /// What it is called there.
    name: &'static str,
    bytes: Vec<u8>,
    /// What it says of its version here.
    version: String,
}

/// The script.
pub(super) struct Stream {
    /// Shell variables, by name.
    values: Vec<(&'static str, String)>,
    programs: [Program; 2],
}

impl Stream {
    /// Puts an invitation together with the programs of this installation.
    ///
    /// # Errors
    /// If a program is not there, or does not run.
    pub(super) fn of(invitation: &Invitation, via: Option<&str>) -> Result<Self> {
        let (vault, agent) = (sibling::vault()?, sibling::find("agent")?);
        let programs = [Program::read("vault-agent", &agent)?, Program::read("vault", &vault)?];
        let Invitation { name, vault: id, addresses, server, checkpoint, .. } = invitation;
        let pin = PinLine {
            addresses: addresses.clone(),
            server: server.clone(),
            vault: *id,
            name: name.clone(),
            at: None,
            checkpoint: *checkpoint,
        };
        let pin = parsed(pin.to_line())?;
        let mut add = vec![vault.to_string_lossy().into_owned()];
        add.extend(invitation.place.iter().cloned());
        add.extend(["machine", "add"].map(str::to_owned));
        // The script joins by the pins that it has brought.
        let grants = [&invitation.grants[..], &["--pinned".to_owned()]].concat();
        let once =
            |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let values = vec![
            ("name", name.to_string()),
            ("vault", id.to_string()),
            ("system", format!("Linux {}", std::env::consts::ARCH)),
            ("via", via.unwrap_or_default().to_owned()),
            ("add", once(&add)),
            ("grants", once(&grants)),
            ("add_typed", quoted_twice(&add)),
            ("grants_typed", quoted_twice(&grants)),
            ("ask", invitation.ask()),
            ("pin", pin),
            ("agent_version", programs[0].version.clone()),
            ("agent_sum", Hash::of(&[&programs[0].bytes]).to_string()),
            ("vault_version", programs[1].version.clone()),
            ("vault_sum", Hash::of(&[&programs[1].bytes]).to_string()),
        ];
        Ok(Self { values, programs })
    }

    /// Writes it, as data for a shell.
    pub(super) fn write(&self, term: &Term) -> io::Result<()> {
        term.data("#!/bin/sh\n# Makes this host a machine of a vault. Pipe it into a shell.\n")?;
        for (name, value) in &self.values {
            term.data(format!("{name}={}\n", quoted(value)))?;
        }
        term.data(OURS)?;
        term.data(BODY)?;
        for Program { name, bytes, .. } in &self.programs {
            term.data(format!("carry_{}() {{\nbase64 -d <<'END'\n", name.replace('-', "_")))?;
            for piece in bytes.chunks(PIECE) {
                let lines = piece.chunks(LINE).map(|line| BASE64_STANDARD.encode(line) + "\n");
                term.data(lines.collect::<String>())?;
            }
            term.data("END\n}\n")?;
        }
        term.data("invite\n")
    }
}

impl Program {
    fn read(name: &'static str, file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("reading `{}`", file.display()))?;
        Ok(Self { name, bytes, version: version(file)? })
    }
}

/// Asks a program for its version: what does not run here runs nowhere.
fn version(file: &Path) -> Result<String> {
    let shown = file.display();
    let ran = Command::new(file).arg("--version").output();
    let ran = ran.with_context(|| format!("starting `{shown}`"))?;
    if !ran.status.success() {
        bail!(hinted(
            format!("`{shown} --version` failed ({})", ran.status),
            "install both programs anew"
        ));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Output};

    use super::*;

    fn program(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        host::files::write_private(file, format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Has a user's shell run the stream, with programs newer than any that is installed.
    fn invite(home: &Path) -> Output {
        let agent = "#!/bin/sh\necho vault-agent 999.0.0\n[ \"$1\" != init ] || echo VLTM1-x\n";
        let vault = "#!/bin/sh\necho vault 999.0.0\n";
        let mut script = String::new();
        for (name, text) in [("agent", agent), ("vault", vault)] {
            let sum = Hash::of(&[text.as_bytes()]);
            script += &format!("{name}_sum={sum}\n");
        }
        for name in
            ["ask", "name", "vault", "via", "add", "grants", "pin", "add_typed", "grants_typed"]
        {
            script += &format!("{name}=\n");
        }
        script += "agent_version='vault-agent 999.0.0'\nvault_version='vault 999.0.0'\n";
        script += "system='Linux arm'\n";
        script += &[OURS, BODY].concat();
        for (name, text) in [("vault_agent", agent), ("vault", vault)] {
            script += &format!("carry_{name}() {{\ncat <<'END'\n{text}END\n}}\n");
        }
        script += "invite\n";
        let path = home.join("path");
        program(&path.join("id"), "echo 1000");
        program(&path.join("uname"), "[ \"$1\" = -s ] && echo Linux || echo armv7l");
        program(&path.join("ssh"), "exit 1");
        let mut sh = Command::new("sh");
        sh.args(["-c", &script]).env_clear().env("HOME", home);
        sh.env("PATH", format!("{}:/usr/bin:/bin", path.display())).output().unwrap()
    }

    #[test]
    fn another_program_of_that_name_is_not_replaced() {
        for name in ["vault", "vault-agent"] {
            let home = tempfile::tempdir().unwrap();
            let file = home.path().join(".local/bin").join(name);
            program(&file, "echo 'Vault v1.15.0 (abc), built 2023-09-22'");
            let before = fs::read(&file).unwrap();
            let ran = invite(home.path());
            let said = String::from_utf8(ran.stderr).unwrap();
            let expected = format!("{} is another program than ours, and stays", file.display());
            assert!(!ran.status.success() && said.contains(&expected), "{said}");
            assert_eq!(fs::read(&file).unwrap(), before);
            assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_was_brought_is_noted_beside_the_state() {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join(".local/bin");
        // An older one of ours is replaced.
        program(&bin.join("vault"), "echo vault 0.0.1");
        let ran = invite(home.path());
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let noted = ["vault", "vault-agent"].map(|name| {
            let file = bin.join(name);
            format!("{}  {}\n", Hash::of(&[&fs::read(&file).unwrap()]), file.display())
        });
        let sent = home.path().join(".local/state/vault-agent.sent");
        assert_eq!(fs::read_to_string(sent).unwrap(), noted.concat());
    }
}
