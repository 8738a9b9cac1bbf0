//! Where the servers of worlds keep their vaults: each in a file of SQLite in its data folder, or,
//! where the environment's `VAULT_TEST_POSTGRES` is the URL of a cluster, e.g.
//! `postgres://postgres@/postgres?host=/run/postgresql`, in a database of its own there.

use std::fmt::Write as _;

use postgres::{Client, NoTls};

/// Names the cluster.
const CLUSTER: &str = "VAULT_TEST_POSTGRES";

/// A database of PostgreSQL; gone when dropped.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: String,
    name: String,
}

impl Database {
    /// Makes an empty one, if the environment names a cluster.
    pub(crate) fn if_wanted() -> Option<Self> {
        let database = Self { cluster: std::env::var(CLUSTER).ok()?, name: name() };
        database.make("template0");
        Some(database)
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        let (place, query) = self.cluster.split_once('?').unwrap_or((&self.cluster, ""));
        let (server, _) = place.rsplit_once('/').expect("a URL names a database");
        format!("{server}/{}?{query}", self.name)
    }

    /// Makes another one that holds the same. Nobody is connected meanwhile.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { cluster: self.cluster.clone(), name: name() };
        copy.make(&self.name);
        copy
    }

    /// Has it hold nothing any more, whoever is connected.
    pub(crate) fn empty(&self) {
        self.remove();
        self.make("template0");
    }

    /// Has it hold what `other` does. Nobody is connected to that meanwhile.
    pub(crate) fn become_like(&self, other: &Self) {
        self.remove();
        self.make(&other.name);
    }

    /// Runs statements in it.
    pub(crate) fn run(&self, sql: &str) {
        batch(&self.url(), sql);
    }

    fn make(&self, template: &str) {
        batch(&self.cluster, &format!("CREATE DATABASE {} TEMPLATE {template}", self.name));
    }

    fn remove(&self) {
        batch(&self.cluster, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // One that failed may have left a cluster that is down.
        if !std::thread::panicking() {
            self.remove();
        }
    }
}

fn batch(url: &str, sql: &str) {
    let mut client = Client::connect(url, NoTls)
        .unwrap_or_else(|why| panic!("{CLUSTER} names a cluster that is there: {url}: {why:?}"));
    client.batch_execute(sql).unwrap_or_else(|why| panic!("{sql}: {why:?}"));
}

fn name() -> String {
    shared::keys::random::<8>().iter().fold("vault".to_owned(), |mut name, byte| {
        let _ = write!(name, "_{byte:x}");
        name
    })
}
