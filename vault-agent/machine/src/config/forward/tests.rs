//! What a `[[forward]]` may say, and what each mistake is answered with.

use std::path::Path;

use super::super::Config;
use super::*;

fn read(text: &str) -> Result<Vec<Arc<Forward>>, String> {
    let config = Config::parse(text, Path::new("agent.toml"));
    config.map(|config| config.forwards).map_err(|fault| fault.to_string())
}

fn sink(text: &str) -> Sink {
    let all = read(&format!("[[forward]]\nname = \"x\"\n{text}")).unwrap();
    all[0].to.clone()
}

#[test]
fn each_kind_has_its_keys() {
    let journal = sink("to = \"journal\"");
    assert_eq!(journal.word(), "journal");
    let Sink::File(file) = sink("to = \"file\"\nfile = \"/var/log/v.jsonl\"\nmax_bytes = 65536")
    else {
        panic!("a file")
    };
    assert_eq!((file.path.to_str(), file.max_bytes), (Some("/var/log/v.jsonl"), 65_536));
    for (address, expected) in [
        ("/dev/log", SyslogAddress::Unix("/dev/log".into())),
        ("udp://10.0.0.5:514", SyslogAddress::Udp("10.0.0.5:514".into())),
        ("tcp://logs.lan:601", SyslogAddress::Tcp("logs.lan:601".into())),
    ] {
        let text = format!("to = \"syslog\"\naddress = \"{address}\"\nfacility = \"local3\"");
        let Sink::Syslog(syslog) = sink(&text) else { panic!("syslog") };
        assert_eq!((syslog.address, syslog.facility), (expected, 19));
    }
    let text = "to = \"webhook\"\nformat = \"telegram\"\nchat = \"-100\"\n\
                token_secret = \"secret/ops/telegram#TOKEN\"";
    let Sink::Webhook(hook) = sink(text) else { panic!("a webhook") };
    let path = "secret/ops/telegram".parse().unwrap();
    assert_eq!(hook.token, Some(Private::Secret { path, key: "TOKEN".into() }));
    assert!(!format!("{hook:?}").contains("api.telegram.org"), "addresses do not print");
    let Sink::Mail(mail) = sink("to = \"mail\"\nmail_to = [\"root\", \"a@b.example\"]") else {
        panic!("mail")
    };
    assert_eq!(mail.sendmail.to_str(), Some("/usr/sbin/sendmail"));
}

#[test]
fn what_is_forwarded_has_defaults() {
    let all = read(
        "[[forward]]\nname = \"a\"\nto = \"journal\"\n[[forward]]\nname = \"b\"\nto = \"journal\"\n\
         what = [\"audit\"]\nbegins_after = \"0s\"\nends_after = \"2m\"\n\
         only = { op = \"act\", path = \"secret/*\", denied = true }",
    )
    .unwrap();
    let [a, b] = &all[..] else { panic!("two") };
    assert_eq!((a.alarms, a.audit, a.begins_after, a.ends_after), (true, false, BEGINS, ENDS));
    assert_eq!((b.alarms, b.audit, b.begins_after), (false, true, Duration::ZERO));
    assert_eq!((b.ends_after, b.only.denied), (Duration::from_mins(2), true));
}

#[test]
fn mistakes_are_named() {
    for (text, key, why) in [
        ("to = \"file\"", "to", "needs `file`"),
        ("to = \"file\"\nfile = \"x\"", "file", "is not absolute"),
        ("to = \"file\"\nfile = \"/x\"\nmax_bytes = 5", "max_bytes", "5 is less than 65536"),
        ("to = \"journal\"\nurl = \"https://x\"", "url", "goes with `to = \"webhook\"` alone"),
        ("to = \"syslog\"\naddress = \"logs:514\"", "address", "is neither a socket"),
        ("to = \"syslog\"\naddress = \"udp://logs\"", "address", "is neither a socket"),
        ("to = \"syslog\"\nfacility = \"x\"", "facility", "is no facility"),
        ("to = \"webhook\"", "to", "needs `url`"),
        ("to = \"webhook\"\nurl = \"ftp://x\"", "url", "does not begin with `https://`"),
        ("to = \"webhook\"\nurl = \"https://a:b@x\"", "url", "a password in it is not sent"),
        ("to = \"webhook\"\nurl = \"https://x\"\nurl_file = \"/y\"", "url", "is given twice"),
        ("to = \"webhook\"\nurl = \"https://x\"\nchat = \"1\"", "chat", "`format = \"telegram\"`"),
        ("to = \"webhook\"\nformat = \"telegram\"\nchat = \"1\"", "format", "needs `chat`"),
        ("to = \"webhook\"\nurl_secret = \"secret/x\"", "url_secret", "is no secret and key"),
        ("to = \"mail\"", "to", "needs `mail_to`"),
        ("to = \"mail\"\nmail_to = [\"a@b\\nBcc: c@d\"]", "mail_to", "is no mailbox"),
        ("to = \"mail\"\nmail_to = [\"-oQ/tmp\"]", "mail_to", "is no mailbox"),
        ("to = \"journal\"\nwhat = []", "what", "names nothing"),
        ("to = \"journal\"\nonly = { op = \"read\" }", "only", "are of audit records"),
        ("to = \"journal\"\nwhat = [\"audit\"]\nonly = { op = \"reed\" }", "only", "`reed`"),
        ("to = \"journal\"\nwhat = [\"audit\"]\nonly = { code = \"x\" }", "only", "of alarms"),
        ("to = \"journal\"\nends_after = \"2 days\"", "ends_after", "is no time"),
        ("to = \"journal\"\nends_after = \"25h\"", "ends_after", "is no time"),
    ] {
        let fault = read(&format!("[[forward]]\nname = \"x\"\n{text}")).unwrap_err();
        assert!(fault.contains(key) && fault.contains(why), "{text}\n{fault}");
    }
    let twice = "[[forward]]\nname = \"x\"\nto = \"journal\"\n".repeat(2);
    assert!(read(&twice).unwrap_err().contains("is the name of another"));
    let table = |n| format!("[[forward]]\nname = \"x{n}\"\nto = \"journal\"\n");
    let many: String = (0..=MOST).map(table).collect();
    assert!(read(&many).unwrap_err().contains("more than 16"));
    let secret = "[[forward]]\nname = \"x\"\nto = \"webhook\"\nurl = \"ftp://sesame\"";
    assert!(!read(secret).unwrap_err().contains("sesame"), "an address is not told");
}
