//! guard-host as a library: everything behind the command line. `guard-front`, the program, loads it.
//!
//! Data's way through the house: recipe (text) → plan → engine stage → [network, batch] → plugin method → scalar or tensor
//! → engine → run directory → report. No step back up.
#![deny(unsafe_code)]

pub mod author;
pub mod check;
pub mod cli;
pub mod data;
pub mod device;
pub mod engine;
pub mod exchange;
#[cfg(test)]
mod mangle;
pub mod network;
pub mod plan;
pub mod plugin;
pub mod random;
pub mod recipe;
pub mod report;
pub mod run;

/// What the program calls: does what the command line says, and returns the exit code.
#[allow(unsafe_code, reason = "the name is looked up in the loaded library")]
#[unsafe(no_mangle)]
pub extern "C" fn guard_host_main() -> u8 {
    cli::main()
}
