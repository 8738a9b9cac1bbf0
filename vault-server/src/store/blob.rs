//! Table `blob`: age files, referenced by an entry or parked until one does.

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::hash::Hash;
use shared::log::{Number, Put};
use shared::path::SecretPath;
use shared::time::Time;

use super::{damaged, int, nat};

/// What is known of a stored blob.
pub struct Known {
    /// The version that it is of; `None` while parked.
    pub place: Option<(SecretPath, u64)>,
    /// Bytes of the age file.
    pub size: u64,
}

/// Looks a blob up without its bytes.
pub fn look(conn: &Connection, id: &Hash) -> rusqlite::Result<Option<Known>> {
    conn.prepare_cached("SELECT path, ver, length(bytes) FROM blob WHERE hash = ?1")?
        .query_row([id.as_bytes()], |row| {
            let path: Option<String> = row.get(0)?;
            let path = path.map(|path| path.parse().map_err(damaged(0))).transpose()?;
            let ver = row.get::<_, Option<i64>>(1)?.map(nat);
            Ok(Known { place: path.zip(ver), size: nat(row.get(2)?) })
        })
        .optional()
}

/// Returns a blob's bytes.
pub fn bytes(conn: &Connection, id: &Hash) -> rusqlite::Result<Option<Vec<u8>>> {
    conn.prepare_cached("SELECT bytes FROM blob WHERE hash = ?1")?
        .query_row([id.as_bytes()], |row| row.get(0))
        .optional()
}

/// Stores a blob from `machine`, parked unless it has a place: a version, and the entry that brings
/// it or, if it comes back, the last one.
pub fn insert(
    conn: &Connection,
    id: &Hash,
    place: Option<(u64, &Put)>,
    machine: Number,
    now: Time,
    bytes: &[u8],
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO blob (hash, seq, path, ver, machine, parked_at, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (hash) DO UPDATE SET seq = ?2, path = ?3, ver = ?4 WHERE seq IS NULL",
    )?
    .execute(params![
        id.as_bytes(),
        place.map(|(seq, _)| int(seq)),
        place.map(|(_, put)| put.path.as_str()),
        place.map(|(_, put)| int(put.ver)),
        int(machine),
        int(now.as_micros()),
        bytes
    ])?;
    Ok(())
}

/// Gives a parked blob its place.
pub fn place(conn: &Connection, seq: u64, put: &Put) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE blob SET seq = ?2, path = ?3, ver = ?4 WHERE hash = ?1 AND seq IS NULL",
    )?
    .execute(params![put.blob.as_bytes(), int(seq), put.path.as_str(), int(put.ver)])?;
    Ok(())
}

/// Drops a blob for good.
pub fn delete(conn: &Connection, id: &Hash) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM blob WHERE hash = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

/// Returns how many bytes `machine` has parked.
pub fn parked(conn: &Connection, machine: Number) -> rusqlite::Result<u64> {
    conn.prepare_cached(
        "SELECT coalesce(sum(length(bytes)), 0) FROM blob WHERE seq IS NULL AND machine = ?1",
    )?
    .query_row([int(machine)], |row| row.get(0).map(nat))
}

/// Drops blobs parked before `then`; returns how many.
pub fn drop_parked(conn: &Connection, then: Time) -> rusqlite::Result<usize> {
    conn.prepare_cached("DELETE FROM blob WHERE seq IS NULL AND parked_at < ?1")?
        .execute([int(then.as_micros())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn a_blob_that_nobody_referenced_goes_and_a_placed_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(schema::FILE);
        std::fs::File::create_new(&file).unwrap();
        let conn = schema::open(&file).unwrap();
        let (at, vps) = (Time::from_micros, 1);
        let ids = [b"old", b"new", b"put"].map(|bytes| (Hash::of(&[bytes]), bytes));
        for ((id, bytes), time) in ids.iter().zip([1, 2, 1]) {
            insert(&conn, id, None, vps, at(time), *bytes).unwrap();
        }
        assert_eq!(parked(&conn, vps).unwrap(), 9);
        assert_eq!(parked(&conn, 2).unwrap(), 0);
        conn.execute("INSERT INTO log VALUES (1, x'00', 'root', x'00', x'00')", []).unwrap();
        let put = Put {
            path: "secret/a".parse().unwrap(),
            ver: 1,
            blob: ids[2].0,
            size: 3,
            commit: Hash::ZERO,
            readers: Hash::ZERO,
        };
        place(&conn, 1, &put).unwrap();
        assert_eq!(parked(&conn, vps).unwrap(), 6, "what is referenced counts no more");
        assert_eq!(drop_parked(&conn, at(1)).unwrap(), 0);
        assert_eq!(drop_parked(&conn, at(2)).unwrap(), 1);
        let left = ids.map(|(id, _)| look(&conn, &id).unwrap().is_some());
        assert_eq!(left, [false, true, true]);
    }
}
