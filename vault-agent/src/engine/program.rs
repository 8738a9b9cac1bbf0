//! Which program this machine and the others run, and whether it is still the file on the disk of
//! its host: who has upgraded one without a restart is told.

use shared::time::Time;

use super::report::Reports;
use host::process;
use machine::local::Program;

/// Nobody is told of a program that was replaced more recently: an upgrade takes seconds.
const UPGRADE_SECONDS: u64 = 30;

/// Shows a program as somebody has named it.
pub(super) fn shown(version: String, replaced: Option<Time>, now: Time) -> Program {
    let is_over = |at: &Time| now.seconds_since(*at) >= UPGRADE_SECONDS;
    Program { version, replaced: replaced.filter(is_over) }
}

impl Reports {
    /// Looks whether this process is still the program on the disk, and tells the others if that
    /// has changed. Returns since when it is not.
    pub(super) fn look_at_program(&self) -> Option<Time> {
        let replaced = process::replaced();
        let set = self.posting().set_replaced(replaced);
        match set {
            Ok(true) => self.reporting.soon(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the program is not reported"),
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_that_is_under_way_is_nobodys_trouble() {
        let at = Time::from_micros(1_000_000_000);
        for (seconds, told) in [(0, None), (29, None), (30, Some(at)), (9_000, Some(at))] {
            let now = at.plus(seconds * 1_000_000);
            assert_eq!(shown(String::new(), Some(at), now).replaced, told, "{seconds} s");
        }
        assert_eq!(shown("vault-agent 0.1.0".into(), None, at).replaced, None);
        assert_eq!(shown(String::new(), Some(at), Time::default()).replaced, None, "a clock ahead");
    }
}
