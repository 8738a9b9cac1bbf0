//! What is not as it should be in a status: which machine, what, since when, and what to type.
//! Pure; both programs that show a status judge by it, so that they never disagree.

mod finding;
mod programs;

use std::collections::BTreeMap;

use shared::error::Code;
use shared::grant::{Grant, Grants};
use shared::limits;
use shared::name::Name;
use shared::path::SecretPath;
use shared::report::TargetState;
use shared::time::Time;
use shared::version::Version;

use host::clock::age;
use host::shown::quoted;
use host::version;

use crate::local::{Alarm, Left, Outdated, Standing, Status, TargetRow};

pub use finding::{Finding, Kind};
pub use programs::{Mixed, Runs, mixed};

/// How an alarm's own way out begins, where it brings one.
const HINT: &str = " (hint: ";

/// What stands in an alarm of several targets before their number.
const MORE: &str = "; and ";

/// How the name of a master file ends among the targets.
const SOURCE: &str = " (source)";

/// Returns everything that is not as it should be: what this machine says of itself and of the
/// server first, then by machine. Nothing is known to be right while there is any.
pub fn findings(status: &Status) -> Vec<Finding> {
    let mut found: Vec<Finding> = status.alarms.iter().map(|it| alarm(status, it)).collect();
    found.extend(server(status));
    found.extend(status.backup_failing.map(backup));
    found.extend(status.left.as_ref().map(|it| left(status, it)));
    let standing: BTreeMap<&Name, &Standing> =
        status.machines.iter().map(|machine| (&machine.machine, machine)).collect();
    let own = Version::of(version::own());
    let (of_server, mut of_machines): (Vec<Finding>, Vec<Finding>) =
        programs::findings(status, own).into_iter().partition(|it| it.machine.is_none());
    found.extend(of_server);
    of_machines.extend(status.machines.iter().filter(|it| it.silent).map(silent));
    // Where this machine disagrees with the server too, its alarm says so: the server may be wrong.
    if !status.alarms.iter().any(|alarm| alarm.code == Code::Clock.as_str()) {
        of_machines.extend(status.machines.iter().filter_map(clock));
    }
    let is_asleep = |name: &Name| standing.get(name).is_some_and(|it| it.sleeps && !it.awake);
    // A server that is away hands out nothing: that is said once.
    let outdated = status.outdated.iter().filter(|it| status.online && !is_asleep(&it.machine));
    of_machines.extend(outdated.map(self::outdated));
    let mut rows: Vec<&TargetRow> = status.targets.iter().collect();
    rows.sort_by_key(|row| (&row.machine, &row.target, &row.secret));
    for row in rows {
        let standing = standing.get(&row.machine).copied();
        let is_own = row.machine == status.machine;
        let place = Place { row, standing, is_own, is_known: is_own || status.online };
        for finding in place.findings() {
            if place.is_own && is_alarmed(&mut found, &finding) {
                continue;
            }
            let is_told = |told: &Finding| {
                (&told.machine, &told.target, &told.text)
                    == (&finding.machine, &finding.target, &finding.text)
            };
            if !of_machines.iter().any(is_told) {
                of_machines.push(finding);
            }
        }
    }
    of_machines.sort_by(|a, b| a.machine.cmp(&b.machine));
    found.extend(of_machines);
    found
}

/// As [`findings`], for those who follow when each begins and ends: each target of this machine
/// stands by itself and in no alarm, whatever becomes of the others. With each comes what tells it
/// from others of its kind that are about the same.
pub fn each(status: &Status) -> Vec<(Finding, String)> {
    let mut bare = Status { alarms: Vec::new(), ..status.clone() };
    let own = |it: &Finding| it.machine.as_ref() == Some(&status.machine);
    let told: Vec<&str> =
        findings(&bare).iter().filter(|it| own(it)).flat_map(|it| codes(it)).copied().collect();
    let alone = status.alarms.iter().filter(|alarm| !told.contains(&&*alarm.code));
    bare.alarms = alone.cloned().collect();
    let mut subjects = bare.alarms.clone().into_iter().map(|alarm| alarm.subject);
    // The alarms come first, in their order.
    findings(&bare).into_iter().map(|it| (it, subjects.next().unwrap_or_default())).collect()
}

