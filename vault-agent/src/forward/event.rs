//! What is told, and how it reads: as a title and lines for people, as JSON for programs. Nothing
//! in it steers a terminal or forges a line. Who is told, and how, does not live here.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::audit::Record;
use shared::text::visible;
use shared::time::Time;
use uuid::Uuid;

use machine::findings::Finding;
use machine::who;

/// The longest text of an alarm, in characters.
const TEXT: usize = 1_000;
/// The longest of its other texts.
const PART: usize = 300;

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The same however often it is sent, and of no other.
    pub id: String,
    /// When this agent noticed it; of a record when the server wrote it.
    pub time: Time,
    /// What has happened.
    pub event: Event,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Something is not as it should be.
    Begins(Alarm),
    /// It is over.
    Ends(Alarm),
    /// An audit record: its text as the chain hashes it.
    Record(String),
    /// Older messages were dropped: how many since this was last told.
    Dropped(u64),
    /// Audit records that cannot be had any more: the first and the last.
    Gap(u64, u64),
    /// Somebody wants to see whether messages come.
    Test,
}

/// A finding, in visible text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The kind, as scripts read it.
    pub code: String,
    /// The machine that it is about; `None` for the server.
    pub machine: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The secret.
    pub secret: Option<String>,
    /// What is the matter.
    pub text: String,
    /// Since when, as far as anybody knows.
    pub since: Option<Time>,
    /// What to type.
    pub todo: String,
}

impl Alarm {
    /// Takes a finding.
    pub fn of(finding: &Finding) -> Self {
        let Finding { kind, machine, target, secret, text, since, todo } = finding;
        Self {
            code: shown(kind.word(), PART),
            machine: machine.as_ref().map(ToString::to_string),
            target: target.as_ref().map(|target| shown(target, PART)),
            secret: secret.as_ref().map(|secret| shown(secret.as_str(), PART)),
            text: shown(text, TEXT),
            since: *since,
            todo: shown(todo, PART),
        }
    }
}

/// Cuts a text, and writes out what cannot be seen in it.
fn shown(text: &str, most: usize) -> String {
    let cut: String = text.chars().take(most).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    visible(&cut, &[]) + dots
}

/// Who tells, of which vault.
#[derive(Clone, Debug)]
pub struct Teller {
    /// The vault's name.
    pub vault: String,
    /// This machine.
    pub from: String,
}

/// How much a message matters, as syslog numbers it (RFC 5424, section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Somebody should look.
    Warning,
    /// It is over, or only a test.
    Notice,
    /// A record.
    Info,
}

impl Severity {
    /// Returns the number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Info => 6,
        }
    }
}

impl Message {
    /// Makes a message of now.
    pub fn new(time: Time, event: Event) -> Self {
        Self { id: Uuid::new_v4().to_string(), time, event }
    }

    /// Makes the message of a record.
    pub fn of_record(record: &Record, text: String) -> Self {
        let id = format!("audit-{}", record.n);
        Self { id, time: record.time, event: Event::Record(text) }
    }

    /// Returns a word for what it is.
    pub const fn word(&self) -> &'static str {
        match self.event {
            Event::Begins(_) | Event::Ends(_) => "alarm",
            Event::Record(_) => "audit",
            Event::Dropped(_) => "dropped",
            Event::Gap(..) => "gap",
            Event::Test => "test",
        }
    }

    /// Tells how much it matters.
    pub const fn severity(&self) -> Severity {
        match self.event {
            Event::Begins(_) | Event::Dropped(_) | Event::Gap(..) => Severity::Warning,
            Event::Ends(_) | Event::Test => Severity::Notice,
            Event::Record(_) => Severity::Info,
        }
    }

    /// Returns one line that says what it is about.
    pub fn title(&self, teller: &Teller) -> String {
        let vault = visible(&teller.vault, &[]);
        let rest = match &self.event {
            Event::Begins(alarm) => format!("{} {}", alarm.code, place(alarm)),
            Event::Ends(alarm) => format!("over: {} {}", alarm.code, place(alarm)),
            Event::Record(text) => match Record::parse(text.as_bytes()) {
                Ok(record) => visible(&line(&record), &[]),
                Err(_) => "an audit record".to_owned(),
            },
            Event::Dropped(_) => format!("messages dropped by {}", teller.from),
            Event::Gap(..) => "audit records are missing".to_owned(),
            Event::Test => format!("test from {}", teller.from),
        };
        format!("vault {vault}: {rest}")
    }

    /// Returns lines for people, without the title.
    pub fn text(&self, teller: &Teller) -> String {
        let from = &teller.from;
        match &self.event {
            Event::Begins(alarm) => {
                let since = alarm.since.map(|at| format!("since {at}\n")).unwrap_or_default();
                format!("{}\n{since}hint: {}\ntold by {from}", about(alarm), alarm.todo)
            }
            Event::Ends(alarm) => {
                let since = alarm.since.map(|at| format!(", began {at}")).unwrap_or_default();
                format!("over: {}\nended {}{since}\ntold by {from}", about(alarm), self.time)
            }
            Event::Record(text) => visible(text, &[]),
            Event::Dropped(count) => format!(
                "{count} messages were dropped: they could not be told for too long\nhint: `vault \
                 status` says how all stand\ntold by {from}"
            ),
            Event::Gap(first, last) => format!(
                "audit records {first} to {last} are not told: they have left the server's \
                 database\nhint: `vault audit export` on the server's archive\ntold by {from}"
            ),
            Event::Test => format!("this is a test: nothing is wrong\ntold by {from}"),
        }
    }

    /// Returns one JSON object on one line, of visible text.
    pub fn json(&self, teller: &Teller) -> String {
        let mut value = json!({
            "v": 1,
            "id": self.id,
            "time": self.time.to_string(),
            "vault": teller.vault,
            "from": teller.from,
            "event": self.word(),
            "title": self.title(teller),
            "text": self.text(teller),
        });
        match &self.event {
            Event::Begins(alarm) | Event::Ends(alarm) => {
                let is_over = matches!(self.event, Event::Ends(_));
                value["state"] = if is_over { "ends" } else { "begins" }.into();
                for (name, part) in [
                    ("code", Some(&alarm.code)),
                    ("machine", alarm.machine.as_ref()),
                    ("target", alarm.target.as_ref()),
                    ("secret", alarm.secret.as_ref()),
                    ("what", Some(&alarm.text)),
                    ("todo", Some(&alarm.todo)),
                ] {
                    value[name] = part.map_or(Value::Null, |part| part.as_str().into());
                }
                let time = |at: Option<Time>| at.map_or(Value::Null, |at| at.to_string().into());
                value["since"] = time(alarm.since);
                value["ended"] = time(is_over.then_some(self.time));
            }
            Event::Record(text) => {
                // The very bytes: whoever has them can compute the chain's leaf.
                let raw = RawValue::from_string(text.clone()).ok();
                // Line ends between its parts, which no server of ours writes, would not stay JSON.
                let raw = raw.filter(|_| !text.contains(char::is_control));
                let Some(raw) = raw else { return visible(&value.to_string(), &[]) };
                let whole = WithRecord { value: &value, record: &raw };
                let whole = serde_json::to_string(&whole).unwrap_or_else(|_| value.to_string());
                return visible(&whole, &[]);
            }
            Event::Dropped(count) => value["count"] = (*count).into(),
            Event::Gap(first, last) => {
                (value["first"], value["last"]) = ((*first).into(), (*last).into());
            }
            Event::Test => {}
        }
        visible(&value.to_string(), &[])
    }
}

