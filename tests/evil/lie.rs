//! A lie of a hostile server, and what comes of it.

use crate::acts::End;
use crate::scene::Scene;
use crate::server::Told;

/// A lie, and what comes of it.
pub struct Lie {
    /// Its name in the book.
    pub name: &'static str,
    /// Makes the server that tells it.
    pub tell: fn(&Scene) -> Told,
    /// How what has to be asked for until the lie is heard begins; nothing if it is no answer.
    pub heard: Option<&'static str>,
    /// Code of the alarm that it ends in; none if it is merely not believed.
    pub alarm: Option<&'static str>,
    /// Whether only acts that write hear it: they are done before the alarm is waited for.
    pub late: bool,
    /// Whether a writer waits long for an answer.
    pub waits: bool,
    /// Why `kv get` gives nothing; none if it gives what it gave before.
    pub get: Option<&'static str>,
    /// How `kv put`, `machine add` and `machine remove` end.
    pub ends: [End; 3],
}

impl Lie {
    /// Makes a lie that is not believed and raises no alarm; writes end like this.
    pub const fn idle(
        name: &'static str,
        heard: &'static str,
        end: End,
        tell: fn(&Scene) -> Told,
    ) -> Self {
        let (heard, ends) = (Some(heard), [end; 3]);
        Self { name, tell, heard, alarm: None, late: false, waits: false, get: None, ends }
    }

    /// Makes a lie of the log's stream, which ends in alarm `code`, and keeps writers out.
    pub const fn fatal(name: &'static str, code: &'static str, tell: fn(&Scene) -> Told) -> Self {
        Self { alarm: Some(code), ..Self::idle(name, "GET /v1/log", End::Refused(code), tell) }
    }

    /// Returns its row of the book's table.
    pub fn row(&self) -> String {
        let alarm = self.alarm.map_or_else(|| "—".to_owned(), |code| format!("`{code}`"));
        let writes = match self.ends {
            [End::Done, End::Done, End::Done] => "done",
            [_, _, End::Done] => "refused, but for `machine remove`",
            _ => "refused",
        };
        format!("| {} | {alarm} | {writes} |", self.name)
    }
}