/// Tells whether an alarm says the same of this machine's only target of that kind, and more of the
/// way out; since when, the row knows over restarts.
fn is_alarmed(alarms: &mut [Finding], finding: &Finding) -> bool {
    let codes = codes(finding);
    let says = |alarm: &&mut Finding| {
        matches!(&alarm.kind, Kind::Alarm(of) if codes.contains(&&**of))
            && !alarm.text.contains(MORE)
    };
    let Some(alarm) = alarms.iter_mut().find(says) else { return false };
    alarm.since = alarm.since.min(finding.since.or(alarm.since));
    true
}

/// Returns the codes of the alarms that are about targets such as that of a finding.
fn codes(finding: &Finding) -> &'static [&'static str] {
    let is_source = finding.target.as_ref().is_some_and(|it| it.ends_with(SOURCE));
    match finding.kind {
        Kind::Target(_) if is_source => &["E_SOURCE", "E_SOURCE_SHRUNK"],
        Kind::Hook => &["E_HOOK"],
        Kind::Target(TargetState::Missing) => &["E_TARGET_MISSING"],
        Kind::Target(TargetState::Foreign) => &["E_TARGET_FOREIGN"],
        Kind::Target(TargetState::Drift) => &["E_DRIFT"],
        Kind::Target(TargetState::TooOld) => &["E_MAX_STALE"],
        Kind::Target(TargetState::Failed | TargetState::Refused) => &["E_TARGET"],
        Kind::Target(_)
        | Kind::Alarm(_)
        | Kind::Server
        | Kind::Untold
        | Kind::Backup
        | Kind::Left
        | Kind::Silent
        | Kind::Clock
        | Kind::Outdated
        | Kind::Replaced
        | Kind::Old
        | Kind::Lags => &[],
    }
}

fn alarm(status: &Status, Alarm { code, text, since, .. }: &Alarm) -> Finding {
    let own = text.rsplit_once(HINT).and_then(|(text, rest)| {
        let (hint, more) = rest.rsplit_once(')')?;
        Some((format!("{text}{more}"), hint.to_owned()))
    });
    let (text, todo) = own.unwrap_or_else(|| {
        let hint =
            Code::from_text(code).map_or("`vault-agent status` shows the targets", Code::hint);
        (text.clone(), hint.to_owned())
    });
    Finding {
        kind: Kind::Alarm(code.clone()),
        machine: Some(status.machine.clone()),
        target: None,
        secret: None,
        text,
        since: Some(*since),
        todo,
    }
}

/// What is the matter with the connection. A fork or a log that was refused has its own alarm,
/// which says what to do.
fn server(status: &Status) -> Option<Finding> {
    let address = status.server.as_deref().unwrap_or("no address is known");
    let why = status.trouble.as_deref().map(|why| format!(": {}", in_one_line(why)));
    let why = why.unwrap_or_default();
    let refused = status.trouble.as_deref().is_some_and(is_refusal);
    let (kind, text, todo) = if status.online && status.told {
        return None;
    } else if status.online {
        let text = format!("the server ({address}) does not say how the others stand");
        (
            Kind::Untold,
            text,
            "try again; `journalctl -u vault-server` (or with `--user`) on the server's host",
        )
    } else if refused {
        let text = format!("the server ({address}) answers, but its log is not followed{why}");
        (Kind::Server, text, "do what the alarm above says")
    } else {
        let text = format!("not connected to the server ({address}){why}");
        (
            Kind::Server,
            text,
            "`systemctl status vault-server` (or with `--user`) on the server's host; if it has \
             moved while this host slept: `server = [\"HOST:PORT\"]` in `agent.toml` here",
        )
    };
    let since = status.synced_at.filter(|_| !status.online);
    let (machine, target, secret) = (None, None, None);
    Some(Finding { kind, machine, target, secret, text, since, todo: todo.to_owned() })
}

