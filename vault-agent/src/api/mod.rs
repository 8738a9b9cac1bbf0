//! The local API: Vault's KV v2 over HTTP/1.1 on a unix socket and TCP, and the agent's own routes.
//! No code lives here. The layers, each using those below it only:
//!
//! 1. `oneshot`, `credentials`
//! 2. `listen`
//! 3. `route`, `figures`
//! 4. `sys`, `auth`, `agent`, `halts`, `review`, `forwards`, `metrics`, `ui`
//! 5. `kv`
//! 6. `reasons`
//! 7. `routes`
//! 8. `request`
//! 9. `context`
//! 10. `caller`
//! 11. `asker`, `json`, `tokens`
//! 12. `hosts`
//! 13. `error`, `unread`
//! 14. `ancestry`, `envelope`, `places`, `process`

mod agent;
mod ancestry;
mod asker;
mod auth;
mod caller;
mod context;
mod credentials;
mod envelope;
mod error;
mod figures;
mod forwards;
mod halts;
mod hosts;
mod json;
mod kv;
mod listen;
mod metrics;
mod oneshot;
mod places;
mod process;
mod reasons;
mod request;
mod review;
mod route;
mod routes;
mod sys;
#[cfg(test)]
mod tests;
mod tokens;
mod ui;
mod unread;

pub use context::token_file;
pub use credentials::Credentials;
pub use listen::{Listeners, serve};
pub use oneshot::answer_on;
