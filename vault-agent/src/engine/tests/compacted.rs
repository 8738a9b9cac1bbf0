//! Starting from a checkpoint: new machines, those that have slept, and what a server shows them
//! that nobody vouches for; and the own entries, which go once a checkpoint stands for them.

use hyper::Uri;
use shared::grant::Grants;
use shared::hash::Hash;
use shared::keys::{Identity, SignKey};
use shared::log::{Access, Checkpoint, Number, Op, Rekey, State};
use shared::name::Actor;
use shared::signed::Envelope;
use shared::token::MachineLine;
use shared::wire::v1::checkpoint::Vouched;

use super::server::{Answer, Server, entry, raw, refuse};
use super::world::{Machine, World, name, path};
use crate::engine::ReadError;
use machine::identity::Pins;
use machine::local::EntriesQuery;

/// What the server shows in place of entries.
#[derive(Clone)]
pub(super) struct Compacted {
    /// The last entry that it does not hand out.
    pub(super) dropped: u64,
    pub(super) vouched: Vouched,
    pub(super) rows: Vec<u8>,
}

impl Server {
    /// Answers what is asked of the log, or of the checkpoint that it begins after.
    pub(super) fn log(&self, number: Number, uri: &Uri) -> Answer {
        let compacted = self.data().reported.compacted.clone();
        if uri.path() == "/v1/checkpoint" {
            let Some(Compacted { vouched, rows, .. }) = compacted else {
                return refuse(404, "no_checkpoint", "none");
            };
            let line = [serde_json::to_vec(&vouched).unwrap(), b"\n".to_vec()].concat();
            return raw(200, [line, rows].concat().into());
        }
        let query = uri.query().unwrap();
        let after = query.split('&').next().unwrap().strip_prefix("after=").unwrap();
        let after: u64 = after.parse().unwrap();
        if compacted.is_some_and(|compacted| after < compacted.dropped) {
            return refuse(410, "compacted", "the log begins later");
        }
        self.follow(number, query)
    }
}

fn rows(state: &State) -> Vec<u8> {
    state.rows().collect::<Vec<_>>().concat()
}

impl World {
    /// Signs a checkpoint as the admin; the server shows it, and `dropped` entries no more.
    fn compact(&self) -> Checkpoint {
        let before = self.server.data().state.clone();
        let named = before.summed();
        self.act(vec![Op::Checkpoint(named)]);
        let mut data = self.server.data();
        let (genesis, entry) = (data.genesis.clone(), data.entries.last().unwrap().clone());
        let vouched = Vouched { genesis, owners: Vec::new(), entry };
        let (dropped, rows) = (named.seq, rows(&before));
        data.reported.compacted = Some(Compacted { dropped, vouched, rows });
        named
    }

    /// Changes what the server shows in place of entries.
    fn forge(&self, change: impl FnOnce(&mut Compacted)) {
        change(self.server.data().reported.compacted.as_mut().unwrap());
    }

