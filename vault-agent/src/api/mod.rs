//! The local API: Vault's KV v2 over HTTP/1.1 on a unix socket and TCP, and the agent's own routes.
//! No code lives here. The layers, each using those below it only:
//!
//! 1. `oneshot`, `credentials`
//! 2. `listen`
//! 3. `route`
//! 4. `kv`, `sys`, `auth`, `agent`, `halts`
//! 5. `request`
//! 6. `context`
//! 7. `caller`
//! 8. `json`, `tokens`
//! 9. `hosts`
//! 10. `error`, `unread`
//! 11. `envelope`, `loopback`, `places`, `process`

mod agent;
mod auth;
mod caller;
mod context;
mod credentials;
mod envelope;
mod error;
mod halts;
mod hosts;
mod json;
mod kv;
mod listen;
mod loopback;
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
mod unread;

pub use context::token_file;
pub use credentials::Credentials;
pub use listen::{Listeners, serve};
pub use oneshot::answer_on;
