//! `delete/`, `undelete/`, `destroy/`, and `DELETE data/`: marks on versions.

use shared::audit::Op;
use shared::path::SecretPath;

use crate::engine::Change;

use super::super::envelope::ApiAnswer;
use super::super::error::ApiFault;
use super::super::request::Call;
use super::{apply, changed};

/// Deletes the newest version; nothing if there is none.
pub(in super::super) async fn delete_newest(call: &Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let path = changed(call, Op::LocalDelete).await?;
    apply(call, &path.clone(), Change::Delete { path, versions: None }).await
}

/// Deletes versions.
pub(in super::super) async fn delete(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let (path, versions) = named(call, Op::LocalDelete).await?;
    apply(call, &path.clone(), Change::Delete { path, versions: Some(versions) }).await
}

/// Takes the deletion of versions back.
pub(in super::super) async fn undelete(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let (path, versions) = named(call, Op::LocalUndelete).await?;
    apply(call, &path.clone(), Change::Undelete { path, versions }).await
}

/// Drops the content of versions for good.
pub(in super::super) async fn destroy(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let (path, versions) = named(call, Op::LocalDestroy).await?;
    apply(call, &path.clone(), Change::Destroy { path, versions }).await
}

/// Reads the path and the versions of a request, at least one.
async fn named(call: &mut Call<'_>, op: Op) -> Result<(SecretPath, Vec<u64>), ApiFault> {
    // Vault has the small letter here only.
    let no = if op == Op::LocalDestroy { "no" } else { "No" };
    let path = changed(call, op).await?;
    let mut versions = call.fields().await?.versions()?;
    if versions.is_empty() {
        return Err(ApiFault::Refused(format!("{no} version number provided")));
    }
    versions.sort_unstable();
    versions.dedup();
    Ok((path, versions))
}
