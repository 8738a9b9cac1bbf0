//! Those who are told of alarms, at their worst: answers that never end, files that turn into
//! something else, disks that fill up, tokens that go away, hundreds of findings at once. Changes
//! reach files all the while.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::mounts::{self, Disk, Hang};
use tests::{Host, World, bins, script, watch};

use crate::forward::{
    BEGINS, ENDS, Receiver, SILENT, configure, forward, lines, want_in_vain, webhook,
};

/// How long a change may take to reach a file, whatever becomes of those who are told.
const SOON: Duration = Duration::from_secs(5);

/// What a host answers to a `POST`.
#[derive(Clone, Copy)]
enum Way {
    /// Success, and a gigabyte.
    Gigabyte,
    /// Success, and a body that never comes.
    Drip,
    /// Nothing: it hangs up, the first three times.
    HangUp,
}

/// Takes `POST` in an odd way, and keeps the bodies it was sent.
fn odd(way: Way) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/odd-hook", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (all, count) = (Arc::clone(&got), Arc::new(AtomicUsize::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (all, count) = (Arc::clone(&all), Arc::clone(&count));
            std::thread::spawn(move || answer(way, stream, &all, &count));
        }
    });
    (url, got)
}

fn answer(way: Way, mut stream: TcpStream, got: &Mutex<Vec<Value>>, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok()
    });
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    got.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    let start = match way {
        Way::Gigabyte => "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n",
        Way::Drip => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n",
        Way::HangUp if count.fetch_add(1, Ordering::Relaxed) < 3 => return,
        Way::HangUp => "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    };
    stream.write_all(start.as_bytes()).unwrap();
    match way {
        Way::Gigabyte => while stream.write_all(&[b'x'; 65_536]).is_ok() {},
        // Until the other side gives up.
        Way::Drip => drop(reader.read(&mut [0])),
        Way::HangUp => {}
    }
}

/// Returns the states of the alarms among bodies, and their ids.
fn states(got: &Mutex<Vec<Value>>) -> (Vec<String>, Vec<String>) {
    let got = got.lock().unwrap();
    let alarms = got.iter().filter(|body| body["event"] == "alarm");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    alarms.map(|body| (text(&body["state"]), text(&body["id"]))).unzip()
}

/// Writes a secret, and tells how long its file took.
fn delivered(host: &Host, file: &Path, secret: &str, value: &str) -> Duration {
    let _ = host.vault(&["kv", "put", secret, &format!("A={value}")]).ok();
    let written = Instant::now();
    watch::until(file, |text| text.contains(&format!("A={value}\n")));
    written.elapsed()
}

#[test]
fn odd_answers_are_no_reason_to_tell_twice_or_to_wait() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let well = Receiver::new(200);
    let (gigabyte, of_gigabyte) = odd(Way::Gigabyte);
    let (drip, of_drip) = odd(Way::Drip);
    let (hang_up, of_hang_up) = odd(Way::HangUp);
    let redirecting = Receiver::new(302);
    let to = |url: &str| format!("to = \"webhook\"\nurl = \"{url}\"");
    let all = [
        forward("gigabyte", &to(&gigabyte)),
        forward("drip", &to(&drip)),
        forward("hang-up", &to(&hang_up)),
        forward("redirecting", &webhook(&redirecting)),
        forward("well", &webhook(&well)),
    ];
    configure(&rtx, &all.concat());
    want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
    watch::poll("the begin", || (well.alarms() == [BEGINS]).then_some(()));
    for n in 0..5 {
        let took = delivered(&rtx, &rtx.env_file(), "secret/app/none", &n.to_string());
        assert!(took < SOON, "{took:?}");
    }
    watch::poll("the end", || (well.alarms() == [BEGINS, ENDS]).then_some(()));
    for (what, got) in [("gigabyte", &of_gigabyte), ("drip", &of_drip)] {
        watch::poll(what, || (states(got).0 == ["begins", "ends"]).then_some(()));
    }
    // Three times nobody knows whether it was taken: then it is the same message again.
    watch::poll("hang up", || (states(&of_hang_up).0.len() == 5).then_some(()));
    let (told, ids) = states(&of_hang_up);
    assert_eq!(told, ["begins", "begins", "begins", "begins", "ends"]);
    assert!(ids[..4].iter().all(|id| *id == ids[0]) && ids[4] != ids[0], "{ids:?}");
    let list = rtx.agent_command(&["forward", "list"]);
    assert!(list.out.contains("it answered 302: no redirect is followed"), "{}", list.out);
    // What was answered with success is not told again.
    for got in [&of_gigabyte, &of_drip] {
        assert_eq!(states(got).0, ["begins", "ends"]);
    }
    let log = rtx.agent.as_ref().unwrap().log();
    for text in [&log, &list.out, &rtx.vault(&["status"]).err] {
        assert!(!text.contains("odd-hook") && !text.contains("hook-of-nobody"), "{text}");
    }
}

