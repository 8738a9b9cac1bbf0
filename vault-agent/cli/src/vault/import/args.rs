//! The arguments of `vault import`.

use std::path::PathBuf;

use crate::kv::content::Dialect;
use machine::render::Backslashes;

#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "A .env, JSON or YAML file becomes one version of one secret, or nothing is written. From a Vault or OpenBao come \
all versions of all secrets below the address; done again, it goes on where it stopped. The token for it is that of \
--token-file, VAULT_TOKEN or ~/.vault-token.

Examples:
  vault import secret/jjeco/api-keys .env.master
  sops -d x.yaml | vault import secret/app -
  vault import vault://vault.lan/kv/team secret/team
  vault import vault+http://10.0.0.5:8200/secret"
)]
pub struct Args {
    /// Mount of the KV engine; PATH is then below it
    #[arg(long, value_name = "MOUNT")]
    pub(super) mount: Option<String>,
    /// Secret, e.g. secret/app; or vault://HOST[:PORT]/MOUNT[/FOLDER]
    #[arg(value_name = "PATH")]
    pub(super) path: String,
    /// File; - for stdin. Of another Vault: where its secrets go, MOUNT/FOLDER as there unless
    /// given
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Remove the keys that the file does not have
    #[arg(long)]
    pub(super) replace: bool,
    /// What the file is written in, if neither its name nor its first line tells
    #[arg(long, value_name = "DIALECT", value_enum)]
    pub(super) dialect: Option<Dialect>,
    /// Backslashes in double quotes of a .env that readers differ on, as in "C:\temp\new": refuse,
    /// undo them as python-dotenv and Compose do, or keep them as shells do [default: refuse]
    #[arg(long, value_name = "HOW", value_parser = backslashes)]
    pub(super) backslashes: Option<Backslashes>,
    /// Token for the other Vault
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Talk to the other Vault without TLS; so it is on this machine anyway
    #[arg(long, conflicts_with = "https")]
    pub(super) http: bool,
    /// Talk to the other Vault with TLS; so it is anyway, but on this machine
    #[arg(long)]
    pub(super) https: bool,
}

fn backslashes(text: &str) -> Result<Backslashes, String> {
    match text {
        "refuse" => Ok(Backslashes::Refuse),
        "undo" => Ok(Backslashes::Undo),
        "keep" => Ok(Backslashes::Keep),
        _ => Err("expected refuse, undo or keep".to_owned()),
    }
}
