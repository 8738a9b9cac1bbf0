//! Lanes of hosts on one time axis, which is logarithmic: milliseconds and days stand on it. Pure.

use host::clock;
use host::shown::Shown;
use shared::time::Time;

/// Width of the axis, of a letter of the names before it and of what is around them, and height of
/// a lane, in units of the picture.
const AXIS: f64 = 520.0;
const LETTER: usize = 7;
const AROUND: usize = 24;
const LANE: usize = 26;
const TOP: usize = 26;
/// Longest name that fits before the axis, in characters.
const NAME: usize = 18;
/// Milliseconds that the axis goes on for at most: thirty days.
const LONGEST: f64 = 2_592_000_000.0;
/// Milliseconds of the marks of the axis, and what stands there.
const TICKS: [(f64, &str); 9] = [
    (0.0, "0"),
    (10.0, "10 ms"),
    (100.0, "100 ms"),
    (1_000.0, "1 s"),
    (10_000.0, "10 s"),
    (60_000.0, "1 min"),
    (3_600_000.0, "1 h"),
    (86_400_000.0, "1 d"),
    (LONGEST, "30 d"),
];

/// How one host got a version, into one of its files if it has any.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    pub(super) host: Shown,
    pub(super) file: Option<Shown>,
    pub(super) is_writer: bool,
    pub(super) delivered: Option<Time>,
    pub(super) renamed: Option<Time>,
    pub(super) hook: Option<Run>,
}

/// One run of a hook.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) began: Time,
    pub(super) ended: Time,
    /// With what it failed, if it did.
    pub(super) failed: Option<Shown>,
}

impl Track {
    pub(super) fn new(host: Shown) -> Self {
        Self { host, ..Self::default() }
    }

    /// Returns a host's track, which is made if there is none.
    pub(super) fn of<'a>(all: &'a mut Vec<Self>, host: &Shown) -> &'a mut Self {
        let at = all.iter().position(|it| it.host == *host).unwrap_or_else(|| {
            all.push(Self::new(host.clone()));
            all.len() - 1
        });
        &mut all[at]
    }

    /// Returns the track of a host's file: the one that has no file yet, or another beside it.
    pub(super) fn with_file<'a>(all: &'a mut Vec<Self>, host: &Shown, file: Shown) -> &'a mut Self {
        let is_it = |it: &Self| it.host == *host && it.file.as_ref() == Some(&file);
        if let Some(at) = all.iter().position(is_it) {
            return &mut all[at];
        }
        let delivered = Self::of(all, host).clone();
        let free = |it: &Self| it.host == *host && it.file.is_none();
        let at = all.iter().position(free).unwrap_or_else(|| {
            all.push(Self { renamed: None, hook: None, ..delivered });
            all.len() - 1
        });
        all[at].file = Some(file);
        &mut all[at]
    }

    fn times(&self) -> [Option<Time>; 4] {
        let (began, ended) =
            self.hook.as_ref().map_or((None, None), |it| (Some(it.began), Some(it.ended)));
        [self.delivered, self.renamed, began, ended]
    }
}

/// A time on the axis.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// How long after signing: `+12 ms`.
    pub(super) after: String,
    /// RFC 3339.
    pub(super) at: Shown,
    /// Where on the axis.
    pub(super) x: usize,
}

/// The axis.
#[derive(Debug)]
pub(super) struct Scale {
    signed: Time,
    /// Milliseconds at its end.
    end: f64,
    /// Where it begins, behind the names.
    left: usize,
}

/// A lane of the picture, and a row of the table.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) host: Shown,
    /// The host's name, cut.
    pub(super) name: Shown,
    pub(super) file: Option<Shown>,
    pub(super) is_writer: bool,
    pub(super) delivered: Option<Moment>,
    pub(super) renamed: Option<Moment>,
    pub(super) began: Option<Moment>,
    pub(super) ended: Option<Moment>,
    /// Whether a hook has ended, and with what it failed.
    pub(super) failed: Option<Shown>,
    pub(super) y: usize,
    pub(super) bars: Vec<Bar>,
}

/// A stretch of a lane.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) width: usize,
    /// `wait`, `write`, `hook` or `failed`.
    pub(super) kind: &'static str,
}

/// The picture.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) lanes: Vec<Lane>,
    pub(super) ticks: Vec<(usize, &'static str)>,
    pub(super) stored: Option<usize>,
}

impl Scale {
    /// Makes an axis on which all has room.
    pub(super) fn of(signed: Time, stored: Option<Time>, tracks: &[Track]) -> Self {
        let times = tracks.iter().flat_map(Track::times).chain([stored]).flatten();
        // A host may tell any time it likes: the others are still to be seen.
        let last = times.map(|at| after(signed, at).min(LONGEST)).fold(100.0, f64::max);
        let longest = tracks.iter().map(|it| it.host.chars().count()).max().unwrap_or_default();
        Self { signed, end: last * 1.1, left: AROUND + LETTER * longest.min(NAME) }
    }

    pub(super) fn moment(&self, at: Time) -> Moment {
        Moment { after: told(self.signed, at), at: Shown::line(at), x: self.x(at) }
    }