#[test]
fn a_file_that_turns_into_something_else_or_has_no_room_gets_all_later() {
    mounts::own(|| {
        let world = World::new(bins!());
        let rtx = world.owner("rtx1080");
        let folder = rtx.dir.join("home/told");
        let disk = Disk::new(&folder, "64k");
        let file = folder.join("told.jsonl");
        let to_file = format!("to = \"file\"\nfile = \"{}\"", file.display());
        configure(&rtx, &forward("lines", &to_file));
        let test = |wanted: &str| {
            watch::poll(wanted, || {
                let ran = rtx.agent_command(&["forward", "test", "lines"]);
                (ran.err.contains(wanted) && ran.code == if wanted == "sent" { 0 } else { 2 })
                    .then_some(())
            });
        };
        test("sent");
        let other = folder.join("other");
        fs::remove_file(&file).unwrap();
        symlink(&other, &file).unwrap();
        test("is a symbolic link");
        assert!(!other.exists());
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        test("is not a regular file");
        fs::remove_dir(&file).unwrap();
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        test("is not a regular file");
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let mut pipe =
            fs::OpenOptions::new().read(true).custom_flags(nonblock).open(&file).unwrap();
        test("is not a regular file");
        let mut none = Vec::new();
        pipe.read_to_end(&mut none).unwrap();
        assert!(none.is_empty(), "{none:?}");
        fs::remove_file(&file).unwrap();
        test("sent");
        disk.fill();
        test("No space left");
        want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
        watch::poll("it waits", || {
            let row = told(&rtx, "lines");
            let is_why = row["why"].as_str().is_some_and(|why| why.contains("No space left"));
            (row["queued"] == 1 && is_why).then_some(())
        });
        let took = delivered(&rtx, &rtx.env_file(), "secret/app/none", "1");
        assert!(took < SOON, "{took:?}");
        // Only whole lines are there: each is read as JSON.
        let before = lines(&file).len();
        disk.make_room();
        watch::poll("both", || (lines(&file).len() >= before + 2).then_some(()));
        let alarms: Vec<Value> =
            lines(&file).into_iter().filter(|line| line["event"] == "alarm").collect();
        assert_eq!(alarms.len(), 2, "{alarms:?}");
        assert_eq!((&alarms[0]["state"], &alarms[1]["state"]), (&"begins".into(), &"ends".into()));
    });
}

#[test]
fn a_disk_that_hangs_holds_nobody_up_and_gets_all_later() {
    mounts::own(|| {
        let world = World::new(bins!());
        let mut rtx = world.owner("rtx1080");
        let well = Receiver::new(200);
        let folder = rtx.dir.join("home/told");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("told.jsonl");
        let to_file = format!("to = \"file\"\nfile = \"{}\"", file.display());
        configure(&rtx, &(forward("lines", &to_file) + &forward("well", &webhook(&well))));
        watch::poll("a test is sent", || {
            let ran = rtx.agent_command(&["forward", "test", "lines"]);
            (ran.code == 0).then_some(())
        });
        let hang = Hang::over(&folder);
        want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
        watch::poll("the begin", || (well.alarms() == [BEGINS]).then_some(()));
        watch::poll("it is given up", || {
            let list = rtx.agent_command(&["forward", "list"]).out;
            list.contains("its disk does not answer within 15s").then_some(())
        });
        let took = delivered(&rtx, &rtx.env_file(), "secret/app/none", "1");
        assert!(took < SOON, "{took:?}");
        watch::poll("the end", || (well.alarms() == [BEGINS, ENDS]).then_some(()));
        // Nor does the thread that waits keep the agent from ending.
        let asked = Instant::now();
        rtx.stop();
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        drop(hang);
        rtx.start();
        let states = || -> Vec<String> {
            let alarms = lines(&file).into_iter().filter(|line| line["event"] == "alarm");
            alarms.map(|line| line["state"].as_str().unwrap().to_owned()).collect()
        };
        watch::poll("both", || (states() == ["begins", "ends"]).then_some(()));
    });
}

