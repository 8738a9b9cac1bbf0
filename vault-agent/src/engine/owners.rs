//! All owners of the engine's state, and how they are put together. No rule lives here.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Notify;

use super::access::Accesses;
use super::alarms::Alarms;
use super::cache::Cache;
use super::connect::Connector;
use super::follow::Follower;
use super::intake::Intake;
use super::ledger::Ledger;
use super::link::Link;
use super::open::{self, Stored};
use super::own::Own;
use super::owner::Acts;
use super::pending::Pending;
use super::read::Reader;
use super::report::Reports;
use super::send::Sender;
use super::tasks::Tasks;
use super::ticks::Ticks;
use super::types::Status;
use super::writer::{Parts, Writer};
use crate::state::Store;
use machine::paths::Paths;

/// The owners of all state.
pub(super) struct Owners {
    pub(super) own: Arc<Own>,
    pub(super) store: Arc<Store>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) cache: Arc<Cache>,
    pending: Arc<Pending>,
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) reader: Arc<Reader>,
    pub(super) reports: Arc<Reports>,
    pub(super) accesses: Arc<Accesses>,
    pub(super) acts: Arc<Acts>,
    pub(super) writer: Arc<Writer>,
    pub(super) follower: Arc<Follower>,
    pub(super) tasks: Arc<Tasks>,
    pub(super) ticks: Ticks,
}

impl Owners {
    /// Opens identity, pins and database, and rebuilds the verified state.
    pub(super) fn open(paths: &Paths) -> Result<Self> {
        let (own, store, stored) = open::open(paths)?;
        let Stored { folded, fleet, synced_at, fork, pending } = stored;
        let (own, store, ticks) = (Arc::new(own), Arc::new(store), Ticks::default());
        let (cache, tasks) = (Arc::<Cache>::default(), Arc::<Tasks>::default());
        let alarms = Arc::new(Alarms::new(ticks.clone()));
        let pending = Arc::new(Pending::new(store.clone(), paths.state.clone(), pending));
        let link = Link::new(alarms.clone(), store.clone(), ticks.clone(), synced_at, fork);
        let link = Arc::new(link);
        let ledger = Arc::new(Ledger::new(
            own.clone(),
            store.clone(),
            cache.clone(),
            pending.clone(),
            ticks.clone(),
            folded,
        ));
        let reader = Arc::new(Reader {
            own: own.clone(),
            store: store.clone(),
            alarms: alarms.clone(),
            cache: cache.clone(),
            link: link.clone(),
            ledger: ledger.clone(),
            fetch_due: Notify::new(),
        });
        let accesses = Arc::new(Accesses::new(store.clone(), link.clone()));
        let reports = Arc::new(Reports::new(
            own.clone(),
            store.clone(),
            alarms.clone(),
            link.clone(),
            ledger.clone(),
            ticks.clone(),
            fleet,
        ));
        let intake = Arc::new(Intake {
            link: link.clone(),
            ledger: ledger.clone(),
            reader: reader.clone(),
            reports: reports.clone(),
            tasks: tasks.clone(),
            ticks: ticks.clone(),
        });
        let sender = Arc::new(Sender {
            own: own.clone(),
            alarms: alarms.clone(),
            pending: pending.clone(),
            link: link.clone(),
            intake: intake.clone(),
        });
        let acts = Arc::new(Acts {
            own: own.clone(),
            store: store.clone(),
            link: link.clone(),
            ledger: ledger.clone(),
            reader: reader.clone(),
            sender: sender.clone(),
        });
        let writer = Arc::new(Writer::new(Parts {
            own: own.clone(),
            cache: cache.clone(),
            link: link.clone(),
            ledger: ledger.clone(),
            reader: reader.clone(),
            accesses: accesses.clone(),
            sender,
            acts: acts.clone(),
        }));
        let connector = Connector {
            own: own.clone(),
            alarms: alarms.clone(),
            link: link.clone(),
            ledger: ledger.clone(),
        };
        let follower = Follower {
            store: store.clone(),
            connector,
            intake: intake.clone(),
            accesses: accesses.clone(),
        };
        let follower = Arc::new(follower);
        Ok(Self {
            own,
            store,
            alarms,
            cache,
            pending,
            link,
            ledger,
            reader,
            reports,
            accesses,
            acts,
            writer,
            follower,
            tasks,
            ticks,
        })
    }

    /// Returns how the engine is.
    pub(super) fn status(&self) -> Status {
        let link = self.link.now();
        let (audit, peers) = self.reports.known();
        let (alarms, pending) = (self.alarms.list(), self.pending.entry().is_some());
        let folded = self.ledger.read();
        let state = &folded.state;
        Status {
            machine: self.own.name.clone(),
            vault: self.own.pins.vault,
            vault_name: if folded.born { state.name().to_string() } else { String::new() },
            online: link.caught_up,
            server: link.address,
            trouble: link.trouble,
            synced_at: link.synced_at,
            seq: folded.seq(),
            head: state.head(),
            audit,
            stale: state.stale().count(),
            pending,
            alarms,
            peers,
        }
    }
}
