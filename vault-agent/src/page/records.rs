//! Audit records as screens show them: when, on which machine, who, and what, in the page's
//! language. What an owner did is told by the verified entry that it made, never by the server.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};
use host::shown::Shown;
use shared::audit::{Fact, Kind, Op, Outcome, Record};
use shared::log::State;
use shared::time::Time;

use crate::engine::Engine;
use machine::local::{AuditPage, EntriesQuery, EntryTold, OpTold};
use machine::who;

use super::href::Href;
use super::parts::When;
use super::words::{Lang, catalogue, fill};

/// What is told of an act at most, in characters.
const TOLD: usize = 400;

catalogue! {
    /// What records say was done.
    Deeds:
    read = "read", "gelesen:";
    wrote = "wrote", "geschrieben:";
    patched = "patched", "geändert:";
    rewrapped = "re-encrypted", "neu verschlüsselt:";
    deleted = "deleted", "gelöscht:";
    undeleted = "undeleted", "zurückgeholt:";
    destroyed = "destroyed", "vernichtet:";
    dropped = "dropped", "entfernt:";
    meta_set = "set the metadata of", "Metadaten gesetzt:";
    meta_seen = "saw the metadata of", "Metadaten gesehen:";
    listed = "listed", "aufgelistet:";
    keys_seen = "saw the keys of", "Namen der Schlüssel gesehen:";
    applied = "put into its file", "in die Datei gebracht:";
    log = "read the log", "das Logbuch gelesen";
    follow = "followed the log", "dem Logbuch gefolgt";
    audit_read = "read the audit log", "das Protokoll gelesen";
    audit_leaves = "checked the audit log", "das Protokoll geprüft";
    targets = "asked how all machines stand", "gefragt, wie alle Systeme stehen";
    report = "reported how it stands", "den eigenen Stand gemeldet";
    blob_put = "brought ciphertext", "Geheimtext gebracht";
    heal = "gave lost data back", "verlorene Daten zurückgegeben";
    clone = "used its keys from two places", "die eigenen Schlüssel an zwei Orten benutzt";
    join = "asked to join", "um Aufnahme gebeten";
    stranger = "asked with a key of no machine", "mit einem Schlüssel gefragt, der keinem System gehört";
    request = "made a request", "eine Anfrage gestellt";
    restored = "showed that the server was set back", "gezeigt, dass der Server zurückgesetzt wurde";
    genesis = "made the vault", "den Tresor angelegt";
    admin_add = "appointed an admin", "Admin ernannt";
    admin_remove = "removed an admin", "Admin entfernt";
    root_set = "changed the root key", "Wurzelschlüssel gewechselt";
    recovery_set = "changed the recovery key", "Notschlüssel gewechselt";
    server_set = "changed the server's keys", "Schlüssel des Servers gewechselt";
    addresses_set = "changed the server's addresses", "Adressen des Servers geändert";
    mount_set = "set a mount", "Mount gesetzt";
    mount_drop = "dropped a mount", "Mount entfernt";
    machine_add = "added a machine", "System aufgenommen";
    machine_rename = "renamed a machine", "System umbenannt";
    machine_rekey = "gave a machine new keys", "einem System neue Schlüssel gegeben";
    machine_set = "changed a machine", "System geändert";
    machine_remove = "removed a machine", "System entfernt";
    access_set = "changed access", "Rechte geändert";
    resume = "resumed the server", "den Server fortgesetzt";
    checkpoint = "vouched for the log", "das Protokoll bestätigt";
    format_set = "raised the format", "das Format angehoben";
    delivered = "delivered", "zugestellt";
    fetched = "fetched", "abgeholt";
    again = "re-encrypted", "neu verschlüsselt";
    removed = "removed", "entfernt";
    key = "key {}", "Schlüssel {}";
}

