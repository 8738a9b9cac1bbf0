//! The local API: Vault's KV v2 over HTTP/1.1 on a unix socket and TCP, and the agent's own routes.
//! No code lives here. The layers, each using those below it only:
//!
//! 1. `oneshot`, `credentials`
//! 2. `listen`
//! 3. `route`, `figures`
//! 4. `sys`, `auth`, `agent`, `halts`, `review`, `forwards`, `metrics`, `ui`
//! 5. `kv`
//! 6. `request`
//! 7. `context`
//! 8. `caller`
//! 9. `asker`, `json`, `tokens`
//! 10. `hosts`
//! 11. `error`, `unread`
//! 12. `ancestry`, `envelope`, `places`, `process`

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
mod request;
mod review;
mod route;
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