/// A message, and the record's text as it is.
#[derive(Serialize)]
struct WithRecord<'a> {
    #[serde(flatten)]
    value: &'a Value,
    record: &'a RawValue,
}

fn place(alarm: &Alarm) -> String {
    alarm.machine.as_ref().map_or("at the server".to_owned(), |machine| format!("on {machine}"))
}

/// Says what an alarm is about in one line, as `vault status` does.
fn about(alarm: &Alarm) -> String {
    let machine = alarm.machine.as_ref().map(|it| format!("{it} ")).unwrap_or_default();
    let target = alarm.target.as_ref().map(|it| format!("{it}: ")).unwrap_or_default();
    format!("{machine}{target}{}", alarm.text)
}

/// Says what a record says: which machine, who, what, and what came of it.
pub fn line(record: &Record) -> String {
    let fact = &record.fact;
    let machine = fact.machine.as_ref().map(|it| format!("{it} ")).unwrap_or_default();
    let path = fact.path.as_ref().map(|it| format!(" {it}")).unwrap_or_default();
    let ver = fact.ver.filter(|ver| *ver > 0).map(|ver| format!(" v{ver}")).unwrap_or_default();
    let (who, op, result) = (who::shown(record), &fact.op, &fact.result);
    format!("{machine}{who}: {op}{path}{ver}: {result}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teller() -> Teller {
        Teller { vault: "home".to_owned(), from: "rtx1080".to_owned() }
    }

    fn alarm() -> Alarm {
        let finding = Finding {
            kind: machine::findings::Kind::Hook,
            machine: "vps".parse().ok(),
            target: Some("/a\u{1b}[2J\nBcc: x".to_owned()),
            secret: "secret/a".parse().ok(),
            text: format!("hook failed: {}", "x".repeat(5_000)),
            since: Some(Time::from_micros(1_000_000)),
            todo: "`journalctl`".to_owned(),
        };
        Alarm::of(&finding)
    }

    #[test]
    fn nothing_steers_or_forges_a_line() {
        let message = Message::new(Time::from_micros(2_000_000), Event::Begins(alarm()));
        assert_eq!(message.title(&teller()), "vault home: hook_failed on vps");
        let text = message.text(&teller());
        assert!(text.starts_with("vps /a\\u001b[2J\\nBcc: x: hook failed: xxx"), "{text}");
        assert_eq!(text.lines().count(), 4);
        assert!(text.len() < 1_500);
        let json = message.json(&teller());
        assert!(!json.contains(char::is_control), "{json}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["event"], &value["state"]), (&json!("alarm"), &json!("begins")));
        assert_eq!(value["target"], "/a\\u001b[2J\\nBcc: x");
        assert_eq!(value["since"], "1970-01-01T00:00:01Z");
        let over = Message::new(Time::from_micros(2_000_000), Event::Ends(alarm()));
        let value: Value = serde_json::from_str(&over.json(&teller())).unwrap();
        assert_eq!(
            (&value["state"], &value["ended"]),
            (&json!("ends"), &json!("1970-01-01T00:00:02Z"))
        );
    }

    #[test]
    fn a_record_keeps_its_very_bytes() {
        let nonce = "00".repeat(32);
        let text = format!(
            "{{\"n\":7,\"nonce\":\"{nonce}\",\"time\":1000000,\"machine\":\"vps\",\
             \"who\":\"python3[8] uid 1000 (jonas)\",\"op\":\"local_read\",\
             \"path\":\"secret/a\",\"ver\":2,\"result\":\"ok\"}}"
        );
        let record = Record::parse(text.as_bytes()).unwrap();
        let message = Message::of_record(&record, text.clone());
        assert_eq!(message.id, "audit-7");
        let title = "vault home: vps python3[8] jonas: local_read secret/a v2: ok";
        assert_eq!(message.title(&teller()), title);
        assert!(message.json(&teller()).contains(&format!("\"record\":{text}")));
    }
}
