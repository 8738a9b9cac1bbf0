//! `config`: the defaults of a mount.

use std::io::Write as _;

use shared::path::Mount;

use crate::engine::{Change, MountMerge};

use super::super::envelope::{self, Answer, Source};
use super::super::error::Fault;
use super::super::request::Call;
use shared::duration::Shown;

/// Answers the mount's settings.
pub(in super::super) fn read(call: &Call<'_>, mount: &str) -> Answer {
    let config =
        call.api.engine.state(|state| state.mounts().get(mount).copied()).unwrap_or_default();
    envelope::data(Source::Kv, 128, |out| {
        // Writing to memory cannot fail.
        let _ = write!(
            out,
            "{{\"cas_required\":{},\"delete_version_after\":\"{}\",\"max_versions\":{}}}",
            config.cas_required,
            Shown(config.delete_after),
            config.max_versions,
        );
    })
}

/// Changes the settings that are given.
pub(in super::super) async fn write(call: &mut Call<'_>, mount: &str) -> Result<Answer, Fault> {
    if !call.caller.scope.is_all() {
        return Err(Fault::Denied);
    }
    let fields = call.fields().await?;
    let merge = MountMerge {
        mount: mount.parse::<Mount>()?,
        max_versions: fields.count("max_versions")?,
        cas_required: fields.flag("cas_required")?,
        delete_after: fields.duration("delete_version_after")?,
    };
    let nothing = merge.max_versions.is_none()
        && merge.cas_required.is_none()
        && merge.delete_after.is_none();
    if !nothing {
        call.api.engine.write(vec![Change::MountMerge(merge)]).await?;
    }
    Ok(envelope::no_content())
}
