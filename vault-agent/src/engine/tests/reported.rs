//! What the server of the tests keeps and says of reports and of the audit chain, true or not.

use std::collections::BTreeMap;

use bytes::Bytes;
use shared::audit::AuditHead;
use shared::error::Code;
use shared::hash::Hash;
use shared::head::SignedHead;
use shared::log::Number;
use shared::report::Seen;
use shared::signed::Envelope;
use shared::time::Time;
use shared::wire::v1::audit::{AccessReply, AuditPage, AuditQuery, LeavesPage};
use shared::wire::v1::clone::CloneNotice;
use shared::wire::v1::report::{ReportReply, ReportRequest, Standing, TargetsPage};
use shared::wire::v1::shares::SharesReply;

use super::compacted::Compacted;
use super::server::{Answer, Server, json, refuse};

/// Reports and leaves; tests look at them and damage them.
pub(super) struct Reported {
    /// The newest record of each machine.
    pub(super) records: BTreeMap<Number, Envelope>,
    /// Records that are handed out before those, whatever they are.
    pub(super) planted: Vec<Envelope>,
    /// The texts of targets.
    pub(super) texts: BTreeMap<Number, String>,
    /// The audit chain.
    pub(super) leaves: Vec<Hash>,
    /// The audit head that is named, if it is not the chain's.
    pub(super) named: Option<AuditHead>,
    /// Whether reports get no answer but 500.
    pub(super) deaf: bool,
    /// Whether records with an audit head are refused.
    pub(super) forgetful: bool,
    /// Whether local accesses are taken that come along with a report; an older server does not.
    pub(super) takes_along: bool,
    /// Accepted reports, in order.
    pub(super) posts: Vec<(Number, ReportRequest)>,
    /// Copied hosts that it tells of.
    pub(super) clones: Vec<CloneNotice>,
    /// Who is over a share, and how full it is.
    pub(super) shares: SharesReply,
    /// The head that it tells who heals it, if it is not the log's.
    pub(super) healed: Option<SignedHead>,
    /// What is answered to who asks for records after the one of this number; without it nobody may
    /// read them.
    pub(super) records_lie: Option<fn(u64) -> AuditPage>,
    /// What is answered instead of leaves.
    pub(super) leaves_lie: Option<fn(u64) -> LeavesPage>,
    /// How often records were asked for.
    pub(super) reviewed: u64,
    /// How often leaves were asked for.
    pub(super) followed: u64,
    /// Whether each time puts a record into the chain.
    pub(super) records_follows: bool,
    /// Machines that do not follow, and for how many seconds they were not heard.
    pub(super) gone: BTreeMap<Number, u64>,
    /// Seconds since the server's start.
    pub(super) up: u64,
    /// What the log begins after.
    pub(super) compacted: Option<Compacted>,
}

impl Default for Reported {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            planted: Vec::new(),
            texts: BTreeMap::new(),
            leaves: vec![Hash::ZERO],
            named: None,
            deaf: false,
            forgetful: false,
            takes_along: false,
            posts: Vec::new(),
            clones: Vec::new(),
            shares: SharesReply::default(),
            healed: None,
            records_lie: None,
            leaves_lie: None,
            reviewed: 0,
            followed: 0,
            records_follows: false,
            gone: BTreeMap::new(),
            up: 86_400,
            compacted: None,
        }
    }
}

impl Reported {
    /// Returns the chain's head.
    pub(super) fn head(&self) -> AuditHead {
        self.leaves.iter().copied().fold(AuditHead::EMPTY, AuditHead::then)
    }

    /// Adds records of the audit log.
    pub(super) fn audit(&mut self, leaves: &[&str]) {
        self.leaves.extend(leaves.iter().map(|leaf| Hash::of(&[leaf.as_bytes()])));
    }