#[test]
fn hundreds_of_findings_come_once_each_and_hold_up_nothing() {
    const MANY: usize = 300;
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let well = Receiver::new(200);
    configure(&rtx, &forward("well", &webhook(&well)));
    rtx.target(&["secret/app/well"]);
    let took = delivered(&rtx, &rtx.env_file(), "secret/app/well", "0");
    assert!(took < SOON, "{took:?}");
    watch::poll("all is calm", || {
        let (begins, ends): (Vec<_>, Vec<_>) =
            well.alarms().into_iter().partition(|it| it.starts_with("begins"));
        (begins.len() == ends.len() && rtx.vault(&["status"]).code == 0).then_some(())
    });
    let before = well.alarms().len();
    let config = rtx.state().join("agent.toml");
    let as_was = fs::read_to_string(&config).unwrap();
    let targets: String = (0..MANY)
        .map(|n| {
            let path = rtx.dir.join(format!("home/{n}.env"));
            format!("[[target]]\npath = \"{}\"\nsecrets = [\"secret/none/{n}\"]\n", path.display())
        })
        .collect();
    configure(&rtx, &targets);
    let told = |what: &str| {
        let alarms = well.alarms().split_off(before);
        alarms.iter().filter(|it| it.starts_with(what)).count()
    };
    watch::poll("the first begins", || (told("begins") > 0).then_some(()));
    for n in 1..6 {
        let took = delivered(&rtx, &rtx.env_file(), "secret/app/well", &n.to_string());
        assert!(took < SOON, "{took:?}");
    }
    watch::poll("all begin", || (told("begins") >= MANY).then_some(()));
    fs::File::create(&config).unwrap().write_all(as_was.as_bytes()).unwrap();
    watch::poll("all end", || (told("ends") >= MANY).then_some(()));
    assert_eq!((told("begins"), told("ends")), (MANY, MANY));
    let list = rtx.agent_command(&["forward", "list"]);
    let row = list.out.lines().find(|row| row.starts_with("well")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((cells[3], cells[4]), ("0", "0"), "nothing waits and nothing was dropped: {row}");
}

#[test]
fn what_flaps_is_one_begin_and_one_end() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let well = Receiver::new(200);
    let text = forward("well", &webhook(&well));
    configure(&rtx, &text.replace("ends_after = \"1s\"", "ends_after = \"10s\""));
    want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
    watch::poll("the begin", || (well.alarms() == [BEGINS]).then_some(()));
    for n in 0..20 {
        let took = delivered(&rtx, &rtx.env_file(), "secret/app/none", &n.to_string());
        assert!(took < SOON, "{took:?}");
        let _ = rtx.vault(&["kv", "metadata", "delete", "secret/app/none"]).ok();
        watch::poll("it is missed", || (rtx.vault(&["status"]).code == 2).then_some(()));
    }
    let _ = rtx.vault(&["kv", "put", "secret/app/none", "A=1"]).ok();
    watch::poll("the end", || well.alarms().iter().any(|it| it == ENDS).then_some(()));
    assert_eq!(well.alarms(), [BEGINS, ENDS]);
}

