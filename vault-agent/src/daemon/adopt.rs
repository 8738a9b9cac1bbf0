//! Takes up a configuration: at the start, and while running when `agent.toml` has changed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::guard::{Guard, Touched};
use super::hooks::Hooks;
use super::master::Masters;
use super::order::Order;
use super::put::Disk;
use super::record::{Record, Remembered};
use super::slot::{Slot, State};
use super::troubles::Troubles;
use super::{Daemon, Source, stale};
use crate::engine::Engine;
use host::config_fault::ConfigFault;
use machine::config::Config;

/// How many targets that left the configuration are remembered, should they come back: an editor
/// that saves in parts takes them out for a moment.
const MOST_LEFT: usize = 1_000;

impl Daemon {
    /// Takes up the configuration and what the last process remembered.
    pub(super) fn begin(source: Source, state: &Path, engine: Engine, guard: Guard) -> Self {
        let record = Record::load(state);
        let config = Arc::clone(&source.config.borrow());
        let (branch, troubles) = (engine.branch(), Troubles::new(&engine.targets()));
        let mut daemon = Self {
            source,
            began: Arc::clone(&config),
            state: state.to_owned(),
            contact: stale::take_up(record.contact, &engine),
            engine,
            guard,
            disk: Arc::new(Disk::new(state)),
            hooks: Hooks::default(),
            order: Order::default(),
            masters: Masters::new(state),
            slots: HashMap::new(),
            queue: VecDeque::new(),
            jobs: JoinSet::new(),
            hung_jobs: 0,
            report_by: None,
            save_by: None,
            saver: JoinSet::new(),
            save_failed: false,
            retain_due: false,
            retainer: JoinSet::new(),
            telling: JoinSet::new(),
            weigh_by: None,
            branch,
            troubles,
            alarms: BTreeMap::new(),
            waiting: Vec::new(),
            left: HashMap::new(),
        };
        let targets = config.targets.iter().map(|target| target.path.clone());
        let sources = config.sources.iter().map(|source| source.path.clone());
        let files: Vec<PathBuf> = targets.chain(sources).collect();
        let disk = Arc::clone(&daemon.disk);
        tokio::task::spawn_blocking(move || disk.sweep(&files));
        let had_targets = !record.targets.is_empty();
        let remembered = record.targets.into_iter().map(|target| (target.path.clone(), target));
        daemon.adopt(&config, remembered.collect());
        // What was saved between the first reading and the watching would never be heard of.
        daemon.reload();
        if had_targets && daemon.slots.is_empty() {
            daemon.miss_configuration();
        }
        daemon
    }

    /// Makes the slots those of `config`; targets that have not changed are left alone.
    fn adopt(&mut self, config: &Config, mut remembered: HashMap<PathBuf, Remembered>) {
        let mut before = std::mem::take(&mut self.slots);
        for target in &config.targets {
            let slot = match before.remove(&target.path) {
                Some(slot) if slot.target == *target => slot,
                Some(slot) => slot.changed(Arc::clone(target)),
                None => {
                    let left = self.left.remove(&target.path).filter(|(left, _)| left == target);
                    let known = remembered.remove(&target.path).or(left.map(|(_, known)| known));
                    Slot::new(Arc::clone(target), known)
                }
            };
            self.slots.insert(target.path.clone(), slot);
        }
        if self.left.len() + before.len() > MOST_LEFT {
            self.left.clear();
        }
        for (path, slot) in before {
            tracing::info!(file = %path.display(), "no target any more; the file stays");
            let known = slot.remembered().filter(|_| self.left.len() < MOST_LEFT);
            self.left.extend(known.map(|known| (path, (slot.target, known))));
        }
        let paths: Vec<PathBuf> = self.slots.keys().cloned().collect();
        self.disk.targets_are(&paths);
        self.order = Order::of(&config.targets);
        let hooks = self.slots.iter();
        let hooks = hooks.filter_map(|(path, slot)| Some((path.as_path(), slot.key.as_ref()?)));
        self.hooks.forget_others(&hooks.collect());
        self.masters.set(&config.sources, Instant::now());
        self.watch();
        self.refresh();
        // What kept others from being written may have left.
        self.plan_those(|slot| matches!(slot.state, State::Failed(_)));
        self.changed();
    }

