//! `to` of a `[[forward]]`, and the keys that go with each kind.

use std::fmt;
use std::path::{Path, PathBuf};

use shared::path::SecretPath;

use super::super::absolute::checked_path;
use super::super::secret;

use super::written::{Body, Kind, Written};

/// The key that is wrong, and what is wrong with it.
pub(super) type Wrong = (&'static str, String);

/// Where journald takes records (systemd's *Native Journal Protocol*).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Where the host's syslog daemon listens.
const SYSLOG: &str = "/dev/log";
/// The host's program that sends mail.
const SENDMAIL: &str = "/usr/sbin/sendmail";
/// The size at which a file is set aside, unless the table says otherwise.
const FILE_BYTES: u64 = 16 << 20;
/// What a file may be at least, so that a line fits.
const LEAST_BYTES: u64 = 64 << 10;
/// The longest address of a mailbox (RFC 5321, section 4.5.3.1).
const LONGEST_MAILBOX: usize = 254;
/// Most receivers of one mail.
const RECEIVERS: usize = 16;

/// The facilities of syslog by their numbers (RFC 5424, section 6.2.1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "security", "console", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Where to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The host's journal.
    Journal(Journal),
    /// Lines of JSON in a file.
    File(File),
    /// A syslog daemon.
    Syslog(Syslog),
    /// Somebody who takes `POST`.
    Webhook(Box<Webhook>),
    /// Mailboxes.
    Mail(Mail),
}

impl Sink {
    /// Returns the word of the configuration for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Journal(_) => "journal",
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Webhook(_) => "webhook",
            Self::Mail(_) => "mail",
        }
    }
}

/// The host's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Its socket.
    pub socket: PathBuf,
}

/// Lines of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The file.
    pub path: PathBuf,
    /// The size at which it is set aside under its name with `.1` behind, in place of the one
    /// before.
    pub max_bytes: u64,
}

/// A syslog daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where it listens.
    pub address: SyslogAddress,
    /// The number of the facility.
    pub facility: u8,
}

/// Where a syslog daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A socket of this host, by datagrams.
    Unix(PathBuf),
    /// `host:port`, by datagrams (RFC 5426).
    Udp(String),
    /// `host:port`, counted in octets (RFC 6587, section 3.4.1).
    Tcp(String),
}

/// Somebody who takes `POST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where to.
    pub url: Private,
    /// What is sent.
    pub format: Body,
    /// Sent as a bearer token; for Telegram, the bot's.
    pub token: Option<Private>,
    /// Key of the signature over the body.
    pub hmac: Option<Private>,
    /// For Telegram: who gets it.
    pub chat: Option<String>,
}

/// What is better not in a configuration that others may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Private {
    /// It stands there all the same.
    Here(Hidden),
    /// It is the only line of a file that is this user's alone.
    File(PathBuf),
    /// It is a value of the vault.
    Secret {
        /// The secret.
        path: SecretPath,
        /// The key.
        key: String,
    },
}

/// A text that does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}

/// Mailboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Who gets it.
    pub to: Vec<String>,
    /// Who sends it; else the host's mail program says so.
    pub from: Option<String>,
    /// That program.
    pub sendmail: PathBuf,
}

/// Checks what stands beside `to`.
pub(super) fn checked(written: Written) -> Result<Sink, Wrong> {
    refuse_others(&written)?;
    Ok(match written.to {
        Kind::Journal => {
            Sink::Journal(Journal { socket: path("socket", written.socket, JOURNAL)? })
        }
        Kind::File => Sink::File(file(written.file, written.max_bytes)?),
        Kind::Syslog => Sink::Syslog(syslog(written.address, written.facility.as_deref())?),
        Kind::Webhook => Sink::Webhook(Box::new(webhook(written)?)),
        Kind::Mail => Sink::Mail(mail(written)?),
    })
}

