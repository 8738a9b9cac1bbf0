//! `/alarms`: the alarms of this host, the oldest first, and whatever else is not as it should be
//! anywhere.

use askama::Template;
use axum::http::StatusCode;

use super::kinds::{Wrong, wrong};
use crate::page::answer::html;
use crate::page::frame::{Fault, Frame, Screen, Viewed};
use crate::page::parts::cut;
use crate::page::site::Visit;
use crate::page::words::{Words, catalogue};
use machine::findings::Kind;

/// Alarms and findings that are told of each.
const MOST: usize = 200;

catalogue! {
    /// Words of the alarms.
    Alarms:
    of_host = "Alarms of this host", "Alarme dieses Systems";
    no_alarm = "No alarm stands on this host.", "Auf diesem System steht kein Alarm.";
    elsewhere = "What else is wrong", "Was sonst nicht stimmt";
    nothing_else = "Nothing else is wrong.", "Sonst stimmt alles.";
    own_alarms = "Each host shows its own alarms; what they mean for the fleet stands under Fleet.",
        "Jedes System zeigt seine eigenen Alarme; was sie für die Flotte heißen, steht unter Flotte.";
    todo = "`vault status`; on any host `vault-agent status`",
        "`vault status`; auf jedem System `vault-agent status`";
}

#[derive(Template)]
#[template(path = "page/alarms.html")]
struct AlarmsPage {
    frame: Frame,
    t: &'static Words,
    w: &'static Alarms,
    own: Vec<Wrong>,
    more_own: Option<String>,
    others: Vec<Wrong>,
    more_others: Option<String>,
}

/// Shows the alarms.
pub(in crate::page) async fn show(visit: &Visit<'_>) -> Viewed {
    let seen = visit.site.fleet.now().await.map_err(|why| Fault::Broken(why.into()))?;
    let Visit { lang, now, .. } = *visit;
    let (t, w) = (Words::of(lang), Alarms::of(lang));
    let all = seen.found.iter().enumerate();
    let (own, others): (Vec<_>, Vec<_>) =
        all.partition(|(_, finding)| matches!(finding.kind, Kind::Alarm(_)));
    let told = |(at, it)| wrong(at, it, now, lang);
    let (own, more_own) = cut(own.into_iter().map(told).collect(), MOST, lang);
    let (others, more_others) = cut(others.into_iter().map(told).collect(), MOST, lang);
    let frame = Frame::new(visit, Screen::Alarms, t.alarms, w.todo).live();
    let page = AlarmsPage { frame, t, w, own, more_own, others, more_others };
    Ok(html(StatusCode::OK, &page))
}
