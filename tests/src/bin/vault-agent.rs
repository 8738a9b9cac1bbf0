//! The program `vault-agent` under a name of its own, so that tests always run what they were built
//! with.

fn main() -> std::process::ExitCode {
    vault_agent::main()
}
