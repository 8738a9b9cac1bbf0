//! The program `vault` under a name of its own, so that tests always run what they were built with.

fn main() -> std::process::ExitCode {
    tests::take_version();
    vault_cli::main()
}