#[test]
fn a_token_that_changes_or_goes_away_is_followed_and_never_shown() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let receiver = Receiver::new(200);
    let put = |value: &str| {
        let _ = rtx.vault(&["kv", "put", "secret/ops/ntfy", &format!("TOKEN={value}")]).ok();
    };
    put("sesame-one");
    let key = rtx.dir.join("home/key");
    let write_key = |text: &str| {
        let mut options = fs::OpenOptions::new();
        let mut out =
            options.write(true).create(true).truncate(true).mode(0o600).open(&key).unwrap();
        out.write_all(text.as_bytes()).unwrap();
    };
    write_key("sesame-key\n");
    let secret = "token_secret = \"secret/ops/ntfy#TOKEN\"";
    let more = format!("{}\n{secret}\nhmac_file = \"{}\"", webhook(&receiver), key.display());
    configure(&rtx, &forward("hook", &more));
    let test = |wanted: &str| {
        watch::poll(wanted, || {
            let ran = rtx.agent_command(&["forward", "test", "hook"]);
            assert!(!ran.err.contains("sesame"), "{}", ran.err);
            ran.err.contains(wanted).then_some(())
        });
    };
    let last = || receiver.taken().pop().unwrap().0;
    test("sent");
    assert!(last().contains("authorization: Bearer sesame-one\r\n"), "{}", last());
    put("sesame-two");
    watch::poll("the next one", || {
        test("sent");
        last().contains("authorization: Bearer sesame-two\r\n").then_some(())
    });
    put("two sesame\u{e9} lines");
    test("has no single line at `TOKEN`");
    let _ = rtx.vault(&["kv", "put", "secret/ops/ntfy", "OTHER=sesame-three"]).ok();
    test("has no text at `TOKEN`");
    let _ = rtx.vault(&["kv", "delete", "secret/ops/ntfy"]).ok();
    test("`secret/ops/ntfy` is deleted");
    // Nobody is told without it, and an alarm waits.
    let before = receiver.taken().len();
    want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
    watch::poll("it waits", || (told(&rtx, "hook")["queued"] == 1).then_some(()));
    let list = rtx.agent_command(&["forward", "list"]);
    assert!(list.out.contains("is deleted"), "{}", list.out);
    assert_eq!(list.code, 2);
    assert_eq!(receiver.taken().len(), before);
    fs::remove_file(&key).unwrap();
    put("sesame-four");
    test("there is no `");
    write_key("sesame-key\nsesame-more\n");
    test("does not hold one line of text");
    write_key("sesame-key\n");
    watch::poll("the begin", || (receiver.alarms() == [BEGINS]).then_some(()));
    assert!(last().contains("authorization: Bearer sesame-four\r\n"), "{}", last());
    let (log, status) = (rtx.agent.as_ref().unwrap().log(), rtx.vault(&["status"]));
    for text in [&log, &status.out, &status.err, &list.out] {
        assert!(!text.contains("sesame"), "{text}");
    }
}

