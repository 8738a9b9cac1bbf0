//! Installing a program as a unit of systemd: where the unit belongs, writing it whole and once,
//! never over somebody's edit, and starting it. What is in the unit, and what has to be there
//! before it can start, lives with each program.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::credential::Credential;
use super::shielding;
use super::systemctl;
use super::unit::{Found, Whose, compare, marked};
use crate::account;
use crate::files::{self, Access};
use crate::hint::hinted;
use crate::process;
use crate::term::Term;

/// Where the host's units are that an administrator writes.
pub const HOST_UNITS: &str = "/etc/systemd/system";

/// Where packages put units, of the host and of users.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/usr/lib/systemd/user"];

/// How a program is to be installed.
#[derive(Clone, Debug, clap::Args)]
pub struct InstallFlags {
    /// Install for this user alone, without root
    #[arg(long)]
    pub user: bool,
    /// Print the unit and touch nothing
    #[arg(long, conflicts_with_all = ["root", "force", "no_start"])]
    pub print: bool,
    /// Write the unit where a package puts it, below this folder, and ask systemd nothing
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Replace a unit that somebody has written or edited; the old one is kept beside it
    #[arg(long)]
    pub force: bool,
    /// Have it start with the host, but not now
    #[arg(long)]
    pub no_start: bool,
}

impl InstallFlags {
    /// Tells for whom.
    pub fn whose(&self) -> Whose {
        if self.user { Whose::User } else { Whose::Host }
    }

    /// Tells whether this host is only where the unit is written.
    pub fn is_offline(&self) -> bool {
        self.print || self.root.is_some()
    }
}

/// A program that can be installed.
pub trait Program {
    /// Its name, which is the unit's too.
    const NAME: &'static str;

    /// Returns the text of the unit that starts `program`.
    fn unit(&self, program: PathBuf) -> Result<String>;

    /// Makes on this host what the unit takes for granted.
    fn prepare(&self, _term: &Term) -> Result<()> {
        Ok(())
    }

    /// Tells what is missing before the program can run, as an error.
    fn is_set_up(&self) -> Result<()>;

    /// Returns the process that serves now what the unit is to serve, if there is one.
    fn running(&self) -> Option<u32>;

    /// Lists the keys that systemd can hand to it.
    fn credentials(&self) -> Vec<Credential>;
}

/// Writes the unit and has systemd start it; with `seal`, hands its keys over to systemd too.
///
/// # Errors
/// If somebody has edited the unit, or systemd refuses; never with half a unit.
pub fn install<P: Program>(
    program: &P,
    flags: &InstallFlags,
    seal: bool,
    term: &Term,
) -> Result<()> {
    let (name, whose) = (P::NAME, flags.whose());
    if whose == Whose::Host && !flags.is_offline() && !rustix::process::geteuid().is_root() {
        return Err(hinted(
            format!("only root installs `{name}` for the whole host"),
            format!("run it with `sudo`; or `{name} install --user` for you alone"),
        ));
    }
    let own = own_file(flags.root.as_deref())?;
    let text = || Ok::<_, anyhow::Error>(marked(name, &program.unit(own.clone())?));
    if flags.print {
        return Ok(term.data(text()?)?);
    }
    if whose == Whose::User && !flags.is_offline() {
        demand_manager()?;
    }
    let packaged = match flags.root {
        None => Some(packaged(whose).join(format!("{name}.service"))),
        Some(_) => None,
    };
    let unit = Unit { name, whose, file: place(name, flags)?, packaged, term };
    // A unit in the way is told before anything is changed.
    unit.look(&text()?, flags.force)?;
    let runs = flags.root.is_none() && systemctl::runs(whose);
    if seal && !runs {
        return Err(hinted(
            "keys are sealed for a program that systemd starts, and systemd does not run here",
            format!("`{name} install` alone writes the unit"),
        ));
    }
    if runs && !flags.no_start {
        unit.refuse_second(program)?;
    }
    if flags.root.is_none() {
        program.prepare(term)?;
    }
    if seal {
        program.is_set_up().context("keys are sealed once the program can start")?;
        program.credentials().iter().try_for_each(Credential::seal)?;
    }
    let written = unit.write(&text()?, flags.force)?;
    if flags.root.is_some() {
        return Ok(());
    }
    unit.warn_of_program(&own);
    if !runs {
        let enable = systemctl::line(whose, &["enable", "--now", &unit.service()]);
        term.say(format!(
            "systemd does not run here: nothing is started. `{name} run` runs it in this terminal; \
             have what starts programs on this host start that. Where systemd runs: `{enable}`"
        ));
        return Ok(());
    }
    // Keys in files are there to be given up by a program that has them from systemd.
    let gives_up = seal && program.credentials().iter().any(Credential::is_open);
    let anew = written || gives_up || (unit.is_active() && unit.is_outdated(&own));
    unit.start(program, written, anew, flags.no_start)?;
    if gives_up {
        program.credentials().iter().try_for_each(Credential::wipe)?;
        term.say("the keys are sealed to this host: their files are wiped");
    }
    Ok(())
}

