//! The agent of a machine, found on its host whether it is the host's or the user's own; and the
//! one that is to leave, by its unit where its state is lost. Taking it away is a step.

use anyhow::{Result, bail};
use shared::keys::VerifyKey;
use shared::name::Name;
use shared::signed::VaultId;

use super::connection::Connection;
use super::probe::{Probe, Root};
use super::program::Folder;
use super::reached::{self, Joined, Reached, Standing, Wish};
use super::script::Rights;
use super::steps::Host;
use crate::context::Global;
use host::hint::hinted;
use host::shown::Shown;

/// The rank of a place that is surely the machine's.
const SURE: Rank = (4, true);

/// How surely a place is the machine's, and of like ones whether its agent is there.
type Rank = (u8, bool);

/// The machine that is looked for.
pub struct Machine<'a> {
    /// The vault that it is of.
    pub vault: VaultId,
    /// What the vault calls it.
    pub name: &'a Name,
    /// The keys that it has or had there.
    pub keys: Vec<VerifyKey>,
}

/// Its agent.
pub struct Leaving {
    /// Without its program, where that is gone.
    at: Result<Host, Box<Reached>>,
    /// What it is to be still when it goes; nothing where its key has told.
    joined: Option<Joined>,
}

/// A look at one place where an agent may be.
struct Found {
    probe: Probe,
    rights: Rights,
    folder: Folder,
    standing: Standing,
}

impl Found {
    /// Tells how surely the machine is here.
    fn rank(&self, machine: &Machine<'_>) -> Rank {
        let is_here = self.standing.unit || self.probe.agent.is_some();
        let place = match &self.standing.joined {
            Some(joined) if joined.vault == machine.vault && joined.name == *machine.name => 4,
            // Its name may have changed since.
            Some(joined) if joined.vault == machine.vault => 3,
            Some(_) => 2,
            None if !self.standing.is_nothing() => 1,
            None => 0,
        };
        (place, is_here)
    }
}

impl Leaving {
    /// Finds the agent of a machine on a host; `None` if there is none. Nothing is changed.
    ///
    /// # Errors
    /// If the host is not reached, is another machine, or must not lose what it holds.
    pub fn find(
        connection: Connection,
        user: bool,
        machine: &Machine<'_>,
        global: &Global,
    ) -> Result<Option<Self>> {
        let wish = Wish { user, addresses: &[] };
        let Some((at, standing)) = seek(connection, wish, machine, global)? else {
            return Ok(None);
        };
        Self::proven(Host::as_is(at), &standing, machine).map(Some)
    }

    /// Refuses what is there unless it is the machine, or nobody's any more.
    fn proven(
        at: Result<Host, Box<Reached>>,
        standing: &Standing,
        machine: &Machine<'_>,
    ) -> Result<Self> {
        let Machine { vault, name, keys } = machine;
        let host = at.as_ref().map_or_else(|at| at.host(), Host::host).to_owned();
        let own = Joined { vault: *vault, name: (*name).clone() };
        let called = standing.joined.as_ref();
        // The key tells where the pins are lost, or have the name of before.
        let is_told_by_key = || match &at {
            Ok(there) if standing.keys && called.is_none_or(|it| it.vault == *vault) => {
                let line = there.init(called.map_or(*name, |it| &it.name), *vault)?;
                Ok::<_, anyhow::Error>(keys.contains(&line.sign))
            }
            Ok(_) | Err(_) => Ok(false),
        };
        let joined = match called {
            Some(it) if *it == own => Some(own),
            Some(it) if is_told_by_key()? => Some(it.clone()),
            Some(it) => bail!(hinted(
                format!(
                    "`{host}` is `{}` of vault {}, and not `{name}`",
                    it.name,
                    it.vault.short()
                ),
                "name the host of the machine that is to go; nothing was signed, and nothing is \
                 changed there"
            )),
            // Without keys it is no machine any more.
            None if !standing.keys => Some(own),
            None if is_told_by_key()? => None,
            None => bail!(hinted(
                format!("the agent on `{host}` has joined no vault: it may not be `{name}`"),
                "if it is, run `vault-agent uninstall` there by hand; nothing was signed, and \
                 nothing is changed there"
            )),
        };
        match &at {
            Ok(there) => there.may_leave(joined.as_ref())?,
            Err(at) => at.demand_programs()?,
        }
        Ok(Self { at, joined })
    }

    /// Takes it away; returns what is to be known of it.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn leave(self, with_targets: bool, global: &Global) -> Result<Shown> {
        // What is left without its program is removed by the program all the same.
        let host = match self.at {
            Ok(host) => host,
            Err(at) => Host::equip(*at, global)?,
        };
        host.uninstall(self.joined.as_ref(), with_targets)
    }
}

/// Looks for the agent of a machine on a host: that of the user of the login, for whom nobody has
/// to become root, and that of the host; of both, the one that is it most surely. `None` if nothing
/// of an agent is there. Nothing is changed.
///
/// # Errors
/// If the host is nothing that an agent can live on, or the user cannot become root where that is
/// needed.
pub fn seek(
    connection: Connection,
    wish: Wish<'_>,
    machine: &Machine<'_>,
    global: &Global,
) -> Result<Option<(Reached, Standing)>> {
    let by = |user| Wish { user, ..wish };
    let first = reached::ask(&connection, by(true))?;
    let places: &[bool] = match (wish.user, first.root) {
        (true, _) => &[true],
        (false, Root::Own) => &[false, true],
        (false, Root::Sudo | Root::Password | Root::None) => &[true, false],
    };
    let (mut connection, mut best) = (connection, None::<Found>);
    for user in places.iter().copied() {
        let probe = if user { first.clone() } else { reached::ask(&connection, by(user))? };
        let reached = Reached::new(connection, probe, by(user), global)?;
        let standing = reached.standing()?;
        let Reached { connection: back, probe, rights, folder } = reached;
        connection = back;
        let found = Found { probe, rights, folder, standing };
        let rank = found.rank(machine);
        if best.as_ref().is_none_or(|it| it.rank(machine) < rank) {
            best = Some(found);
        }
        if rank == SURE {
            break;
        }
    }
    let best = best.filter(|it| !it.standing.is_nothing());
    Ok(best.map(|Found { probe, rights, folder, standing }| {
        (Reached { connection, probe, rights, folder }, standing)
    }))
}
