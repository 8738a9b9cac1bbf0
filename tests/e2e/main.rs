//! End-to-end tests with real processes, one feature per file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod addresses;
mod audit;
mod bad_input;
mod canary;
mod completion;
mod compose;
mod configuration;
mod contact;
mod containers;
mod crash;
mod credentials;
mod dev;
mod drift;
mod edit;
mod faults;
mod formats;
mod hooks;
mod install;
mod invite;
mod join;
mod join_wait;
mod killed;
mod kit;
mod metadata;
mod moving;
mod offline;
mod podman;
mod quickstart;
mod recovery;
mod restored;
mod retained;
mod rollback;
mod rotation;
mod run;
mod scan;
mod setup;
mod source;
mod stale;
mod status;
mod targets;
mod three_hosts;
mod visible;