/// Refuses a user whom systemd runs nothing for, on a host where it could.
fn demand_manager() -> Result<()> {
    if systemctl::runs(Whose::User) || !systemctl::runs(Whose::Host) {
        return Ok(());
    }
    let name = account::own_name();
    Err(hinted(
        format!(
            "systemd runs nothing for `{name}` now, who has no session here: nothing is written"
        ),
        format!(
            "`sudo loginctl enable-linger {name}` has it, from now on and after a restart; then run \
             this again"
        ),
    ))
}

/// Returns this program's file as the unit is to name it.
fn own_file(root: Option<&Path>) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    // What lies in a package's folder now will lie in `/`.
    let inside = root.and_then(|root| own.strip_prefix(root.canonicalize().ok()?).ok());
    Ok(inside.map_or(own.clone(), |inside| Path::new("/").join(inside)))
}

/// Returns where the unit belongs, and makes the folder.
fn place(name: &str, flags: &InstallFlags) -> Result<PathBuf> {
    let folder = match flags.whose() {
        _ if flags.root.is_some() => packaged(flags.whose()),
        Whose::Host => PathBuf::from(HOST_UNITS),
        Whose::User => account::folder("XDG_CONFIG_HOME", ".config")
            .context("neither `HOME` nor `XDG_CONFIG_HOME` is set")?
            .join("systemd/user"),
    };
    let folder = match &flags.root {
        Some(root) => root.join(folder.strip_prefix("/").unwrap_or(&folder)),
        None => folder,
    };
    std::fs::create_dir_all(&folder)
        // A link in a home directory is the user's own business.
        .and_then(|()| folder.canonicalize())
        .map(|folder| folder.join(format!("{name}.service")))
        .with_context(|| format!("cannot make folder `{}`", folder.display()))
}

/// Returns where a package puts units.
fn packaged(whose: Whose) -> PathBuf {
    let [host, user] = PACKAGED;
    PathBuf::from(if whose == Whose::Host { host } else { user })
}

/// A unit on its way to its place.
struct Unit<'a> {
    name: &'static str,
    whose: Whose,
    file: PathBuf,
    /// The unit that a package brings, which goes for one that is not in `file`.
    packaged: Option<PathBuf>,
    term: &'a Term,
}

