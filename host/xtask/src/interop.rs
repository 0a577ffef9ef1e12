//! `cargo xtask interop`: opens what the host writes with the packages of others, and lets it read what they write.
//!
//! The checks are `tests/interop/check.py`; they run in a Python of their own in `target/interop`, with packages from pip. What
//! pip cannot get is told as not run. The outcome is kept in `tests/interop/RESULT.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::setup;
use crate::workspace::Workspace;

/// What the checks import, in groups that pip gets together. PyTorch is of the host's version.
const PACKAGES: [&[&str]; 3] = [
    &["numpy", "pillow", "safetensors", "tensorboard", "setuptools<81"],
    &["torch==2.11.0", "torchvision==0.26.0"],
    &["datasets"],
];

/// Runs all checks.
pub fn interop(workspace: &Workspace) -> Result<()> {
    setup::setup(workspace, false)?;
    let host = build::build(workspace)?.host;
    let folder = workspace.root.join("target/interop");
    let python = environment(&folder.join("venv"))?;
    for packages in PACKAGES {
        if !install(&python, packages)? {
            eprintln!("pip cannot get {}: what needs it is not run", packages.join(", "));
        }
    }
    let work = folder.join("work");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot clear `{}`", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("cannot make `{}`", work.display()))?;
    let tests = workspace.root.join("tests/interop");
    let mut checks = Command::new(&python);
    checks.arg(tests.join("check.py")).arg(host).arg(workspace.root.join("configs"));
    checks.args([work, tests.join("RESULT.md")]);
    match checks.status().context("cannot start the checks")?.success() {
        true => Ok(()),
        false => bail!("some checks failed: see `tests/interop/RESULT.md`"),
    }
}

/// Whether pip has got packages.
fn install(python: &Path, packages: &[&str]) -> Result<bool> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    Ok(pip.status().context("cannot start pip")?.success())
}

/// The Python of a virtual environment, which is made if it is not there.
fn environment(folder: &Path) -> Result<PathBuf> {
    let python = folder.join("bin/python");
    if python.is_file() {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(folder).status();
    match made.context("cannot start `python3`")?.success() {
        true => Ok(python),
        false => bail!("`python3 -m venv` failed: see above"),
    }
}
