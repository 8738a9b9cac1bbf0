//! `agent/ui`: links to the page, for who may ask for a review.

use super::envelope::{self, ApiAnswer};
use super::error::ApiFault;
use super::request::{Call, Verb};
use crate::page::Page;
use host::hint;
use machine::local::UiRequest;

/// Makes a link, tells whether the page is open, or closes it.
pub(super) async fn ui(call: &mut Call<'_>) -> Result<ApiAnswer, ApiFault> {
    let page = call.api.page.get().cloned().ok_or_else(|| {
        let hint = "`vault-agent install` has an agent run with this host";
        ApiFault::Refused(format!("the page is the running agent's, and none runs\nhint: {hint}"))
    })?;
    match call.verb {
        Verb::Read => Ok(envelope::plain(&page.state().await)),
        Verb::Delete => {
            page.close().await;
            Ok(envelope::no_content())
        }
        Verb::Write => link(call, &page).await,
        Verb::List | Verb::Patch | Verb::Head => Err(ApiFault::UnsupportedOperation),
    }
}

async fn link(call: &mut Call<'_>, page: &Page) -> Result<ApiAnswer, ApiFault> {
    let request: UiRequest = call.typed().await?;
    if request.through == Some(0) {
        return Err(ApiFault::Refused("a tunnel has a port of its own, not 0".to_owned()));
    }
    let link = page.link(&call.caller.by, request).await;
    Ok(envelope::plain(&link.map_err(|why| {
        let hint = hint::hint(&why).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        ApiFault::Refused(format!("{why:#}{hint}"))
    })?))
}