/// One record, or several alike signs of life that follow each other.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) n: u64,
    pub(super) when: When,
    pub(super) machine: Shown,
    pub(super) who: Shown,
    /// What was done; a newer program's word as it stands.
    pub(super) deed: Shown,
    pub(super) secret: Option<(Href, Shown)>,
    /// `v12`.
    pub(super) version: Option<String>,
    /// Why, in the words of who asked.
    pub(super) reason: Option<Shown>,
    /// In which way a copy came.
    pub(super) way: Option<&'static str>,
    /// What an owner did, in English.
    pub(super) told: Option<Shown>,
    /// The change that it was.
    pub(super) entry: Option<(Href, u64)>,
    /// How often, if more than once.
    pub(super) times: Option<u64>,
    /// What came of it, unless it was done as asked.
    pub(super) result: Option<Shown>,
    pub(super) is_refusal: bool,
}

/// Reads the records of a page, oldest first; one of another shape is a fault of the server.
///
/// # Errors
/// If a record has another shape.
pub(super) fn read(page: AuditPage) -> Result<Vec<Record>> {
    let parse = |text: String| {
        Record::parse(text.as_bytes())
            .map_err(|_| anyhow!("the server sent an audit record of another shape"))
    };
    page.records.into_iter().map(parse).collect()
}

/// What is known here of the records at hand.
#[derive(Default)]
pub(super) struct Known {
    entries: BTreeMap<u64, EntryTold>,
    /// Machines by their keys, where a record names no other: their names, and whether they are
    /// active.
    holders: BTreeMap<String, (String, bool)>,
}

impl Known {
    /// Asks for the entries that records are about.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn of(engine: &Engine, records: &[Record]) -> Result<Self> {
        let told = records.iter().filter(|it| is_act(&it.fact) || it.fact.op == Op::Deliver);
        let due: BTreeSet<u64> = told.filter_map(|it| it.fact.seq).collect();
        let holders = engine.state(|state| holders(state, records));
        if due.is_empty() {
            return Ok(Self { holders, ..Self::default() });
        }
        let only: Vec<String> = due.iter().map(ToString::to_string).collect();
        let query = EntriesQuery { only: Some(only.join(",")), ..EntriesQuery::default() };
        let told = engine.entries(query).await?;
        let entries = told.entries.into_iter().map(|it| (it.seq, it)).collect();
        Ok(Self { entries, holders })
    }

    /// Shows records, the newest first; alike signs of life that follow each other share a row.
    pub(super) fn rows(&self, records: &[Record], now: Time, lang: Lang) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut last: Option<&Record> = None;
        for record in records.iter().rev() {
            let alike = |other: &&Record| is_sign_of_life(record) && record.fact == other.fact;
            match rows.last_mut().filter(|_| last.as_ref().is_some_and(alike)) {
                Some(row) => row.times = Some(row.times.unwrap_or(1) + 1),
                None => rows.push(self.row(record, now, lang)),
            }
            last = Some(record);
        }
        rows
    }

    fn row(&self, record: &Record, now: Time, lang: Lang) -> Row {
        let Record { n, time, fact, .. } = record;
        let path = fact.path.as_ref();
        let result = match &fact.result {
            Outcome::Ok => None,
            result => Some(Shown::line(result)),
        };
        Row {
            n: *n,
            when: When::new(*time, now, lang),
            machine: self.machine(fact, lang),
            who: Shown::line(who::shown(record)),
            deed: deed(&fact.op, lang),
            secret: path.map(|it| (Href::below("/secret", it.as_str()), Shown::line(it))),
            version: fact.ver.filter(|ver| *ver > 0).map(|ver| format!("v{ver}")),
            reason: fact.reason.as_ref().map(Shown::line),
            way: self.way(fact, lang),
            told: self.told(fact),
            entry: fact.seq.map(|seq| (Href::below("/change", &seq.to_string()), seq)),
            times: fact.count.filter(|count| *count > 1),
            result,
            is_refusal: fact.is_refusal(),
        }
    }

    /// Names the machine that asked: one that is out as such, a key that never was a machine's by
    /// its start.
    pub(super) fn machine(&self, fact: &Fact, lang: Lang) -> Shown {
        let w = Deeds::of(lang);
        if let Some(name) = &fact.machine {
            return Shown::line(name);
        }
        let Some(key) = &fact.key else { return Shown::own("–") };
        match self.holders.get(key.as_str()) {
            Some((name, true)) => name.into(),
            Some((name, false)) => Shown::line(format_args!("{name} ({})", w.removed)),
            None => {
                let start: String = key.as_str().chars().take(8).collect();
                fill(w.key, &[&start]).into()
            }
        }
    }

    /// Tells what an owner did, as they signed it.
    fn told(&self, fact: &Fact) -> Option<Shown> {
        let entry = self.entries.get(&fact.seq?).filter(|_| is_act(fact))?;
        let of_it = entry.ops.iter().filter(|told| told.op == fact.op.as_str());
        let told: Vec<&str> = of_it.map(|told| told.what.as_str()).collect();
        let text: String = told.join("; ").chars().take(TOLD).collect();
        (!text.is_empty()).then(|| text.into())
    }

    /// Tells in which way a copy came: versions that are re-encrypted come again.
    fn way(&self, Fact { op, path, seq, .. }: &Fact, lang: Lang) -> Option<&'static str> {
        let w = Deeds::of(lang);
        let entry = seq.and_then(|seq| self.entries.get(&seq));
        let is_new = |entry: &EntryTold| {
            let put = |told: &OpTold| told.op == "put" && told.path == *path;
            entry.more > 0 || entry.rewraps == 0 || entry.ops.iter().any(put)
        };
        match op {
            Op::Deliver if entry.is_none_or(is_new) => Some(w.delivered),
            Op::Deliver => Some(w.again),
            Op::Read => Some(w.fetched),
            _ => None,
        }
    }
}

