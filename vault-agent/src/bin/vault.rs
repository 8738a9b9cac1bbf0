//! The `vault` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    vault_agent::cli::front::main()
}
