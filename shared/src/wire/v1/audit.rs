//! Audit on the wire: local reads in, records and leaves out.

use serde::{Deserialize, Serialize};

use crate::audit::{AuditHead, Fact, Op};
use crate::hash::Hash;
use crate::text::Text;
use crate::time::Time;
use crate::wire::list::at_most;

/// Most local accesses in one batch.
pub const ACCESSES: usize = 1000;
/// Most audit records in one answer.
pub const RECORDS: usize = 10_000;

/// Body of `POST /v1/access`: local accesses since the last batch; answered 200 [`AccessReply`]
/// when their audit rows are on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessRequest {
    /// Random, made anew at each start of an agent: what two agents with one key record, as the
    /// original and the clone of a host, is not taken for the same.
    pub run: Hash,
    /// Number of the batch's first access; those of an earlier batch of the run are passed over.
    pub first: u64,
    /// The accesses, [`ACCESSES`] at most. The server itself sets what it knows of the caller.
    #[serde(deserialize_with = "at_most::<ACCESSES, _, _>")]
    pub reads: Vec<Fact>,
}

/// Answer to a batch of local reads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AccessReply {
    /// Number of the next read that the server has not got.
    pub next: u64,
}

/// Query of `GET /v1/audit`: all conditions must hold; text conditions compare whole values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// Only records after this one.
    pub after: u64,
    /// Only records before this one.
    pub before: Option<u64>,
    /// Most records to return, 1 to [`RECORDS`]; 1,000 if absent.
    pub limit: Option<u64>,
    /// The newest that match instead of the oldest.
    pub newest: bool,
    /// Not before this time.
    pub since: Option<Time>,
    /// Before this time.
    pub until: Option<Time>,
    /// Machine.
    pub machine: Option<String>,
    /// Path; `*` stands for any text.
    pub path: Option<String>,
    /// Operation, and those that are meant with it: [`Op::meant`].
    pub op: Option<Op>,
    /// Only refusals.
    pub denied: bool,
    /// Answer when there is a record that matches, or after some seconds without; what this
    /// request itself puts on record does not count.
    pub wait: bool,
}

impl AuditQuery {
    /// Returns the parameters that say something, by name; values are still to be encoded.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let Self { after, before, limit, newest, since, until, machine, path, op, denied, wait } =
            self;
        let time = |time: &Option<Time>| time.map(|time| time.as_micros().to_string());
        let flag = |is_set: &bool| is_set.then(|| true.to_string());
        let all = [
            ("after", (*after > 0).then(|| after.to_string())),
            ("before", before.map(|n| n.to_string())),
            ("limit", limit.map(|n| n.to_string())),
            ("newest", flag(newest)),
            ("since", time(since)),
            ("until", time(until)),
            ("machine", machine.clone()),
            ("path", path.clone()),
            ("op", op.as_ref().map(ToString::to_string)),
            ("denied", flag(denied)),
            ("wait", flag(wait)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Answer of `GET /v1/audit`, oldest first; for callers with a read grant on `sys/audit`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditPage {
    /// The records' very JSON texts: hashing them gives the leaves.
    #[serde(deserialize_with = "at_most::<RECORDS, _, _>")]
    pub records: Vec<String>,
    /// Whether more match after the last one.
    pub more: bool,
    /// The chain now.
    pub head: AuditHead,
    /// What is not among the records that this finds, if anything is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub archived: Option<Archived>,
}

/// What has left the server's database: the oldest records go into sealed segment files, and the
/// oldest of these are deleted. The chain goes through all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Last record in a segment file; what a query finds begins after it.
    pub last: u64,
    /// When that record was written.
    pub until: Time,
    /// Last record whose segment was deleted; 0 if all are there.
    pub gone: u64,
    /// Folder of the segment files, on the server's host.
    pub folder: Text<256>,
}

/// Query of `GET /v1/audit/leaves`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LeavesQuery {
    /// Only leaves after this one.
    pub after: u64,
}

/// Answer of `GET /v1/audit/leaves`, for any active machine: up to 15,000 leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeavesPage {
    /// The chain before the first leaf: at `after`, or where what is kept no longer ends.
    pub from: AuditHead,
    /// When the last record before that was written, if what was asked for is kept no longer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Time>,
    /// The leaves after it, in order.
    pub leaves: Vec<Hash>,
    /// The chain now.
    pub head: AuditHead,
}
