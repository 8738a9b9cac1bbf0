//! Empty databases for tests, of each kind: SQLite's always, PostgreSQL's where the environment's
//! `VAULT_TEST_POSTGRES` is the URL of one, in a schema of their own.

use super::{Connection, schema};

/// Runs a test on an empty database of each kind.
pub fn each(test: impl Fn(&Connection)) {
    test(&schema::in_memory());
    #[cfg(feature = "postgres")]
    postgres(|target| test(&super::sql::postgres::open(target).unwrap().into()));
}

/// Runs a test with an empty database of PostgreSQL, if there is a server for it.
#[cfg(feature = "postgres")]
pub fn postgres(test: impl Fn(&std::sync::Arc<super::sql::postgres::Target>)) {
    use super::sql::postgres::{Postgres, Target};
    let Ok(url) = std::env::var("VAULT_TEST_POSTGRES") else { return };
    let target = |url: &str| std::sync::Arc::new(Target::parse(url, None).unwrap());
    let owner = Postgres::connect(&target(&url)).unwrap();
    let name: String =
        shared::keys::random::<8>().iter().map(|byte| format!("{byte:02x}")).collect();
    owner.batch(&format!("CREATE SCHEMA test_{name}")).unwrap();
    let with = if url.contains('?') { '&' } else { '?' };
    test(&target(&format!("{url}{with}options=-csearch_path%3Dtest_{name}")));
    owner.batch(&format!("DROP SCHEMA test_{name} CASCADE")).unwrap();
}
