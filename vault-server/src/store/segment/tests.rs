//! Sealing that is stopped anywhere, files that are gone or changed, and that the chain goes
//! through all of it.

use std::path::{Path, PathBuf};

use shared::audit::{Fact, Op, Record};
use shared::time::Time;

use super::*;
use crate::store::{NONE, audit, schema};

struct Fixture {
    dir: tempfile::TempDir,
    conn: Connection,
}

impl Fixture {
    /// A database with so many records, one a microsecond.
    fn new(records: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(schema::FILE);
        File::create_new(&file).unwrap();
        let fixture = Self { dir, conn: schema::open(&file).unwrap() };
        (0..records).for_each(|_| fixture.record());
        fixture
    }

    fn record(&self) {
        let head = audit::head(&self.conn).unwrap();
        let now = Time::from_micros(head.n + 1);
        audit::insert(&self.conn, head, now, Fact::new(Op::Read)).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join(FOLDER)
    }

    fn draft(&self, upto: u64) -> Draft {
        Draft::of_oldest(&self.conn, u64::MAX, |time| time.as_micros() <= upto).unwrap().unwrap()
    }

    fn trim(&self) {
        while trim(&self.conn).unwrap() {}
    }

    /// Does all that is due up to record `upto`, whatever was done before.
    fn seal(&self, upto: u64) {
        self.trim();
        sweep(&self.conn, &self.folder()).unwrap();
        if end(&self.conn).unwrap().n >= upto {
            return;
        }
        let draft = self.draft(upto);
        draft.write(&self.folder()).unwrap();
        insert(&self.conn, &draft.segment).unwrap();
        self.trim();
    }