/// Finds whose the keys are that records name.
fn holders(state: &State, records: &[Record]) -> BTreeMap<String, (String, bool)> {
    let named = |it: &&Record| it.fact.machine.is_none();
    let keys = records.iter().filter(named).filter_map(|it| it.fact.key.as_ref());
    let keys: BTreeSet<&str> = keys.map(shared::text::Checked::as_str).collect();
    let machines = state.machines().values().filter(|_| !keys.is_empty());
    let held = machines.map(|it| (it.sign.to_string(), (it.name.to_string(), it.active)));
    held.filter(|(key, _)| keys.contains(key.as_str())).collect()
}

fn is_act(fact: &Fact) -> bool {
    fact.op.kind() == Kind::Act
}

/// Tells whether a record is of a request that every machine makes all the time.
fn is_sign_of_life(Record { fact, .. }: &Record) -> bool {
    let is_plain = fact.path.is_none() && fact.seq.is_none() && fact.count.is_none();
    is_plain && fact.op.kind() == Kind::Other && fact.result == Outcome::Ok
}

/// Says what was done.
pub(super) fn deed(op: &Op, lang: Lang) -> Shown {
    let w = Deeds::of(lang);
    let known = match op.as_str() {
        "read" | "deliver" | "local_read" => w.read,
        "put" | "local_put" => w.wrote,
        "local_patch" => w.patched,
        "rewrap" => w.rewrapped,
        "delete" | "local_delete" => w.deleted,
        "undelete" | "local_undelete" => w.undeleted,
        "destroy" | "local_destroy" => w.destroyed,
        "forget" | "local_forget" => w.dropped,
        "meta_set" | "local_meta_set" => w.meta_set,
        "local_metadata" => w.meta_seen,
        "local_list" => w.listed,
        "local_subkeys" => w.keys_seen,
        "local_applied" => w.applied,
        "log" => w.log,
        "follow" => w.follow,
        "audit_read" => w.audit_read,
        "audit_leaves" => w.audit_leaves,
        "targets" => w.targets,
        "report" => w.report,
        "blob_put" => w.blob_put,
        "heal" => w.heal,
        "clone" => w.clone,
        "join" => w.join,
        "stranger" => w.stranger,
        "request" => w.request,
        "restored" => w.restored,
        "genesis" => w.genesis,
        "admin_add" => w.admin_add,
        "admin_remove" => w.admin_remove,
        "root_set" => w.root_set,
        "recovery_set" => w.recovery_set,
        "server_set" => w.server_set,
        "addresses_set" => w.addresses_set,
        "mount_set" => w.mount_set,
        "mount_drop" => w.mount_drop,
        "machine_add" => w.machine_add,
        "machine_rename" => w.machine_rename,
        "machine_rekey" => w.machine_rekey,
        "machine_set" => w.machine_set,
        "machine_remove" => w.machine_remove,
        "access_set" => w.access_set,
        "resume" => w.resume,
        "checkpoint" => w.checkpoint,
        "format_set" => w.format_set,
        other => return Shown::line(other),
    };
    Shown::own(known)
}