    /// Watches the targets, their templates, and the configuration.
    pub(super) fn watch(&mut self) {
        let targets = self.slots.keys().map(PathBuf::as_path);
        let templates = self.slots.values().filter_map(|slot| slot.target.template_file.as_deref());
        let own = std::iter::once(self.source.file.as_path());
        let files = own.chain(targets).chain(templates).chain(self.masters.files());
        match self.guard.watch(files) {
            Ok(()) => self.engine.clear_alarm("E_WATCH"),
            Err(error) => {
                let detail = format!("some files are looked at every few seconds only: {error}");
                self.engine.alarm("E_WATCH", detail);
            }
        }
    }

    /// Renders targets anew whose template may have changed.
    pub(super) fn follow_templates(&mut self, touched: &Touched) {
        let is_new = |file: &PathBuf| touched.all || touched.files.contains(file);
        for slot in self.slots.values_mut() {
            if slot.target.template_file.as_ref().is_some_and(is_new) {
                slot.template_changed();
            }
        }
        self.plan_those(|slot| slot.target.template_file.as_ref().is_some_and(is_new));
    }

    /// Takes up a changed `agent.toml`; one that is not understood changes nothing and alarms.
    pub(super) fn reload(&mut self) {
        let before = Arc::clone(&self.source.config.borrow());
        let load = if *before == Config::default() { Config::load } else { Config::load_filled };
        let config = match load(&self.source.file) {
            Ok(config) => Arc::new(config),
            // There never was one: nothing to alarm about.
            Err(error) if error.missing && *before == Config::default() => return,
            Err(error) => {
                tracing::error!(hint = error.hint, "the old configuration stays: {error}");
                self.refused(&error);
                return;
            }
        };
        self.engine.clear_alarm("E_CONFIG");
        if before == config {
            return;
        }
        tracing::info!(
            "`{}` has changed; targets: {}",
            self.source.file.display(),
            config.targets.len()
        );
        self.source.config.send_replace(Arc::clone(&config));
        self.tell_what_waits(&config);
        self.adopt(&config, HashMap::new());
    }
}

impl Daemon {
    /// Raises an alarm if there is nothing in `agent.toml`, not even a comment, though there were
    /// targets before: it may have been lost.
    fn miss_configuration(&self) {
        if let Err(error) = Config::load_filled(&self.source.file) {
            self.refused(&error);
        }
    }

    /// Raises an alarm while parts of the configuration wait for the next start.
    fn tell_what_waits(&self, config: &Config) {
        let waits = config.for_next_start(&self.began);
        if waits.is_empty() {
            return self.engine.clear_alarm("E_RESTART");
        }
        let (waits, file) = (waits.join(", "), self.source.file.display());
        let text = format!(
            "{waits} of `{file}` changed, and waits for the agent's next start (hint: `systemctl \
             restart vault-agent`, or with `--user`)"
        );
        self.engine.alarm("E_RESTART", text);
    }

    fn refused(&self, error: &ConfigFault) {
        self.engine.clear_alarm("E_CONFIG");
        self.engine.alarm("E_CONFIG", format!("{error} (hint: {})", error.hint));
    }
}

#[cfg(test)]
mod tests {
    use host::files;

    use super::*;
    use crate::daemon::apply::Task;
    use crate::daemon::guard::Make;
    use crate::engine::tests::Lone;
    use crate::engine::{Change, PutContent};

    #[tokio::test]
    async fn a_host_that_is_out_of_watches_is_told_so_once() {
        use tokio::sync::watch;
        let lone = Lone::new("vps", &["*"], &[]).await;
        let shown = || {
            let alarms = lone.engine().status().alarms;
            alarms.into_iter().map(|alarm| (alarm.code, alarm.text)).collect::<Vec<_>>()
        };
        let no_watch: Make = |_| Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        let no_instance: Make = |_| Err(notify::Error::io(rustix::io::Errno::MFILE.into()));
        for (make, what) in [(no_watch, "watches"), (no_instance, "instances")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().display();
            let file = folder.path().join("agent.toml");
            let targets = ["a/.env", "b/.env"].map(|name| {
                format!("[[target]]\npath = \"{path}/{name}\"\nsecrets = [\"secret/a\"]\n")
            });
            let access = files::Access::PRIVATE;
            files::replace(&file, targets.concat().as_bytes(), access).unwrap();
            let config = Arc::new(Config::load(&file).unwrap());
            let source = Source { file, config: watch::Sender::new(config) };
            let guard = Guard::made_by(make);
            let mut daemon = Daemon::begin(source, folder.path(), lone.engine(), guard);
            daemon.watch();
            let expected = format!(
                "some files are looked at every few seconds only: this host's inotify {what} are \
                 used up; `sysctl fs.inotify.max_user_{what}` shows the limit"
            );
            assert_eq!(shown(), [("E_WATCH".to_owned(), expected)]);
            daemon.guard = Guard::new();
            daemon.watch();
            assert_eq!(shown(), []);
        }
    }