    fn delete_oldest(&self) {
        let oldest = surplus(&self.conn, 0, 0).unwrap().unwrap();
        std::fs::remove_file(self.folder().join(oldest.file_name())).unwrap();
        forget(&self.conn, &oldest).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Walks all leaves as a client does; returns where they begin, and the chain after them.
    fn walk(&self) -> (AuditHead, AuditHead) {
        let now = audit::head(&self.conn).unwrap();
        let (mut head, mut start) = (AuditHead::EMPTY, AuditHead::EMPTY);
        while head.n < now.n {
            let page = audit::leaves(&self.conn, &self.folder(), head.n, now, 7).unwrap().0;
            if page.from != head {
                assert!(page.from.n > head.n, "{head:?} {page:?}");
                assert!(page.until.is_some());
                (head, start) = (page.from, page.from);
            }
            head = page.leaves.iter().fold(head, |head, leaf| head.then(*leaf));
        }
        assert_eq!(head, now);
        (start, head)
    }

    fn rows(&self) -> u64 {
        self.conn.query_row("SELECT count(*) FROM audit", NONE, |row| row.get(0).map(nat)).unwrap()
    }
}

fn records(file: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().skip(1).map(|line| Record::parse(line.as_bytes()).unwrap()).collect()
}

#[test]
fn sealed_records_stay_in_the_chain_and_in_their_file() {
    let fixture = Fixture::new(20);
    let (_, before) = fixture.walk();
    fixture.seal(12);
    assert_eq!(fixture.rows(), 8);
    assert_eq!(fixture.walk(), (AuditHead::EMPTY, before));
    let [file] = &fixture.files()[..] else { panic!("one file") };
    assert!(file.starts_with("000000000001-000000000012-"), "{file}");
    let kept = records(&fixture.folder().join(file));
    assert_eq!(
        kept.iter().map(|record| record.n).collect::<Vec<_>>(),
        (1..=12).collect::<Vec<_>>()
    );
    fixture.record();
    fixture.seal(20);
    assert_eq!((fixture.rows(), fixture.files().len()), (1, 2), "the newest record never goes");
    fixture.walk();
    assert_eq!(audit::head(&fixture.conn).unwrap().n, 21);
}

#[test]
fn a_server_killed_at_any_step_of_sealing_goes_on_and_loses_nothing() {
    /// What was done of the first segment before the kill.
    type Step = fn(&Fixture);
    let steps: [(&str, Step); 4] = [
        ("the file is half written", |fixture| {
            files::create_dir_private(&fixture.folder()).unwrap();
            let half = fixture.folder().join(".half");
            files::write_private(&half, b"{").unwrap();
        }),
        ("the file is whole", |fixture| fixture.draft(9).write(&fixture.folder()).unwrap()),
        ("it is listed", |fixture| {
            let draft = fixture.draft(9);
            draft.write(&fixture.folder()).unwrap();
            insert(&fixture.conn, &draft.segment).unwrap();
        }),
        ("some of its records are deleted", |fixture| {
            let draft = fixture.draft(9);
            draft.write(&fixture.folder()).unwrap();
            insert(&fixture.conn, &draft.segment).unwrap();
            fixture.conn.execute("DELETE FROM audit WHERE n <= 4", NONE).unwrap();
        }),
    ];
    for (name, step) in steps {
        let fixture = Fixture::new(20);
        let (_, whole) = fixture.walk();
        step(&fixture);
        assert_eq!(fixture.walk(), (AuditHead::EMPTY, whole), "{name}: nothing is lost");
        // More came before the restart: another cut is due.
        fixture.record();
        fixture.seal(12);
        fixture.seal(15);
        let (start, head) = fixture.walk();
        assert_eq!((start.n, head.n), (0, 21), "{name}");
        let sealed = end(&fixture.conn).unwrap().n;
        assert_eq!(fixture.rows(), 21 - sealed, "{name}");
        let mut found: Vec<u64> = Vec::new();
        for file in fixture.files().iter().filter(|file| !file.starts_with('.')) {
            found.extend(records(&fixture.folder().join(file)).iter().map(|record| record.n));
        }
        assert_eq!(found, (1..=sealed).collect::<Vec<_>>(), "{name}: each is in one file");
    }
}

#[test]
fn a_record_is_found_by_reading_no_further_and_a_boundary_by_reading_nothing() {
    let fixture = Fixture::new(20);
    let whole: Vec<AuditHead> =
        (0..=20).map(|n| audit::head_at(&fixture.conn, n).unwrap().unwrap()).collect();
    fixture.seal(6);
    fixture.seal(12);
    let (folder, now) = (fixture.folder(), whole[20]);
    let line = fixture.draft(13).segment.bytes;
    for (n, expected) in (0..).zip(&whole).skip(1) {
        let (found, read) = audit::chain(&fixture.conn, &folder, n).unwrap();
        assert_eq!(found, Some(*expected), "{n}");
        let inside = if n < 12 { n % 6 } else { 0 };
        assert!(read <= inside * line && (read > 0) == (inside > 0), "{n}: {read} bytes");
        let (page, passed) = audit::leaves(&fixture.conn, &folder, n, now, 20).unwrap();
        assert_eq!((page.from, passed), (*expected, read), "{n}");
    }
    fixture.delete_oldest();
    assert_eq!(audit::chain(&fixture.conn, &folder, 3).unwrap(), (None, 0));
    assert_eq!(audit::chain(&fixture.conn, &folder, 6).unwrap(), (Some(whole[6]), 0));
    assert_eq!(audit::chain(&fixture.conn, &folder, 99).unwrap(), (None, 0));
}

#[test]
fn the_chain_crosses_what_was_deleted() {
    let fixture = Fixture::new(30);
    let (_, whole) = fixture.walk();
    for upto in [5, 11, 20] {
        fixture.seal(upto);
    }
    for (gone, left) in [(5, 2), (11, 1), (20, 0)] {
        fixture.delete_oldest();
        let (start, head) = fixture.walk();
        assert_eq!((start.n, head), (gone, whole));
        assert_eq!((super::gone(&fixture.conn).unwrap().n, fixture.files().len()), (gone, left));
        let folder = fixture.folder();
        let archived = audit::archived(&fixture.conn, &folder).unwrap().unwrap();
        assert_eq!((archived.last, archived.until.as_micros()), (20, 20));
    }
    assert_eq!(surplus(&fixture.conn, 0, 0).unwrap(), None);
}

#[test]
fn a_file_deleted_before_its_row_was_noted_counts_as_gone() {
    let fixture = Fixture::new(10);
    fixture.seal(6);
    std::fs::remove_file(fixture.folder().join(&fixture.files()[0])).unwrap();
    assert_eq!(fixture.walk().0.n, 6);
    let oldest = surplus(&fixture.conn, 0, 0).unwrap().unwrap();
    forget(&fixture.conn, &oldest).unwrap();
    assert_eq!(fixture.walk().0.n, 6);
}

#[test]
fn a_file_that_an_older_database_does_not_know_of_stays() {
    let fixture = Fixture::new(10);
    let other = Fixture::new(10);
    other.seal(6);
    files::create_dir_private(&fixture.folder()).unwrap();
    let name = &other.files()[0];
    std::fs::copy(other.folder().join(name), fixture.folder().join(name)).unwrap();
    fixture.seal(6);
    assert_eq!(fixture.files().len(), 2, "another past with the same numbers");
    fixture.walk();
}

#[test]
fn segments_are_bounded_by_bytes_and_number() {
    let fixture = Fixture::new(40);
    let one = Draft::of_oldest(&fixture.conn, 1, |_| true).unwrap().unwrap();
    assert_eq!(one.segment.after.n, 1, "one record at least");
    let size = fixture.draft(1).segment.bytes;
    let some = Draft::of_oldest(&fixture.conn, 5 * size, |_| true).unwrap().unwrap();
    assert!(some.segment.bytes < 7 * size, "{} {size}", some.segment.bytes);
    for upto in [10, 20, 30] {
        fixture.seal(upto);
    }
    assert_eq!(surplus(&fixture.conn, u64::MAX, 3).unwrap(), None);
    assert_eq!(surplus(&fixture.conn, u64::MAX, 2).unwrap().unwrap().after.n, 10);
    assert_eq!(surplus(&fixture.conn, 1, 3).unwrap().unwrap().after.n, 10);
    let (bytes, oldest) = audit::extent(&fixture.conn).unwrap().unwrap();
    let left: u64 = (31..=40)
        .map(|n| {
            let select = "SELECT length(record) FROM audit WHERE n = ?1";
            fixture.conn.query_row(select, [int(n)], |row| row.get(0).map(nat)).unwrap()
        })
        .sum();
    assert_eq!((bytes, oldest.as_micros()), (left, 31));
}