#[cfg(test)]
mod tests {
    use shared::audit::Who;
    use shared::hash::Hash;

    use super::*;

    fn record(n: u64, op: &str, who: Option<&str>) -> Record {
        let machine = "vps".parse().ok();
        let who = who.map(Who::lossy);
        let fact = Fact { machine, who, ..Fact::new(Op::from(op)) };
        Record { n, nonce: Hash::ZERO, time: Time::from_micros(n * 1_000_000), fact }
    }

    fn rows(records: &[Record], lang: Lang) -> Vec<Row> {
        Known::default().rows(records, Time::from_micros(60_000_000), lang)
    }

    #[test]
    fn records_are_told_newest_first_in_both_languages() {
        let mut read = record(1, "local_read", Some("shop[7] uid 1000 (jonas)"));
        read.fact.path = "secret/a".parse().ok();
        read.fact.ver = Some(3);
        read.fact.agent = Some("claude-code".parse().unwrap());
        read.fact.reason = Some("Deploy of Ghost".parse().unwrap());
        read.fact.result = Outcome::from("E_DENIED");
        let all = [read, record(2, "report", None), record(3, "report", None)];
        let [reports, read] = &rows(&all, Lang::En)[..] else { panic!("alike ones share a row") };
        assert_eq!(
            (reports.n, reports.times, &*reports.deed),
            (3, Some(2), "reported how it stands")
        );
        assert_eq!((&*read.deed, &*read.who), ("read", "shop[7] jonas by claude-code"));
        assert_eq!(read.reason.as_deref(), Some("Deploy of Ghost"));
        assert_eq!((read.version.as_deref(), read.is_refusal), (Some("v3"), true));
        let german = rows(&all, Lang::De);
        assert_eq!(&*german[1].deed, "gelesen:");
    }

    /// A member of the vault chooses what its records say; what asks is no record if it steers.
    #[test]
    fn nothing_that_others_tell_steers() {
        let hostile = "\u{202e}\u{1b}]0;y";
        assert!(format!("x{hostile}[1] uid 0").parse::<Who>().is_err());
        let mut forged = record(1, "\u{1b}[2Jread", None);
        forged.fact.result = Outcome::from(hostile);
        let shown = &rows(&[forged], Lang::En)[0];
        let steers = |text: &str| text.chars().any(|c| c.is_control() || c == '\u{202e}');
        let result = shown.result.as_ref().unwrap();
        assert!(!steers(&shown.deed) && !steers(result), "{shown:?}");
    }

    #[test]
    fn every_operation_has_words() {
        for op in Op::KNOWN {
            if ["append", "access"].contains(op) {
                continue;
            }
            let (en, de) = (deed(&Op::from(*op), Lang::En), deed(&Op::from(*op), Lang::De));
            assert_ne!(en, de, "{op}");
        }
    }
}
