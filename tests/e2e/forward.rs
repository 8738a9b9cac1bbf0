//! Alarms and audit records that are told unasked: once each, over restarts, whatever the other
//! side does; and figures as Prometheus reads them.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tests::{Daemon, Host, Port, World, bins, script, watch};

/// Takes a connection, and never answers.
pub const SILENT: u16 = 0;

/// Somebody who takes `POST`, as they please.
pub struct Receiver {
    url: String,
    status: Arc<AtomicU16>,
    /// The answer to audit records, where it is another.
    to_records: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    pub fn new(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook-of-nobody", listener.local_addr().unwrap());
        let (status, to_records, got) = (Arc::new(status.into()), Arc::default(), Arc::default());
        let receiver = Self { url, status, to_records, got };
        let (status, to_records) = (receiver.status.clone(), receiver.to_records.clone());
        let got = receiver.got.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (status, to_records, got) = (status.clone(), to_records.clone(), got.clone());
                std::thread::spawn(move || take(&stream, (&status, &to_records), &got));
            }
        });
        receiver
    }

    /// Has audit records answered otherwise; 0 as all else.
    pub fn answer_records(&self, status: u16) {
        self.to_records.store(status, Ordering::Relaxed);
    }

    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Returns what it has taken: heads and bodies.
    pub fn taken(&self) -> Vec<(String, String)> {
        self.got.lock().unwrap().clone()
    }

    /// Returns the bodies that are alarms, each as state and code.
    pub fn alarms(&self) -> Vec<String> {
        self.told().into_iter().map(|(_, alarm)| alarm).collect()
    }

    /// The same, where the agent was killed meanwhile: what was sent and not noted yet comes again,
    /// with the same id.
    fn distinct_alarms(&self) -> Vec<String> {
        let mut told = self.told();
        told.dedup();
        told.into_iter().map(|(_, alarm)| alarm).collect()
    }

    /// Returns the alarms with their ids.
    fn told(&self) -> Vec<(String, String)> {
        let bodies = self.taken().into_iter().map(|(_, body)| serde_json::from_str(&body).unwrap());
        let alarms = bodies.filter(|body: &Value| body["event"] == "alarm");
        let text = |body: &Value, name: &str| body[name].as_str().unwrap().to_owned();
        let shown = |body: Value| {
            let alarm = format!("{} {}", text(&body, "state"), text(&body, "code"));
            (text(&body, "id"), alarm)
        };
        alarms.map(shown).collect()
    }
}

