//! Audit heads that machines have anchored: keeping them, and finding two that cannot both be true.
//! Which of them a resumption has cut off is `chain`'s to say.

use rusqlite::{Connection, Result};
use shared::log::{Number, State};

use super::chain::stands;
use crate::state::peers::{self, Anchor};

/// Stores anchors; returns which machine contradicts what is known, and how.
pub(super) fn keep(
    conn: &Connection,
    state: &State,
    anchors: &[Anchor],
) -> Result<Vec<(String, String)>> {
    let name = |number: Number| match state.machine_numbered(number) {
        Some(machine) => machine.name.to_string(),
        None => number.to_string(),
    };
    let mut contradicted = Vec::new();
    for anchor in anchors {
        let n = anchor.audit.n;
        for known in peers::anchors(conn, n.saturating_sub(1), n)? {
            let both = stands(state, known.epoch, n) && stands(state, anchor.epoch, n);
            if both && known.audit.hash != anchor.audit.hash {
                let (one, other) = (name(anchor.machine), name(known.machine));
                let why = format!("`{one}` has seen another record {n} than `{other}`");
                contradicted.push((one, why));
            }
        }
        peers::anchor(conn, anchor)?;
    }
    Ok(contradicted)
}

#[cfg(test)]
mod tests {
    use shared::audit::AuditHead;
    use shared::hash::Hash;

    use super::*;
    use crate::engine::folded::stand_in;

    fn anchor(state: &State, machine: Number, n: u64, leaf: &[u8]) -> Anchor {
        let audit = AuditHead { n, hash: Hash::of(&[leaf]) };
        Anchor { epoch: state.vault(), machine, audit }
    }

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("../state/migrations/0001.sql")).unwrap();
        conn
    }

    #[test]
    fn two_anchors_of_one_record_must_agree() {
        let (conn, state) = (database(), stand_in().unwrap());
        let keep = |anchor| keep(&conn, &state, &[anchor]).unwrap();
        assert_eq!(keep(anchor(&state, 1, 7, b"a")), []);
        assert_eq!(keep(anchor(&state, 2, 7, b"a")), []);
        assert_eq!(keep(anchor(&state, 2, 8, b"b")), []);
        let other = "`3` has seen another record 8 than `2`".to_owned();
        assert_eq!(keep(anchor(&state, 3, 8, b"c")), [("3".to_owned(), other)]);
    }

    #[test]
    fn what_an_epoch_that_is_gone_has_anchored_contradicts_nothing() {
        let (conn, state) = (database(), stand_in().unwrap());
        let other = Anchor { epoch: Hash::ZERO, ..anchor(&state, 1, 7, b"a") };
        assert_eq!(keep(&conn, &state, &[other, anchor(&state, 2, 7, b"b")]).unwrap(), []);
    }

    /// One that reports all the time keeps no more than any other, and of the oldest too.
    #[test]
    fn no_machine_pushes_out_anothers_anchors() {
        let (conn, state) = (database(), stand_in().unwrap());
        keep(&conn, &state, &[anchor(&state, 1, 5, b"a")]).unwrap();
        let many: Vec<_> = (1..=500).map(|n| anchor(&state, 2, n * 10, b"b")).collect();
        keep(&conn, &state, &many).unwrap();
        let far = anchor(&state, 2, u64::MAX, b"far");
        keep(&conn, &state, &[far]).unwrap();
        let kept = peers::anchors(&conn, 0, u64::MAX).unwrap();
        assert!(kept.contains(&anchor(&state, 1, 5, b"a")));
        assert!(kept.len() <= 65, "{}", kept.len());
        assert!(kept.contains(&anchor(&state, 2, 10, b"b")), "the first");
        assert!(kept.contains(&anchor(&state, 2, 5000, b"b")), "the last");
        peers::retain(&conn, |machine| machine == 1).unwrap();
        assert_eq!(peers::anchors(&conn, 0, u64::MAX).unwrap().len(), 1, "they go with it");
    }
}
