//! What a finding is called in each language. Its own text is English, as the command line prints
//! it, and stands beside that.

use host::shown::Shown;
use shared::report::TargetState;

use crate::page::parts::{Piece, When, pieces};
use crate::page::words::{Lang, catalogue};
use machine::findings::{Finding, Kind};
use shared::time::Time;

catalogue! {
    /// Kinds of findings.
    Kinds:
    alarm = "alarm", "Alarm";
    server = "server away", "Server fort";
    untold = "the others are not known", "die anderen sind nicht bekannt";
    backup = "backup fails", "Sicherung scheitert";
    left = "not re-encrypted", "nicht neu verschlüsselt";
    silent = "silent", "stumm";
    clock = "clock is off", "Uhr geht falsch";
    outdated = "report outdated", "Bericht veraltet";
    replaced = "program replaced", "Programm ersetzt";
    old = "program too old", "Programm zu alt";
    lags = "behind", "hängt zurück";
    hook = "hook failed", "Anstoß gescheitert";
    starting = "starting", "startet";
    ok = "right", "in Ordnung";
    waiting = "waiting", "wartet";
    missing = "missing", "fehlt";
    denied = "no right", "kein Recht";
    kept = "kept", "behalten";
    refused = "refused", "abgelehnt";
    failed = "failed", "gescheitert";
    drift = "changed by others", "von anderen geändert";
    too_old = "too old", "zu alt";
    foreign = "not ours", "nicht unsere";
}

/// Names a kind of finding.
pub(super) fn name(kind: &Kind, lang: Lang) -> &'static str {
    let words = Kinds::of(lang);
    match kind {
        Kind::Alarm(_) => words.alarm,
        Kind::Server => words.server,
        Kind::Untold => words.untold,
        Kind::Backup => words.backup,
        Kind::Left => words.left,
        Kind::Silent => words.silent,
        Kind::Clock => words.clock,
        Kind::Outdated => words.outdated,
        Kind::Replaced => words.replaced,
        Kind::Old => words.old,
        Kind::Lags => words.lags,
        Kind::Hook => words.hook,
        Kind::Target(state) => state_name(*state, lang),
    }
}

/// Names how a file stands.
pub(super) fn state_name(state: TargetState, lang: Lang) -> &'static str {
    let words = Kinds::of(lang);
    match state {
        TargetState::Starting => words.starting,
        TargetState::Ok => words.ok,
        TargetState::Waiting => words.waiting,
        TargetState::Missing => words.missing,
        TargetState::Denied => words.denied,
        TargetState::Kept => words.kept,
        TargetState::Refused => words.refused,
        TargetState::Failed => words.failed,
        TargetState::Drift => words.drift,
        TargetState::TooOld => words.too_old,
        TargetState::Foreign => words.foreign,
    }
}

/// One thing that is wrong, as a screen shows it.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Where on the page it stands.
    pub(super) id: String,
    pub(super) kind: &'static str,
    /// Code of an alarm.
    pub(super) code: Option<Shown>,
    pub(super) host: Option<Shown>,
    pub(super) target: Option<Shown>,
    /// In English, as the command line says it.
    pub(super) text: Vec<Piece>,
    pub(super) since: Option<When>,
    /// What to do, in English too.
    pub(super) todo: Vec<Piece>,
}

/// Shows a finding: the one at `place` of all.
pub(super) fn wrong(place: usize, finding: &Finding, now: Time, lang: Lang) -> Wrong {
    let Finding { kind, machine, target, text, since, todo, .. } = finding;
    let code = match kind {
        Kind::Alarm(code) => Some(Shown::from(code)),
        _ => None,
    };
    Wrong {
        id: format!("wrong-{}", place + 1),
        kind: name(kind, lang),
        code,
        host: machine.as_ref().map(Shown::line),
        target: target.as_ref().map(Shown::from),
        text: pieces(text),
        since: since.map(|at| When::new(at, now, lang)),
        todo: pieces(todo),
    }
}
