//! Table `blob`: age files, parked until an entry references them, and kept for a while once no
//! version does any more. Which of those are kept is decided in `vault`.

use std::ops::ControlFlow;

use shared::hash::Hash;
use shared::log::{Number, Put};
use shared::path::SecretPath;
use shared::time::Time;

use super::{Connection, Fault, NONE, Result, Row, damaged, hash, int, nat, params};

/// What is known of a stored blob.
pub struct Known {
    /// The version that it is of; `None` while parked.
    pub place: Option<(SecretPath, u64)>,
    /// Bytes of the age file.
    pub size: u64,
}

/// Looks a blob up without its bytes.
pub fn look(conn: &Connection, id: &Hash) -> Result<Option<Known>> {
    let query = "SELECT path, ver, length(bytes) FROM blob WHERE hash = ?1";
    conn.first(query, [id.as_bytes()], |row| {
        let path: Option<&str> = row.get(0)?;
        let path = path.map(|path| path.parse().map_err(damaged(0))).transpose()?;
        let ver = row.get::<Option<i64>>(1)?.map(nat);
        Ok(Known { place: path.zip(ver), size: nat(row.get(2)?) })
    })
}

/// Returns a blob's bytes.
pub fn bytes(conn: &Connection, id: &Hash) -> Result<Option<Vec<u8>>> {
    conn.first("SELECT bytes FROM blob WHERE hash = ?1", [id.as_bytes()], |row| row.get(0))
}

/// Where a blob belongs.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The entry that brings it or, if it comes back, the last one.
    pub seq: u64,
    /// The version that it is of.
    pub put: &'a Put,
    /// Those that it is encrypted to, as the log lists them, if that is known.
    pub readers: Option<&'a str>,
}

/// Stores a blob from `machine`, parked unless it has a place.
pub fn insert(
    conn: &Connection,
    id: &Hash,
    place: Option<Place<'_>>,
    machine: Number,
    now: Time,
    bytes: &[u8],
) -> Result<()> {
    let values = params![
        id.as_bytes(),
        place.map(|place| int(place.seq)),
        place.map(|place| place.put.path.as_str()),
        place.map(|place| int(place.put.ver)),
        int(machine),
        int(now.as_micros()),
        place.and_then(|place| place.readers),
        bytes
    ];
    conn.execute(
        "INSERT INTO blob (hash, seq, path, ver, machine, parked_at, readers, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (hash) DO UPDATE SET seq = ?2, path = ?3, ver = ?4, readers = ?7
         WHERE blob.seq IS NULL",
        values,
    )
    .map(drop)
}

/// Gives a parked blob its place.
pub fn place(conn: &Connection, Place { seq, put, readers }: Place<'_>) -> Result<()> {
    conn.execute(
        "UPDATE blob SET seq = ?2, path = ?3, ver = ?4, readers = ?5
         WHERE hash = ?1 AND seq IS NULL",
        params![put.blob.as_bytes(), int(seq), put.path.as_str(), int(put.ver), readers],
    )
    .map(drop)
}

/// A blob that has a place, and those that it is encrypted to, if that is known.
pub struct Wrapped {
    /// The blob.
    pub id: Hash,
    /// The secret that it is of.
    pub path: SecretPath,
    /// The readers, as the log lists them.
    pub readers: Option<String>,
}

fn wrapped(row: &Row<'_>) -> Result<Wrapped> {
    let path = row.get::<&str>(1)?.parse().map_err(damaged(1))?;
    Ok(Wrapped { id: hash(row, 0)?, path, readers: row.get(2)? })
}

/// Returns a blob that has a place.
pub fn placed(conn: &Connection, id: &Hash) -> Result<Option<Wrapped>> {
    let query = "SELECT hash, path, readers FROM blob WHERE hash = ?1 AND seq IS NOT NULL";
    conn.first(query, [id.as_bytes()], wrapped)
}

/// Lists the replaced blobs.
pub fn replaced(conn: &Connection) -> Result<Vec<Wrapped>> {
    conn.all("SELECT hash, path, readers FROM blob WHERE replaced_at IS NOT NULL", NONE, wrapped)
}

/// Marks a blob as replaced.
pub fn replace(conn: &Connection, id: &Hash, now: Time) -> Result<()> {
    let values = params![id.as_bytes(), int(now.as_micros())];
    conn.execute("UPDATE blob SET replaced_at = ?2 WHERE hash = ?1", values).map(drop)
}

