//! End-to-end tests with real processes, one feature per file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod bad_input;
mod canary;
mod crash;
mod dev;
mod offline;
mod quickstart;
mod three_hosts;
