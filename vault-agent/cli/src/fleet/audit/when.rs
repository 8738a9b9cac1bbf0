//! From when on and until when records are asked for, in times as people name them.

use shared::time::Time;

use host::hint::Failure;
use machine::when::span;

/// From when on, and until when, records are asked for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Period {
    /// Not before: 24h, monday, yesterday, "last week", 2026-11-01 or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Not after; a day, week or month that is named belongs to it
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

impl Period {
    /// Returns the first moment that is asked for, and the first one after all that are.
    ///
    /// # Errors
    /// Texts that name no time; an end before the beginning.
    pub fn read(&self, now: Time) -> Result<(Option<Time>, Option<Time>), Failure> {
        let from = self.since.as_deref().map(|text| since(text, now)).transpose()?;
        let named = |text: &str| span(text, now).ok_or_else(|| unknown("--until", text));
        let to = self.until.as_deref().map(named).transpose()?;
        let to = to.map(|span| span.to);
        if let (Some(from), Some(to)) = (from, to)
            && to <= from
        {
            let text = format!("--until ends at {to}, before --since begins at {from}");
            return Err(Failure::local(text).hint("give the earlier time to --since"));
        }
        Ok((from, to))
    }
}

/// Reads from when on records are asked for.
pub fn since(text: &str, now: Time) -> Result<Time, Failure> {
    let named = span(text, now).ok_or_else(|| unknown("--since", text))?;
    Ok(named.from)
}

fn unknown(flag: &str, text: &str) -> Failure {
    Failure::local(format!("{flag} `{text}` names no time")).hint(
        "use 24h, 7d, today, yesterday, monday, \"last week\", \"last month\", \"3 days ago\", \
         2026-11-01 or 2026-11-01T08:00:00Z",
    )
}

/// Shows a time to the second.
pub fn seconds(time: Time) -> String {
    Time::from_micros(time.as_secs().saturating_mul(1_000_000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::hint::Exit;

    /// A Monday, at 20:00.
    const NOW: Time = Time::from_micros(1_795_464_000_000_000);

    #[test]
    fn what_names_no_time_is_refused() {
        for text in ["", "-1h", "24", "5 apples ago"] {
            assert_eq!(since(text, NOW).unwrap_err().exit, Exit::LOCAL, "{text}");
        }
        assert_eq!(since("yesterday", NOW).unwrap().to_string(), "2026-11-22T00:00:00Z");
    }

    #[test]
    fn a_period_ends_after_it_begins() {
        let read = |since: &str, until: &str| {
            let period = Period { since: Some(since.into()), until: Some(until.into()) };
            period.read(NOW).map(|(from, to)| format!("{} {}", from.unwrap(), to.unwrap()))
        };
        let week = "2026-11-16T00:00:00Z 2026-11-23T00:00:00Z";
        assert_eq!(read("last week", "last week").unwrap(), week);
        let fault = read("today", "yesterday").unwrap_err();
        assert!(fault.text.contains("before --since begins"), "{}", fault.text);
    }
}