fn backup(since: Time) -> Finding {
    let (machine, target, secret) = (None, None, None);
    let todo = "`journalctl -u vault-server` (or with `--user`) on the server's host says why; it is \
                tried again every 10 minutes, and when the server starts";
    Finding {
        kind: Kind::Backup,
        machine,
        target,
        secret,
        text: "the server's own backups fail".to_owned(),
        since: Some(since),
        todo: todo.to_owned(),
    }
}

/// What an act has left to be re-encrypted: the same act again, or any other that changes nothing,
/// does it.
fn left(status: &Status, Left { versions, unreadable, out }: &Left) -> Finding {
    let (are, them) = if *versions == 1 { (" is", "it") } else { ("s are", "them") };
    let own = &status.machine;
    let here = match *unreadable {
        0 => String::new(),
        some => format!("; `{own}` may not read {some}, and so not re-encrypt"),
    };
    let standing = status.machines.iter().find(|it| it.machine == *own);
    let command = match (out, standing) {
        (Some(out), _) => format!("vault machine remove {out}"),
        (None, Some(it)) => access_command(own, (&it.read, None), (&it.write, None)),
        (None, None) => "vault access set".to_owned(),
    };
    let (machine, target, secret, since) = (None, None, None, None);
    Finding {
        kind: Kind::Left,
        machine,
        target,
        secret,
        text: format!(
            "{versions} version{are} still encrypted to the readers of before: who was put out \
             still opens {them}{here}"
        ),
        since,
        todo: format!(
            "`{command}` re-encrypts {them}, on a host that has an admin key and may read {them}"
        ),
    }
}

/// Puts a list, one thing a line below a first one, into one line.
fn in_one_line(text: &str) -> String {
    let (first, list) = text.split_once('\n').unwrap_or((text, ""));
    let list: Vec<&str> = list.lines().map(str::trim).collect();
    format!("{first} {}", list.join("; ")).trim_end().to_owned()
}

/// Tells whether a connection failed by what the server said, not for want of one.
pub fn is_refusal(trouble: &str) -> bool {
    trouble.split(':').next().and_then(Code::from_text).is_some()
}

fn silent(Standing { machine, seen_at, added, .. }: &Standing) -> Finding {
    let text = match seen_at {
        Some(_) => "silent".to_owned(),
        None => "was added and never heard".to_owned(),
    };
    let todo = format!(
        "`systemctl status vault-agent` (or with `--user`) on {machine}; if it sleeps at times: \
         `vault machine set {machine} --sleeps`"
    );
    Finding {
        kind: Kind::Silent,
        machine: Some(machine.clone()),
        target: None,
        secret: None,
        text,
        since: Some(seen_at.unwrap_or(*added)),
        todo,
    }
}

fn clock(Standing { machine, clock_off, .. }: &Standing) -> Option<Finding> {
    let off = (*clock_off)?;
    let way = if off > 0 { "ahead of" } else { "behind" };
    let what = match off.unsigned_abs().saturating_mul(1_000_000) > limits::CLOCK {
        true => ": it cannot write",
        false => "",
    };
    let text = format!("its clock is {} {way} the server's{what}", age(off.unsigned_abs()));
    let (kind, machine, todo) = (
        Kind::Clock,
        machine.clone(),
        format!("`timedatectl` on {machine} shows it; set it right"),
    );
    let (target, secret, since) = (None, None, None);
    Some(Finding { kind, machine: Some(machine), target, secret, text, since, todo })
}

fn outdated(Outdated { machine, of, .. }: &Outdated) -> Finding {
    let shown = if of.is_some() { "those shown are older" } else { "none are shown" };
    Finding {
        kind: Kind::Outdated,
        machine: Some(machine.clone()),
        target: None,
        secret: None,
        text: format!("the server does not hand out its newest signed targets; {shown}"),
        since: *of,
        todo: format!("`vault-agent status` on {machine}"),
    }
}

/// A row, and whose it is.
struct Place<'a> {
    row: &'a TargetRow,
    standing: Option<&'a Standing>,
    is_own: bool,
    /// Whether it is as it stands now, not as it was last fetched.
    is_known: bool,
}

