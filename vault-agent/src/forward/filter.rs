//! Which alarms and records one is told of. Pure; the words are those of `vault audit log`.

use shared::audit::{Op, Record};
use shared::path::SecretPath;
use shared::text::like;
use shared::wire::v1::audit::AuditQuery;

use machine::config::Only;
use machine::who;

use super::track::Id;

/// The alarm of one who is told that it cannot be.
pub const FAILING: &str = "E_FORWARD";

/// Tells whether the one called `name` is told of a finding: never of its own failure, which it
/// would learn of when that is over.
pub fn is_told(only: &Only, name: &str, id: &Id) -> bool {
    let is_own = id.code == FAILING && id.subject == name;
    let machine = id.machine.as_deref().unwrap_or("");
    !is_own
        && only.code.as_deref().is_none_or(|code| like(code, &id.code))
        && only.machine.as_deref().is_none_or(|wanted| like(wanted, machine))
}

/// Returns what the server is asked for: all that is wanted, and perhaps more.
pub fn query(only: &Only) -> AuditQuery {
    let plain = |text: &&String| !text.contains('*');
    AuditQuery {
        machine: only.machine.as_ref().filter(plain).cloned(),
        path: only.path.clone(),
        op: only.op.as_deref().map(Op::from),
        denied: only.denied,
        ..AuditQuery::default()
    }
}

/// Tells whether a record is wanted.
pub fn keeps(only: &Only, record: &Record) -> bool {
    let Only { machine, op, path, process, user, denied, .. } = only;
    let fact = &record.fact;
    let ops = op.as_deref().map(|op| Op::from(op).meant());
    let at = fact.path.as_ref().map(SecretPath::as_str);
    let by = fact.machine.as_ref().map(ToString::to_string).unwrap_or_default();
    (!denied || fact.is_refusal())
        && ops.is_none_or(|ops| ops.iter().any(|op| op == fact.op.as_str()))
        && path.as_deref().is_none_or(|path| at.is_some_and(|at| like(path, at)))
        && machine.as_deref().is_none_or(|wanted| like(wanted, &by))
        && process.as_deref().is_none_or(|name| who::is_process(record, name))
        && user.as_deref().is_none_or(|name| who::is_user(record, name))
}

#[cfg(test)]
mod tests {
    use shared::audit::Fact;
    use shared::hash::Hash;
    use shared::time::Time;

    use super::*;

    #[test]
    fn filters_say_what_people_mean() {
        let fact = Fact {
            machine: "vps".parse().ok(),
            path: "secret/a".parse().ok(),
            who: "python3[8] uid 1000 (jonas)".parse().ok(),
            ..Fact::new(Op::LocalRead)
        };
        let record = Record { n: 1, nonce: Hash::ZERO, time: Time::default(), fact };
        let some = |word: &str| Some(word.to_owned());
        for (only, expected) in [
            (Only::default(), true),
            (Only { op: some("read"), ..<_>::default() }, true),
            (Only { op: some("write"), ..<_>::default() }, false),
            (Only { path: some("secret/*"), ..<_>::default() }, true),
            (Only { machine: some("v*"), ..<_>::default() }, true),
            (Only { machine: some("rtx"), ..<_>::default() }, false),
            (Only { process: some("python*"), ..<_>::default() }, true),
            (Only { user: some("root"), ..<_>::default() }, false),
            (Only { denied: true, ..<_>::default() }, false),
        ] {
            assert_eq!(keeps(&only, &record), expected, "{only:?}");
        }
    }

    #[test]
    fn nobody_is_told_of_their_own_failure() {
        let id = |code: &str, subject: &str| Id {
            code: code.to_owned(),
            machine: Some("vps".to_owned()),
            target: None,
            secret: None,
            subject: subject.to_owned(),
        };
        let all = Only::default();
        assert!(!is_told(&all, "ntfy", &id(FAILING, "ntfy")));
        assert!(
            is_told(&all, "ntfy", &id(FAILING, "mail")) && is_told(&all, "ntfy", &id("x", "ntfy"))
        );
        let codes = Only { code: Some("E_*".to_owned()), ..<_>::default() };
        assert!(
            is_told(&codes, "ntfy", &id("E_FORK", "")) && !is_told(&codes, "ntfy", &id("lags", ""))
        );
    }
}
