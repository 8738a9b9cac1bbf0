//! `delete/`, `undelete/`, `destroy/`, and `DELETE data/`: marks on versions.

use shared::audit::Op;
use shared::path::SecretPath;

use crate::engine::{Change, WriteError};

use super::super::envelope::{self, ApiAnswer};
use super::super::error::ApiFault;
use super::super::request::Call;
use super::{changed, require_write};

/// Deletes the newest version; nothing if there is none.
pub(in super::super) async fn delete_newest(
    call: &Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    let path = changed(mount, path)?;
    require_write(call, Op::LocalDelete, &path).await?;
    apply(call, Change::Delete { path, versions: None }).await
}

/// Deletes versions.
pub(in super::super) async fn delete(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    let (path, versions) =
        named(call, Op::LocalDelete, mount, path, "No version number provided").await?;
    apply(call, Change::Delete { path, versions: Some(versions) }).await
}

/// Takes the deletion of versions back.
pub(in super::super) async fn undelete(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    let (path, versions) =
        named(call, Op::LocalUndelete, mount, path, "No version number provided").await?;
    apply(call, Change::Undelete { path, versions }).await
}

/// Drops the content of versions for good.
pub(in super::super) async fn destroy(
    call: &mut Call<'_>,
    mount: &str,
    path: &str,
) -> Result<ApiAnswer, ApiFault> {
    // Vault has the small letter here only.
    let (path, versions) =
        named(call, Op::LocalDestroy, mount, path, "no version number provided").await?;
    apply(call, Change::Destroy { path, versions }).await
}

/// Reads the path and the versions of a request, at least one.
async fn named(
    call: &mut Call<'_>,
    op: Op,
    mount: &str,
    path: &str,
    none: &'static str,
) -> Result<(SecretPath, Vec<u64>), ApiFault> {
    let path = changed(mount, path)?;
    require_write(call, op, &path).await?;
    let mut versions = call.fields().await?.versions()?;
    if versions.is_empty() {
        return Err(ApiFault::NoVersions(none));
    }
    versions.sort_unstable();
    versions.dedup();
    Ok((path, versions))
}

/// Writes the change; what is not there is passed over.
async fn apply(call: &Call<'_>, change: Change) -> Result<ApiAnswer, ApiFault> {
    match call.api.engine.write(call.caller.who.clone(), vec![change]).await {
        Ok(_) | Err(WriteError::Missing) => Ok(envelope::no_content()),
        Err(error) => Err(error.into()),
    }
}