/// Takes the requests of one connection; those that are answered with success are kept.
fn take(
    stream: &TcpStream,
    (status, to_records): (&AtomicU16, &AtomicU16),
    got: &Mutex<Vec<(String, String)>>,
) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| {
            line.to_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        let of_record = Some(to_records.load(Ordering::Relaxed)).filter(|code| *code > 0);
        let of_record = of_record.filter(|_| body.contains(r#""event":"audit""#));
        let code = of_record.unwrap_or_else(|| status.load(Ordering::Relaxed));
        if code == SILENT {
            // Until the other side gives up.
            let _ = reader.read(&mut [0]);
            return;
        }
        if code < 300 {
            got.lock().unwrap().push((head, body));
        }
        let answer = format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n");
        if (&*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Adds tables to a host's configuration, which only its user may read: all at once.
pub fn configure(host: &Host, text: &str) {
    let file = host.state().join("agent.toml");
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    let draft = file.with_extension("draft");
    let mut out = std::fs::File::create(&draft).unwrap();
    write!(out, "{before}\n{text}").unwrap();
    out.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&draft, &file).unwrap();
}

/// A `[[forward]]` that is told soon.
pub fn forward(name: &str, rest: &str) -> String {
    format!("[[forward]]\nname = \"{name}\"\nbegins_after = \"1s\"\nends_after = \"1s\"\n{rest}\n")
}

pub fn webhook(receiver: &Receiver) -> String {
    format!("to = \"webhook\"\nurl = \"{}\"", receiver.url)
}

/// Makes a target whose secret does not exist: an alarm.
pub fn want_in_vain(host: &Host, file: &Path, secret: &str) {
    let _ = host.agent_command(&["target", "add", file.to_str().unwrap(), secret]).ok();
}

pub fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub const BEGINS: &str = "begins missing";
pub const ENDS: &str = "ends missing";

#[test]
fn an_alarm_is_told_once_when_it_begins_and_once_when_it_ends_over_a_kill() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    let receiver = Receiver::new(200);
    let (key, file) = (rtx.dir.join("key"), rtx.dir.join("home/told.jsonl"));
    let mut out = std::fs::File::create(&key).unwrap();
    out.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    out.write_all(b"Jefe\n").unwrap();
    let signed = format!("{}\nhmac_file = \"{}\"", webhook(&receiver), key.display());
    let to_file = format!("to = \"file\"\nfile = \"{}\"", file.display());
    configure(&rtx, &(forward("hook", &signed) + &forward("lines", &to_file)));
    let tested = watch::poll("a test is sent", || {
        let ran = rtx.agent_command(&["forward", "test"]);
        (ran.code == 0 && ran.err.contains("hook")).then_some(ran)
    });
    assert!(tested.err.contains("hook (webhook): sent\nlines (file): sent"), "{}", tested.err);

    let hostile = rtx.dir.join("home/e\"]\\v.env");
    want_in_vain(&rtx, &hostile, "secret/app/none");
    watch::poll("the begin", || (receiver.alarms() == [BEGINS]).then_some(()));
    rtx.agent.as_mut().unwrap().kill();
    rtx.start();
    // Rotated meanwhile: what comes is in the file of that name.
    watch::poll("the begin in the file", || (lines(&file).len() >= 2).then_some(()));
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::rename(&file, file.with_extension("old")).unwrap();
    let _ = rtx.vault(&["kv", "put", "secret/app/none", "A=sesame-open-thyself"]).ok();
    watch::poll("the end", || (receiver.distinct_alarms() == [BEGINS, ENDS]).then_some(()));
    watch::poll("the end in the file", || (lines(&file).len() == 1).then_some(()));
    assert_eq!(lines(&file)[0]["state"], "ends");

    let (head, body) =
        receiver.taken().into_iter().find(|(_, body)| body.contains("begins")).unwrap();
    assert!(head.to_lowercase().contains("x-hub-signature-256: sha256="), "{head}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["machine"], "rtx1080");
    assert_eq!(told["target"], "~/e\"]\\v.env");
    assert!(told["todo"].as_str().unwrap().contains("vault kv put"), "{told}");
    let log = rtx.agent.as_ref().unwrap().log();
    let status = rtx.vault(&["status"]);
    let list = rtx.agent_command(&["forward", "list"]);
    for text in [&log, &status.out, &status.err, &list.out] {
        assert!(!text.contains("hook-of-nobody"), "an address is told: {text}");
    }
    assert!(!receiver.taken().iter().any(|(_, body)| body.contains("sesame-open")));
}

#[test]
fn who_does_not_answer_or_fails_holds_nobody_up_and_gets_all_later() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let (silent, failing, well) = (Receiver::new(SILENT), Receiver::new(500), Receiver::new(200));
    let all = [("silent", &silent), ("failing", &failing), ("well", &well)];
    configure(&rtx, &all.map(|(name, it)| forward(name, &webhook(it))).concat());
    want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
    watch::poll("the one that is well", || (well.alarms() == [BEGINS]).then_some(()));
    let _ = rtx.vault(&["kv", "put", "secret/app/none", "A=1"]).ok();
    watch::until(&rtx.env_file(), |text| text.contains("A=1\n"));
    watch::poll("the end", || (well.alarms() == [BEGINS, ENDS]).then_some(()));
    let list = watch::poll("both wait", || {
        let ran = rtx.agent_command(&["forward", "list"]);
        ran.out.contains("it answered 500").then_some(ran)
    });
    assert_eq!(list.code, 2);
    failing.answer(204);
    silent.answer(200);
    for receiver in [&failing, &silent] {
        watch::poll("all of it", || (receiver.alarms() == [BEGINS, ENDS]).then_some(()));
    }
}

#[test]
fn records_come_once_each_and_in_order_over_a_restart() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    let file = rtx.dir.join("home/records.jsonl");
    let only = "only = { op = \"read\", path = \"secret/app/*\" }";
    let text = format!("what = [\"audit\"]\n{only}\nto = \"file\"\nfile = \"{}\"", file.display());
    configure(&rtx, &forward("siem", &text));
    let _ = rtx.vault(&["kv", "put", "secret/app/a", "A=1"]).ok();
    let _ = rtx.vault(&["kv", "put", "secret/other", "A=1"]).ok();
    let is_begun = || rtx.agent_command(&["forward", "list"]).out.contains("siem");
    watch::poll("it is begun", || is_begun().then_some(()));
    let reads = |host: &Host, count: usize| {
        for _ in 0..count {
            let _ = host.vault(&["kv", "get", "secret/app/a"]).ok();
            let _ = host.vault(&["kv", "get", "secret/other"]).ok();
        }
    };
    let told = || -> Vec<(u64, String)> {
        let number = |line: Value| {
            (line["record"]["n"].as_u64().unwrap(), line["record"]["path"].to_string())
        };
        lines(&file).into_iter().map(number).collect()
    };
    // Until one comes the log may not have been looked at for the first time.
    watch::poll("a record", || {
        reads(&rtx, 1);
        (!told().is_empty()).then_some(())
    });
    reads(&rtx, 3);
    rtx.stop();
    rtx.start();
    reads(&rtx, 2);
    let log = |host: &Host| -> Vec<u64> {
        let args = ["audit", "log", "--op", "read", "--path", "secret/app/*", "-format=json"];
        let text = host.vault(&[&args[..], &["-n", "1000"]].concat()).ok();
        let all: Vec<Value> = serde_json::from_str(&text).unwrap();
        all.iter().map(|record| record["n"].as_u64().unwrap()).collect()
    };
    watch::poll("every record since the first", || {
        let (told, log) = (told(), log(&rtx));
        let first = told.first()?.0;
        let due: Vec<u64> = log.into_iter().filter(|n| *n >= first).collect();
        let told: Vec<u64> = told.iter().map(|(n, _)| *n).collect();
        (told == due).then_some(())
    });
    assert!(told().iter().all(|(_, path)| path == "\"secret/app/a\""));
}

#[test]
fn a_token_of_the_vault_is_used_and_its_read_is_on_record() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let receiver = Receiver::new(200);
    let _ = rtx.vault(&["kv", "put", "secret/ops/telegram", "TOKEN=123:sesame"]).ok();
    let url = format!("url = \"{}\"", receiver.url.replace("/hook-of-nobody", ""));
    let text = format!(
        "to = \"webhook\"\nformat = \"telegram\"\nchat = \"-100\"\n{url}\n\
         token_secret = \"secret/ops/telegram#TOKEN\""
    );
    configure(&rtx, &forward("telegram", &text));
    let sent = watch::poll("the test is sent", || {
        let ran = rtx.agent_command(&["forward", "test", "telegram"]);
        (ran.code == 0).then_some(ran)
    });
    assert!(sent.err.contains("telegram (webhook): sent"), "{}", sent.err);
    let (head, body) = receiver.taken().remove(0);
    assert!(head.starts_with("POST /bot123:sesame/sendMessage HTTP/1.1"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["chat_id"], "-100");
    assert!(body["text"].as_str().unwrap().contains("this is a test"), "{body}");
    watch::poll("the read is on record", || {
        let log = rtx.vault(&["audit", "log", "--path", "secret/ops/telegram", "--op", "read"]);
        log.out.contains("for telegram").then_some(())
    });
    receiver.answer(401);
    let refused = rtx.agent_command(&["forward", "test", "telegram"]);
    assert!(refused.code == 2 && refused.err.contains("it answered 401"), "{}", refused.err);
    let log = rtx.agent.as_ref().unwrap().log();
    for text in [&refused.err, &log] {
        assert!(!text.contains("sesame"), "{text}");
    }
    let nobody = rtx.agent_command(&["forward", "test", "nobody"]);
    assert!(nobody.err.contains("no `[[forward]]` of `agent.toml` is called `nobody`"));
}

#[test]
fn the_journal_syslog_and_mail_are_told_in_their_own_ways() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let home = rtx.dir.join("home");
    let journal = UnixDatagram::bind(home.join("journal")).unwrap();
    let syslog = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    syslog.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let sendmail = home.join("sendmail");
    let text = format!("#!/bin/sh\necho \"$@\" > {0}/args\ncat > {0}/mail\n", home.display());
    script(&sendmail, &text);
    let text = [
        forward("journal", &format!("to = \"journal\"\nsocket = \"{}/journal\"", home.display())),
        forward(
            "udp",
            &format!("to = \"syslog\"\naddress = \"udp://{}\"", syslog.local_addr().unwrap()),
        ),
        forward(
            "tcp",
            &format!("to = \"syslog\"\naddress = \"tcp://{}\"", tcp.local_addr().unwrap()),
        ),
        forward(
            "mail",
            &format!(
                "to = \"mail\"\nmail_to = [\"root\"]\nmail_from = \"vault@x.example\"\nsendmail = \"{}\"",
                sendmail.display()
            ),
        ),
    ];
    configure(&rtx, &text.concat());
    watch::poll("all are told", || {
        let ran = rtx.agent_command(&["forward", "test"]);
        (ran.code == 0 && ran.err.lines().count() == 4).then_some(())
    });
    let mut datagram = [0; 65_536];
    let length = journal.recv(&mut datagram).unwrap();
    let fields = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert!(fields.contains("VAULT_EVENT") && fields.contains("MESSAGE_ID"), "{fields:?}");
    let length = syslog.recv(&mut datagram).unwrap();
    let line = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert!(line.starts_with("<29>1 20") && line.contains(" vault-agent "), "{line}");
    let (stream, _) = tcp.accept().unwrap();
    let mut frame = Vec::new();
    let count = BufReader::new(&stream).read_until(b'>', &mut frame).unwrap();
    let frame = String::from_utf8_lossy(&frame[..count]).into_owned();
    assert!(frame.split_once(" <29>").is_some_and(|(n, _)| n.parse::<usize>().is_ok()), "{frame}");
    let mail = watch::until(&home.join("mail"), |text| text.contains("\n\n"));
    assert!(mail.contains("Subject: vault ") && mail.contains("To: root\n"), "{mail}");
    assert_eq!(std::fs::read_to_string(home.join("args")).unwrap(), "-t -i\n");
}

