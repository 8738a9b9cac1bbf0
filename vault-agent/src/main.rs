//! The program `vault-agent`; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    vault_agent::main()
}
