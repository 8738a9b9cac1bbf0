//! `LoadCredential=NAME:SOCKET`: a peer that does what systemd does, from an abstract name that
//! tells unit and credential.

use std::fs::Permissions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};
use tests::{Host, World, bins, watch};

/// What systemd takes for a credential at most.
const LARGEST: usize = 1 << 20;

const CONFIG: &str = r#"
[[credential]]
unit = "ghost.service"
name = "db"
secret = "secret/ghost"
key = "DB_PASSWORD"

[[credential]]
unit = "nginx.service"
name = "tls.key"
secret = "secret/nginx"
"#;

/// Connects as systemd does for a credential of a unit, which says at once that it will write
/// nothing.
pub fn connect(socket: &Path, name: &str) -> UnixStream {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let random = format!("{:x}{:04x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let own = SocketAddrUnix::new_abstract_name((random + name).as_bytes()).unwrap();
    let peer = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    net::bind(&peer, &own).unwrap();
    net::connect(&peer, &SocketAddrUnix::new(socket).unwrap()).unwrap();
    let peer = UnixStream::from(peer);
    peer.shutdown(Shutdown::Write).unwrap();
    peer
}

/// Takes what is sent until the end.
pub fn taken(mut peer: UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Makes sure that a peer is neither answered nor sent away; the agent has said why by then.
fn waits(host: &Host, peer: &mut UnixStream, why: &str) {
    watch::until(&host.log_file(), |log| log.contains(why));
    peer.set_nonblocking(true).unwrap();
    let heard = peer.read(&mut [0]);
    assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock, "{why}");
    peer.set_nonblocking(false).unwrap();
}

fn write(file: &Path, bytes: &[u8]) {
    std::fs::File::create(file).unwrap().write_all(bytes).unwrap();
}

fn owner(world: &World) -> (Host, PathBuf) {
    let mut host = world.owner("rtx1080");
    host.stop();
    let file = host.state().join("agent.toml");
    let config = std::fs::read_to_string(&file).unwrap_or_default();
    write(&file, (config + CONFIG).as_bytes());
    host.start();
    let socket = host.state().join("credentials.sock");
    (host, socket)
}

#[test]
fn a_unit_waits_until_its_secret_is_there_and_gets_the_very_bytes() {
    let world = World::new(bins!());
    let (host, socket) = owner(&world);
    let mut peer = connect(&socket, "/unit/ghost.service/db");
    waits(&host, &mut peer, "there is no `secret/ghost`");
    let _ = host.vault(&["kv", "put", "secret/ghost", "USER=ghost"]).ok();
    waits(&host, &mut peer, "version 1 of `secret/ghost` has no key `DB_PASSWORD`");
    let _ = host.vault(&["kv", "put", "secret/ghost", "DB_PASSWORD="]).ok();
    waits(&host, &mut peer, "version 2 of `secret/ghost` has nothing at `DB_PASSWORD`");
    let body = r#"{"DB_PASSWORD":"it's \"$x\"\nsecond line\n"}"#;
    let _ = host.vault_with(&["kv", "put", "secret/ghost", "-"], body).ok();
    assert_eq!(taken(peer), b"it's \"$x\"\nsecond line\n");
    assert_eq!(taken(connect(&socket, "/unit/ghost.service/db")), b"it's \"$x\"\nsecond line\n");

    let key = host.dir.join("home/tls.key");
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    write(&key, &bytes);
    let _ = host.vault(&["kv", "put", "secret/nginx", "file=@tls.key"]).ok();
    assert!(taken(connect(&socket, "/unit/nginx.service/tls.key")) == bytes);

    // Local reads reach the audit log in batches.
    let reads = watch::poll("both answers are on record", || {
        let log =
            host.vault(&["audit", "log", "--path", "secret/ghost", "--op", "local_read"]).ok();
        let reads = log.lines().filter(|line| line.contains("for ghost.service db")).count();
        (reads >= 2).then_some(reads)
    });
    assert_eq!(reads, 2, "one for each answer, and nothing else");
}

#[test]
fn what_nobody_gave_a_unit_is_waited_for_until_the_configuration_gives_it() {
    let world = World::new(bins!());
    let (host, socket) = owner(&world);
    let _ = host.vault(&["kv", "put", "secret/mail", "PASSWORD=x"]).ok();
    let mut peer = connect(&socket, "/unit/mail.service/smtp");
    waits(&host, &mut peer, "no `[[credential]]` in `agent.toml` is for it");
    let mut other = connect(&socket, "/cryptsetup/disk");
    waits(&host, &mut other, "the connection names no unit");
    let file = host.state().join("agent.toml");
    let more =
        "[[credential]]\nunit = \"mail.service\"\nname = \"smtp\"\nsecret = \"secret/mail\"\n";
    let config = std::fs::read_to_string(&file).unwrap() + more;
    write(&file, config.as_bytes());
    assert_eq!(taken(peer), b"x");
}

#[test]
fn an_agent_that_ends_fails_the_start_of_a_waiting_unit() {
    let world = World::new(bins!());
    let (mut host, socket) = owner(&world);
    let mut peer = connect(&socket, "/unit/ghost.service/db");
    waits(&host, &mut peer, "there is no `secret/ghost`");
    let reader = std::thread::spawn(move || taken(peer));
    host.stop();
    let sent = reader.join().unwrap().len();
    assert!(
        sent > LARGEST,
        "systemd refuses more than {LARGEST} bytes, and takes {sent} for a value"
    );
}

/// The socket that this very test is to ask at as another user, in the process that it starts for
/// that.
const AS_STRANGER: &str = "CREDENTIALS_OF_STRANGER";

#[test]
fn others_than_the_service_manager_are_sent_away() {
    if let Some(socket) = std::env::var_os(AS_STRANGER) {
        let sent = taken(connect(Path::new(&socket), "/unit/ghost.service/db"));
        return assert_eq!(sent, b"", "a stranger got something");
    }
    let world = World::new(bins!());
    let (host, socket) = owner(&world);
    let _ = host.vault(&["kv", "put", "secret/ghost", "DB_PASSWORD=hunter2"]).ok();
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    if !rustix::process::geteuid().is_root() {
        // Only root can become somebody else.
        return;
    }
    // Even where the rights of the socket would let him in.
    let open =
        |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    open(&socket, 0o666);
    for folder in socket.ancestors().skip(1).take_while(|folder| folder.starts_with(world.dir())) {
        open(folder, 0o755);
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let mut stranger = Command::new(std::env::current_exe().unwrap());
    stranger
        .args([&name, "--exact"])
        .env(AS_STRANGER, &socket)
        .uid(65534)
        .gid(65534)
        .current_dir("/");
    let ran = tests::run(&mut stranger, "");
    assert!(ran.code == 0 && ran.out.contains("1 passed"), "{}{}", ran.out, ran.err);
    watch::poll("the refusal is on record", || {
        let asked = ["audit", "log", "--path", "secret/ghost", "--denied", "--format", "json"];
        let log = host.vault(&asked).ok();
        (log.contains("uid 65534") && log.contains("for ghost.service db")).then_some(())
    });
}

#[test]
fn without_a_word_in_the_configuration_there_is_no_socket() {
    let world = World::new(bins!());
    let host = world.owner("rtx1080");
    assert!(!host.state().join("credentials.sock").exists());
}
