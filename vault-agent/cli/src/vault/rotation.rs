//! When secrets are to be changed at their issuers, by what their custom metadata says:
//! `rotate_after`, `issuer`, `owner`. What is printed of it lives in `rotate_due` and `status`.

use serde_json::{Value, json};
use shared::duration;
use shared::path::SecretPath;
use shared::time::Time;

use crate::client::Client;
use crate::context::Global;
use crate::kv::replicate::End;
use crate::kv::walk;
use host::clock;
use host::hint::with_hint;
use host::shown::Shown;
use machine::local::{self, Rotation, Status};

/// How long before the day a warning begins, in microseconds: 14 days.
pub const SOON: u64 = 14 * 86_400 * 1_000_000;

/// A secret that is to be changed at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub fact: Rotation,
    /// `None` if `rotate_after` is neither a duration nor a date.
    pub due: Option<Time>,
}

impl Entry {
    /// Tells whether the day has come.
    pub fn is_overdue(&self, now: Time) -> bool {
        self.due.is_some_and(|at| at <= now)
    }

    /// Returns how old the newest version is, in seconds.
    pub fn age(&self, now: Time) -> Option<u64> {
        self.fact.created.map(|created| now.seconds_since(created))
    }

    /// Says when, to people.
    pub fn when(&self, now: Time) -> String {
        let Some(at) = self.due else {
            return format!("malformed: {:?}", self.fact.rotate_after);
        };
        let day = at.to_string();
        let day = day.split('T').next().unwrap_or_default();
        if at <= now {
            format!("{day} ({} ago)", clock::age(now.seconds_since(at)))
        } else {
            format!("{day} (in {})", clock::age(at.seconds_since(now)))
        }
    }

    /// Says what is wrong with `rotate_after`, and the way out.
    pub fn fault(&self) -> Option<Shown> {
        let Rotation { path, rotate_after, .. } = &self.fact;
        self.due.is_none().then(|| {
            with_hint(
                format!(
                    "`{path}`: rotate_after {rotate_after:?} is neither a duration such as 90d nor a date such as 2027-01-31"
                ),
                format!("`vault kv metadata patch -custom-metadata=rotate_after=90d {path}`"),
            )
        })
    }

    /// Returns what scripts read.
    pub fn document(&self, now: Time) -> Value {
        let due = self.due.map(|at| at.to_string());
        let state = match self.due {
            Some(at) if at <= now => "overdue",
            Some(_) => "due",
            None => "malformed",
        };
        let Rotation { path, rotate_after, issuer, owner, created } = &self.fact;
        json!({
            "secret": path, "rotate_after": rotate_after, "due": due, "state": state,
            "created_time": created.map(|at| at.to_string()), "age_seconds": self.age(now),
            "issuer": issuer, "owner": owner,
        })
    }
}

/// Returns what is malformed, overdue, or due `within` microseconds, in this order: by time, then
/// by name.
pub fn due(facts: Vec<Rotation>, now: Time, within: u64) -> Vec<Entry> {
    let until = now.plus(within);
    let judged = facts.into_iter().map(|fact| {
        let due = read(&fact.rotate_after, fact.created.unwrap_or(now));
        Entry { fact, due }
    });
    // Where no version is, nothing is there to be changed.
    let near =
        |entry: &Entry| entry.due.is_none_or(|at| entry.fact.created.is_some() && at <= until);
    let mut all: Vec<Entry> = judged.filter(near).collect();
    all.sort_by(|a, b| (a.due, &a.fact.path).cmp(&(b.due, &b.fact.path)));
    all
}

/// Reads a day, or how long after `created` it is.
fn read(text: &str, created: Time) -> Option<Time> {
    let text = text.trim();
    match duration::parse(text) {
        Some(micros) => {
            u64::try_from(micros).ok().filter(|micros| *micros > 0).map(|age| created.plus(age))
        }
        None => text.parse().ok(),
    }
}

