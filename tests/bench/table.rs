//! The table the bench prints: what, measured, aim. It judges nothing by exit code.

use std::time::Duration;

/// One figure.
pub struct Row {
    what: String,
    measured: String,
    aim: String,
    met: Option<bool>,
}

impl Row {
    /// A figure without an aim.
    pub fn shown(what: &str, measured: String) -> Self {
        Self { what: what.to_owned(), measured, aim: String::new(), met: None }
    }

    /// A time that should not exceed `aim`.
    pub fn at_most(what: &str, measured: Duration, aim: Duration) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("{measured:.1?}"),
            aim: format!("≤ {aim:?}"),
            met: Some(measured <= aim),
        }
    }

    /// A size that should not exceed `aim`; both in bytes.
    pub fn bytes(what: &str, measured: u64, aim: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Self {
            what: what.to_owned(),
            measured: format!("{:.1} MiB", mib(measured)),
            aim: format!("≤ {:.1} MiB", mib(aim)),
            met: Some(measured <= aim),
        }
    }

    /// A share in percent, at most or at least `aim`.
    pub fn percent(what: &str, measured: f64, aim: &Aim) -> Self {
        let (text, met) = match aim {
            Aim::AtMost(most) => (format!("≤ {most} %"), measured <= *most),
            Aim::AtLeast(least) => (format!("≥ {least} %"), measured >= *least),
        };
        let measured = format!("{measured:.3} %");
        Self { what: what.to_owned(), measured, aim: text, met: Some(met) }
    }

    /// A speed in megabytes a second that should reach `least`.
    pub fn speed(what: &str, measured: f64, least: f64) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("{measured:.0} MB/s"),
            aim: format!("≥ {least} MB/s"),
            met: Some(measured >= least),
        }
    }

    /// A speed in `things` a second that should reach `least`.
    pub fn rate(what: &str, measured: f64, things: &str, least: f64) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("{measured:.0} {things}/s"),
            aim: format!("≥ {least}"),
            met: Some(measured >= least),
        }
    }

    /// A ratio, at most or at least `aim`.
    pub fn ratio(what: &str, measured: f64, aim: Option<&Aim>) -> Self {
        let (text, met) = match aim {
            None => (String::new(), None),
            Some(Aim::AtMost(most)) => (format!("≤ {most} ×"), Some(measured <= *most)),
            Some(Aim::AtLeast(least)) => (format!("≥ {least} ×"), Some(measured >= *least)),
        };
        Self { what: what.to_owned(), measured: format!("{measured:.2} ×"), aim: text, met }
    }
}

/// Which way a ratio should go.
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

/// Prints `rows` under a heading, aligned.
pub fn print(heading: &str, rows: &[Row]) {
    println!("\n{heading}");
    for row in rows {
        let verdict = match row.met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        println!("  {:<52} {:>16}  {:<12} {verdict}", row.what, row.measured, row.aim);
    }
}
