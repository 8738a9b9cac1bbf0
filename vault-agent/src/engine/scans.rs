//! What the engine does for scans: hands out the contents that lie here, reports what was found to
//! those who review, tells what they wish, and opens what others have found (design/trust,
//! *Scans*). Looking for values lives in `scan`, above.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use shared::blob::Kind;
use shared::hash::Hash;
use shared::log::{self, Number};
use shared::name::Name;
use shared::path::SecretPath;
use shared::report::Targets;
use shared::scan::{self, Find, Findings, Scan, WISHED, Wish};
use shared::time::Time;
use zeroize::Zeroizing;

use super::parts::Parts;
use super::posting;
use super::read::{self, Reach};
use super::rights::{is_kept, may_read};
use super::status;
use super::types::Content;
use super::{Engine, unfollowed};
use crate::state::{facts, peers};
use host::clock;
use host::hint::hinted;
use machine::binary;
use machine::local::{HostScan, HostScans, ScanWished};
use machine::scan::forms::Bytes;
use machine::scan::values;

impl Engine {
    /// Returns the versions that a scan looks for, the newest of each secret first: as many older
    /// ones as are asked for.
    pub fn scanned_versions(&self, older: usize) -> Vec<(SecretPath, Vec<u64>)> {
        let now = self.parts.time_for_ages();
        self.state(|state| {
            let readable =
                state.secrets().iter().filter(|(path, _)| may_read(state, &self.parts.own, path));
            let listed = readable.map(|(path, secret)| {
                let live = secret.versions().filter(|(_, it)| is_kept(it) && it.is_live(now));
                let mut versions: Vec<u64> = live.map(|(ver, _)| ver).collect();
                versions.sort_unstable_by(|a, b| b.cmp(a));
                versions.truncate(older + 1);
                (path.clone(), versions)
            });
            listed.collect()
        })
    }

    /// Returns the values of a version whose ciphertext lies on this host, each with its key; the
    /// server is not asked. `None` where it does not, or does not open.
    pub async fn values_here(&self, path: &SecretPath, ver: u64) -> Option<Vec<(String, Bytes)>> {
        let content = read::content(&self.parts, path, Some(ver), Reach::Here).await;
        Some(values_of(&content.ok()?))
    }

    /// Returns what changes when others review.
    pub fn reviewers(&self) -> Hash {
        let Ok(path) = scan::path() else { return Hash::ZERO };
        self.state(|state| log::readers_hash(state, &path))
    }

    /// Reports how the scans of this host stand: since when one is under way, and what the last one
    /// has found, sealed to those who review now. Without either it still says that it scans.
    ///
    /// # Errors
    /// If so many review that nothing fits; what was reported before stays.
    pub fn report_scan(&self, running: Option<Time>, findings: Option<&Findings>) -> Result<()> {
        let (vault, path) = (self.vault(), scan::path()?);
        let (number, recipients) = self.state(|state| {
            (self.parts.own.find(state).map(|(n, _)| n), log::recipients(state, &path))
        });
        let sealed = match (number, findings) {
            (Some(number), Some(findings)) => {
                Some(findings.clone().seal(&vault, number, &recipients)?)
            }
            (_, _) => None,
        };
        self.set_scan(Some(Scan { running, sealed }))
    }

    /// Reports that a scan is under way, or is not any more; what was found stays.
    ///
    /// # Errors
    /// If the report has no room for it.
    pub fn report_running(&self, running: Option<Time>) -> Result<()> {
        let sealed = self.parts.reports.posting().scan().and_then(|scan| scan.sealed.clone());
        self.set_scan(Some(Scan { running, sealed }))
    }

    /// Reports that this host does not scan.
    ///
    /// # Errors
    /// None that is known: a smaller report fits.
    pub fn report_no_scan(&self) -> Result<()> {
        self.set_scan(None)
    }

    fn set_scan(&self, scan: Option<Scan>) -> Result<()> {
        if self.parts.reports.posting().set_scan(scan)? {
            self.parts.reports.reporting.soon();
        }
        Ok(())
    }

    /// Returns what reviewers wish of this host, by their numbers: signed by machines that review
    /// now, and made within the hour.
    pub fn scan_wishes(&self) -> BTreeMap<Number, Wish> {
        let (Ok(path), now) = (scan::path(), clock::now()) else { return BTreeMap::new() };
        let Some(own) = self.number() else { return BTreeMap::new() };
        let mut wishes: BTreeMap<Number, Wish> = {
            let fleet = self.parts.reports.fleet();
            let peers = fleet.peers().iter();
            peers.filter_map(|(number, peer)| Some((*number, peer.seen.wish.clone()?))).collect()
        };
        wishes.extend(self.parts.reports.posting().wish(now).map(|wish| (own, wish)));
        self.state(|state| {
            wishes.retain(|number, wish| {
                let by = state.machine_numbered(*number);
                by.is_some_and(|by| by.active && by.read.cover(&path))
                    && wish.at.apart(now) < posting::WISHED
                    && wish.is_for(own)
            });
        });
        wishes
    }

