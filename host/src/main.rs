//! The command `guard-host`. Everything is in the library; this file only hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    guard_host::cli::main()
}
