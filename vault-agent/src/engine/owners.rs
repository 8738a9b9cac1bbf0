//! All owners of the engine's state, and how they are put together. No rule lives here.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Notify;

use super::access::Accesses;
use super::alarms::Alarms;
use super::cache::Cache;
use super::connect::Connector;
use super::fleet::Fleet;
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

/// What the others stand on.
struct Base {
    own: Arc<Own>,
    store: Arc<Store>,
    alarms: Arc<Alarms>,
    cache: Arc<Cache>,
    pending: Arc<Pending>,
    link: Arc<Link>,
    ledger: Arc<Ledger>,
    ticks: Ticks,
}

impl Base {
    /// Opens identity, pins and database, and rebuilds the verified state.
    fn open(paths: &Paths) -> Result<(Self, Fleet)> {
        let (own, store, stored) = open::open(paths)?;
        let Stored { folded, fleet, synced_at, fork, pending } = stored;
        let (own, store, ticks) = (Arc::new(own), Arc::new(store), Ticks::default());
        let alarms = Arc::new(Alarms::new(ticks.clone()));
        let cache = Arc::<Cache>::default();
        let pending = Arc::new(Pending::new(store.clone(), paths.state.clone(), pending));
        let link = Link::new(alarms.clone(), store.clone(), ticks.clone(), synced_at, fork);
        let ledger = Ledger::new(
            own.clone(),
            store.clone(),
            cache.clone(),
            pending.clone(),
            ticks.clone(),
            folded,
        );
        let (link, ledger) = (Arc::new(link), Arc::new(ledger));
        Ok((Self { own, store, alarms, cache, pending, link, ledger, ticks }, fleet))
    }

    /// Makes what writes.
    fn writing(
        &self,
        reader: &Arc<Reader>,
        accesses: &Arc<Accesses>,
        intake: &Arc<Intake>,
    ) -> (Arc<Acts>, Arc<Writer>) {
        let sender = Arc::new(Sender {
            own: self.own.clone(),
            alarms: self.alarms.clone(),
            pending: self.pending.clone(),
            link: self.link.clone(),
            intake: intake.clone(),
        });
        let acts = Arc::new(Acts {
            own: self.own.clone(),
            store: self.store.clone(),
            link: self.link.clone(),
            ledger: self.ledger.clone(),
            reader: reader.clone(),
            sender: sender.clone(),
        });
        let writer = Arc::new(Writer::new(Parts {
            own: self.own.clone(),
            cache: self.cache.clone(),
            link: self.link.clone(),
            ledger: self.ledger.clone(),
            reader: reader.clone(),
            accesses: accesses.clone(),
            sender,
            acts: acts.clone(),
        }));
        (acts, writer)
    }
}

impl Owners {
    /// Opens identity, pins and database, and rebuilds the verified state.
    pub(super) fn open(paths: &Paths) -> Result<Self> {
        let (base, fleet) = Base::open(paths)?;
        let tasks = Arc::<Tasks>::default();
        let reader = Arc::new(Reader {
            own: base.own.clone(),
            store: base.store.clone(),
            alarms: base.alarms.clone(),
            cache: base.cache.clone(),
            link: base.link.clone(),
            ledger: base.ledger.clone(),
            fetch_due: Notify::new(),
        });
        let accesses = Arc::new(Accesses::new(base.store.clone(), base.link.clone()));
        let reports = Arc::new(Reports::new(
            base.own.clone(),
            base.store.clone(),
            base.alarms.clone(),
            base.link.clone(),
            base.ledger.clone(),
            base.ticks.clone(),
            fleet,
        ));
        let intake = Arc::new(Intake {
            link: base.link.clone(),
            ledger: base.ledger.clone(),
            reader: reader.clone(),
            reports: reports.clone(),
            tasks: tasks.clone(),
            ticks: base.ticks.clone(),
        });
        let (acts, writer) = base.writing(&reader, &accesses, &intake);
        let connector = Connector {
            own: base.own.clone(),
            alarms: base.alarms.clone(),
            link: base.link.clone(),
            ledger: base.ledger.clone(),
        };
        let follower = Arc::new(Follower {
            store: base.store.clone(),
            connector,
            intake,
            accesses: accesses.clone(),
        });
        let Base { own, store, alarms, cache, pending, link, ledger, ticks } = base;
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
