//! The switch of the language: a form, as it changes something.

use super::answer::see_other;
use super::frame::{Fault, Viewed};
use super::href::{Fields, back_to};
use super::site::Visit;
use super::words::Lang;

/// Keeps the language that a form names for its session, and goes back to where it was.
pub(super) fn choose(visit: &Visit<'_>, form: &Fields) -> Viewed {
    let lang = form.get("lang").and_then(Lang::find).ok_or(Fault::Missing)?;
    visit.session.choose(lang);
    Ok(see_other(form.get("back").and_then(back_to).unwrap_or("/"), None))
}
