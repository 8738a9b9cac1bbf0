//! The matrix of the fleet: a row for each host, a column for each file. Only what deviates has
//! words.

use std::collections::{BTreeMap, BTreeSet};

use host::shown::Shown;
use shared::name::Name;
use shared::report::HookResult;
use shared::time::Time;

use super::kinds;
use crate::page::href::Href;
use crate::page::parts::{When, and_more, number};
use crate::page::words::{Lang, Words, catalogue, fill};
use machine::findings::{Finding, Kind};
use machine::local::{Standing, Status, TargetRow};

/// Hosts and files that are shown: more would not be read.
const HOSTS: usize = 200;
const FILES: usize = 24;
/// Cells that are shown at most.
const CELLS: usize = 2_000;

catalogue! {
    /// Words of the matrix.
    Matrix:
    secrets = "{} secrets", "{} Geheimnisse";
    hook_ok = "hook ok", "Anstoß ok";
    hook_runs = "hook runs", "Anstoß läuft";
    catches_up = "will catch up: v{}", "holt nach: v{}";
    on_its_way = "v{} is on its way", "v{} ist unterwegs";
    sleeps = "sleeps", "schläft";
    silent = "silent", "stumm";
    empty = "empty", "leer";
}

/// How a cell or a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// No such file.
    None,
    Right,
    /// Not as it will be, and nobody is to blame.
    Late,
    Wrong,
}

impl Mark {
    /// Returns the name that the style sheet and the pictures know it by.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Right => "right",
            Self::Late => "late",
            Self::Wrong => "wrong",
        }
    }
}

/// How one file of one host stands.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) mark: Mark,
    /// What it holds: `v12`, or how many secrets.
    pub(super) holds: String,
    /// What deviates, or how its hook ended.
    pub(super) words: String,
    /// Where on the page it is told, if it is.
    pub(super) told: Option<Href>,
}

/// One host.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) host: Shown,
    pub(super) mark: Mark,
    pub(super) cells: Vec<Cell>,
    pub(super) seen: String,
    /// When, if not now.
    pub(super) seen_at: Option<When>,
}

/// The matrix.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) files: Vec<Shown>,
    pub(super) rows: Vec<Row>,
    pub(super) more_files: Option<String>,
    pub(super) more_hosts: Option<String>,
    /// Hosts of which nothing is found.
    pub(super) right: usize,
    /// All hosts.
    pub(super) all: usize,
}

type Place<'a> = (&'a Name, &'a str);

/// Lays a status out.
pub(super) fn table(status: &Status, found: &[Finding], now: Time, lang: Lang) -> Table {
    let mut rows: BTreeMap<Place<'_>, Vec<&TargetRow>> = BTreeMap::new();
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &status.targets {
        let of = rows.entry((&row.machine, &row.target)).or_default();
        if of.is_empty() {
            *uses.entry(&row.target).or_default() += 1;
        }
        of.push(row);
    }
    let mut told: BTreeMap<Place<'_>, usize> = BTreeMap::new();
    let mut wrong: BTreeSet<&Name> = BTreeSet::new();
    for (at, finding) in found.iter().enumerate() {
        wrong.extend(&finding.machine);
        if let (Some(machine), Some(target)) = (&finding.machine, &finding.target) {
            told.entry((machine, target)).or_insert(at);
        }
    }
    // Files that something is wrong with come first, then those that most hosts have.
    let mut files: Vec<&str> = uses.keys().copied().collect();
    let is_wrong: BTreeSet<&str> = told.keys().map(|(_, target)| *target).collect();
    files.sort_by_key(|file| {
        (!is_wrong.contains(file), std::cmp::Reverse(uses.get(file).copied()), *file)
    });
    let more_files = files.len().saturating_sub(FILES);
    files.truncate(FILES);
    let mut hosts: Vec<&Standing> = status.machines.iter().collect();
    hosts.sort_by_key(|host| (!wrong.contains(&host.machine), &host.machine));
    let most = HOSTS.min(CELLS / files.len().max(1));
    let all = hosts.len();
    let right = hosts.iter().filter(|host| !wrong.contains(&host.machine)).count();
    hosts.truncate(most);
    let cells = Cells { status, found, rows: &rows, told: &told, lang };
    let shown = hosts.iter().map(|host| cells.row(host, &files, (&wrong, now))).collect();
    Table {
        files: files.into_iter().map(Shown::from).collect(),
        rows: shown,
        more_files: and_more(more_files as u64, lang),
        more_hosts: and_more(all.saturating_sub(most) as u64, lang),
        right,
        all,
    }
}