    /// Returns what a machine has posted.
    pub(super) fn posts_of(&self, number: Number) -> Vec<&ReportRequest> {
        self.posts.iter().filter(|(by, _)| *by == number).map(|(_, post)| post).collect()
    }
}

impl Server {
    pub(super) fn report(&self, number: Number, body: &Bytes) -> Answer {
        let mut data = self.data();
        let now = data.now();
        data.reported.take(number, body, now)
    }

    pub(super) fn targets(&self) -> Answer {
        self.data().reported.standing()
    }

    pub(super) fn records(&self, query: &str) -> Answer {
        self.data().reported.review(query)
    }

    pub(super) fn leaves(&self, query: &str) -> Answer {
        self.data().reported.follow(query)
    }
}

impl Reported {
    fn take(&mut self, number: Number, body: &Bytes, now: Time) -> Answer {
        let request: ReportRequest = serde_json::from_slice(body).unwrap();
        let seen: Seen = request.seen.parse().unwrap();
        if self.deaf {
            return refuse(500, "unavailable", "on demand");
        }
        let last = self.records.get(&number).map(|last| last.parse::<Seen>().unwrap().n);
        if last.is_some_and(|last| seen.n <= last) {
            return refuse(422, Code::Seq.as_str(), "not newer");
        }
        if self.forgetful && seen.audit_n > 0 {
            return refuse(422, Code::Report.as_str(), "on demand");
        }
        if let Some(text) = &request.targets {
            self.texts.insert(number, text.clone());
        }
        let text = self.texts.get(&number);
        let wants_targets = text.map(|text| Hash::of(&[text.as_bytes()])) != Some(seen.targets);
        self.records.insert(number, request.seen.clone());
        let others = self.records.iter().filter(|(of, _)| **of != number);
        let others = others.map(|(_, record)| record.clone());
        let all = self.planted.iter().cloned().chain(others);
        let seen = if request.exchange.is_some() { all.collect() } else { Vec::new() };
        let audit = self.named.unwrap_or_else(|| self.head());
        let along = request.accesses.as_ref().filter(|_| self.takes_along);
        let accesses = along.map(|it| AccessReply { next: it.first + it.reads.len() as u64 });
        self.posts.push((number, request));
        let (clones, full) = (self.clones.clone(), false);
        let reply =
            ReportReply { now, audit, wants_targets, seen, next: 7, clones, full, accesses };
        json(200, &reply)
    }

    fn standing(&self) -> Answer {
        let standing = |(number, seen): (&Number, &Envelope)| Standing {
            seen: seen.clone(),
            targets: self.texts.get(number).cloned().unwrap_or_default(),
            at: host::clock::now(),
            online: !self.gone.contains_key(number),
            quiet: Some(self.gone.get(number).copied().unwrap_or_default()),
        };
        let machines = self.records.iter().map(standing).collect();
        json(200, &TargetsPage { machines, more: false, up: Some(self.up) })
    }

    fn review(&mut self, query: &str) -> Answer {
        self.reviewed += 1;
        let Some(lie) = self.records_lie else {
            return refuse(403, "forbidden", "no grant on `sys/audit`");
        };
        let AuditQuery { after, .. } = serde_urlencoded::from_str(query).unwrap();
        json(200, &lie(after))
    }

    fn follow(&mut self, query: &str) -> Answer {
        let after: usize = query.strip_prefix("after=").unwrap().parse().unwrap();
        self.followed += 1;
        if let Some(lie) = self.leaves_lie {
            return json(200, &lie(after as u64));
        }
        if self.records_follows {
            self.audit(&["audit_leaves"]);
        }
        let head =
            |leaves: &[Hash]| leaves.iter().fold(AuditHead::EMPTY, |head, leaf| head.then(*leaf));
        let (before, leaves) = self.leaves.split_at(after.min(self.leaves.len()));
        let (from, leaves) = (head(before), leaves.to_vec());
        json(200, &LeavesPage { from, until: None, leaves, head: self.head() })
    }
}
