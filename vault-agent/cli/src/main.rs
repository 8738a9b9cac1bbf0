//! The program `vault`; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    vault_cli::main()
}
