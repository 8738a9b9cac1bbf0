//! Verifying the audit log ends, whatever the server says.

use shared::audit::AuditHead;
use shared::hash::Hash;
use shared::time::Time;
use shared::wire::v1::audit::{Archived, AuditPage, LeavesPage};

use super::world::World;

/// The chain of the server of the tests, grown to so many records.
fn chain(n: u64) -> AuditHead {
    (0..n).fold(AuditHead::EMPTY, |head, _| head.then(Hash::ZERO))
}

/// A page of records that there are none of, in a chain of ten, of which `last` are archived.
fn nothing(last: u64) -> AuditPage {
    let archived =
        Archived { last, until: Time::default(), gone: 0, folder: "/a".parse().unwrap() };
    let archived = (last > 0).then_some(archived);
    AuditPage { records: Vec::new(), more: true, head: chain(10), archived }
}

/// A page of so many leaves after `after`, in a chain of so many.
fn leaves(after: u64, count: usize, all: u64) -> LeavesPage {
    LeavesPage {
        from: chain(after),
        until: None,
        leaves: vec![Hash::ZERO; count],
        head: chain(all),
    }
}

/// Has a server tell lies of records and leaves; returns what verifying finds, if anything is
/// wrong, and how often the server was asked.
async fn verified(
    records: Option<fn(u64) -> AuditPage>,
    leaves: fn(u64) -> LeavesPage,
) -> (Option<String>, u64) {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &[]).await;
    {
        let reported = &mut world.server.data().reported;
        (reported.records_lie, reported.leaves_lie) = (records, Some(leaves));
        (reported.reviewed, reported.followed) = (0, 0);
    }
    let result = home.verified().await;
    let data = world.server.data();
    let bad = result.bad.map(|bad| format!("{}: {}", bad.n, bad.reason));
    (bad, data.reported.reviewed + data.reported.followed)
}

fn none_from(first: u64, to: u64) -> Option<String> {
    Some(format!("{first}: the server shows none of the records from here to {to}"))
}

#[tokio::test]
async fn pages_that_never_advance_are_a_fault() {
    let archive = verified(Some(|_| nothing(5)), |_| leaves(0, 0, 0)).await;
    assert_eq!(archive, (none_from(1, 5), 2));
    let archive = verified(Some(|_| nothing(5)), |_| leaves(0, 0, 10)).await;
    assert_eq!(archive, (none_from(1, 10), 2));
    let stuck = verified(Some(|_| nothing(5)), |after| leaves(after, usize::from(after < 3), 3));
    assert_eq!(stuck.await, (none_from(4, 5), 4));
    let database = verified(Some(|_| nothing(0)), |_| leaves(0, 0, 0)).await;
    assert_eq!(database, (none_from(1, 10), 1));
}

#[tokio::test]
async fn a_chain_that_grows_at_every_question_is_walked_to_where_it_was() {
    let more = |after| leaves(after, 1, after + 10);
    assert_eq!(verified(None, more).await, (None, 11), "one is denied");
    let archive = |after| AuditPage { head: chain(after + 10), ..nothing(after + 1) };
    assert_eq!(verified(Some(archive), more).await, (None, 20));
}