impl Unit<'_> {
    fn service(&self) -> String {
        format!("{}.service", self.name)
    }

    /// Refuses a unit that somebody has edited, unless that is to be replaced; returns what is
    /// there.
    fn look(&self, text: &str, force: bool) -> Result<(Found, String)> {
        let (shown, service) = (self.file.display(), self.service());
        if self.file.is_symlink() {
            let way = format!(
                "if it leads to /dev/null, `systemctl unmask {service}` removes it; else remove \
                 it yourself"
            );
            return Err(hinted(format!("`{shown}` is a link"), way));
        }
        let there = match files::settings(&self.file) {
            Ok((_, text)) => Some(text),
            Err(why) if why.kind() == ErrorKind::NotFound => None,
            Err(why) => return Err(why).with_context(|| format!("cannot read `{shown}`")),
        };
        let found = compare(there.as_ref().map(|there| there.as_str()), text);
        if found == Found::Edited && !force {
            let way = format!(
                "move what it adds to `systemctl edit {service}`; then `{} install --force` \
                 replaces it, and keeps it as `{service}.old`",
                self.name
            );
            return Err(hinted(format!("somebody has written or edited `{shown}`"), way));
        }
        Ok((found, there.map(|there| there.to_string()).unwrap_or_default()))
    }

    /// Writes the unit unless it is there; tells whether it was written.
    fn write(&self, text: &str, force: bool) -> Result<bool> {
        let access = Access { mode: 0o644, ..Access::PRIVATE };
        let shown = self.file.display();
        match self.look(text, force)? {
            (Found::Same, _) => {
                self.term.say(format!("`{shown}` is right already"));
                return Ok(false);
            }
            (Found::Edited, there) => {
                let old = self.file.with_extension("service.old");
                files::replace(&old, there.as_bytes(), access)?;
                self.term.say(format!("kept: `{}`", old.display()));
            }
            (Found::Absent, _) if self.is_packaged(text) => return Ok(false),
            (Found::Absent | Found::Ours, _) => {}
        }
        files::replace(&self.file, text.as_bytes(), access)?;
        self.term.say(format!("written: `{shown}`"));
        Ok(true)
    }

    /// Tells whether a package brings this very unit.
    fn is_packaged(&self, text: &str) -> bool {
        let Some(file) = &self.packaged else { return false };
        let same = std::fs::read_to_string(file).is_ok_and(|there| there == text);
        if same {
            self.term.say(format!("`{}` is right already", file.display()));
        }
        same
    }

    fn is_active(&self) -> bool {
        systemctl::is(self.whose, &["is-active", "--quiet", &self.service()])
    }

    /// Refuses to start a program that somebody else than the unit runs: they would be two.
    fn refuse_second(&self, program: &impl Program) -> Result<()> {
        let name = self.name;
        match program.running().filter(|_| !self.is_active()) {
            None => Ok(()),
            Some(pid) => Err(hinted(
                format!("`{name}` runs already (pid {pid}), started by somebody else than systemd"),
                format!("end it with `kill {pid}`, then run `{name} install` again"),
            )),
        }
    }

    /// Tells whether the unit runs a program that has been replaced since.
    fn is_outdated(&self, own: &Path) -> bool {
        let pid = systemctl::shown(self.whose, &self.service(), "MainPID");
        let pid = pid.and_then(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid > 0);
        pid.is_some_and(|pid| process::runs_another(pid, own))
    }

    /// Warns if somebody else could exchange what root runs.
    fn warn_of_program(&self, own: &Path) {
        let open = |path: &Path| {
            path.metadata().is_ok_and(|found| found.uid() != 0 || found.mode() & 0o022 != 0)
        };
        if self.whose == Whose::Host && (open(own) || own.parent().is_some_and(open)) {
            self.term.say(format!(
                "warning: others than root can exchange `{}`, which root will run: move it to \
                 /usr/local/bin, and install again",
                own.display()
            ));
        }
    }

    /// Has systemd know the unit, start it at boot, and run it now.
    fn start(
        &self,
        program: &impl Program,
        written: bool,
        anew: bool,
        no_start: bool,
    ) -> Result<()> {
        let Self { whose, term, .. } = *self;
        let service = self.service();
        let enabled = systemctl::is(whose, &["is-enabled", "--quiet", &service]);
        if written {
            systemctl::call(whose, &["daemon-reload"])?;
        }
        if !enabled {
            systemctl::call(whose, &["enable", "--quiet", &service])?;
        }
        let begin = systemctl::line(whose, &["start", &service]);
        let active = self.is_active();
        if active && !anew {
            term.say(if enabled {
                "it runs, and starts with the host: nothing to do"
            } else {
                "it runs; it starts with the host now"
            });
            return Ok(());
        }
        if no_start {
            term.say(format!("it starts with the host; now with `{begin}`"));
            return Ok(());
        }
        if let Err(why) = program.is_set_up() {
            term.say(format!("not started: {why:#}; once that is mended: `{begin}`"));
            return Ok(());
        }
        self.restart(&service)?;
        term.say("it runs, and starts with the host");
        if whose == Whose::User {
            self.linger();
        }
        Ok(())
    }

    /// Restarts the unit; one that a container keeps from shielding itself off does without.
    fn restart(&self, service: &str) -> Result<()> {
        let Self { name, whose, term, .. } = *self;
        let Err(mut why) = systemctl::call(whose, &["restart", service]) else { return Ok(()) };
        if shielding::is_wanting(whose, service) {
            match shielding::do_without(whose, service, &self.file, term) {
                Ok(()) => return Ok(()),
                Err(again) => why = again,
            }
        }
        let user = if whose == Whose::User { " --user" } else { "" };
        let noun = name.trim_start_matches("vault-");
        Err(hinted(
            format!("the unit is written, but the {noun} does not start: {why:#}"),
            format!("`journalctl{user} -u {name} -n 20` says why"),
        ))
    }

    /// Says how a user's program runs without the user.
    fn linger(&self) {
        let name = account::own_name();
        if !Path::new("/var/lib/systemd/linger").join(name).exists() {
            self.term.say("it ends when you log out, unless you run `loginctl enable-linger` once");
        }
    }
}
