//! Which records are asked for: what the server is to look for, and what is looked at here, since
//! machines tell it, or they alone know it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use shared::audit::{Op, Outcome, Record};
use shared::path::SecretPath;
use shared::text::like;
use shared::time::Time;

use super::when::seconds;
use crate::client::Client;
use crate::context::Global;
use host::hint::Failure;
use machine::local::{AuditQuery, Borne, Holder, Holders, KEYS, NAMES};
use machine::who;

/// How far two clocks may be apart, in microseconds.
const SLACK: u64 = 60_000_000;
/// Processes and users that are noted, for when none of the wanted ones comes.
const NOTED: usize = 12;

/// Filters of records; all must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// By this machine
    #[arg(long, value_name = "NAME")]
    pub machine: Option<String>,
    /// About this secret; `*` stands for any text
    #[arg(long, alias = "secret", value_name = "PATH")]
    pub path: Option<String>,
    /// About the secrets that hold this key, and versions that held it; `*` stands for any text
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// This operation: read, however it was delivered; write; act, an owner's; applied, a file
    /// that got a version; or a single one
    #[arg(long, value_name = "OP")]
    pub op: Option<String>,
    /// By this process, unit or container, or address of a container; `*` stands for any text;
    /// agent: the agent itself
    #[arg(long, value_name = "NAME")]
    pub process: Option<String>,
    /// By this user, by login name or number, or this admin
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// By this AI agent, e.g. claude-code, as the machine tells; `*` stands for any text
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// By any AI agent
    #[arg(long)]
    pub agents: bool,
    /// For a reason that holds this text, in capital or small letters; `*` stands for any text
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// With this result: ok, refused, or a word such as missing or E_DENIED
    #[arg(long, value_name = "RESULT")]
    pub result: Option<String>,
    /// Refusals only
    #[arg(long)]
    pub denied: bool,
}

/// What is asked for.
pub struct Asked {
    /// What the server finds: all that is wanted, and perhaps more.
    pub query: AuditQuery,
    pub filter: Filter,
    /// Versions by secret, if a key is asked for.
    holders: Option<BTreeMap<String, Holder>>,
    /// Names of the machine that is asked for, and when it bore each, if it bore several.
    names: Vec<Borne>,
    /// Who asked, where no record was by the wanted ones.
    noted: RefCell<BTreeSet<String>>,
    /// Whether signs of life are left out, and how many were.
    brief: bool,
    left_out: Cell<u64>,
}

impl Filter {
    /// Puts together what is asked for; looks for the secrets that hold a key, and names them.
    ///
    /// # Errors
    /// If there is no such operation, no secret holds the key, or the agent cannot tell.
    pub fn ask(
        &self,
        global: &Global,
        client: &Client,
        (since, until): (Option<Time>, Option<Time>),
    ) -> anyhow::Result<Asked> {
        if let Some(op) = self.op.as_deref().filter(|op| !is_op(op)) {
            let hint = format!("use read, write, act, applied, or one of {}", Op::KNOWN.join(", "));
            return Err(Failure::local(format!("no operation is called `{op}`")).hint(hint).into());
        }
        let holders = self.key.as_deref().map(|key| holders(global, client, key)).transpose()?;
        let names = self.machine.as_deref().map(|name| names(global, client, name));
        let names = names.unwrap_or_default();
        let of_key = || match holders.as_deref() {
            Some([only]) => Some(only.path.to_string()),
            Some(_) | None => None,
        };
        let query = AuditQuery {
            since,
            until,
            machine: self.machine.clone().filter(|_| names.is_empty()),
            path: self.path.clone().or_else(of_key),
            op: self.op.as_deref().map(Op::from),
            denied: self.denied,
            ..AuditQuery::default()
        };
        let by_path = |holder: Holder| (holder.path.to_string(), holder);
        let holders = holders.map(|all| all.into_iter().map(by_path).collect());
        let (filter, noted, left_out) = (self.clone(), RefCell::default(), Cell::default());
        Ok(Asked { query, filter, holders, names, noted, brief: false, left_out })
    }
}

/// Returns the names of a machine that bore several, and says so; records bear that of their time.
fn names(global: &Global, client: &Client, name: &str) -> Vec<Borne> {
    // An agent of before does not tell, and a name that nobody bore is no machine's: that is said
    // where no record matches.
    let found = client.get::<Vec<Borne>>(NAMES, &[("machine", name.to_owned())]);
    let Some(names) = found.ok().filter(|names| names.len() > 1) else { return Vec::new() };
    let told = |Borne { name, until, .. }: &Borne| match until {
        Some(until) => format!("{name} (until {})", seconds(*until)),
        None => name.to_string(),
    };
    let told: Vec<String> = names.iter().map(told).collect();
    global.term.say(format!("machine {name}: {}", told.join(", ")));
    names
}