impl Place<'_> {
    fn findings(&self) -> Vec<Finding> {
        let row = self.row;
        let remark = row.remark();
        let mut found = Vec::new();
        if row.state.is_trouble() {
            let text = remark.clone().unwrap_or_default();
            found.push(self.finding(Kind::Target(row.state), text, self.way_out()));
        } else if row.hook.is_trouble() {
            let text = remark.clone().unwrap_or_default();
            // A mended command runs by itself; what else was mended, nobody sees.
            let there = self.there();
            let todo = format!(
                "`journalctl -u vault-agent`{there} says why; once that is mended, \
                 `vault-agent hook run {}`{there}",
                quoted(&row.target)
            );
            found.push(self.finding(Kind::Hook, text, todo));
        }
        // Of one that is silent it is known why it lags, and of one that sleeps, that it will not.
        let excused = self.standing.is_some_and(|it| it.silent || (it.sleeps && !it.awake));
        if row.lags() && found.is_empty() && !excused && self.is_known {
            let held = match row.applied {
                0 => "holds nothing".to_owned(),
                held => format!("holds v{held}"),
            };
            let why = remark.map(|remark| format!(" ({remark})")).unwrap_or_default();
            let text = format!("{held} of `{}`, not v{}{why}", row.secret, row.wanted);
            let todo = format!("`vault-agent status`{}", self.there());
            found.push(self.finding(Kind::Lags, text, todo));
        }
        found
    }

    fn finding(&self, kind: Kind, text: String, todo: String) -> Finding {
        let TargetRow { machine, target, secret, since, .. } = self.row;
        Finding {
            kind,
            machine: Some(machine.clone()),
            target: Some(target.clone()),
            secret: Some(secret.clone()),
            text,
            since: *since,
            todo,
        }
    }

    /// Says where to type what this machine cannot do.
    fn there(&self) -> String {
        if self.is_own { String::new() } else { format!(" on {}", self.row.machine) }
    }

    fn way_out(&self) -> String {
        let TargetRow { machine, secret, wanted, .. } = self.row;
        let there = self.there();
        // A key is added to a secret that is there.
        let verb = if *wanted == 0 { "put" } else { "patch" };
        match self.row.state {
            TargetState::Missing => format!(
                "`vault kv {verb} {} KEY=-` if it is to be there; if its name is wrong, \
                 `vault-agent target list`{there} shows it",
                quoted(secret.as_str())
            ),
            TargetState::Denied => {
                let none = Grants::default();
                let held = self.standing.map(|it| (&it.read, &it.write));
                let (read, write) = held.unwrap_or((&none, &none));
                let command = access_command(machine, (read, Some(secret)), (write, None));
                format!("`{command}` on an admin's host")
            }
            TargetState::Drift => format!(
                "find out who writes it{there}; `vault-agent target list` shows what it holds"
            ),
            TargetState::Foreign => format!(
                "`vault-agent status`{there} names the three ways: import, block or replace"
            ),
            TargetState::TooOld => "bring the server back: the file follows by itself".to_owned(),
            TargetState::Refused | TargetState::Failed => {
                format!("`vault-agent status`{there} says why, and the way out")
            }
            TargetState::Starting | TargetState::Ok | TargetState::Waiting | TargetState::Kept => {
                format!("`vault-agent status`{there}")
            }
        }
    }
}

/// Returns the command that gives a machine a right and takes none away: its grants to read and to
/// write, each with one secret more if that is wanted there.
pub fn access_command(
    machine: &Name,
    read: (&Grants, Option<&SecretPath>),
    write: (&Grants, Option<&SecretPath>),
) -> String {
    let list = |flag: &str, (held, more): (&Grants, Option<&SecretPath>)| {
        let held = held.as_slice().iter().map(Grant::as_str);
        let texts: Vec<&str> = held.chain(more.map(SecretPath::as_str)).collect();
        if texts.is_empty() {
            return String::new();
        }
        format!(" --{flag} {}", quoted(&texts.join(",")))
    };
    format!("vault access set {machine}{}{}", list("read", read), list("write", write))
}

#[cfg(test)]
mod tests;