/// Refuses keys of another kind: whoever wrote them expects something of them.
fn refuse_others(written: &Written) -> Result<(), Wrong> {
    let Written { file, max_bytes, socket, address, facility, format, chat, .. } = written;
    let Written { url, url_file, url_secret, token_file, token_secret, .. } = written;
    let Written { hmac_file, hmac_secret, mail_to, mail_from, sendmail, .. } = written;
    let keys = [
        ("file", Kind::File, file.is_some()),
        ("max_bytes", Kind::File, max_bytes.is_some()),
        ("socket", Kind::Journal, socket.is_some()),
        ("address", Kind::Syslog, address.is_some()),
        ("facility", Kind::Syslog, facility.is_some()),
        ("format", Kind::Webhook, format.is_some()),
        ("chat", Kind::Webhook, chat.is_some()),
        ("url", Kind::Webhook, url.is_some()),
        ("url_file", Kind::Webhook, url_file.is_some()),
        ("url_secret", Kind::Webhook, url_secret.is_some()),
        ("token_file", Kind::Webhook, token_file.is_some()),
        ("token_secret", Kind::Webhook, token_secret.is_some()),
        ("hmac_file", Kind::Webhook, hmac_file.is_some()),
        ("hmac_secret", Kind::Webhook, hmac_secret.is_some()),
        ("mail_to", Kind::Mail, mail_to.is_some()),
        ("mail_from", Kind::Mail, mail_from.is_some()),
        ("sendmail", Kind::Mail, sendmail.is_some()),
    ];
    match keys.into_iter().find(|(_, kind, is_there)| *is_there && *kind != written.to) {
        Some((key, kind, _)) => {
            let kind = format!("{kind:?}").to_lowercase();
            Err((key, format!("goes with `to = \"{kind}\"` alone")))
        }
        None => Ok(()),
    }
}

fn path(key: &'static str, given: Option<PathBuf>, default: &str) -> Result<PathBuf, Wrong> {
    let given = given.unwrap_or_else(|| PathBuf::from(default));
    absolute(key, &given)
}

fn absolute(key: &'static str, path: &Path) -> Result<PathBuf, Wrong> {
    checked_path::<serde::de::value::Error>(path).map_err(|why| (key, why.to_string()))
}

fn file(path: Option<PathBuf>, max_bytes: Option<u64>) -> Result<File, Wrong> {
    let path = path.ok_or_else(|| ("to", "needs `file`, the file to write".to_owned()))?;
    let max_bytes = max_bytes.unwrap_or(FILE_BYTES);
    if max_bytes < LEAST_BYTES {
        return Err(("max_bytes", format!("{max_bytes} is less than {LEAST_BYTES}")));
    }
    Ok(File { path: absolute("file", &path)?, max_bytes })
}

fn syslog(address: Option<String>, facility: Option<&str>) -> Result<Syslog, Wrong> {
    let text = address.unwrap_or_else(|| SYSLOG.to_owned());
    let wrong = || {
        let text = "is neither a socket such as \"/dev/log\" nor \"udp://HOST:PORT\" or \
                    \"tcp://HOST:PORT\"";
        ("address", text.to_owned())
    };
    let host = |host: &str| {
        let is_plain = host.chars().all(|c| c.is_ascii_graphic() && c != '/');
        let is_it = is_plain && is_address(host);
        if is_it { Ok(host.to_owned()) } else { Err(wrong()) }
    };
    let address = if let Some(rest) = text.strip_prefix("udp://") {
        SyslogAddress::Udp(host(rest)?)
    } else if let Some(rest) = text.strip_prefix("tcp://") {
        SyslogAddress::Tcp(host(rest)?)
    } else if text.starts_with('/') {
        SyslogAddress::Unix(absolute("address", Path::new(&text))?)
    } else {
        return Err(wrong());
    };
    let word = facility.unwrap_or("daemon");
    let number = FACILITIES.iter().position(|name| *name == word);
    let number = number.and_then(|number| u8::try_from(number).ok());
    let facility = number.ok_or_else(|| {
        let some = "use `daemon`, `auth`, `authpriv`, `user` or `local0` to `local7`";
        ("facility", format!("`{}` is no facility: {some}", word.escape_debug()))
    })?;
    Ok(Syslog { address, facility })
}

