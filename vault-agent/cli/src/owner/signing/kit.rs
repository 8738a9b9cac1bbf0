//! The recovery kit: the root secret and the recovery key as one page for paper, and proving that
//! it was kept by typing a part of it back. Using the kit lives in `recovery`.

use anyhow::{Result, bail};
use bech32::{Bech32, Hrp};
use shared::keys::{Identity, SignKey};
use shared::name::Name;
use shared::signed::VaultId;
use shared::time::Time;
use zeroize::Zeroizing;

use super::sheet::{self, COMPARE, Sheet};
use host::hint::hinted;
use host::term::Term;

const ROOT_HRP: Hrp = Hrp::parse_unchecked("vault-root-secret-");
const ROOT_PREFIX: &str = sheet::PREFIXES[0];
const RECOVERY_PREFIX: &str = sheet::PREFIXES[1];
/// What the id of the vault stands behind.
const ID: &str = "vault id";
/// Characters of each line that are typed back.
const TYPED: usize = 6;

/// The two secrets of the kit.
#[derive(Debug)]
pub struct Kit {
    /// Changes everything.
    pub root: SignKey,
    /// Every secret is encrypted to it as well.
    pub recovery: Identity,
}

impl Kit {
    pub fn generate() -> Self {
        Self { root: SignKey::generate(), recovery: Identity::generate() }
    }

    /// Returns the same kit once more.
    ///
    /// # Panics
    /// Never: a key reads back from its own text.
    pub fn copy(&self) -> Self {
        let recovery = Identity::from_text(&self.recovery.to_text());
        let recovery = recovery.expect("a key reads back from its own text");
        Self { root: SignKey::from_seed(&self.root.seed()), recovery }
    }

    /// Returns `VAULT-ROOT-SECRET-1…`: the root seed in Bech32, so that typing errors are noticed.
    fn root_line(&self) -> Zeroizing<String> {
        let seed = self.root.seed();
        let line = bech32::encode_upper::<Bech32>(ROOT_HRP, seed.as_ref());
        Zeroizing::new(line.expect("32 bytes fit a Bech32 string"))
    }

    /// Returns `AGE-SECRET-KEY-1…`, which stock age reads.
    fn recovery_line(&self) -> Zeroizing<String> {
        self.recovery.to_text()
    }

    /// Returns the page. All but the recovery key are comments, so that the page as a file is what
    /// `age -d -i` wants.
    pub fn page(&self, vault: VaultId, name: &Name, made: Time) -> Zeroizing<String> {
        let id = vault.to_string();
        let (id_head, id_tail) = id.split_at(32);
        let made = made.to_string();
        let day = made.split('T').next().unwrap_or_default();
        let mut page = Zeroizing::new(String::with_capacity(4096));
        for part in [
            sheet::TITLE,
            "of the vault `",
            name.as_str(),
            "`\n#\n# vault id   ",
            id_head,
            "\n#            ",
            id_tail,
            "\n# made       ",
            day,
            ADVICE,
            "# ",
            &self.root_line(),
            RECOVERY_ADVICE,
            &self.recovery_line(),
            BREAK_GLASS,
        ] {
            page.push_str(part);
        }
        page
    }

    /// Returns what the code on the printed page holds: the shortest page there is.
    pub fn code(&self, vault: VaultId) -> Zeroizing<String> {
        let mut code = Zeroizing::new(String::with_capacity(512));
        let (id, root, recovery) = (vault.to_string(), self.root_line(), self.recovery_line());
        for part in ["# vault id   ", &id, "\n# ", &root, "\n", &recovery, "\n"] {
            code.push_str(part);
        }
        code
    }

    /// Reads a page, typed in or scanned: both secrets wherever they stand, as lines or in rows,
    /// everything else ignored.
    ///
    /// # Errors
    /// Names what was mistyped, or is missing.
    pub fn from_page(page: &str) -> Result<Self> {
        Self::from_sheet(&sheet::read(page)?)
    }

    /// Takes both secrets of what was read.
    ///
    /// # Errors
    /// As [`Kit::from_page`].
    pub fn from_sheet(sheet: &Sheet) -> Result<Self> {
        let root = parse_root(&sheet.secret(0)?)?;
        let recovery = Identity::from_text(&sheet.secret(1)?);
        Ok(Self { root, recovery: recovery.map_err(|_| mistyped(RECOVERY_PREFIX))? })
    }

    /// Returns the id of the vault, if it stands on the page, in one row or two.
    pub fn vault_on(page: &str) -> Option<VaultId> {
        let mut lines = page.lines().map(|line| line.trim_start_matches(['#', ' ']).trim());
        let head = lines.find_map(|line| {
            let is_id = line.get(..ID.len())?.eq_ignore_ascii_case(ID);
            is_id.then(|| line[ID.len()..].trim())
        })?;
        let id = head.to_ascii_lowercase();
        id.parse().ok().or_else(|| (id + &lines.next()?.to_ascii_lowercase()).parse().ok())
    }

