//! When master files are looked at, event by event, without disk or vault.

use super::*;

fn world() -> (Masters, PathBuf, Instant) {
    let folder = tempfile::tempdir().unwrap();
    let mut masters = Masters::new(folder.path());
    let source = Source { path: "/a/.env".into(), secret: "secret/a".parse().unwrap() };
    let now = Instant::now();
    masters.set(&[Arc::new(source)], now);
    (masters, "/a/.env".into(), now)
}

fn ended(path: &Path, state: State) -> Ended {
    Ended { path: path.to_owned(), state, conflicts: Vec::new() }
}

#[test]
fn a_file_is_looked_at_when_it_has_been_left_alone() {
    let (mut masters, path, now) = world();
    assert_eq!(masters.next_due(), Some(now));
    masters.masters.get_mut(&path).unwrap().due = None;
    masters.touched(Some(Path::new("/a/other")), now);
    assert_eq!(masters.next_due(), None);
    let ms = Duration::from_millis;
    for at in [0, 100, 300] {
        masters.touched(Some(&path), now + ms(at));
        assert_eq!(masters.next_due(), Some(now + ms(at) + SETTLE));
    }
    // One that is never left alone is looked at all the same, once in a while.
    for at in 0..200 {
        masters.touched(Some(&path), now + ms(at * 100));
    }
    assert_eq!(masters.next_due(), Some(now + LONGEST_SETTLE));
}

#[tokio::test]
async fn a_look_that_ends_without_a_result_is_made_again() {
    let (mut masters, path, now) = world();
    let look = tokio::spawn(std::future::pending::<()>());
    let master = masters.masters.get_mut(&path).unwrap();
    (master.busy, master.due) = (Some(look.id()), None);
    let other = tokio::spawn(std::future::pending::<()>());
    masters.crashed(other.id(), now);
    assert_eq!(masters.next_due(), None);
    masters.crashed(look.id(), now);
    assert_eq!(masters.next_due(), Some(now + super::super::backoff::FIRST));
}

#[test]
fn trouble_is_shown_and_what_may_pass_is_tried_again() {
    let (mut masters, path, now) = world();
    let end = |masters: &mut Masters, state| {
        masters.masters.get_mut(&path).unwrap().due = None;
        masters.take(ended(&path, state), now, Time::from_micros(5));
    };
    end(&mut masters, State::trouble("line 3: x", "mend it", false));
    assert_eq!(masters.next_due(), None);
    let alarms: Vec<_> = masters.alarms().collect();
    assert_eq!(alarms, [("E_SOURCE", "`/a/.env` line 3: x (hint: mend it)".to_owned())]);
    for seconds in [1, 2, 4] {
        end(&mut masters, State::trouble("disk", "x", true));
        assert_eq!(masters.next_due(), Some(now + Duration::from_secs(seconds)));
    }
    assert!(!masters.right());
    end(&mut masters, State::Right { ver: 4 });
    assert!(masters.right() && masters.alarms().next().is_none());
    let row = masters.rows().next().unwrap();
    assert_eq!((row.name.as_str(), row.ver, row.state), ("/a/.env (source)", 4, TargetState::Ok));
}

#[test]
fn a_held_save_alarms_until_it_is_whole_or_meant() {
    let (mut masters, path, now) = world();
    masters.masters.get_mut(&path).unwrap().due = None;
    let text = "has lost 3 of 4 keys".to_owned();
    masters.take(ended(&path, State::Held { text, hint: "x".to_owned() }), now, Time::default());
    let alarms: Vec<_> = masters.alarms().collect();
    let expected = "`/a/.env` has lost 3 of 4 keys (hint: x)";
    assert_eq!(alarms, [("E_SOURCE_SHRUNK", expected.to_owned())]);
    assert!(!masters.right() && masters.next_due().is_none());
    masters.take(ended(&path, State::Right { ver: 2 }), now, Time::default());
    assert!(masters.right() && masters.alarms().next().is_none());
}

#[test]
fn a_kept_edit_alarms_until_it_is_gone() {
    let (mut masters, path, now) = world();
    let copy = PathBuf::from("/a/.env.conflict-1");
    let kept = Ended { conflicts: vec![copy.clone()], ..ended(&path, State::Right { ver: 2 }) };
    assert!(masters.take(kept, now, Time::default()), "to be watched");
    assert_eq!(masters.files().collect::<Vec<_>>(), [path.as_path(), copy.as_path()]);
    assert!(masters.alarms().next().unwrap().1.contains(".env.conflict-1"));
    masters.masters.get_mut(&path).unwrap().due = None;
    masters.touched(Some(&copy), now);
    assert_eq!(masters.next_due(), Some(now));
    assert!(masters.take(ended(&path, State::Right { ver: 2 }), now, Time::default()));
    assert!(masters.alarms().next().is_none());
}
