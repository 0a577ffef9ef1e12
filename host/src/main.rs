//! The command `guard-host`. Everything is in two libraries; this file only hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    guard_front::main()
}
