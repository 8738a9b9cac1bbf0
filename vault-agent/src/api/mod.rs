//! The local API. Placeholder until the listener's own module arrives.

/// Bodies of the agent's own routes.
pub mod types;

/// Answers in this process, with the engine over `state`.
///
/// # Errors
/// Always, until the listener's own module arrives.
pub fn local_router(state: &std::path::Path) -> anyhow::Result<axum::Router> {
    anyhow::bail!("no router over `{}` yet", state.display())
}