/// Tells whether a machine was called so when a record was written. The clocks are those of two
/// hosts.
fn bore(names: &[Borne], Record { time, fact, .. }: &Record) -> bool {
    names.iter().any(|borne| {
        fact.machine.as_ref() == Some(&borne.name)
            && time.plus(SLACK) >= borne.since
            && borne.until.is_none_or(|until| *time <= until.plus(SLACK))
    })
}

/// Asks the agent which secrets hold a key, and says so.
fn holders(global: &Global, client: &Client, key: &str) -> anyhow::Result<Vec<Holder>> {
    let found: Holders = client.get(KEYS, &[("name", key.to_owned())])?;
    let Holders { secrets, searched, unread, earlier, alike } = found;
    let parts = [many(unread, "secret"), many(earlier, "earlier version")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let not = match parts.as_slice() {
        [] => String::new(),
        parts => format!("; not on this machine, and not looked into: {}", parts.join(", ")),
    };
    if secrets.is_empty() {
        let all = many(searched, "secret").unwrap_or_else(|| "0 secrets".to_owned());
        let text = format!("no secret holds a key `{key}`: {all} searched{not}");
        let hint = match alike.as_slice() {
            [] => "`vault kv find NAME` looks for secrets and keys".to_owned(),
            alike => format!("there is {}", alike.join(", ")),
        };
        return Err(Failure::remote(text).hint(hint).into());
    }
    let named: Vec<String> = secrets.iter().map(told).collect();
    global.term.say(format!("key {key}: {}{not}", named.join(", ")));
    Ok(secrets)
}

fn many(count: u64, what: &str) -> Option<String> {
    let end = if count == 1 { "" } else { "s" };
    (count > 0).then(|| format!("{count} {what}{end}"))
}

/// Names a secret, and of which versions the key is known, unless of all.
fn told(Holder { path, holds, lacks }: &Holder) -> String {
    if lacks.is_empty() {
        return path.to_string();
    }
    let versions: Vec<String> = holds.iter().map(|ver| format!("v{ver}")).collect();
    format!("{path} ({})", versions.join(", "))
}

impl Asked {
    /// Asks the same with another query.
    pub fn with(&self, query: AuditQuery) -> Self {
        let Self { filter, holders, names, brief, .. } = self;
        let (filter, holders, names) = (filter.clone(), holders.clone(), names.clone());
        let (noted, left_out) = (RefCell::default(), Cell::default());
        Self { query, filter, holders, names, noted, brief: *brief, left_out }
    }

    /// Leaves out what agents ask all the time, unless an operation is asked for.
    #[must_use]
    pub fn brief(self, brief: bool) -> Self {
        let brief = brief && self.filter.op.is_none();
        Self { brief, ..self }
    }

    /// Returns how many records were left out that are no more than signs of life.
    pub fn left_out(&self) -> u64 {
        self.left_out.get()
    }

    /// Tells whether the server finds what is wanted and nothing else.
    pub fn is_exact(&self) -> bool {
        let Filter { process, user, agent, agents, reason, result, .. } = &self.filter;
        let is_free = [process, user, agent, reason, result].into_iter().all(Option::is_none);
        is_free && !agents && self.holders.is_none() && self.names.is_empty()
    }

    /// Tells whether a record is wanted.
    pub fn keeps(&self, record: &Record) -> bool {
        let Filter { op, path, process, user, agent, agents, reason, result, denied, .. } =
            &self.filter;
        let fact = &record.fact;
        let op = op.as_deref().map(|op| Op::from(op).meant());
        let at = fact.path.as_ref().map(SecretPath::as_str);
        let keeps = (self.names.is_empty() || bore(&self.names, record))
            && (!denied || fact.is_refusal())
            && op.is_none_or(|ops| ops.iter().any(|op| op == fact.op.as_str()))
            && path.as_deref().is_none_or(|path| at.is_some_and(|at| like(path, at)))
            && result.as_deref().is_none_or(|wanted| is_result(record, wanted))
            && self.holders.as_ref().is_none_or(|all| holds(all, record));
        let by_agent =
            |wanted: &str| fact.agent.as_ref().is_some_and(|it| like(wanted, it.as_str()));
        let keeps = keeps
            && (!agents || by_agent("*"))
            && agent.as_deref().is_none_or(by_agent)
            && reason.as_deref().is_none_or(|wanted| is_reason(record, wanted));
        let by = process.as_deref().is_none_or(|name| who::is_process(record, name))
            && user.as_deref().is_none_or(|name| who::is_user(record, name));
        if keeps && !by {
            self.note(record);
        }
        let is_sign = self.brief && fact.op.is_machinery() && !fact.is_refusal();
        if keeps && by && is_sign {
            self.left_out.set(self.left_out.get() + 1);
        }
        keeps && by && !is_sign
    }

    fn note(&self, record: &Record) {
        let mut noted = self.noted.borrow_mut();
        let Some((process, user)) = who::names(record) else { return };
        let name = if self.filter.process.is_some() { process } else { user };
        if !name.is_empty() && noted.len() < NOTED {
            noted.insert(name);
        }
    }

    /// Returns who else asked: processes if one is asked for, else users.
    pub fn others(&self) -> Vec<String> {
        self.noted.borrow().iter().cloned().collect()
    }
}

fn is_reason(Record { fact, .. }: &Record, wanted: &str) -> bool {
    let wanted = format!("*{}*", wanted.to_lowercase());
    fact.reason.as_ref().is_some_and(|reason| like(&wanted, &reason.as_str().to_lowercase()))
}

fn is_result(record: &Record, wanted: &str) -> bool {
    match wanted {
        "refused" => record.fact.is_refusal(),
        word => like(&word.to_lowercase(), &record.fact.result.as_str().to_lowercase()),
    }
}

/// Tells whether a record is about a version that holds the key, as far as one knows.
fn holds(all: &BTreeMap<String, Holder>, Record { fact, .. }: &Record) -> bool {
    let holder = fact.path.as_ref().and_then(|path| all.get(path.as_str()));
    holder.is_some_and(|holder| holder.concerns(fact))
}

/// Tells whether a word names an operation that this program knows, as told by a machine at least.
fn is_op(word: &str) -> bool {
    let is_known = |word: &str| !matches!(Op::from(word), Op::Newer(_));
    matches!(word, "write" | "act") || is_known(word) || is_known(&format!("local_{word}"))
}

/// Tells whether a word names a result that this program knows; one with `*` may name any.
pub fn is_known_result(word: &str) -> bool {
    let known = |word: &str| !matches!(Outcome::from(word), Outcome::Newer(_));
    word == "refused" || word.contains('*') || known(word) || known(&word.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::audit::Fact;
    use shared::hash::Hash;

    fn record(op: &str, path: &str, ver: u64, result: &str) -> Record {
        let fact = Fact {
            path: path.parse().ok(),
            ver: Some(ver),
            result: Outcome::from(result),
            who: Some("python3[8] uid 1000 (jonas)".parse().unwrap()),
            ..Fact::new(Op::from(op))
        };
        Record { n: 1, nonce: Hash::ZERO, time: Time::default(), fact }
    }

    fn asked(filter: Filter) -> Asked {
        let (noted, left_out) = (RefCell::default(), Cell::default());
        let (query, holders, names) = (AuditQuery::default(), None, Vec::new());
        Asked { query, filter, holders, names, noted, brief: false, left_out }
    }

    fn keeps(filter: Filter, record: &Record) -> bool {
        asked(filter).keeps(record)
    }

    #[test]
    fn filters_say_what_people_mean() {
        let read = record("deliver", "secret/a", 2, "ok");
        let denied = record("local_read", "secret/a", 2, "E_DENIED");
        let race = record("put", "secret/a", 3, "conflict");
        let some = |word: &str| Some(word.to_owned());
        for (filter, expected) in [
            (Filter { op: some("read"), ..<_>::default() }, [true, true, false]),
            (Filter { op: some("write"), ..<_>::default() }, [false, false, true]),
            (Filter { op: some("deliver"), ..<_>::default() }, [true, false, false]),
            (Filter { denied: true, ..<_>::default() }, [false, true, false]),
            (Filter { result: some("refused"), ..<_>::default() }, [false, true, false]),
            (Filter { result: some("e_denied"), ..<_>::default() }, [false, true, false]),
            (Filter { result: some("E_*"), ..<_>::default() }, [false, true, false]),
            (Filter { result: some("conflict"), ..<_>::default() }, [false, false, true]),
            (Filter { path: some("*/a"), ..<_>::default() }, [true, true, true]),
            (Filter { path: some("*/b"), ..<_>::default() }, [false, false, false]),
            (Filter { user: some("jonas"), ..<_>::default() }, [true, true, true]),
            (Filter { user: some("root"), ..<_>::default() }, [false, false, false]),
            (Filter { process: some("py*"), ..<_>::default() }, [true, true, true]),
        ] {
            let kept = [&read, &denied, &race].map(|record| keeps(filter.clone(), record));
            assert_eq!(kept, expected, "{filter:?}");
        }
    }

    #[test]
    fn signs_of_life_are_left_out_and_counted() {
        let brief = asked(Filter::default()).brief(true);
        for (op, result, expected) in [
            ("follow", "ok", false),
            ("report", "E_BADSIG", true),
            ("report", "E_SEQ", false),
            ("put", "ok", true),
            ("heal", "ok", true),
            ("of_tomorrow", "ok", true),
        ] {
            assert_eq!(brief.keeps(&record(op, "secret/a", 1, result)), expected, "{op} {result}");
        }
        assert_eq!(brief.left_out(), 2);
        let named = Filter { op: Some("follow".to_owned()), ..Filter::default() };
        assert!(asked(named).brief(true).keeps(&record("follow", "secret/a", 1, "ok")));
    }

    #[test]
    fn a_renamed_machine_is_found_under_the_names_of_their_times() {
        const HOUR: u64 = 3_600_000_000;
        let at = |hours: u64| Time::default().plus(hours * HOUR);
        let borne = |name: &str, since: u64, until: Option<u64>| Borne {
            name: name.parse().unwrap(),
            since: at(since),
            until: until.map(at),
        };
        let names = [borne("old", 1, Some(5)), borne("new", 5, None)];
        for (name, hour, expected) in [
            ("old", 3, true),
            ("old", 0, false),
            ("old", 7, false),
            ("new", 7, true),
            ("new", 3, false),
            ("other", 3, false),
        ] {
            let mut record = record("read", "secret/a", 1, "ok");
            record.time = at(hour);
            record.fact.machine = Some(name.parse().unwrap());
            assert_eq!(bore(&names, &record), expected, "{name} {hour}");
        }
    }

    #[test]
    fn agents_and_reasons_are_found() {
        let person = record("local_read", "secret/a", 2, "ok");
        let mut tool = person.clone();
        tool.fact.agent = Some("claude-code".parse().unwrap());
        tool.fact.reason = Some("Deploy of Ghost".parse().unwrap());
        let some = |word: &str| Some(word.to_owned());
        for (filter, expected) in [
            (Filter { agents: true, ..<_>::default() }, [false, true]),
            (Filter { agent: some("claude*"), ..<_>::default() }, [false, true]),
            (Filter { agent: some("codex"), ..<_>::default() }, [false, false]),
            (Filter { reason: some("deploy"), ..<_>::default() }, [false, true]),
            (Filter { reason: some("d*ghost"), ..<_>::default() }, [false, true]),
            (Filter { reason: some("rotate"), ..<_>::default() }, [false, false]),
        ] {
            let kept = [&person, &tool].map(|record| keeps(filter.clone(), record));
            assert_eq!(kept, expected, "{filter:?}");
        }
    }

    #[test]
    fn a_version_without_the_key_does_not_count() {
        let holder = Holder { path: "secret/a".parse().unwrap(), holds: vec![2], lacks: vec![3] };
        let all = BTreeMap::from([("secret/a".to_owned(), holder)]);
        assert!(holds(&all, &record("read", "secret/a", 2, "ok")));
        assert!(holds(&all, &record("read", "secret/a", 1, "ok")), "nobody knows");
        assert!(!holds(&all, &record("read", "secret/a", 3, "ok")));
        assert!(!holds(&all, &record("read", "secret/b", 2, "ok")));
        assert!(!holds(&all, &record("local_subkeys", "secret/a", 2, "ok")));
    }

    #[test]
    fn words_are_known_or_not() {
        assert!(
            is_op("applied")
                && is_op("read")
                && is_op("act")
                && is_op("local_put")
                && !is_op("reed")
        );
        for word in ["ok", "refused", "e_denied", "E_SEQ", "E_*", "unavailable"] {
            assert!(is_known_result(word), "{word}");
        }
        assert!(!is_known_result("bad"));
    }
}
