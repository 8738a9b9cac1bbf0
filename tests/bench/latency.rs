//! From a put on one host to the changed file on another, beside confd watching etcd.

use std::io::{Seek as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher as _};
pub use tests::api::request;
use tests::{Port, World, watch};

use crate::table::{Aim, Row};

const ROUNDS: usize = 300;

/// Waits for changes of one file and tells when each was seen.
pub struct Seen {
    events: mpsc::Receiver<()>,
    file: std::path::PathBuf,
    _watcher: notify::RecommendedWatcher,
}

impl Seen {
    pub fn new(file: &Path) -> Self {
        let (sender, events) = mpsc::channel();
        let mut watcher = watch::watcher(move |_| {
            let _ = sender.send(());
        });
        watcher.watch(file.parent().unwrap(), RecursiveMode::NonRecursive).unwrap();
        Self { events, file: file.to_owned(), _watcher: watcher }
    }

    /// Returns when the file has been read and holds `text`: no earlier than it did.
    pub fn wait(&self, text: &str) -> Instant {
        loop {
            self.events.recv_timeout(Duration::from_secs(30)).unwrap();
            if std::fs::read_to_string(&self.file).is_ok_and(|found| found.contains(text)) {
                return Instant::now();
            }
        }
    }
}

/// Measures the three hosts and the disk under them, then confd and etcd if both are installed.
pub fn put_to_file() -> Vec<Row> {
    let (ours, disk) = homelab();
    let mut rows = vec![
        Row::shown("put → file on another host, p50", format!("{:.1?}", quantile(&ours, 50))),
        Row::at_most(
            "put → file on another host, p99",
            quantile(&ours, 99),
            Duration::from_millis(30),
        ),
        // Five such waits lie one after the other in each change: what this says of the disk, the
        // figures above say too.
        Row::shown("  4 KiB synced between them, p50", format!("{:.2?}", quantile(&disk, 50))),
    ];
    match confd() {
        None => rows.push(Row::shown("confd watching etcd", "not installed".to_owned())),
        Some(theirs) => {
            let theirs = quantile(&theirs, 50);
            rows.push(Row::shown("confd watching etcd, p50", format!("{theirs:.1?}")));
            let ratio = quantile(&ours, 50).as_secs_f64() / theirs.as_secs_f64();
            rows.push(Row::ratio("  ours / confd", ratio, Some(&Aim::AtMost(1.3))));
        }
    }
    rows
}

/// Returns the time that so many percent stay within.
pub fn quantile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Returns what the changes took, and what 4 KiB took to reach the disk between them.
fn homelab() -> (Vec<Duration>, Vec<Duration>) {
    let world = World::new(tests::bins!());
    let rtx = world.owner("rtx1080");
    let _ = rtx.vault(&["kv", "put", "secret/jjeco/bench", "VALUE=start"]).ok();
    let vps = world.machine(&rtx, "vps", &["secret/jjeco/"]);
    let thinkpad = world.machine(&rtx, "thinkpad", &["*"]);
    for host in [&rtx, &vps, &thinkpad] {
        let file = host.env_file();
        let _ = host
            .agent_command(&["target", "add", file.to_str().unwrap(), "secret/jjeco/bench"])
            .ok();
        watch::until(&file, |text| text.contains("VALUE=start"));
    }
    let mut socket = UnixStream::connect(rtx.state().join("agent.sock")).unwrap();
    let seen = Seen::new(&vps.env_file());
    let mut disk = std::fs::File::create(rtx.dir.join("synced")).unwrap();
    disk.write_all(&vec![1; ROUNDS << 12]).unwrap();
    disk.sync_all().unwrap();
    disk.rewind().unwrap();
    let times = (0..ROUNDS).map(|round| {
        let begun = Instant::now();
        disk.write_all(&[0; 4096]).unwrap();
        disk.sync_data().unwrap();
        let synced = begun.elapsed();
        let value = format!("round-{round}-end");
        let begun = Instant::now();
        let body = format!("{{\"data\":{{\"VALUE\":\"{value}\"}}}}");
        request(&mut socket, "POST", "/v1/secret/data/jjeco/bench", &body);
        (seen.wait(&value) - begun, synced)
    });
    times.unzip()
}

/// A child that is killed when dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn quiet(command: &mut Command) -> Option<Guard> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok().map(Guard)
}

fn confd() -> Option<Vec<Duration>> {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("confd");
    for (file, text) in [
        (
            "conf.d/bench.toml",
            format!(
                "[template]\nsrc = \"bench.tmpl\"\ndest = \"{}/out.env\"\nkeys = [\"/bench\"]\n",
                dir.path().display()
            ),
        ),
        ("templates/bench.tmpl", "VALUE={{getv \"/bench/value\"}}\n".to_owned()),
    ] {
        let file = conf.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::File::create(file).unwrap().write_all(text.as_bytes()).unwrap();
    }
    let ports = (Port::reserve(), Port::reserve());
    let client = format!("http://{}", ports.0.address());
    let peer = format!("http://{}", ports.1.address());
    let data = dir.path().join("etcd");
    let _etcd = quiet(Command::new("etcd").arg("--data-dir").arg(data).args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &format!("default={peer}"),
    ]))?;
    let put = |value: &str| {
        let body =
            format!("{{\"key\":\"{}\",\"value\":\"{}\"}}", base64("/bench/value"), base64(value));
        crate::http::post(&client, "/v3/kv/put", &body)
    };
    watch::poll("etcd answers", || put("start"));
    let _confd = quiet(
        Command::new("confd")
            .args(["-watch", "-backend", "etcdv3", "-node", &client])
            .arg("-confdir")
            .arg(&conf),
    )?;
    let out = dir.path().join("out.env");
    watch::until(&out, |text| text.contains("VALUE=start"));
    let seen = Seen::new(&out);
    Some(
        (0..ROUNDS)
            .map(|round| {
                let value = format!("round-{round}-end");
                let begun = Instant::now();
                put(&value).unwrap();
                seen.wait(&value) - begun
            })
            .collect(),
    )
}

fn base64(text: &str) -> String {
    use ::base64::Engine as _;
    ::base64::prelude::BASE64_STANDARD.encode(text)
}
