//! `config`: the defaults of a mount.

use serde_json::json;

use crate::engine::{Change, Settings};

use super::super::envelope::{self, ApiAnswer, Source};
use super::super::error::ApiFault;
use super::super::request::Call;
use super::kept;
use shared::duration::Shown;

/// Answers the mount's settings.
pub(in super::super) fn read(call: &Call<'_>) -> ApiAnswer {
    let config = call.api.engine.state(|state| state.mounts().get(call.mount).copied());
    let config = config.unwrap_or_default();
    envelope::data(
        Source::Kv,
        json!({
            "cas_required": config.cas_required,
            "delete_version_after": Shown(config.delete_after).to_string(),
            "max_versions": config.max_versions,
        }),
    )
}

/// Changes the settings that are given.
pub(in super::super) async fn write(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    call.require_all()?;
    let fields = call.fields().await?;
    let settings = Settings {
        max_versions: kept(fields.count("max_versions")?)?,
        cas_required: fields.flag("cas_required")?,
        delete_after: fields.duration("delete_version_after")?,
    };
    if settings != Settings::default() {
        let change = Change::Mount(call.mount.parse()?, settings);
        call.api.engine.write(call.caller.by.clone(), vec![change]).await?;
    }
    Ok(envelope::no_content())
}