/// Returns the row of `forward list`.
fn told(host: &Host, name: &str) -> Value {
    let list = host.agent_command(&["forward", "list", "--json"]);
    let rows: Value = serde_json::from_str(&list.out).unwrap();
    rows.as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn records_that_are_refused_hold_up_no_alarm() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let receiver = Receiver::new(200);
    receiver.answer_records(403);
    configure(&rtx, &forward("hook", &(webhook(&receiver) + "\nwhat = [\"alarms\", \"audit\"]")));
    watch::poll("the log is followed", || told(&rtx, "hook")["audit"].as_u64().filter(|n| *n > 0));
    let _ = rtx.vault(&["kv", "put", "secret/a", "A=1"]).ok();
    watch::poll("records are refused", || {
        let why = told(&rtx, "hook")["why"].clone();
        why.as_str().is_some_and(|why| why.starts_with("it answered 403")).then_some(())
    });
    want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
    watch::poll("the begin", || (receiver.alarms() == [BEGINS]).then_some(()));
    assert!(told(&rtx, "hook")["dropped"] == 0, "what all are refused is kept");
    // Others are taken: what waits is tried at once, and whoever asks hears of it.
    let ran = rtx.agent_command(&["forward", "test", "hook"]);
    assert!(ran.code == 0 && ran.err.contains("and are tried now"), "{}", ran.err);
    // A message that is refused as such is given up, and the next one is sent.
    receiver.answer_records(422);
    watch::poll("it is given up", || {
        let row = told(&rtx, "hook");
        (row["dropped"] != 0 && row["queued"] == 0).then_some(())
    });
    receiver.answer_records(0);
    let _ = rtx.vault(&["kv", "put", "secret/a", "A=2"]).ok();
    watch::poll("later ones come", || {
        let taken = receiver.taken();
        taken.iter().any(|(_, body)| body.contains(r#""event":"audit""#)).then_some(())
    });
    watch::poll("and how many are gone", || {
        let taken = receiver.taken();
        taken.iter().any(|(_, body)| body.contains(r#""event":"dropped""#)).then_some(())
    });
    watch::poll("all is well", || told(&rtx, "hook")["failing"].is_null().then_some(()));
}

#[test]
fn what_waits_outlives_a_kill() {
    let world = World::new(bins!());
    let mut rtx = world.owner("rtx1080");
    let receiver = Receiver::new(500);
    configure(&rtx, &forward("hook", &webhook(&receiver)));
    want_in_vain(&rtx, &rtx.env_file(), "secret/app/none");
    let waits = |host: &Host, count: &str| {
        watch::poll("it waits", || {
            let list = host.agent_command(&["forward", "list"]).out;
            let row = list.lines().find(|row| row.starts_with("hook"))?;
            (row.split_whitespace().nth(3) == Some(count)).then_some(())
        });
    };
    waits(&rtx, "1");
    rtx.agent.as_mut().unwrap().kill();
    rtx.start();
    waits(&rtx, "1");
    let took = delivered(&rtx, &rtx.env_file(), "secret/app/none", "1");
    assert!(took < SOON, "{took:?}");
    waits(&rtx, "2");
    rtx.agent.as_mut().unwrap().kill();
    receiver.answer(200);
    rtx.start();
    watch::poll("both", || (receiver.alarms().len() >= 2).then_some(()));
    waits(&rtx, "0");
    assert_eq!(receiver.alarms(), [BEGINS, ENDS]);
}

#[test]
fn a_mail_program_that_is_loud_fails_or_leaves_others_running_holds_up_nothing() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let silent = [Receiver::new(SILENT), Receiver::new(SILENT)];
    let mail = |name: &str, text: &str| {
        let program = rtx.dir.join(format!("home/{name}"));
        script(&program, &format!("#!/bin/sh\n{text}\n"));
        let to = "to = \"mail\"\nmail_to = [\"root\"]";
        forward(name, &format!("{to}\nsendmail = \"{}\"", program.display()))
    };
    let loud = "cat >/dev/null; i=0; while [ $i -lt 5000 ]; do echo a warning of nobody >&2 || exit 9; \
                i=$((i+1)); done";
    let pid = rtx.dir.join("home/pid");
    let stays = format!("sleep 600 & echo $! >{0}.new; mv {0}.new {0}; wait", pid.display());
    let all = [
        mail("loud", loud),
        mail("leaves", "cat >/dev/null; sleep 60 >/dev/null &"),
        mail("fails", "printf 'no route\\033[2J\\nforged (webhook): sent\\n' >&2; exit 75"),
        mail("stays", &stays),
        forward("silent", &webhook(&silent[0])),
        forward("quiet", &webhook(&silent[1])),
    ];
    configure(&rtx, &all.concat());
    watch::poll("all are known", || {
        (rtx.agent_command(&["forward", "list"]).out.lines().count() == 7).then_some(())
    });
    let begun = Instant::now();
    let ran = rtx.agent_command(&["forward", "test"]);
    // All at once: three that do not answer take as long as one.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let line = |name: &str| {
        let found = ran.err.lines().find(|line| line.starts_with(&format!("{name} (")));
        found.unwrap_or_else(|| panic!("{}", ran.err)).to_owned()
    };
    assert_eq!(line("loud"), "loud (mail): sent");
    assert_eq!(line("leaves"), "leaves (mail): sent");
    let fails = line("fails");
    assert!(fails.contains("no route\\u001b[2J\\nforged (webhook): sent"), "{fails}");
    let left = fs::read_to_string(pid).unwrap();
    // One that has ended has no command line, though nobody may have asked how it ended.
    let runs = format!("/proc/{}/cmdline", left.trim());
    watch::poll("it is ended", || fs::read(&runs).unwrap_or_default().is_empty().then_some(()));
    for name in ["stays", "silent", "quiet"] {
        assert!(line(name).contains("does not answer within 15s"), "{}", line(name));
    }
}
