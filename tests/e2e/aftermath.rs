//! What holds on every machine once a server is back, whatever became of it: the files are right,
//! nothing is left to tell, the audit log is whole, nothing lacks, and one that was put out gets
//! nothing.

use std::fs;
use std::path::Path;

use tests::{Host, World, watch};

use crate::restored::put;

/// The secret of the targets, of which `K` is looked at.
pub(crate) const SECRET: &str = "secret/jjeco/a";

/// A vault after an accident.
pub(crate) struct Aftermath<'a> {
    pub(crate) world: &'a World,
    /// The machines of the vault.
    pub(crate) hosts: &'a [&'a Host],
    /// What the secret holds by now.
    pub(crate) value: &'a str,
    /// One that was removed before the accident.
    pub(crate) gone: Option<&'a Host>,
    /// Whether an owner has resumed the vault.
    pub(crate) resumed: bool,
}

impl Aftermath<'_> {
    /// Looks at all of it.
    pub(crate) fn check(&self) {
        for host in self.hosts {
            self.check_host(host);
        }
        if let Some(gone) = self.gone {
            self.check_gone(gone);
        }
        let checked = self.world.server_command(&["check"]);
        assert_eq!(checked.code, 0, "{}", checked.err);
    }

    fn check_host(&self, host: &Host) {
        if host.env_file().exists() {
            let line = format!("K={}", self.value);
            let is_right = |one: &str| one.starts_with('#') || one == line;
            let text = watch::until(&host.env_file(), |text| text.lines().any(|one| one == line));
            assert!(text.lines().all(is_right), "{text}");
        }
        let mut last = String::new();
        watch::poll(&format!("the status of {} is 0", host.name), || {
            let status = host.vault(&["status"]);
            if status.err != last {
                println!("{}: {}", host.name, status.err);
            }
            last = status.err;
            (status.code == 0).then_some(())
        });
        let verified = host.vault(&["audit", "verify"]);
        let said = format!("{}: {}{}", host.name, verified.out, verified.err);
        assert!(verified.code == 0, "{said}");
        assert_eq!(verified.out.contains("restored at "), self.resumed, "{said}");
        let healed = host.vault(&["heal"]);
        assert_eq!(healed.code, 0, "{}: {}{}", host.name, healed.out, healed.err);
    }

    /// Looks at what one has that was put out: by the door, and by all that its keys open of what
    /// the server keeps.
    fn check_gone(&self, gone: &Host) {
        assert_ne!(put(gone, SECRET, "K=past"), 0, "it writes nothing");
        let read = gone.vault(&["kv", "get", "-field=K", SECRET]);
        assert_ne!(read.out.trim(), self.value, "it reads nothing");
        assert!(!gone.env().contains(&format!("K={}\n", self.value)));
        let identity = fs::read(gone.state().join("identity/age.key")).unwrap();
        let database = self.world.tables();
        // Kept versions of before its removal stay as they were; the server gives it none.
        let query = "SELECT path, ver, bytes FROM blob AS one WHERE replaced_at IS NOT NULL
                     OR ver = (SELECT max(ver) FROM blob WHERE path = one.path)";
        let mut blobs = database.prepare(query).unwrap();
        let mut rows = blobs.query([]).unwrap();
        let mut looked = 0;
        while let Some(row) = rows.next().unwrap() {
            let (path, ver): (String, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
            let bytes: Vec<u8> = row.get(2).unwrap();
            assert!(!opens(&identity, &bytes), "{path} version {ver} opens with its key");
            looked += 1;
        }
        assert_ne!(looked, 0);
    }
}

/// Takes off what no machine has, as it is named, until nothing is lacking.
pub(crate) fn give_up_what_is_lost(host: &Host) {
    let healed = host.vault(&["heal"]);
    for lost in healed.out.lines() {
        let (path, version) = lost.split_once(" v").unwrap();
        let _ = host.vault(&["kv", "destroy", &format!("-versions={version}"), path]).ok();
    }
    let healed = host.vault(&["heal"]);
    assert_eq!(healed.code, 0, "{}{}", healed.out, healed.err);
}

/// Tells whether a file of identities opens a blob, by the age library alone.
pub(crate) fn opens(identities: &[u8], blob: &[u8]) -> bool {
    let file = age::IdentityFile::from_buffer(identities).unwrap();
    let identities = file.into_identities().unwrap();
    let identities = identities.iter().map(|identity| -> &dyn age::Identity { identity.as_ref() });
    age::Decryptor::new(blob).unwrap().decrypt(identities).is_ok()
}

/// As [`opens`], with the identities in a file.
pub(crate) fn file_opens(identities: &Path, blob: &[u8]) -> bool {
    opens(&fs::read(identities).unwrap(), blob)
}