    #[tokio::test]
    async fn what_waits_for_the_next_start_is_an_alarm_until_it_is_taken_back() {
        use tokio::sync::watch;
        let lone = Lone::new("vps", &["*"], &["*"]).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let save = |text: &str| {
            files::replace(&file, text.as_bytes(), files::Access::PRIVATE).unwrap();
            Arc::new(Config::load(&file).unwrap())
        };
        let waits = || {
            let alarms = lone.engine().status().alarms;
            let alarms = alarms.into_iter().filter(|alarm| alarm.code == "E_RESTART");
            alarms.map(|alarm| alarm.text).collect::<String>()
        };
        let config = watch::Sender::new(save("[log]\nlevel = \"warn\"\n"));
        let source = Source { file: file.clone(), config };
        let mut daemon = Daemon::begin(source, folder.path(), lone.engine(), Guard::off());
        assert_eq!(waits(), "");
        for (text, expected) in [
            ("[log]\nlevel = \"warn\"\n[api]\nlisten = [\"127.0.0.1:8200\"]\n", "[api]"),
            ("[api]\nlisten = [\"127.0.0.1:8200\"]\n", "[api], [log]"),
            // What is not taken up yet stays so, whatever else changes.
            ("server = [\"nas:1\"]\n[api]\nlisten = [\"127.0.0.1:8200\"]\n", "[api], [log]"),
            ("[log]\nlevel = \"warn\"\n", ""),
        ] {
            save(text);
            daemon.reload();
            match expected {
                "" => assert_eq!(waits(), ""),
                what => {
                    let text = waits();
                    assert!(text.starts_with(&format!("{what} of `{}` changed", file.display())));
                    assert!(
                        text.ends_with("(hint: `systemctl restart vault-agent`, or with `--user`)")
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn news_that_comes_before_another_configuration_is_not_missed() {
        use tokio::sync::watch;
        let lone = Lone::new("vps", &["*"], &["*"]).await;
        let folder = tempfile::tempdir().unwrap();
        let [a, file] = ["a", "agent.toml"].map(|name| folder.path().join(name));
        let configure = |targets: &[&str]| {
            let target = |name: &&str| {
                let path = folder.path().join(name);
                format!("[[target]]\npath = {path:?}\nsecrets = [\"secret/{name}\"]\n")
            };
            let text = targets.iter().map(target).collect::<String>();
            files::replace(&file, text.as_bytes(), files::Access::PRIVATE).unwrap();
            Arc::new(Config::load(&file).unwrap())
        };
        let config = watch::Sender::new(configure(&["a"]));
        let source = Source { file: file.clone(), config };
        let mut daemon = Daemon::begin(source, folder.path(), lone.engine(), Guard::off());
        assert_eq!(daemon.slots[&a].next, None);
        let content = PutContent::Whole(br#"{"A":"1"}"#[..].into());
        let (path, kind) = ("secret/a".parse().unwrap(), shared::blob::Kind::Kv);
        let put = Change::Put { path, kind, content, cas: None };
        lone.engine()
            .write("a test".parse::<shared::audit::Who>().unwrap(), vec![put])
            .await
            .unwrap();
        configure(&["a", "b"]);
        daemon.reload();
        daemon.refresh();
        assert_eq!(daemon.slots[&a].next, Some(Task::Write(vec![Some(1)])));
        // A task that ends without a result leaves its place: the target is tried again.
        daemon.advance();
        assert!(daemon.slots[&a].busy.is_some());
        daemon.jobs.abort_all();
        while daemon.slots[&a].busy.is_some() {
            daemon.turn().await;
        }
        assert!(daemon.slots[&a].due.is_some() && daemon.jobs.is_empty());
        assert!(daemon.slots[&a].show().contains("a fault in the agent itself"));
    }
}
