//! Points in time as people name them: how long ago, a day, a week, a month. Days begin at midnight
//! UTC, as the times in every table do. Pure.

use shared::duration;
use shared::time::Time;

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// What a text names: a moment has no length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub from: Time,
    /// The first one after it.
    pub to: Time,
}

/// Reads a text such as `24h`, `yesterday`, `last week` or `2026-11-01`; `None` for what names no
/// time.
#[must_use]
pub fn span(text: &str, now: Time) -> Option<Span> {
    let Named { from, to } = named(text, now)?;
    Some(Span { from: Time::from_micros(from), to: Time::from_micros(to) })
}

/// The same in microseconds.
struct Named {
    from: u64,
    to: u64,
}

fn named(text: &str, now: Time) -> Option<Named> {
    let mut text = text.trim().to_lowercase();
    if !text.contains(|c: char| c.is_ascii_digit()) {
        text = text.replace(['_', '-'], " ");
    }
    let now = now.as_micros();
    let moment = |at: u64| Some(Named { from: at, to: at });
    if let Some(micros) = ago(&text) {
        return moment(now.saturating_sub(micros));
    }
    let today = now / DAY;
    let days =
        |first: u64, count: u64| Some(Named { from: first * DAY, to: (first + count) * DAY });
    // The epoch was a Thursday.
    let weekday = (today + 3) % 7;
    let monday = today.checked_sub(weekday)?;
    match text.as_str() {
        "now" => return moment(now),
        "today" => return days(today, 1),
        "yesterday" => return days(today.checked_sub(1)?, 1),
        "this week" | "week" => return days(monday, 7),
        "last week" => return days(monday.checked_sub(7)?, 7),
        "this month" | "month" => return month(civil(now), 0),
        "last month" => return month(civil(now), 1),
        _ => {}
    }
    let (is_last, day) = match text.strip_prefix("last ") {
        Some(day) => (true, day),
        None => (false, text.as_str()),
    };
    let is_it = |name: &str| day == name || (day.len() == 3 && name.starts_with(day));
    if let Some(wanted) = WEEKDAYS.iter().position(|name| is_it(name)) {
        let back = (weekday + 7 - wanted as u64) % 7;
        let back = if is_last && back == 0 { 7 } else { back };
        return days(today.checked_sub(back)?, 1);
    }
    if let Some((year, month_of)) = text.split_once('-')
        && let (4, 2, Ok(year), Ok(of)) =
            (year.len(), month_of.len(), year.parse(), month_of.parse())
    {
        return month((year, of), 0);
    }
    let text = text.to_uppercase();
    if text.len() == "2026-11-01".len() {
        let day = text.parse::<Time>().ok()?.as_micros();
        return Some(Named { from: day, to: day + DAY });
    }
    // A time of day without an offset is UTC.
    let whole = format!("{}Z", text.replacen(' ', "T", 1)).parse::<Time>();
    moment(whole.or_else(|_| text.parse::<Time>()).ok()?.as_micros())
}

/// Reads how long ago: `24h`, `2w`, `3 days ago`.
fn ago(text: &str) -> Option<u64> {
    if let Some(micros) = duration::parse(text) {
        return u64::try_from(micros).ok();
    }
    if let Some(weeks) = text.strip_suffix('w') {
        return weeks.parse::<u64>().ok()?.checked_mul(7 * DAY);
    }
    let (count, unit) = text.strip_suffix(" ago")?.split_once(' ')?;
    let count = if matches!(count, "a" | "an") { 1 } else { count.parse::<u64>().ok()? };
    let unit = match unit.strip_suffix('s').unwrap_or(unit) {
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3_600 * SECOND,
        "day" => DAY,
        "week" => 7 * DAY,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// Returns year and month of a moment.
fn civil(micros: u64) -> (u64, u64) {
    let text = Time::from_micros(micros).to_string();
    let number = |from: usize, to: usize| text.get(from..to).and_then(|n| n.parse().ok());
    (number(0, 4).unwrap_or(1970), number(5, 7).unwrap_or(1))
}

/// Returns the month so many months before.
fn month((year, month): (u64, u64), back: u64) -> Option<Named> {
    let first = |months: u64| {
        let (year, month) = (months / 12, months % 12 + 1);
        let day: Time = format!("{year:04}-{month:02}-01").parse().ok()?;
        Some(day.as_micros())
    };
    let months = (year * 12 + month.checked_sub(1)?).checked_sub(back)?;
    (month <= 12).then_some(())?;
    Some(Named { from: first(months)?, to: first(months + 1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Monday, at 20:00.
    const NOW: Time = Time::from_micros(1_795_464_000_000_000);

    #[test]
    fn people_name_times() {
        for (text, from, to) in [
            ("24h", "2026-11-22T20:00:00Z", "2026-11-22T20:00:00Z"),
            ("7d", "2026-11-16T20:00:00Z", "2026-11-16T20:00:00Z"),
            ("2w", "2026-11-09T20:00:00Z", "2026-11-09T20:00:00Z"),
            ("3 days ago", "2026-11-20T20:00:00Z", "2026-11-20T20:00:00Z"),
            ("an hour ago", "2026-11-23T19:00:00Z", "2026-11-23T19:00:00Z"),
            ("now", "2026-11-23T20:00:00Z", "2026-11-23T20:00:00Z"),
            ("today", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
            ("Yesterday", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("monday", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
            ("last Monday", "2026-11-16T00:00:00Z", "2026-11-17T00:00:00Z"),
            ("sun", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("tuesday", "2026-11-17T00:00:00Z", "2026-11-18T00:00:00Z"),
            ("this week", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("last week", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("last-week", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("last month", "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"),
            ("2026-11-01 08:00", "2026-11-01T08:00:00Z", "2026-11-01T08:00:00Z"),
            ("2026-11-01T08:00:00+01:00", "2026-11-01T07:00:00Z", "2026-11-01T07:00:00Z"),
        ] {
            let named = span(text, NOW).unwrap_or_else(|| panic!("{text}"));
            let times = [named.from, named.to].map(|at| at.to_string());
            assert_eq!(times, [from, to], "{text}");
        }
        for text in ["", "-1h", "24", "last", "mo", "2026-13", "last year's", "5 apples ago"] {
            assert_eq!(span(text, NOW), None, "{text}");
        }
    }
}
