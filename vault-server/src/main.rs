//! The program `vault-server`; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    vault_server::cli::main()
}
