//! vaultrs, unmodified, against the vault that `VAULT_ADDR` and `VAULT_TOKEN` name.

use std::collections::HashMap;
use std::error::Error;

use serde_json::{Value, json};
use vaultrs::api::kv2::requests::{SetSecretMetadataRequest, SetSecretRequestOptions};
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use vaultrs::{kv2, sys, token};

type Outcome = Result<(), Box<dyn Error>>;

struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    fn note(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("ok {name}");
            }
            Err(why) => {
                self.failed += 1;
                println!("not ok {name}: {why}");
            }
        }
    }
}

fn want<T: PartialEq + std::fmt::Debug>(got: T, expected: T) -> Outcome {
    if got == expected { Ok(()) } else { Err(format!("got {got:?}, expected {expected:?}").into()) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = VaultClientSettingsBuilder::default()
        .address(std::env::var("VAULT_ADDR")?)
        .token(std::env::var("VAULT_TOKEN")?)
        .build()?;
    let client = VaultClient::new(settings)?;
    let run = format!("vaultrs-{}", std::process::id());
    let mut tally = Tally { passed: 0, failed: 0 };
    tally.note("health, mounts, token", system(&client).await);
    tally.note("set, read, versions, list", versions(&client, &run).await);
    tally.note("check-and-set", check_and_set(&client, &run).await);
    tally.note("delete, undelete, destroy", life(&client, &run).await);
    tally.note("metadata", metadata(&client, &run).await);
    tally.note("mount configuration", configuration(&client).await);
    tally.note("what is not there is 404", missing(&client, &run).await);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

async fn system(client: &VaultClient) -> Outcome {
    let health = sys::health(client).await?;
    want((health.initialized, health.sealed), (true, false))?;
    let mounts = sys::mount::list(client).await?;
    want(mounts.contains_key("secret/"), true)?;
    let own = token::lookup_self(client).await?;
    want(own.id.is_empty(), false)
}

async fn versions(client: &VaultClient, run: &str) -> Outcome {
    let path = format!("{run}/a");
    want(kv2::set(client, "secret", &path, &json!({"k": "1"})).await?.version, 1)?;
    want(kv2::set(client, "secret", &path, &json!({"k": "2", "n": [1, null]})).await?.version, 2)?;
    let newest: Value = kv2::read(client, "secret", &path).await?;
    want(newest, json!({"k": "2", "n": [1, null]}))?;
    let first: Value = kv2::read_version(client, "secret", &path, 1).await?;
    want(first, json!({"k": "1"}))?;
    want(kv2::list(client, "secret", run).await?, vec!["a".to_owned()])
}

async fn check_and_set(client: &VaultClient, run: &str) -> Outcome {
    let path = format!("{run}/cas");
    let none = SetSecretRequestOptions { cas: 0 };
    kv2::set_with_options(client, "secret", &path, &json!({"k": "1"}), none).await?;
    let none = SetSecretRequestOptions { cas: 0 };
    match kv2::set_with_options(client, "secret", &path, &json!({"k": "2"}), none).await {
        Err(ClientError::APIError { code: 400, errors }) => want(
            errors,
            vec!["check-and-set parameter did not match the current version".to_owned()],
        ),
        other => Err(format!("{other:?}").into()),
    }
}

async fn life(client: &VaultClient, run: &str) -> Outcome {
    let path = format!("{run}/life");
    kv2::set(client, "secret", &path, &json!({"k": "1"})).await?;
    kv2::delete_latest(client, "secret", &path).await?;
    if kv2::read::<Value>(client, "secret", &path).await.is_ok() {
        return Err("a deleted version was read".into());
    }
    kv2::undelete_versions(client, "secret", &path, vec![1]).await?;
    let back: Value = kv2::read(client, "secret", &path).await?;
    want(back, json!({"k": "1"}))?;
    kv2::delete_versions(client, "secret", &path, vec![1]).await?;
    kv2::destroy_versions(client, "secret", &path, vec![1]).await?;
    let metadata = kv2::read_metadata(client, "secret", &path).await?;
    want(metadata.versions.get("1").map(|version| version.destroyed), Some(true))
}

async fn metadata(client: &VaultClient, run: &str) -> Outcome {
    let path = format!("{run}/meta");
    let custom = HashMap::from([("owner".to_owned(), "jonas".to_owned())]);
    let mut request = SetSecretMetadataRequest::builder();
    request.max_versions(3u64).custom_metadata(custom.clone());
    kv2::set_metadata(client, "secret", &path, Some(&mut request)).await?;
    let metadata = kv2::read_metadata(client, "secret", &path).await?;
    want(metadata.max_versions, 3)?;
    want(metadata.custom_metadata, Some(custom))?;
    kv2::delete_metadata(client, "secret", &path).await?;
    match kv2::read_metadata(client, "secret", &path).await {
        Err(ClientError::APIError { code: 404, .. }) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn configuration(client: &VaultClient) -> Outcome {
    let configuration = kv2::config::read(client, "secret").await?;
    want(configuration.cas_required, false)
}

async fn missing(client: &VaultClient, run: &str) -> Outcome {
    match kv2::read::<Value>(client, "secret", &format!("{run}/none")).await {
        Err(ClientError::APIError { code: 404, errors }) => want(errors, Vec::new()),
        other => Err(format!("{other:?}").into()),
    }
}