/// Tells whether a text is `host:port`.
fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn webhook(written: Written) -> Result<Webhook, Wrong> {
    let Written { url, url_file, url_secret, token_file, token_secret, .. } = written;
    let Written { hmac_file, hmac_secret, chat, format, .. } = written;
    let format = format.unwrap_or_default();
    if let Some(text) = &url {
        check_url(text).map_err(|why| ("url", why))?;
    }
    // Telegram has one address, and the token in it.
    let telegram = "https://api.telegram.org".to_owned();
    let default = (format == Body::Telegram).then_some(Private::Here(Hidden(telegram)));
    let here = url.map(|url| Private::Here(Hidden(url)));
    let url = private("url", "url_file", url_file, "url_secret", url_secret, here)?;
    let url = url.or(default);
    let url = url.ok_or_else(|| ("to", "needs `url`, `url_file` or `url_secret`".to_owned()))?;
    let token =
        private("token_file", "token_file", token_file, "token_secret", token_secret, None)?;
    let hmac = private("hmac_file", "hmac_file", hmac_file, "hmac_secret", hmac_secret, None)?;
    match (format, &token, &chat) {
        (Body::Telegram, Some(_), Some(chat)) => {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_@".contains(c);
            if chat.is_empty() || chat.len() > 64 || !chat.chars().all(is_plain) {
                let text = "is neither a number such as \"-1001234567890\" nor a \"@channel\"";
                return Err(("chat", text.to_owned()));
            }
        }
        (Body::Telegram, _, _) => {
            let text = "`telegram` needs `chat`, and the bot's token as `token_file` or \
                        `token_secret`";
            return Err(("format", text.to_owned()));
        }
        (Body::Json | Body::Text | Body::Ntfy, _, Some(_)) => {
            return Err(("chat", "goes with `format = \"telegram\"` alone".to_owned()));
        }
        (Body::Json | Body::Text | Body::Ntfy, _, None) => {}
    }
    Ok(Webhook { url, format, token, hmac, chat })
}

/// Takes the one of several ways to say something private that is given, if any.
fn private(
    key: &'static str,
    file_key: &'static str,
    file: Option<PathBuf>,
    secret_key: &'static str,
    secret: Option<String>,
    here: Option<Private>,
) -> Result<Option<Private>, Wrong> {
    let file = file.map(|file| absolute(file_key, &file).map(Private::File)).transpose()?;
    let secret = secret.map(|text| of_vault(secret_key, &text)).transpose()?;
    let mut given = [here, file, secret].into_iter().flatten();
    let first = given.next();
    if given.next().is_some() {
        return Err((key, format!("is given twice: as `{file_key}` or `{secret_key}` too")));
    }
    Ok(first)
}

fn of_vault(key: &'static str, text: &str) -> Result<Private, Wrong> {
    let wrong = || (key, "is no secret and key such as \"secret/ops/ntfy#TOKEN\"".to_owned());
    let (path, name) = text.rsplit_once('#').ok_or_else(wrong)?;
    if name.is_empty() {
        return Err(wrong());
    }
    let path = secret::parsed(path).map_err(|error| (key, error.detail))?;
    Ok(Private::Secret { path, key: name.to_owned() })
}

/// Refuses what is no address of the web; says nothing of what stands in it.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or("does not begin with `https://` or `http://`")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) || text.contains('#') {
        return Err("is no address of the web such as \"https://ntfy.sh/TOPIC\"".to_owned());
    }
    if authority.contains('@') {
        let way = "a password in it is not sent: use `token_file` or `token_secret`";
        return Err(way.to_owned());
    }
    Ok(())
}

fn mail(written: Written) -> Result<Mail, Wrong> {
    let Written { mail_to, mail_from, sendmail, .. } = written;
    let to = mail_to.unwrap_or_default();
    if to.is_empty() {
        return Err(("to", "needs `mail_to`, a list of mailboxes".to_owned()));
    }
    if to.len() > RECEIVERS {
        return Err(("mail_to", format!("has more than {RECEIVERS} mailboxes")));
    }
    let odd = |key, text: &String| {
        (key, format!("`{}` is no mailbox such as \"jonas@example.org\"", text.escape_debug()))
    };
    if let Some(bad) = to.iter().find(|text| !is_mailbox(text)) {
        return Err(odd("mail_to", bad));
    }
    if let Some(bad) = mail_from.iter().find(|text| !is_mailbox(text)) {
        return Err(odd("mail_from", bad));
    }
    Ok(Mail { to, from: mail_from, sendmail: path("sendmail", sendmail, SENDMAIL)? })
}

/// Tells whether a text is a mailbox that means the same to every program: no name beside it, no
/// quotes, nothing that ends a header. A name of this host alone counts.
fn is_mailbox(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let domain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let (local, at) = text.split_once('@').unwrap_or((text, "localhost"));
    text.len() <= LONGEST_MAILBOX
        && !local.is_empty()
        && !local.starts_with('-')
        && local.chars().all(plain)
        && !at.is_empty()
        && at.chars().all(domain)
}