/// What cells are made of.
struct Cells<'a> {
    status: &'a Status,
    found: &'a [Finding],
    rows: &'a BTreeMap<Place<'a>, Vec<&'a TargetRow>>,
    told: &'a BTreeMap<Place<'a>, usize>,
    lang: Lang,
}

impl Cells<'_> {
    fn row(&self, host: &Standing, files: &[&str], (wrong, now): (&BTreeSet<&Name>, Time)) -> Row {
        let (t, common) = (Matrix::of(self.lang), Words::of(self.lang));
        let is_now = host.awake || host.machine == self.status.machine;
        let seen_at = host.seen_at.filter(|_| !is_now).map(|at| When::new(at, now, self.lang));
        let seen = match &seen_at {
            _ if is_now => common.now.to_owned(),
            None => common.never.to_owned(),
            Some(when) if host.silent => format!("{} ({})", when.ago, t.silent),
            Some(when) if host.sleeps => format!("{} ({})", when.ago, t.sleeps),
            Some(when) => when.ago.clone(),
        };
        let cells: Vec<Cell> = files.iter().map(|file| self.cell(host, file)).collect();
        let worst = cells.iter().map(|cell| cell.mark).max().unwrap_or(Mark::Right);
        let mark = match wrong.contains(&host.machine) {
            true => Mark::Wrong,
            false if host.sleeps && !is_now => Mark::Late,
            false => worst.max(Mark::Right),
        };
        Row { host: Shown::line(&host.machine), mark, cells, seen, seen_at }
    }

    fn cell(&self, host: &Standing, file: &str) -> Cell {
        let t = Matrix::of(self.lang);
        let place = (&host.machine, file);
        let Some(rows) = self.rows.get(&place) else {
            let holds = "–".to_owned();
            return Cell { mark: Mark::None, holds, words: String::new(), told: None };
        };
        let holds = match rows[..] {
            [one] if one.applied == 0 => t.empty.to_owned(),
            [one] => format!("v{}", one.applied),
            _ => fill(t.secrets, &[&number(rows.len() as u64, self.lang)]),
        };
        if let Some(at) = self.told.get(&place) {
            let words = self.found.get(*at).map(|it| kinds::name(&it.kind, self.lang));
            let words = words.unwrap_or_default().to_owned();
            let told = Some(Href::default().at(&format!("wrong-{}", at + 1)));
            return Cell { mark: Mark::Wrong, holds, words, told };
        }
        // What has the same target is told by an alarm of this host where it has one.
        let fails = rows.iter().find(|row| row.fails());
        let behind = rows.iter().find(|row| row.applied != row.wanted);
        let (mark, words) = match (fails, behind) {
            (Some(row), _) if row.state.is_trouble() => {
                (Mark::Wrong, kinds::state_name(row.state, self.lang).to_owned())
            }
            (Some(_), _) => (Mark::Wrong, kinds::name(&Kind::Hook, self.lang).to_owned()),
            (None, Some(row)) => {
                let wanted = row.wanted.to_string();
                let text = if host.sleeps && !host.awake { t.catches_up } else { t.on_its_way };
                (Mark::Late, fill(text, &[&wanted]))
            }
            (None, None) => match rows.iter().find(|row| !row.is_right()) {
                Some(row) => (Mark::Late, kinds::state_name(row.state, self.lang).to_owned()),
                None if rows.iter().any(|row| row.hook == HookResult::Pending) => {
                    (Mark::Late, t.hook_runs.to_owned())
                }
                None if rows.iter().any(|row| row.hook == HookResult::Ok) => {
                    (Mark::Right, t.hook_ok.to_owned())
                }
                None => (Mark::Right, String::new()),
            },
        };
        Cell { mark, holds, words, told: None }
    }
}