    /// A vault with some history, and its newest checkpoint.
    async fn compacted() -> (Self, Checkpoint) {
        let world = Self::new().await;
        world.join("vps", &["secret/"], &["secret/"]);
        world.join("nas", &["secret/"], &[]);
        for n in 0..20 {
            world.put("secret/a", &format!(r#"{{"n":{n}}}"#));
        }
        let named = world.compact();
        (world, named)
    }

    fn pin(&self, machine: &str, named: Checkpoint) {
        let paths = self.paths(machine);
        let pins = Pins::load(&paths).unwrap().unwrap();
        Pins { checkpoint: Some(named), ..pins }.store(&paths).unwrap();
    }
}

/// Waits until a machine's log begins after an entry.
async fn begins(machine: &Machine, seq: u64) {
    let wait = async {
        while machine.engine.compaction().await.unwrap().begins != Some(seq) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test]
async fn a_new_machine_starts_from_the_checkpoint_and_goes_on() {
    let (world, named) = World::compacted().await;
    // One by the word of who made its line, one by the genesis, in which the admin stands.
    world.pin("vps", named);
    for machine in ["vps", "nas"] {
        let machine = world.start(machine);
        machine.until_content("secret/a", r#"{"n":19}"#).await;
        begins(&machine, named.seq).await;
        assert!(machine.engine.status().alarms.is_empty());
        let paths = machine.stop().await;
        // Without a server, and without its snapshot, it knows what it knew.
        let conn = rusqlite::Connection::open(paths.database()).unwrap();
        assert_eq!(conn.execute("DELETE FROM snapshot", []).unwrap(), 1);
        drop(conn);
        let lone = crate::engine::Engine::open(&paths).unwrap();
        let state = lone.state(Clone::clone);
        assert!(state == world.server.data().state, "it folds to the same");
        lone.close().await;
    }
    let vps = world.start("vps");
    vps.until(|status| status.online).await;
    vps.put("secret/a", r#"{"n":20}"#, None).await.unwrap();
    vps.until_content("secret/a", r#"{"n":20}"#).await;
    let told = vps.engine.entries(EntriesQuery::default()).await.unwrap();
    assert_eq!(told.begins, Some(named.seq));
    let first = told.entries.iter().map(|entry| entry.seq).find(|seq| *seq > 0);
    assert_eq!(first, Some(named.seq + 1));
    assert!(told.entries.iter().all(|entry| entry.key.is_some()), "all of them verify");
}

#[tokio::test]
async fn who_has_slept_for_too_long_goes_on_from_the_checkpoint() {
    let world = World::new().await;
    let vps = world.machine("vps", &["secret/"], &[]).await;
    world.put("secret/a", r#"{"n":1}"#);
    world.put("secret/gone", r#"{"n":1}"#);
    vps.until_content("secret/gone", r#"{"n":1}"#).await;
    vps.stop().await;
    world.put("secret/a", r#"{"n":2}"#);
    world.act(vec![Op::Forget { path: path("secret/gone") }]);
    let named = world.compact();
    world.put("secret/b", r#"{"n":3}"#);
    let vps = world.start("vps");
    vps.until_content("secret/b", r#"{"n":3}"#).await;
    vps.until_content("secret/a", r#"{"n":2}"#).await;
    begins(&vps, named.seq).await;
    let gone = vps.engine.content(&path("secret/gone"), None).await.unwrap_err();
    assert_eq!(gone, ReadError::Missing);
    assert!(vps.engine.status().alarms.is_empty());
}

#[tokio::test]
async fn an_admin_whom_root_has_named_since_counts() {
    let world = World::new().await;
    let vps = world.machine("vps", &["secret/"], &[]).await;
    vps.stop().await;
    let eva = SignKey::generate();
    let owners = {
        let mut data = world.server.data();
        let add = Op::AdminAdd { name: name("eva"), key: eva.verify_key() };
        let envelope = entry(&data.state, Actor::Root, &world.root, vec![add]);
        data.append_unsaid(append(envelope.clone()));
        vec![envelope]
    };
    world.put("secret/a", r#"{"n":1}"#);
    world.compact();
    let by_eva = {
        let mut data = world.server.data();
        let named = data.state.summed();
        let compacted = data.reported.compacted.as_mut().unwrap();
        (compacted.dropped, compacted.vouched.owners) = (named.seq, owners);
        let rows = rows(&data.state);
        let by = Actor::Admin(name("eva"));
        let envelope = entry(&data.state, by, &eva, vec![Op::Checkpoint(named)]);
        data.append_unsaid(append(envelope.clone()));
        let compacted = data.reported.compacted.as_mut().unwrap();
        (compacted.vouched.entry, compacted.rows) = (envelope.clone(), rows);
        envelope
    };
    // Without root's entry nobody knows her.
    let owners = std::mem::take(
        &mut world.server.data().reported.compacted.as_mut().unwrap().vouched.owners,
    );
    let vps = world.start("vps");
    vps.until_alarm("E_CHECKPOINT").await;
    world.forge(|compacted| compacted.vouched.owners = owners);
    vps.until_content("secret/a", r#"{"n":1}"#).await;
    assert_eq!(by_eva.by.to_string(), "admin:eva");
}

fn append(envelope: Envelope) -> shared::wire::v1::log::AppendRequest {
    shared::wire::v1::log::AppendRequest { envelope, blobs: Vec::new(), code: None }
}

/// Starts a machine that has slept, in a vault whose server forges something; returns it once the
/// alarm stands.
async fn deceived(code: &str, change: impl FnOnce(&World, &mut Compacted)) -> (World, Machine) {
    let world = World::new().await;
    let vps = world.machine("vps", &["secret/"], &[]).await;
    world.put("secret/a", r#"{"n":1}"#);
    vps.until_content("secret/a", r#"{"n":1}"#).await;
    vps.stop().await;
    world.put("secret/a", r#"{"n":2}"#);
    world.compact();
    let mut forged = world.server.data().reported.compacted.clone().unwrap();
    change(&world, &mut forged);
    world.server.data().reported.compacted = Some(forged);
    let vps = world.start("vps");
    vps.until_alarm(code).await;
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(r#"{"n":1}"#), "it keeps what it has");
    (world, vps)
}

#[tokio::test]
async fn a_state_that_nobody_vouches_for_is_not_taken() {
    let (world, vps) = deceived("E_CHECKPOINT", |_, forged| {
        let at = forged.rows.len() - 2;
        forged.rows[at] ^= 1;
    })
    .await;
    let whole = rows(&{
        let data = world.server.data();
        let mut state = shared::log::start(&data.genesis).unwrap();
        for envelope in &data.entries[..data.entries.len() - 1] {
            shared::log::apply(&mut state, envelope).unwrap();
        }
        state
    });
    // It believes the server again once that tells the truth.
    world.forge(|forged| forged.rows = whole);
    vps.until_content("secret/a", r#"{"n":2}"#).await;
    vps.until(|status| status.alarms.is_empty()).await;

    // Cut, and of another length than named.
    drop(deceived("E_CHECKPOINT", |_, forged| forged.rows.truncate(100)).await);
    drop(deceived("E_CHECKPOINT", |_, forged| forged.rows.push(b'\n')).await);
    // Signed by nobody who is known, and by a member.
    drop(
        deceived("E_BADSIG", |world, forged| {
            let data = world.server.data();
            let named = data.state.summed();
            let by = Actor::Admin(name("jonas"));
            let ops = vec![Op::Checkpoint(named)];
            forged.vouched.entry = entry(&data.state, by, &SignKey::generate(), ops);
            forged.rows = rows(&data.state);
        })
        .await,
    );
}

#[tokio::test]
async fn a_checkpoint_of_before_takes_nothing_back() {
    let world = World::new().await;
    let vps = world.machine("vps", &["secret/"], &[]).await;
    let old = world.compact();
    world.put("secret/a", r#"{"n":1}"#);
    vps.until_content("secret/a", r#"{"n":1}"#).await;
    let seq = vps.engine.status().seq;
    vps.stop().await;
    world.forge(|forged| forged.dropped = u64::MAX);
    let vps = world.start("vps");
    vps.until_alarm("E_CHECKPOINT").await;
    assert!(old.seq < seq && vps.engine.status().seq == seq);
    assert_eq!(vps.read("secret/a").await.as_deref(), Some(r#"{"n":1}"#));
}

#[tokio::test]
async fn an_admin_who_vouches_for_another_state_is_found_out_by_who_folds() {
    let world = World::new().await;
    let vps = world.machine("vps", &["secret/"], &[]).await;
    {
        let mut data = world.server.data();
        let named = Checkpoint { state: Hash::ZERO, ..data.state.summed() };
        let by = Actor::Admin(name("jonas"));
        let envelope = entry(&data.state, by, &world.admin, vec![Op::Checkpoint(named)]);
        let seq = data.state.seq() + 1;
        data.claim(seq, envelope);
    }
    vps.until_alarm("E_CHECKPOINT").await;
}

#[tokio::test]
async fn own_entries_go_once_a_checkpoint_stands_for_them() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    for n in 0..5 {
        home.put("secret/a", &format!(r#"{{"n":{n}}}"#), None).await.unwrap();
    }
    let named = world.compact();
    home.until_caught_up(&world).await;
    begins(&home, named.seq).await;
    home.put("secret/a", r#"{"n":5}"#, None).await.unwrap();
    let paths = home.stop().await;
    let conn = rusqlite::Connection::open(paths.database()).unwrap();
    let left: Vec<i64> = {
        let mut query = conn.prepare("SELECT seq FROM log ORDER BY seq").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let begin = i64::try_from(named.seq).unwrap();
    assert_eq!(left, [0, begin + 1, begin + 2]);
    conn.execute("DELETE FROM snapshot", []).unwrap();
    drop(conn);
    let home = world.start("home");
    home.until_content("secret/a", r#"{"n":5}"#).await;
    // What a machine was granted when the log began counts as encrypted to it.
    let exposed = home.engine.exposure("home".to_owned()).await.unwrap();
    assert_eq!(exposed.begins, Some(named.seq));
    assert_eq!(exposed.secrets[0].versions, [1, 2, 3, 4, 5, 6]);
}

/// Gives a machine other keys.
fn rekey(world: &World, machine: &str) {
    let recipient = Identity::generate().recipient();
    let line = MachineLine::new(name(machine), recipient, &SignKey::generate()).unwrap();
    let MachineLine { recipient, sign, proof, .. } = line;
    let number = world.number(machine);
    let new_number = world.server.data().state.due_machine();
    world.act(vec![Op::MachineRekey(Rekey { number, new_number, recipient, sign, proof })]);
}

#[tokio::test]
async fn whom_secrets_have_reached_is_known_after_a_compaction() {
    let world = World::new().await;
    let home = world.machine("home", &["*"], &["*"]).await;
    world.join("vps", &["secret/a", "secret/b"], &[]);
    world.join("nas", &["secret/"], &[]);
    world.put("secret/a", r#"{"K":"first-value"}"#);
    world.put("secret/b", r#"{"K":"other-value"}"#);
    let number = world.number("vps");
    world.act(vec![Op::MachineRename { number, to: name("web") }]);
    world.put("secret/a", r#"{"K":"first-value","L":"1"}"#);
    rekey(&world, "web");
    let number = world.number("web");
    let was = world.server.data().state.was_access(number);
    let (read, write) = (Grants::parse(&["secret/b"]).unwrap(), Grants::default());
    world.act(vec![Op::AccessSet(Access { number, was, read, write })]);
    world.put("secret/a", r#"{"K":"first-value","L":"2"}"#);
    world.act(vec![Op::MachineRemove { number, reason: "stolen".parse().unwrap() }]);
    rekey(&world, "nas");
    world.join("pi", &["secret/c"], &[]);
    let number = world.number("pi");
    world.act(vec![Op::MachineRename { number, to: name("vps") }]);
    world.put("secret/a", r#"{"K":"first-value","L":"3"}"#);
    world.put("secret/c", r#"{"K":"third-value"}"#);
    world.put("secret/b", r#"{"K":"other-value","L":"3"}"#);
    for machine in ["nas", "vps"] {
        let number = world.number(machine);
        let was = world.server.data().state.was_machine(number);
        world.act(vec![Op::MachineSet { number, sleeps: true, was }]);
    }
    home.until_caught_up(&world).await;
    let asked = || async {
        let mut all = Vec::new();
        for machine in ["web", "vps", "nas", "2", "4"] {
            let told = home.engine.exposure(machine.to_owned()).await.unwrap();
            all.push(format!("{:#?}", machine::local::Exposure { begins: None, ..told }));
        }
        for at in ["secret/a", "secret/b", "secret/c"] {
            all.push(format!("{:#?}", home.engine.past(&path(at)).await.unwrap()));
        }
        all.push(format!("{:#?}", home.engine.removed()));
        all
    };
    let before = asked().await;
    let web = home.engine.exposure("web".to_owned()).await.unwrap();
    let had: Vec<(&str, &[u64])> =
        web.secrets.iter().map(|secret| (secret.path.as_str(), &secret.versions[..])).collect();
    assert_eq!(had, [("secret/a", &[1, 2][..]), ("secret/b", &[1])]);
    let named = world.compact();
    home.until_caught_up(&world).await;
    begins(&home, named.seq).await;
    for (before, after) in before.iter().zip(asked().await) {
        assert_eq!(*before, after);
    }
}
