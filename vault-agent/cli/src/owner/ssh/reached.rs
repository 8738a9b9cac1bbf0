//! A host that is reached and looked at, and as whom one acts there: what can be known before
//! anything is sent or signed. The steps that change it do not live here.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use shared::name::Name;
use shared::signed::VaultId;
use zeroize::Zeroizing;

use super::connection::{Connection, Ran, Step};
use super::probe::{self, Probe, Root};
use super::program::{self, Folder};
use super::script::{OURS, Rights, Script};
use crate::context::Global;
use host::hint::{Failure, hinted};
use host::shown::Shown;

/// How often a password is asked for.
const TRIES: u32 = 3;

/// What every script needs beside [`OURS`]: a user's runtime folder.
const RUNTIME: &str = r#"
if [ -z "${XDG_RUNTIME_DIR:-}" ] && [ -d "/run/user/$(id -u)" ]; then
  XDG_RUNTIME_DIR=/run/user/$(id -u)
  export XDG_RUNTIME_DIR
fi"#;

/// What a script ends with where a file cannot lie where it is to.
const NO_FOLDER: i32 = 41;
const CLOSED: i32 = 42;

/// How a host takes part.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Whether the agent is that user's own.
    pub user: bool,
    /// Where the server may answer.
    pub addresses: &'a [String],
}

/// A host on which somebody may act.
pub struct Reached {
    pub(super) connection: Connection,
    /// What it is.
    pub probe: Probe,
    pub(super) rights: Rights,
    pub(super) folder: Folder,
}

/// Which machine a host has joined as.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Joined {
    /// The vault.
    pub vault: VaultId,
    /// The name that it goes by there.
    pub name: Name,
}

/// What of an agent is on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// A unit that `vault-agent install` wrote.
    pub unit: bool,
    /// Anything in its state folder.
    pub state: bool,
    /// Any key.
    pub keys: bool,
    /// Keys that systemd alone opens.
    pub sealed: bool,
    /// Keys that are to take over, or have, and that no agent runs with yet.
    pub rekey: bool,
    /// Notes beside its state folder of what goes with it: programs that were sent, lingering.
    pub beside: bool,
    /// The machine that it is.
    pub joined: Option<Joined>,
}

/// Connects to a host and asks what it is; nothing is changed there.
///
/// # Errors
/// If it is not reached, or is nothing that an agent can live on.
pub fn look(ssh: &str, host: &str, wish: Wish<'_>) -> Result<(Connection, Probe)> {
    let connection = Connection::open(ssh, host)?;
    let probe = ask(&connection, wish)?;
    Ok((connection, probe))
}

/// Asks a host what it is.
///
/// # Errors
/// If it is nothing that an agent can live on.
pub fn ask(connection: &Connection, wish: Wish<'_>) -> Result<Probe> {
    let script = probe::script(wish.user, wish.addresses);
    let (line, mut input) = Rights::Own.line("exec sh -s");
    input.push(script.text().as_bytes());
    let ran = connection.run(Step::new("what kind of host it is"), &line, &input)?;
    let read = Probe::read(&ran.out, wish.addresses);
    read.with_context(|| format!("looking at `{}`", connection.host()))
}

impl Reached {
    /// Finds how to be root if that is needed; nothing is changed there.
    ///
    /// # Errors
    /// If the user cannot become root where that is needed.
    pub fn new(
        connection: Connection,
        probe: Probe,
        wish: Wish<'_>,
        global: &Global,
    ) -> Result<Self> {
        let rights = rights(&connection, &probe, wish.user, global)?;
        let folder = if wish.user { Folder::User } else { Folder::Host };
        Ok(Self { connection, probe, rights, folder })
    }

    /// Returns the host as the user named it.
    pub fn host(&self) -> &str {
        self.connection.host()
    }

    /// Returns what a person types before a command there.
    pub fn sudo(&self) -> &'static str {
        if matches!(self.rights, Rights::Own) { "" } else { "sudo " }
    }

    /// Runs a script there.
    pub(super) fn run(&self, step: Step<'_>, script: &Script) -> Result<Ran> {
        let role = if self.folder == Folder::User { "user" } else { "host" };
        let before = Script::new().set("role", role).then(OURS).then(RUNTIME);
        let (line, mut input) = self.rights.line("exec sh -s");
        input.extend([before.text().as_bytes(), script.text().as_bytes()]);
        self.connection.run(step, &line, &input)
    }

    /// Says why a step failed.
    pub(super) fn failed(&self, step: Step<'_>, ran: &Ran) -> Failure {
        let said = match &*ran.said() {
            "" => Shown::line(ran.status),
            _ => ran.said(),
        };
        let text = format!("{} on `{}` failed: ", step.name(), self.host());
        let text = Shown::from(text) + said;
        let text = Shown::lines([text].into_iter().chain(ran.advice(self.host())));
        Failure::local(text).hint("nothing is lost: mend it and run the same command again")
    }

    /// Tells what of an agent is there.
    ///
    /// # Errors
    /// If the host does not tell whole.
    pub fn standing(&self) -> Result<Standing> {
        let step = Step::new("looking for an agent");
        let ran = self.run(step, &Script::default().then(include_str!("standing.sh")))?;
        if !ran.status.success() {
            bail!(self.failed(step, &ran));
        }
        Standing::read(&ran.out).with_context(|| format!("{} on `{}`", step.name(), self.host()))
    }

    /// Refuses a host that needs our programs and can run none of them.
    ///
    /// # Errors
    /// What is in the way, and the way round it.
    pub fn demand_programs(&self) -> Result<()> {
        if program::is_new_enough(&self.probe) {
            return Ok(());
        }
        program::fitting(self.host(), &self.probe, self.folder).map(drop)
    }

    /// Refuses a file that cannot lie where it is to.
    ///
    /// # Errors
    /// What is in the way.
    pub fn demand_folder(&self, file: &str) -> Result<()> {
        let step = Step::new("looking at the target's folder");
        let script = Script::default().arguments([file]).then(&format!(
            "folder=$(dirname -- \"$1\")\necho \"$folder\"\n[ -d \"$folder\" ] || exit {NO_FOLDER}\n\
             [ ! -d \"$1\" ] && [ -w \"$folder\" ] || exit {CLOSED}"
        ));
        let (ran, host) = (self.run(step, &script)?, self.host());
        let folder = Shown::line(ran.out.trim_end());
        match ran.status.code() {
            Some(0) => Ok(()),
            Some(NO_FOLDER) => Err(hinted(
                format!("there is no folder `{folder}` on `{host}` for the target"),
                "make it there, or name another `--target`; nothing was signed",
            )),
            Some(CLOSED) => Err(hinted(
                format!("`{file}` on `{host}` is a folder, or nobody may write beside it"),
                "name the file in it, in a folder that can be written; nothing was signed",
            )),
            Some(_) | None => Err(self.failed(step, &ran).into()),
        }
    }
}