    fn x(&self, at: Time) -> usize {
        self.place(after(self.signed, at))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number between 0 and the width of the picture"
    )]
    fn place(&self, ms: f64) -> usize {
        let part = (1.0 + ms.max(0.0)).log10() / (1.0 + self.end).log10();
        self.left + (part.clamp(0.0, 1.0) * AXIS) as usize
    }

    /// Draws the lanes.
    pub(super) fn chart(&self, stored: Option<Time>, tracks: &[Track]) -> Chart {
        let lanes: Vec<Lane> =
            tracks.iter().enumerate().map(|(at, track)| self.lane(at, stored, track)).collect();
        let ticks = TICKS.into_iter().filter(|(ms, _)| *ms <= self.end);
        Chart {
            width: self.left + 560,
            height: TOP + lanes.len() * LANE + 6,
            ticks: ticks.map(|(ms, name)| (self.place(ms), name)).collect(),
            stored: stored.map(|at| self.x(at)),
            lanes,
        }
    }

    fn lane(&self, at: usize, stored: Option<Time>, track: &Track) -> Lane {
        let [delivered, renamed, began, ended] = track.times();
        let failed = track.hook.as_ref().and_then(|hook| hook.failed.clone());
        let hook = if failed.is_some() { "failed" } else { "hook" };
        let stretches = [
            (stored, delivered, "wait"),
            (delivered.or(stored.filter(|_| track.is_writer)), renamed, "write"),
            (began, ended, hook),
        ];
        let bars = stretches.into_iter().filter_map(|(from, to, kind)| {
            let (from, to) = (self.x(from?), self.x(to?));
            Some(Bar { x: from, width: to.saturating_sub(from).max(2), kind })
        });
        let moment = |at: Option<Time>| at.map(|at| self.moment(at));
        Lane {
            name: cut(&track.host).into(),
            host: track.host.clone(),
            file: track.file.clone(),
            is_writer: track.is_writer,
            delivered: moment(delivered),
            renamed: moment(renamed),
            began: moment(began),
            ended: moment(ended),
            failed,
            y: TOP + at * LANE,
            bars: bars.collect(),
        }
    }
}

fn cut(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

/// Returns the milliseconds from signing on; negative where a clock says that it was before.
#[expect(clippy::cast_precision_loss, reason = "a place in a picture, and three digits of text")]
fn after(signed: Time, at: Time) -> f64 {
    let apart = at.apart(signed) as f64 / 1_000.0;
    if at < signed { -apart } else { apart }
}

fn told(signed: Time, at: Time) -> String {
    let ms = after(signed, at);
    let sign = if ms < 0.0 { "−" } else { "+" };
    match ms.abs() {
        ms if ms < 9.95 => format!("{sign}{ms:.1} ms"),
        ms if ms < 999.5 => format!("{sign}{ms:.0} ms"),
        ms if ms < 59_950.0 => format!("{sign}{:.1} s", ms / 1_000.0),
        _ => format!("{sign}{}", clock::age(at.apart(signed) / 1_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Time {
        Time::from_micros(1_000_000_000 + ms * 1_000)
    }

    #[test]
    fn offsets_are_told_in_their_own_unit() {
        for (ms, expected) in
            [(0, "+0.0 ms"), (7, "+7.0 ms"), (12, "+12 ms"), (1_300, "+1.3 s"), (7_200_000, "+2 h")]
        {
            assert_eq!(told(at(0), at(ms)), expected);
        }
        assert_eq!(told(at(12), at(0)), "−12 ms", "a clock that is behind");
        // A member tells any time it likes.
        assert!(!told(at(0), Time::from_micros(u64::MAX)).is_empty());
    }

    #[test]
    fn files_of_a_host_have_a_lane_each() {
        let mut all = vec![Track::new("vps".into())];
        Track::of(&mut all, &"vps".into()).delivered = Some(at(5));
        Track::with_file(&mut all, &"vps".into(), "/a".into()).renamed = Some(at(9));
        Track::with_file(&mut all, &"vps".into(), "/b".into()).renamed = Some(at(8));
        Track::with_file(&mut all, &"nas".into(), "/a".into()).renamed = Some(at(7));
        let found: Vec<_> = all
            .iter()
            .map(|it| (&*it.host, it.file.as_deref(), it.delivered, it.renamed))
            .collect();
        let expected = [
            ("vps", Some("/a"), Some(at(5)), Some(at(9))),
            ("vps", Some("/b"), Some(at(5)), Some(at(8))),
            ("nas", Some("/a"), None, Some(at(7))),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn everything_has_room_on_the_axis() {
        let hook = Run {
            began: at(20),
            ended: Time::from_micros(u64::MAX),
            failed: Some("exit 1".into()),
        };
        let track = Track {
            delivered: Some(at(5)),
            renamed: Some(Time::from_micros(0)),
            hook: Some(hook),
            ..Track::new("a-machine-with-a-long-name".into())
        };
        let scale = Scale::of(at(0), Some(at(2)), std::slice::from_ref(&track));
        let chart = scale.chart(Some(at(2)), &[track]);
        let lane = &chart.lanes[0];
        assert!(
            lane.bars.iter().all(|bar| bar.x >= scale.left && bar.x + bar.width <= chart.width)
        );
        assert_eq!(
            lane.bars.iter().map(|bar| bar.kind).collect::<Vec<_>>(),
            ["wait", "write", "failed"]
        );
        assert_eq!(lane.name.chars().count(), NAME);
    }
}
