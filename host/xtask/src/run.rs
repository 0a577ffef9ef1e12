//! `cargo xtask run`: builds, then becomes the host.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::build;
use crate::setup;
use crate::workspace::Workspace;

/// The plugin that a bare run loads; the host looks for it beside its own program.
const PLUGIN: &str = "libguard_curv.so";

/// Builds the host and the plugins and starts the host in the caller's folder with `args`.
pub fn run(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup::setup(workspace, false)?;
    let host = build::build(workspace)?.host;
    // On success this process is the host from here on, its exit code included.
    let error = Command::new(&host).args(["--plugin", PLUGIN]).args(args).exec();
    Err(error).with_context(|| format!("cannot start `{}`", host.display()))
}
