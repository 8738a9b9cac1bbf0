//! Ways to tell somebody, before anybody is told by them.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tests::{World, bins, watch};

use crate::forward::{Receiver, configure, forward, webhook};

#[test]
fn a_way_that_cannot_work_is_an_alarm_at_once_and_one_that_nobody_tried_is_not_called_well() {
    let world = World::new(bins!());
    let rtx = world.owner("rtx1080");
    let receiver = Receiver::new(200);
    let journal = rtx.dir.join("home/journal");
    let token = format!("{}\ntoken_secret = \"secret/ops/ntfy#TOKEN\"", webhook(&receiver));
    let ways = [
        ("journal", format!("to = \"journal\"\nsocket = \"{}\"", journal.display())),
        ("phone", token),
        ("mail", "to = \"mail\"\nmail_to = [\"root\"]\nsendmail = \"/nowhere/mail\"".to_owned()),
        ("away", "to = \"webhook\"\nurl = \"http://192.0.2.1/x\"".to_owned()),
        ("quiet", format!("{}\nonly = {{ code = \"none\" }}", webhook(&receiver))),
    ];
    configure(&rtx, &ways.map(|(name, rest)| forward(name, &rest)).concat());
    let begun = Instant::now();
    let is_told =
        |status: &str, name: &str| status.contains(&format!("`{name}` is told nothing: "));
    let status = || {
        let ran = rtx.vault(&["status"]);
        ran.out + &ran.err
    };
    watch::poll("all four are alarms", || {
        let status = status();
        let all = ["journal", "phone", "mail", "away"].map(|name| is_told(&status, name));
        (all == [true; 4] && !is_told(&status, "quiet")).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    let list = || rtx.agent_command(&["forward", "list"]);
    let state = |list: &str| {
        let line = list.lines().find(|line| line.starts_with("quiet ")).unwrap();
        line.split("  ").last().unwrap().trim().to_owned()
    };
    let shown = list();
    assert_eq!((shown.code, &*state(&shown.out)), (2, "untried"), "{}", shown.out);
    for text in ["there is no `secret/ops/ntfy`", "there is no journal at", "is not installed"] {
        assert!(shown.out.contains(text), "{}", shown.out);
    }
    // What comes is seen without a message.
    let _journal = UnixDatagram::bind(&journal).unwrap();
    let _ = rtx.vault(&["kv", "put", "secret/ops/ntfy", "TOKEN=sesame"]).ok();
    watch::poll("two are over", || {
        let status = status();
        (!is_told(&status, "journal") && !is_told(&status, "phone")).then_some(())
    });
    // A test counts as any message.
    for (status, code, wanted) in [(401, 2, "it answered 401"), (200, 0, "ok")] {
        receiver.answer(status);
        assert_eq!(rtx.agent_command(&["forward", "test", "quiet"]).code, code);
        watch::poll(wanted, || state(&list().out).contains(wanted).then_some(()));
    }
}
