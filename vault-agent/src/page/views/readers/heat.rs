//! At which hours of which weekdays a secret is read: counts, a picture, and the same as a table.
//! Days and hours are UTC, as all times of the page.

use host::shown::Shown;
use shared::time::Time;

use crate::page::parts::number;
use crate::page::words::{Lang, catalogue, fill};

/// Shades of the picture: none, and four that a quarter of the most each brings.
const SHADES: u64 = 4;
/// Size of a field, and the space before the first column and row, in units of the picture.
const FIELD: usize = 20;
const LEFT: usize = 40;
const TOP: usize = 20;

catalogue! {
    /// Words of the picture.
    Hours:
    title = "When {} is read", "Wann {} gelesen wird";
    caption = "Reads of {} by hour and weekday, UTC",
        "Lesevorgänge von {} nach Stunde und Wochentag, UTC";
    most = "{} reads at most in one hour", "höchstens {} Lesevorgänge in einer Stunde";
    monday = "Monday", "Montag";
    tuesday = "Tuesday", "Dienstag";
    wednesday = "Wednesday", "Mittwoch";
    thursday = "Thursday", "Donnerstag";
    friday = "Friday", "Freitag";
    saturday = "Saturday", "Samstag";
    sunday = "Sunday", "Sonntag";
}

/// Reads by weekday, from Monday, and hour.
#[derive(Clone, Debug, Default)]
pub(super) struct Heat([[u64; 24]; 7]);

impl Heat {
    /// Counts reads at a time.
    pub(super) fn add(&mut self, at: Time, count: u64) {
        let hours = at.as_secs() / 3_600;
        // The epoch was a Thursday.
        let day = usize::try_from((hours / 24 + 3) % 7).unwrap_or(0);
        let hour = usize::try_from(hours % 24).unwrap_or(0);
        if let Some(field) = self.0.get_mut(day).and_then(|day| day.get_mut(hour)) {
            *field = field.saturating_add(count);
        }
    }

    /// Returns all reads.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().flatten().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// A field of the picture.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) x: usize,
    /// `heat-0` to `heat-4`.
    pub(super) shade: String,
    pub(super) count: String,
}

/// A day.
#[derive(Debug)]
pub(super) struct Day {
    pub(super) name: &'static str,
    /// The first letters.
    pub(super) short: String,
    pub(super) y: usize,
    pub(super) fields: Vec<Field>,
}

/// The picture of one secret.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) title: Shown,
    pub(super) caption: Shown,
    pub(super) most: String,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) days: Vec<Day>,
    /// Hours, and where each stands.
    pub(super) hours: Vec<(usize, String)>,
}

/// Draws how a secret is read.
pub(super) fn map(path: &str, heat: Option<&Heat>, lang: Lang) -> Map {
    let w = Hours::of(lang);
    let names = [w.monday, w.tuesday, w.wednesday, w.thursday, w.friday, w.saturday, w.sunday];
    let heat = heat.cloned().unwrap_or_default();
    let most = heat.0.iter().flatten().copied().max().unwrap_or(0);
    let field = |(hour, count): (usize, &u64)| Field {
        x: LEFT + hour * FIELD,
        shade: format!("heat-{}", shade(*count, most)),
        count: number(*count, lang),
    };
    let day = |(at, (name, hours)): (usize, (&'static str, &[u64; 24]))| Day {
        name,
        short: name.chars().take(2).collect(),
        y: TOP + at * FIELD,
        fields: hours.iter().enumerate().map(field).collect(),
    };
    Map {
        title: fill(w.title, &[path]).into(),
        caption: fill(w.caption, &[path]).into(),
        most: fill(w.most, &[&number(most, lang)]),
        width: LEFT + 24 * FIELD,
        height: TOP + 7 * FIELD,
        days: names.into_iter().zip(&heat.0).enumerate().map(day).collect(),
        hours: (0..24).map(|hour| (LEFT + hour * FIELD, format!("{hour:02}"))).collect(),
    }
}

fn shade(count: u64, most: u64) -> u64 {
    match count {
        0 => 0,
        count => count.saturating_mul(SHADES).div_ceil(most.max(1)).clamp(1, SHADES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stand_at_their_day_and_hour() {
        let mut heat = Heat::default();
        // A Monday, and the Sunday before.
        heat.add("2026-11-30T03:12:00Z".parse().unwrap(), 3);
        heat.add("2026-11-29T23:59:59Z".parse().unwrap(), 1);
        heat.add(Time::from_micros(u64::MAX), u64::MAX);
        assert_eq!((heat.0[0][3], heat.0[6][23]), (3, 1));
        assert_eq!(heat.total(), u64::MAX);
    }

    #[test]
    fn shades_tell_quarters_of_the_most() {
        let shades = [0, 1, 25, 26, 50, 51, 100].map(|count| shade(count, 100));
        assert_eq!(shades, [0, 1, 1, 2, 2, 3, 4]);
        assert_eq!(shade(u64::MAX, u64::MAX), 1, "and nothing overflows");
        let map = map("secret/a", None, Lang::De);
        assert_eq!((map.days.len(), map.days[0].fields.len(), map.days[0].name), (7, 24, "Montag"));
    }
}
