//! Which records are asked for: what the server is to look for, and what is looked at here, since
//! machines tell it, or they alone know it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use shared::audit::{Kind, Op, Outcome, Record};
use shared::path::SecretPath;
use shared::text::like;
use shared::time::Time;

use super::who;
use crate::client::Client;
use crate::context::Global;
use host::hint::Failure;
use machine::local::{AuditQuery, Holder, Holders, KEYS};

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
    /// This operation: read, however it was delivered; write; act, an owner's; or a single one
    #[arg(long, value_name = "OP")]
    pub op: Option<String>,
    /// By this process, unit or container, or address of a container; `*` stands for any text;
    /// agent: the agent itself
    #[arg(long, value_name = "NAME")]
    pub process: Option<String>,
    /// By this user, by login name or number, or this admin
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
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
    /// Who asked, where no record was by the wanted ones.
    noted: RefCell<BTreeSet<String>>,
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
            let hint = format!("use read, write, act, or one of {}", Op::KNOWN.join(", "));
            return Err(Failure::local(format!("no operation is called `{op}`")).hint(hint).into());
        }
        let holders = self.key.as_deref().map(|key| holders(global, client, key)).transpose()?;
        let of_key = || match holders.as_deref() {
            Some([only]) => Some(only.path.to_string()),
            Some(_) | None => None,
        };
        let query = AuditQuery {
            since,
            until,
            machine: self.machine.clone(),
            path: self.path.clone().or_else(of_key),
            op: self.op.as_deref().map(Op::from),
            denied: self.denied,
            ..AuditQuery::default()
        };
        let by_path = |holder: Holder| (holder.path.to_string(), holder);
        let holders = holders.map(|all| all.into_iter().map(by_path).collect());
        Ok(Asked { query, filter: self.clone(), holders, noted: RefCell::default() })
    }
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
        let (filter, holders) = (self.filter.clone(), self.holders.clone());
        Self { query, filter, holders, noted: RefCell::default() }
    }

    /// Tells whether the server finds what is wanted and nothing else.
    pub fn is_exact(&self) -> bool {
        let Filter { process, user, result, .. } = &self.filter;
        process.is_none() && user.is_none() && result.is_none() && self.holders.is_none()
    }

    /// Tells whether a record is wanted.
    pub fn keeps(&self, record: &Record) -> bool {
        let Filter { op, path, process, user, result, denied, .. } = &self.filter;
        let fact = &record.fact;
        let op = op.as_deref().map(|op| Op::from(op).meant());
        let at = fact.path.as_ref().map(SecretPath::as_str);
        let keeps = (!denied || fact.is_refusal())
            && op.is_none_or(|ops| ops.iter().any(|op| op == fact.op.as_str()))
            && path.as_deref().is_none_or(|path| at.is_some_and(|at| like(path, at)))
            && result.as_deref().is_none_or(|wanted| is_result(record, wanted))
            && self.holders.as_ref().is_none_or(|all| holds(all, record));
        let by = process.as_deref().is_none_or(|name| who::is_process(record, name))
            && user.as_deref().is_none_or(|name| who::is_user(record, name));
        if keeps && !by {
            self.note(record);
        }
        keeps && by
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

fn is_result(record: &Record, wanted: &str) -> bool {
    match wanted {
        "refused" => record.fact.is_refusal(),
        word => like(&word.to_lowercase(), &record.fact.result.as_str().to_lowercase()),
    }
}

/// Tells whether a record is about a version that holds the key, as far as one knows.
fn holds(all: &BTreeMap<String, Holder>, Record { fact, .. }: &Record) -> bool {
    let holder = fact.path.as_ref().and_then(|path| all.get(path.as_str()));
    let is_lacking = |ver| holder.is_some_and(|holder| holder.lacks.contains(&ver));
    // What was looked at to find the secrets is no news.
    let is_look = fact.op == Op::LocalSubkeys;
    holder.is_some() && !is_look && !fact.ver.is_some_and(is_lacking)
}

/// Tells whether a word names an operation that this program knows.
fn is_op(word: &str) -> bool {
    matches!(word, "write" | "act") || !matches!(Op::from(word), Op::Newer(_))
}

/// Tells whether a word names a result that this program knows; one with `*` may name any.
pub fn is_known_result(word: &str) -> bool {
    let known = |word: &str| !matches!(Outcome::from(word), Outcome::Newer(_));
    word == "refused" || word.contains('*') || known(word) || known(&word.to_uppercase())
}

/// Tells whether a record is of something that an owner did, or that changed the vault itself.
pub fn is_act(record: &Record) -> bool {
    record.fact.op.kind() == Kind::Act
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

    fn keeps(filter: Filter, record: &Record) -> bool {
        let (query, noted) = (AuditQuery::default(), RefCell::default());
        Asked { query, filter, holders: None, noted }.keeps(record)
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
        assert!(is_op("read") && is_op("act") && is_op("local_put") && !is_op("reed"));
        for word in ["ok", "refused", "e_denied", "E_SEQ", "E_*", "unavailable"] {
            assert!(is_known_result(word), "{word}");
        }
        assert!(!is_known_result("bad"));
    }
}