    /// Asks for the last characters of both lines, or their last rows, until they are right.
    ///
    /// # Errors
    /// After three wrong attempts at one line, or at the end of the input.
    pub fn confirm(&self, term: &Term) -> Result<()> {
        for (prefix, line) in
            [(ROOT_PREFIX, self.root_line()), (RECOVERY_PREFIX, self.recovery_line())]
        {
            if !typed_back(prefix, &line, term)? {
                bail!(hinted(
                    "the kit was not confirmed",
                    "nothing was set up; start again, and have the page on paper before you type"
                ));
            }
        }
        Ok(())
    }
}

fn typed_back(prefix: &str, line: &str, term: &Term) -> Result<bool> {
    let end = &line[line.len() - TYPED..];
    let row = last_row(line);
    for again in ["", "That is not it. ", "That is not it either. "] {
        term.say(format!(
            "{again}Type the last {TYPED} characters of the line {prefix}… (in rows: or the whole \
             last row)"
        ));
        let Some(typed) = term.read_line()?.map(Zeroizing::new) else { return Ok(false) };
        // Groups may be set apart as anybody likes.
        let typed = bare(&typed);
        // A row with its number and its two letters, or without.
        let (unchecked, behind) = (row.len() - 2, 1);
        let ways = [end, &row, &row[..unchecked], &row[behind..], &row[behind..unchecked]];
        if ways.iter().any(|way| typed.eq_ignore_ascii_case(way)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the last row of a secret's line, as on the sheet: `4XXXXXXXXXXYY`.
///
/// # Panics
/// Never: a secret is written in rows.
fn last_row(line: &str) -> Zeroizing<String> {
    let sheet = sheet::grouped(line);
    bare(sheet.lines().rfind(|row| row.ends_with(')')).expect("a secret is written in rows"))
}

fn bare(typed: &str) -> Zeroizing<String> {
    Zeroizing::new(typed.chars().filter(char::is_ascii_alphanumeric).collect())
}

fn parse_root(line: &str) -> Result<SignKey> {
    let (hrp, seed) = bech32::decode(line).map_err(|_| mistyped(ROOT_PREFIX))?;
    let seed = Zeroizing::new(seed);
    match <&[u8; 32]>::try_from(seed.as_slice()) {
        Ok(seed) if hrp == ROOT_HRP => Ok(SignKey::from_seed(seed)),
        Ok(_) | Err(_) => Err(mistyped(ROOT_PREFIX)),
    }
}

fn mistyped(prefix: &str) -> anyhow::Error {
    hinted(format!("the line `{prefix}…` was cut or mistyped"), COMPARE)
}

const ADVICE: &str = "
#
# Put this page where your passport is, on paper, and delete any file of it.
# Anyone who holds it can read every secret and appoint an admin. Try it once,
# today, and make a new kit if this one was ever in other hands:
#
#     vault recovery test --all --kit -
#     vault recovery renew --kit -
#
# ROOT SECRET: appoints an admin, on any machine of the vault, also instead of
# one whose key is lost or stolen, or whose passphrase is forgotten:
#
#     vault recovery admin NAME --instead-of OLD --kit -
#
";

const RECOVERY_ADVICE: &str = "
#
# RECOVERY KEY: reads every secret, with any age program (age-encryption.org).
#
";

const BREAK_GLASS: &str = "
#
# IF THE SERVER WAS RESTORED from a backup, and no admin's key is left, on any
# machine of the vault:
#
#     vault resume --kit -
#
# IF NO MACHINE IS LEFT, and the server lives: on a fresh host, with the id of
# the vault above,
#
#     vault recover HOST:PORT --vault ID --kit -
#
# IF NOTHING ELSE IS LEFT but the server's vault.db, a backup of it, or a
# host's agent.db: the chapter `Break glass` of the vault's book has a script
# that reads it, on any host with age and sqlite3. Print that chapter, too:
#
#     sh break-glass.sh vault.db - /dev/shm/secrets
";

#[cfg(test)]
mod tests {
    use std::io::{Cursor, sink};

    use shared::hash::Hash;

    use super::*;

    fn page(kit: &Kit) -> Zeroizing<String> {
        let name = "homelab".parse().unwrap();
        let made = Time::from_micros(1_798_761_599_999_999);
        kit.page(Hash::of(&[b"abc"]), &name, made)
    }

    fn known() -> Kit {
        let recovery = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        let recovery = Identity::from_text(recovery).unwrap();
        Kit { root: SignKey::from_seed(&[7; 32]), recovery }
    }

    #[test]
    fn the_page_is_what_people_see() {
        insta::assert_snapshot!(*page(&known()));
    }

    #[test]
    fn the_vault_reads_back_from_the_page() {
        let page = page(&known());
        assert_eq!(Kit::vault_on(&page), Some(Hash::of(&[b"abc"])));
        assert_eq!(Kit::vault_on(&page.replace("vault id", "vault")), None);
        assert_eq!(Kit::vault_on("# vault id 12\n"), None);
        let id = Hash::of(&[b"abc"]);
        assert_eq!(Kit::vault_on(&known().code(id)), Some(id));
        assert_eq!(Kit::vault_on(&format!("VAULT ID {id}").to_uppercase()), Some(id));
    }

    #[test]
    fn every_line_fits_a_sheet_of_paper() {
        let kit = known();
        let page = page(&kit);
        assert!(page.lines().count() < 50);
        assert!(page.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn stock_age_reads_the_page_as_an_identity_file() {
        let kit = Kit::generate();
        let file = age::IdentityFile::from_buffer(page(&kit).as_bytes()).unwrap();
        let identities = file.into_identities().unwrap();
        let recipient: age::x25519::Recipient =
            kit.recovery.recipient().to_string().parse().unwrap();
        let sealed = age::encrypt(&recipient, b"content").unwrap();
        assert_eq!(identities.len(), 1);
        let decryptor = age::Decryptor::new_buffered(sealed.as_slice()).unwrap();
        let mut opened = Vec::new();
        let mut plain = decryptor.decrypt(identities.iter().map(|one| &**one as _)).unwrap();
        std::io::copy(&mut plain, &mut opened).unwrap();
        assert_eq!(opened, b"content");
    }

    #[test]
    fn a_page_reads_back_however_it_was_typed() {
        let kit = Kit::generate();
        let both = format!("{}\n  {}  \n", kit.root_line().to_lowercase(), *kit.recovery_line());
        let rows = sheet::grouped(&page(&kit));
        let code = kit.code(Hash::of(&[b"abc"]));
        for text in [page(&kit).as_str(), &both, &rows, &code, &code.to_lowercase()] {
            let read = Kit::from_page(text).unwrap();
            assert_eq!(read.root.verify_key(), kit.root.verify_key());
            assert_eq!(read.recovery.recipient(), kit.recovery.recipient());
        }
    }

    #[test]
    fn a_mistyped_or_absent_line_is_named() {
        let kit = known();
        let (root, recovery) = (kit.root_line(), kit.recovery_line());
        let fault = |text: String| Kit::from_page(&text).unwrap_err().to_string();
        assert!(fault(recovery.to_string()).contains("has no line `VAULT-ROOT-SECRET-1…`"));
        assert!(fault(root.to_string()).contains("has no line `AGE-SECRET-KEY-1…`"));
        let (last, other) = (&root[root.len() - 1..], if root.ends_with('Q') { "P" } else { "Q" });
        let mistyped = format!("{}{other}", root.strip_suffix(last).unwrap());
        assert!(fault(format!("{mistyped}\n{}", *recovery)).contains("cut or mistyped"));
        assert!(fault(format!("{}\n{}", *root, &recovery[..40])).contains("cut or mistyped"));
    }

    #[test]
    fn typing_the_ends_back_confirms() {
        let kit = known();
        let (root, recovery) = (kit.root_line(), kit.recovery_line());
        let (root, recovery) = (&root[root.len() - 6..], &recovery[recovery.len() - 6..]);
        let confirm =
            |text: String| kit.confirm(&Term::piped(Cursor::new(text), sink(), sink())).is_ok();
        assert!(confirm(format!("{root}\n{}\n", recovery.to_lowercase())));
        assert!(confirm(format!("nope\n {root} \n{recovery}\n")));
        let (start, end) = root.split_at(3);
        assert!(confirm(format!("{start}-{end}.\n{recovery}\n")));
        let rows = sheet::grouped(&page(&kit));
        let whole: Vec<&str> = rows.lines().filter(|line| line.starts_with("#   4 ")).collect();
        assert!(confirm(whole.join("\n").to_lowercase() + "\n"), "{whole:?}");
        let bare = |row: &str| row[6..].split('(').next().unwrap().to_owned();
        assert!(confirm(format!("{}\n{}\n", bare(whole[0]), bare(whole[1]))));
        let third = rows.lines().find(|line| line.starts_with("#   3 ")).unwrap();
        assert!(!confirm(format!("{third}\n{third}\n{third}\n{}\n", whole[1])));
        assert!(!confirm(format!("{recovery}\n{root}\n")));
        assert!(!confirm(format!("a\nb\nc\n{root}\n{recovery}\n")));
        assert!(!confirm(String::new()));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", known()), "Kit { root: SignKey(..), recovery: Identity(..) }");
    }
}
