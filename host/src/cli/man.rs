//! `guard-host man`: the manual, from the same descriptions as `--help`.

use super::{Cli, Failure};
use clap::{Args, CommandFactory};
use guard_sdk::Error;
use std::{fs, path::PathBuf};

/// What `man` takes.
#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Write the pages there, e.g. into `~/.local/share/man/man1`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes `guard-host.1`, `guard-host-run.1`, `guard-host-plugin-list.1` and so on.
pub(super) fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let folder = &arguments.out;
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    let refused =
        |error| Error::with_code("file", format!("`{}` cannot be written: {error}", folder.display()));
    Ok(written.map_err(refused)?)
}