/// Drops the replaced blobs of a secret.
pub fn drop_replaced_of(conn: &Connection, path: &SecretPath) -> Result<()> {
    let query = "DELETE FROM blob WHERE replaced_at IS NOT NULL AND path = ?1";
    conn.execute(query, [path.as_str()]).map(drop)
}

/// Drops the blobs replaced before `then`; returns how many.
pub fn drop_replaced(conn: &Connection, then: Time) -> Result<usize> {
    conn.execute("DELETE FROM blob WHERE replaced_at < ?1", [int(then.as_micros())])
}

/// Drops the oldest replaced blobs of each machine that brought more than `most` bytes of them;
/// returns how many.
pub fn drop_surplus_replaced(conn: &Connection, most: u64) -> Result<usize> {
    conn.execute(
        "DELETE FROM blob WHERE hash IN (
             SELECT hash FROM (
                 SELECT hash, sum(length(bytes)) OVER (
                     PARTITION BY machine ORDER BY replaced_at DESC, hash
                 ) AS kept FROM blob WHERE replaced_at IS NOT NULL
             ) AS newest WHERE kept > ?1)",
        [int(most)],
    )
}

/// Drops the oldest replaced blobs, `bytes` of them; returns how many.
pub fn drop_first_replaced(conn: &Connection, bytes: u64) -> Result<usize> {
    conn.execute(
        "DELETE FROM blob WHERE hash IN (
             SELECT hash FROM (
                 SELECT hash, sum(length(bytes)) OVER (ORDER BY replaced_at, hash) AS freed
                 FROM blob WHERE replaced_at IS NOT NULL
             ) AS oldest WHERE freed <= ?1)",
        [int(bytes)],
    )
}

/// Drops a blob for good.
pub fn delete(conn: &Connection, id: &Hash) -> Result<()> {
    conn.execute("DELETE FROM blob WHERE hash = ?1", [id.as_bytes()]).map(drop)
}

/// Returns how many bytes `machine` has parked.
pub fn parked(conn: &Connection, machine: Number) -> Result<u64> {
    conn.query_row(
        "SELECT coalesce(sum(length(bytes)), 0) FROM blob WHERE seq IS NULL AND machine = ?1",
        [int(machine)],
        |row| row.get(0).map(nat),
    )
}

/// Drops the oldest that `machine` has parked, but for the newest `most` bytes.
pub fn drop_surplus_parked(conn: &Connection, machine: Number, most: u64) -> Result<()> {
    conn.execute(
        "DELETE FROM blob WHERE hash IN (
             SELECT hash FROM (
                 SELECT hash, sum(length(bytes)) OVER (ORDER BY rowid DESC) AS kept
                 FROM blob WHERE seq IS NULL AND machine = ?1
             ) AS newest WHERE kept > ?2)",
        [int(machine), int(most)],
    )
    .map(drop)
}

/// Drops blobs parked before `then`; returns how many.
pub fn drop_parked(conn: &Connection, then: Time) -> Result<usize> {
    let query = "DELETE FROM blob WHERE seq IS NULL AND parked_at < ?1";
    conn.execute(query, [int(then.as_micros())])
}

/// A blob as it is stored, whatever is in it.
pub struct Stored<'r> {
    /// What its bytes are to have for a hash.
    pub id: Hash,
    /// The secret that it is of.
    pub path: Option<&'r str>,
    /// The version that it is of.
    pub ver: Option<u64>,
    /// Whether no version refers to it any more.
    pub is_replaced: bool,
    /// The age file.
    pub bytes: &'r [u8],
}