/// Asks an address for its figures.
fn figures(address: std::net::SocketAddr, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Returns the figures that a text of ours names.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut found = BTreeSet::new();
    for start in ["vault_agent_", "vault_server_"] {
        for (at, _) in text.match_indices(start) {
            let rest = &text[at..];
            let name = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            found.insert(base.unwrap_or(name).trim_end_matches('_').to_owned());
        }
    }
    found
}

#[test]
fn what_dashboard_and_rules_name_is_there_and_pages_of_others_get_nothing() {
    let mut world = World::new(bins!());
    let (of_server, of_agent) = (Port::reserve(), Port::reserve());
    world.server.as_mut().unwrap().stop();
    let listen = of_server.address().to_string();
    let run = world.program(&["run", "--metrics-listen", &listen]);
    world.server = Some(Daemon::start(run, &world.log_file()));
    let mut rtx = world.owner("rtx1080");
    rtx.stop();
    configure(&rtx, &format!("[metrics]\nlisten = \"{}\"\n", of_agent.address()));
    rtx.start();
    let _ = rtx.vault(&["kv", "put", "secret/app/a", "A_KEY_OF_MINE=1"]).ok();
    rtx.target(&["secret/app/a"]);
    watch::until(&rtx.env_file(), |text| text.contains("A_KEY_OF_MINE"));
    let _ = rtx.vault(&["kv", "put", "secret/app/a", "A_KEY_OF_MINE=2"]).ok();
    watch::until(&rtx.env_file(), |text| text.contains("A_KEY_OF_MINE=2"));
    let agent = watch::poll("a delivery is counted", || {
        let text = figures(of_agent.address(), &of_agent.address().to_string());
        text.contains("vault_agent_delivery_seconds_count 1").then_some(text)
    });
    let server = figures(of_server.address(), "127.0.0.1");
    let types = |text: &str| -> BTreeSet<String> {
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        names.map(str::to_owned).collect()
    };
    let there: BTreeSet<String> = types(&agent).union(&types(&server)).cloned().collect();
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src");
    for file in [
        "monitoring/dashboard.json",
        "monitoring/alerts.yml",
        "monitoring/alerts_test.yml",
        "guide/alarms.md",
    ] {
        let text = std::fs::read_to_string(docs.join(file)).unwrap();
        let named = named(&text);
        assert!(named.len() > 4, "{file}");
        // The guide names a group of figures by its start.
        let absent: Vec<_> =
            named.difference(&there).filter(|it| *it != "vault_agent_forward").collect();
        assert!(absent.is_empty(), "{file} names {absent:?}");
    }
    let dashboard = std::fs::read_to_string(docs.join("monitoring/dashboard.json")).unwrap();
    serde_json::from_str::<Value>(&dashboard).unwrap();
    assert!(!agent.contains("A_KEY_OF_MINE") && !agent.contains("secret/app"), "{agent}");
    assert!(
        agent.contains("vault_agent_target_lag_versions{machine=\"rtx1080\",target=\"~/.env\"} 0"),
        "{agent}"
    );
    let rebound = figures(of_agent.address(), "evil.example:9844");
    assert!(rebound.starts_with("HTTP/1.1 403") && !rebound.contains("rtx1080"), "{rebound}");
    let mut socket = UnixStream::connect(rtx.state().join("agent.sock")).unwrap();
    let answer = tests::api::request(&mut socket, "GET", "/v1/sys/metrics?format=prometheus", "");
    assert!(answer.contains("vault_agent_build_info"), "{answer}");
}
