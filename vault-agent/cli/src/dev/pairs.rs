//! `FILE[=PATH]` on the command line of `vault dev`.

use std::path::PathBuf;

use anyhow::Result;
use shared::path::SecretPath;

use super::settings::Out;
use crate::owner::absolute::absolute;
use host::hint::{Failure, hinted, parsed};

/// The secret where none is named.
pub const DEFAULT: &str = "secret/dev";

/// A file and a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The secret.
    pub path: SecretPath,
}

impl Pair {
    /// Reads `FILE` or `FILE=PATH`; the last `=` counts.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (file, path) = text.rsplit_once('=').unwrap_or((text, DEFAULT));
        if file.is_empty() {
            return Err(Failure::local(format!("`{text}` names no file"))
                .hint("write FILE, or FILE=PATH such as .env=secret/dev"));
        }
        Ok(Self { file: file.into(), path: parsed(path.parse())? })
    }
}

/// Checks imports: no two files may fight over one secret.
pub fn imports(texts: &[String]) -> Result<Vec<Pair>> {
    let pairs = texts.iter().map(|text| Pair::parse(text)).collect::<Result<Vec<_>, _>>()?;
    for (n, pair) in pairs.iter().enumerate() {
        if pairs[..n].iter().any(|other| other.path == pair.path) {
            return Err(hinted(
                format!("two files are to be imported to `{}`", pair.path),
                "give each its own: `--import FILE=secret/NAME`",
            ));
        }
        if !pair.file.is_file() {
            return Err(hinted(
                format!("there is no file `{}`", pair.file.display()),
                "name a .env file after `--import`",
            ));
        }
    }
    Ok(pairs)
}

/// Groups outs by file; several secrets may go into one.
pub fn outs(texts: &[String]) -> Result<Vec<Out>> {
    let mut outs: Vec<Out> = Vec::new();
    for text in texts {
        let pair = Pair::parse(text)?;
        let file = absolute(&pair.file).map_err(|fault| {
            let text = format!("`{}` cannot be written: {fault:#}", pair.file.display());
            hinted(text, "name a file in a folder that exists")
        })?;
        match outs.iter_mut().find(|out| out.file == file) {
            Some(out) if out.secrets.contains(&pair.path) => {}
            Some(out) => out.secrets.push(pair.path),
            None => {
                let secrets = vec![pair.path];
                outs.push(Out { file, secrets, git_ignore: false, replace: false });
            }
        }
    }
    Ok(outs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_file_goes_to_the_secret_it_names() {
        for (text, file, path) in [
            (".env", ".env", "secret/dev"),
            (".env=secret/a/b", ".env", "secret/a/b"),
            ("a=b=secret/x", "a=b", "secret/x"),
        ] {
            let pair = Pair::parse(text).unwrap();
            assert_eq!((pair.file.to_str().unwrap(), pair.path.as_str()), (file, path));
        }
    }

    #[test]
    fn a_path_that_breaks_the_grammar_is_refused_with_the_way_out() {
        for (text, expected) in [
            (".env=", "E_PATH: path `` names a mount only: write mount/name"),
            (".env=dev", "E_PATH: path `dev` names a mount only: write mount/name"),
            (".env=secret/../x", "E_PATH: path `secret/../x` has a segment `.` or `..`"),
            ("=secret/dev", "`=secret/dev` names no file"),
        ] {
            let fault = Pair::parse(text).unwrap_err();
            assert_eq!(fault.text, expected);
            assert!(fault.hint.is_some());
        }
    }

    #[test]
    fn two_imports_to_one_secret_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            host::files::write_private(&path, b"").unwrap();
            path.display().to_string()
        };
        let (a, b) = (file("a"), file("b"));
        assert!(imports(&[a.clone(), format!("{b}=secret/b")]).is_ok());
        let fault = imports(&[a, b]).unwrap_err().to_string();
        assert_eq!(fault, "two files are to be imported to `secret/dev`");
        let fault = imports(&texts(&["/none"])).unwrap_err().to_string();
        assert_eq!(fault, "there is no file `/none`");
    }

    #[test]
    fn several_secrets_go_into_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".env").display().to_string();
        let given = [format!("{file}=secret/a"), format!("{file}=secret/b"), file.clone()];
        let outs = outs(&given).unwrap();
        let secrets: Vec<_> = outs[0].secrets.iter().map(SecretPath::as_str).collect();
        assert_eq!((outs.len(), secrets), (1, vec!["secret/a", "secret/b", "secret/dev"]));
        assert!(super::outs(&texts(&["/no/such/folder/.env"])).is_err());
    }
}