/// Hands all blobs to `visit`, in the order in which they came, until that breaks.
///
/// # Errors
/// If they cannot be read, or `visit` fails.
pub fn each<E: From<Fault>>(
    conn: &Connection,
    mut visit: impl FnMut(Stored<'_>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let query = "SELECT hash, path, ver, replaced_at IS NOT NULL, bytes FROM blob ORDER BY rowid";
    conn.each(query, NONE, |row| {
        let stored = Stored {
            id: hash(row, 0)?,
            path: row.get(1)?,
            ver: row.get::<Option<i64>>(2)?.map(nat),
            is_replaced: row.get(3)?,
            bytes: row.get(4)?,
        };
        visit(stored)
    })
}

/// Returns how many blobs there are.
pub fn count(conn: &Connection) -> Result<u64> {
    conn.query_row("SELECT count(*) FROM blob", NONE, |row| row.get(0).map(nat))
}

/// Has nothing parked or replaced later than `now`: a clock that was ahead for a minute would keep
/// it, and its machine's room, for years.
pub fn tame(conn: &Connection, now: Time) -> Result<()> {
    for statement in [
        "UPDATE blob SET parked_at = ?1 WHERE seq IS NULL AND parked_at > ?1",
        "UPDATE blob SET replaced_at = ?1 WHERE replaced_at > ?1",
    ] {
        conn.execute(statement, [int(now.as_micros())])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    #[test]
    fn replaced_blobs_go_by_age_by_machine_and_for_room() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(schema::FILE);
        std::fs::File::create_new(&file).unwrap();
        let conn = schema::open(&file).unwrap();
        conn.execute("INSERT INTO log VALUES (1, x'00', 'root', x'00', x'00')", NONE).unwrap();
        let at = Time::from_micros;
        // Machine 1 brought three of three bytes each, machine 2 one.
        let all = [(b"one", 1, 10), (b"two", 1, 20), (b"tri", 1, 30), (b"fou", 2, 15)];
        let ids = all.map(|(bytes, machine, time)| {
            let id = Hash::of(&[bytes]);
            let path = "secret/a".parse().unwrap();
            let (commit, readers) = (Hash::ZERO, Hash::ZERO);
            let put = Put { path, ver: 1, blob: id, size: 3, commit, readers };
            let place = Place { seq: 1, put: &put, readers: Some("1") };
            insert(&conn, &id, Some(place), machine, at(1), bytes).unwrap();
            replace(&conn, &id, at(time)).unwrap();
            id
        });
        let left = || ids.map(|id| look(&conn, &id).unwrap().is_some());
        assert_eq!(drop_replaced(&conn, at(10)).unwrap(), 0);
        assert_eq!(drop_surplus_replaced(&conn, 9).unwrap(), 0);
        assert_eq!(drop_surplus_replaced(&conn, 6).unwrap(), 1);
        assert_eq!(left(), [false, true, true, true], "the oldest of the machine with too many");
        assert_eq!(drop_first_replaced(&conn, 5).unwrap(), 1);
        assert_eq!(left(), [false, true, true, false], "the oldest of all");
        assert_eq!(drop_replaced(&conn, at(21)).unwrap(), 1);
        assert_eq!(left(), [false, false, true, false], "what is too old");
        assert_eq!(replaced(&conn).unwrap().len(), 1);
        drop_replaced_of(&conn, &"secret/b".parse().unwrap()).unwrap();
        assert_eq!(left(), [false, false, true, false]);
        drop_replaced_of(&conn, &"secret/a".parse().unwrap()).unwrap();
        assert_eq!(left(), [false; 4]);
    }

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
        conn.execute("INSERT INTO log VALUES (1, x'00', 'root', x'00', x'00')", NONE).unwrap();
        let put = Put {
            path: "secret/a".parse().unwrap(),
            ver: 1,
            blob: ids[2].0,
            size: 3,
            commit: Hash::ZERO,
            readers: Hash::ZERO,
        };
        place(&conn, Place { seq: 1, put: &put, readers: None }).unwrap();
        assert_eq!(parked(&conn, vps).unwrap(), 6, "what is referenced counts no more");
        assert_eq!(drop_parked(&conn, at(1)).unwrap(), 0);
        assert_eq!(drop_parked(&conn, at(2)).unwrap(), 1);
        let left = ids.map(|(id, _)| look(&conn, &id).unwrap().is_some());
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn what_a_clock_ahead_has_parked_goes_an_hour_after_it_is_right() {
        let conn = schema::in_memory();
        let year = |text: &str| text.parse::<Time>().unwrap();
        let (now, later) = (year("2026-11-01"), year("2026-11-02"));
        for (id, at) in [(b"a", year("2037-01-01")), (b"b", now)] {
            insert(&conn, &Hash::of(&[id]), None, 1, at, b"1234").unwrap();
        }
        tame(&conn, now).unwrap();
        assert_eq!((drop_parked(&conn, now).unwrap(), parked(&conn, 1).unwrap()), (0, 8));
        assert_eq!((drop_parked(&conn, later).unwrap(), parked(&conn, 1).unwrap()), (2, 0));
    }

    #[test]
    fn of_what_a_machine_parks_the_newest_stays() {
        let conn = schema::in_memory();
        for (n, machine) in [(1_u8, 1), (2, 2), (3, 1), (4, 1)] {
            insert(&conn, &Hash::of(&[&[n]]), None, machine, Time::default(), b"1234").unwrap();
        }
        drop_surplus_parked(&conn, 1, 9).unwrap();
        let left = [1_u8, 2, 3, 4].map(|n| look(&conn, &Hash::of(&[&[n]])).unwrap().is_some());
        assert_eq!(left, [false, true, true, true]);
    }
}