impl Standing {
    /// Reads what the script printed.
    fn read(printed: &str) -> Result<Self> {
        let mut found = Self::default();
        for line in printed.lines().map(str::trim_end) {
            match line {
                "unit" => found.unit = true,
                "state" => found.state = true,
                "keys" => found.keys = true,
                "sealed" => found.sealed = true,
                "rekey" => found.rekey = true,
                "beside" => found.beside = true,
                "vault-standing-end" => return Ok(found),
                _ => {
                    let pins = line.strip_prefix("pins=").map(serde_json::from_str);
                    let Some(Ok(joined)) = pins else {
                        bail!(hinted(
                            "the host answers oddly which machine it is",
                            "look at `pins.json` in the agent's state there"
                        ));
                    };
                    found.joined = Some(joined);
                }
            }
        }
        bail!(hinted(
            "the host does not tell whole which machine it is",
            "run the same command again"
        ))
    }

    /// Tells whether nothing of an agent is there.
    pub const fn is_nothing(&self) -> bool {
        !self.unit && !self.state && !self.beside
    }
}

/// Finds out how to have root's rights, and asks for the password that `sudo` wants.
fn rights(connection: &Connection, probe: &Probe, user: bool, global: &Global) -> Result<Rights> {
    let (host, login) = (connection.host(), &probe.user);
    if user {
        return Ok(Rights::Own);
    }
    match probe.root {
        Root::Own => Ok(Rights::Own),
        Root::Sudo => Ok(Rights::Sudo),
        Root::None => Err(hinted(
            format!("`{login}` cannot become root on `{host}`: there is no `sudo`"),
            "add `--user`, which installs the agent for that user alone, or log in as root: \
             `--ssh root@HOST`",
        )),
        Root::Password if !global.can_ask() => Err(hinted(
            format!("`sudo` on `{host}` asks for a password, and there is no terminal to ask at"),
            "run this at a terminal, log in as root, or add `--user`",
        )),
        Root::Password => asked(connection, login),
    }
}

/// Asks for the password, and tries it.
fn asked(connection: &Connection, login: &str) -> Result<Rights> {
    let host = connection.host();
    let (mut prompt, mut tries) = (String::new(), 0);
    loop {
        prompt += &format!("[sudo] password of {login} on {host}: ");
        let password = rpassword::prompt_password(&*Shown::line(&prompt));
        let password = Zeroizing::new(password.context("cannot ask for the password of `sudo`")?);
        let rights = Rights::Password(password);
        let (line, input) = rights.line("exec true");
        // The password alone: what comes behind it would count as a second try.
        let ran = connection.run(Step::new("`sudo`"), &line, &input[..2])?;
        if ran.status.success() {
            return Ok(rights);
        }
        tries += 1;
        if !ran.err.contains("try again") && !ran.err.contains("incorrect") {
            let text = Shown::from(format!("`sudo` on `{host}` refuses: ")) + ran.said();
            bail!(Failure::local(text).hint(
                "add `--user`, which installs the agent for that user alone, or log in as root: \
                 `--ssh root@HOST`"
            ));
        }
        if tries == TRIES {
            bail!(hinted(
                format!("`sudo` on `{host}` took none of {TRIES} passwords"),
                "nothing was signed, and nothing is changed there"
            ));
        }
        prompt = "That is not it. ".to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_of_its_agent_is_read() {
        let vault = VaultId::ZERO;
        let pins = format!(r#"pins={{"vault":"{vault}","name":"vps","server":[],"addresses":[]}}"#);
        let read = |lines: &str| Standing::read(&format!("{lines}vault-standing-end\n"));
        assert!(read("").unwrap().is_nothing());
        let joined = Some(Joined { vault, name: "vps".parse().unwrap() });
        let [unit, state, keys, sealed, rekey, beside] = [true; 6];
        let whole = Standing { unit, state, keys, sealed, rekey, beside, joined };
        let lines = format!("unit\nstate\nkeys\nsealed\nrekey\nbeside\n{pins}\n");
        assert_eq!(read(&lines).unwrap(), whole);
        assert!(!read("beside\n").unwrap().is_nothing(), "programs that were sent");
        for odd in ["pins={}\n", "pins=\n", "else\n"] {
            assert!(read(odd).unwrap_err().to_string().contains("oddly"), "{odd}");
        }
        assert!(Standing::read("").unwrap_err().to_string().contains("not tell whole"));
    }
}