    /// Asks hosts to scan at once, by this machine's next record; nobody named means all.
    ///
    /// # Errors
    /// If this machine does not review, if there is no such machine, or too many are named.
    pub fn wish_scans(&self, names: &[Name]) -> Result<ScanWished> {
        let path = scan::path()?;
        if !self.may_read(&path) {
            let hint = format!("an admin gives it with `vault access set {} …`", self.name());
            bail!(hinted(format!("this machine has no read grant on `{path}`"), hint));
        }
        if names.len() > WISHED {
            bail!("{} machines are named, {WISHED} at most", names.len());
        }
        let number =
            |name: &Name| self.state(|state| state.machine(name).map(|(number, _)| number));
        let machines: Option<Vec<Number>> = names.iter().map(number).collect();
        let machines = machines.context("one of the machines is not in the vault")?;
        if self.away().is_some() {
            let reason = "without the server nobody hears it";
            bail!("{}", unfollowed(reason));
        }
        let at = clock::now();
        self.parts.reports.posting().set_wish(Wish { at, machines });
        self.parts.reports.reporting.soon();
        self.parts.ticks.send_replace(());
        Ok(ScanWished { at })
    }

    /// Tells what the hosts have found, each as it has signed.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn scans(&self) -> Result<HostScans> {
        let status = status::fleet(&self.parts).await?;
        let reported = reported(&self.parts).await?;
        let mut machines = Vec::with_capacity(status.machines.len());
        for standing in status.machines {
            let number = self.state(|state| state.machine(&standing.machine).map(|(n, _)| n));
            let known = number.and_then(|number| Some((number, reported.get(&number)?)));
            let mut row = HostScan {
                machine: standing.machine,
                awake: standing.awake,
                sleeps: standing.sleeps,
                scans: known.map(|(_, scan)| scan.is_some()),
                running: None,
                findings: None,
                unread: None,
            };
            if let Some((number, Some(scan))) = known {
                row.running = scan.running;
                let keys = &self.parts.own.keys;
                let opened =
                    scan.sealed.as_ref().map(|it| it.open(&self.vault(), number, &keys.age));
                match opened.transpose() {
                    Ok(findings) => row.findings = findings,
                    Err(error) => row.unread = Some(error.to_string()),
                }
            }
            if let Some(findings) = &mut row.findings {
                for find in &mut findings.finds {
                    let changed = self.is_changed(find).await;
                    find.old |= changed;
                }
            }
            machines.push(row);
        }
        Ok(HostScans { told: status.told, machines })
    }

    /// Tells whether the value that was found has been changed since, as far as that can be seen
    /// here.
    async fn is_changed(&self, find: &Find) -> bool {
        let newest = self.state(|state| {
            Some(state.secret(&find.secret)?.current().filter(|(ver, _)| *ver > find.ver)?.0)
        });
        let Some(newest) = newest else { return false };
        let before = self.value_here(find, find.ver).await;
        let now = self.value_here(find, newest).await;
        before.zip(now).is_some_and(|(before, now)| before != now)
    }

    /// Returns a version's value of the key that was found, if it has one and lies here.
    async fn value_here(&self, find: &Find, ver: u64) -> Option<Option<Bytes>> {
        let values = self.values_here(&find.secret, ver).await?;
        Some(values.into_iter().find(|(key, _)| key == find.key.as_str()).map(|(_, it)| it))
    }

    /// Returns what an earlier process has kept of this host's scans.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn kept_scan(&self) -> Result<Option<String>> {
        Ok(self.parts.store.read(|conn| facts::get(conn, facts::SCAN)).await?)
    }

    /// Keeps what is to be known of this host's scans after a restart.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn keep_scan(&self, text: String) -> Result<()> {
        Ok(self.parts.store.write(move |conn| facts::set(conn, facts::SCAN, &text)).await?)
    }
}

/// Returns how the scans of each machine stand that has reported, this one's too.
async fn reported(parts: &Arc<Parts>) -> Result<BTreeMap<Number, Option<Scan>>> {
    let stored = parts.store.read(|conn| peers::targets(conn)).await?;
    let read = |stored: peers::StoredTargets| {
        let hash = Hash::of(&[stored.text.as_bytes()]);
        // What a newer program has kept here may be more than this one can read.
        Some((stored.machine, Targets::open(&stored.text, hash).ok()?.scan))
    };
    let mut all: BTreeMap<_, _> = stored.into_iter().filter_map(read).collect();
    let own = parts.own.find(&parts.ledger.read().state).map(|(number, _)| number);
    if let Some(own) = own {
        all.insert(own, parts.reports.posting().scan().cloned());
    }
    Ok(all)
}

/// Returns the values in a content, each with its key.
pub(super) fn values_of(content: &Content) -> Vec<(String, Bytes)> {
    if content.kind == Kind::Raw {
        return vec![(binary::FILE.to_owned(), Zeroizing::new(content.expose().to_vec()))];
    }
    let mut all = Vec::new();
    if let Ok(Value::Object(fields)) = serde_json::from_slice(content.expose()) {
        for (key, value) in fields {
            values::each(key, value, &mut |key, bytes| all.push((key, bytes)));
        }
    }
    all
}