/// Returns what the vault says about rotation: from this machine's agent in one answer, else secret
/// by secret.
pub fn facts(global: &Global, client: &Client) -> anyhow::Result<Vec<Rotation>> {
    if !client.only_shows() {
        let answer = client.ask(local::STATUS, &[])?;
        if answer.status == 200 {
            return Ok(answer.json::<Status>()?.rotations);
        }
    }
    let mut closed = Vec::new();
    let mut facts = Vec::new();
    let now = global.now().to_string();
    for route in walk::readable(client, &mut closed)? {
        let Some(kept) = End { client, route: &route }.kept()? else { continue };
        let custom =
            |name: &str| Some(kept.data.get("custom_metadata")?.get(name)?.as_str()?.to_owned());
        let Some(rotate_after) = custom("rotate_after") else { continue };
        let newest = kept.versions.last().filter(|v| !v.destroyed && !v.is_deleted(&now));
        facts.push(Rotation {
            path: route.logical().parse::<SecretPath>()?,
            rotate_after,
            issuer: custom("issuer"),
            owner: custom("owner"),
            created: newest.and_then(|version| version.created.parse().ok()),
        });
    }
    for why in closed {
        global.term.say(format!("not looked at: {why}"));
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400 * 1_000_000;

    /// 2026-11-23T20:00:00Z.
    fn now() -> Time {
        crate::testing::now()
    }

    fn fact(path: &str, rotate_after: &str, age_days: Option<u64>) -> Rotation {
        Rotation {
            path: path.parse().unwrap(),
            rotate_after: rotate_after.to_owned(),
            issuer: None,
            owner: None,
            created: age_days.map(|days| Time::from_micros(now().as_micros() - days * DAY)),
        }
    }

    fn shown(facts: &[(&str, &str, Option<u64>)], within: u64) -> Vec<String> {
        let facts = facts.iter().map(|(path, after, age)| fact(path, after, *age)).collect();
        let all = due(facts, now(), within);
        all.iter().map(|entry| format!("{} {}", entry.fact.path, entry.when(now()))).collect()
    }

    #[test]
    fn what_is_due_is_sorted_by_its_day() {
        let facts = [
            ("s/soon", "90d", Some(80)),
            ("s/later", "90d", Some(75)),
            ("s/over", "90d", Some(93)),
            ("s/day", "2026-12-01", Some(1)),
            ("s/past", "2026-11-20", Some(400)),
            ("s/moment", "2026-11-24T20:00:00+01:00", Some(1)),
            ("s/bad", "90 days", Some(1)),
            ("s/hours", "1h30m", Some(0)),
            ("s/gone", "1d", None),
        ];
        let expected = [
            "s/bad malformed: \"90 days\"",
            "s/past 2026-11-20 (3 d ago)",
            "s/over 2026-11-20 (3 d ago)",
            "s/hours 2026-11-23 (in 1 h)",
            "s/moment 2026-11-24 (in 23 h)",
            "s/day 2026-12-01 (in 7 d)",
            "s/soon 2026-12-03 (in 10 d)",
        ];
        assert_eq!(shown(&facts, SOON), expected);
        assert_eq!(shown(&facts, 15 * DAY).len(), expected.len() + 1);
        assert_eq!(shown(&facts, 0).len(), 3);
    }

    #[test]
    fn the_day_itself_is_overdue() {
        let at = |after: &str, days| due(vec![fact("s/a", after, Some(days))], now(), SOON);
        assert!(at("7d", 7)[0].is_overdue(now()));
        assert!(at("7d", 8)[0].is_overdue(now()));
        assert!(!at("7d", 6)[0].is_overdue(now()));
        assert!(at("2026-11-23", 0)[0].is_overdue(now()));
        assert!(!at("2026-11-24", 0)[0].is_overdue(now()));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_way_out() {
        for text in
            ["", "90", "-1d", "0d", "soon", "2027-02-30", "31.01.2027", "1e9d", "99999999999999d"]
        {
            for created in [Some(1), None] {
                let all = due(vec![fact("s/a", text, created)], now(), 0);
                let fault = all[0].fault().unwrap();
                assert!(fault.contains(&format!("{text:?}")), "{fault}");
                assert!(fault.ends_with("-custom-metadata=rotate_after=90d s/a`"), "{fault}");
            }
        }
    }
}
