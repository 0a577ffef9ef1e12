//! `cargo xtask`: one command from a fresh checkout to a running, tested or installed host.
//!
//! This file is the command line and nothing else: each command is a file of its own, and `main`
//! turns their results into exit codes (0 done, 1 failed, 2 wrong usage). What xtask says goes to
//! stderr; stdout belongs to the programs it starts and to the closing line of `test`.

#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("this workspace builds on Linux only: libtorch is linked through symbolic links");

mod bench;
mod build;
mod bundle;
mod elf;
mod error;
mod fetch;
mod files;
mod graphs;
mod install;
mod interop;
mod links;
mod platform;
mod run;
mod setup;
mod soak;
mod test;
mod torch;
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::install::Libtorch;
use crate::workspace::Workspace;

/// Sets up libtorch, then builds, runs, tests and installs the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make libtorch ready: the one in LIBTORCH, or one fetched into `.libtorch`
    Setup {
        /// Fetch and link anew, even when all is well
        #[arg(long)]
        force: bool,
        /// Fetch what GPUs need, too: NVIDIA's libraries
        #[arg(long)]
        cuda: bool,
    },
    /// Build the host and the plugins, then start the host
    Run {
        /// Arguments for `guard-host`
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run all tests and print their number in the last line
    Test {
        /// Further arguments for `cargo test`
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Measure our steps beside the peer's
    Bench(bench::BenchArguments),
    /// Build the library that records CUDA graphs, for `guard-host --graphs`
    Graphs,
    /// Pack what `tests/cuda.sh` takes to a machine that has a GPU and Python's torch, but no Rust
    Bundle(bundle::BundleArguments),
    /// Hold what the host writes and reads against the packages of others, fetched with pip
    Interop,
    /// Kill runs of every kind wherever they write, and see that they go on as if nothing had happened
    Soak(soak::SoakArguments),
    /// Build, then install the host and the plugins into a folder
    Install {
        /// The folder that gets `bin/` and `lib/`
        #[arg(long, value_name = "DIR")]
        prefix: PathBuf,
        /// How the installed host gets at libtorch
        #[arg(long, value_enum, default_value_t = Libtorch::Reference)]
        libtorch: Libtorch,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let done = Workspace::find().and_then(|workspace| match command {
        Command::Setup { force, cuda: false } => setup::setup(&workspace, force).map(|_| ExitCode::SUCCESS),
        Command::Setup { force, cuda: true } => {
            setup::with_cuda(&workspace, force).map(|_| ExitCode::SUCCESS)
        }
        Command::Run { args } => run::run(&workspace, &args),
        Command::Test { args } => test::test(&workspace, &args),
        Command::Bench(arguments) => bench::bench(&workspace, &arguments).map(|()| ExitCode::SUCCESS),
        Command::Graphs => graphs::graphs(&workspace).map(|_| ExitCode::SUCCESS),
        Command::Bundle(arguments) => bundle::bundle(&workspace, &arguments).map(|()| ExitCode::SUCCESS),
        Command::Interop => interop::interop(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Soak(arguments) => soak::soak(&workspace, &arguments).map(|()| ExitCode::SUCCESS),
        Command::Install { prefix, libtorch } => {
            install::install(&workspace, &prefix, libtorch).map(|()| ExitCode::SUCCESS)
        }
    });
    done.unwrap_or_else(|error| {
        error::report(&error);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
