//! Fetches libtorch as the Python package torch, with `uv` or pip, whichever is there.
//!
//! There is no build without CUDA among the packages, but its CPU half needs only two small
//! libraries of NVIDIA. The layout of Python's site-packages is kept: libtorch finds the two by a
//! path relative to itself. Platform and Python version are fixed, so those of the machine do not
//! matter.

use std::fs;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::error::{advise, say};
use crate::platform;
use crate::torch;

/// What is fetched. A change of this list makes earlier fetches stale.
pub const PACKAGES: [&str; 3] =
    ["torch==2.11.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// The libraries of the two small packages, relative to the site folder.
const RUNTIME: [&str; 2] = ["nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13"];

/// pip takes a wheel's platform literally: no name stands for the earlier ones.
const PLATFORMS: std::ops::RangeInclusive<u8> = 17..=28;

const DOWNLOAD: &str = "545 MB";
const ON_DISK: &str = "1.2 GB";

/// A program that installs Python packages.
enum Tool {
    Uv(PathBuf),
    /// A Python interpreter that has pip.
    Pip(PathBuf),
}

impl Tool {
    fn name(&self) -> &str {
        match self {
            Tool::Uv(_) => "uv",
            Tool::Pip(_) => "pip",
        }
    }

    /// The call that installs the packages into `site`.
    fn command(&self, site: &Path) -> Command {
        let mut command = match self {
            Tool::Uv(program) => {
                let mut uv = Command::new(program);
                uv.args(["pip", "install", "--python-platform", "x86_64-manylinux_2_28"]);
                uv
            }
            Tool::Pip(python) => {
                let mut pip = Command::new(python);
                pip.args(["-m", "pip", "install", "--disable-pip-version-check"]);
                pip.args(["--implementation", "cp"]);
                pip.args(["--platform", "manylinux2014_x86_64"]);
                for minor in PLATFORMS {
                    pip.args(["--platform", &format!("manylinux_2_{minor}_x86_64")]);
                }
                // Settings for the user's own environments do not go with a target folder.
                pip.env("PIP_USER", "0")
                    .env("PIP_REQUIRE_VIRTUALENV", "0")
                    .env("PIP_ROOT_USER_ACTION", "ignore");
                pip
            }
        };
        command.args(["--no-deps", "--only-binary", ":all:", "--python-version", "3.12"]);
        command.arg("--target").arg(site).args(PACKAGES);
        command
    }
}

/// Fetches libtorch into `scratch/site`. `scratch` is the caller's to remove.
///
/// The tool gets the lock as its input: should xtask be killed, the tool runs on and holds it, and
/// the next xtask waits for it instead of working in the same folder.
pub fn fetch(scratch: &Path, lock: &File) -> Result<()> {
    platform::can_fetch()?;
    let tools = tools()?;
    let site = scratch.join("site");
    // Beside the target, what is unpacked needs no second disk and is removed with it.
    let temporary = scratch.join("tmp");
    let mut failures = Vec::new();
    for tool in &tools {
        for folder in [&site, &temporary] {
            renew(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        say(format!(
            "fetching libtorch {} with {} ({DOWNLOAD} to download, {ON_DISK} on disk)",
            torch::VERSION,
            tool.name()
        ));
        let start = Instant::now();
        let status = tool
            .command(&site)
            .env("TMPDIR", &temporary)
            .stdin(lock.try_clone().context("cannot share the lock")?)
            .stdout(Stdio::from(io::stderr()))
            .status()
            .with_context(|| format!("cannot start {}", tool.name()))?;
        if status.success() {
            check(&site).with_context(|| format!("what {} fetched is of no use", tool.name()))?;
            say(format!("fetched in {} s", start.elapsed().as_secs()));
            return Ok(());
        }
        say(format!("{} failed ({status})", tool.name()));
        failures.push(tool.name());
    }
    Err(advise(
        format!("libtorch could not be fetched with {}", failures.join(" or ")),
        format!(
            "the messages above tell why; a fetch needs the package index, a Python interpreter \
             (with pip 21 or later, if there is no uv), and up to twice {ON_DISK} of free disk \
             space in `{}`",
            scratch.parent().unwrap_or(scratch).display()
        ),
    ))
}

/// Makes sure that a site folder holds all that was fetched.
pub fn check(site: &Path) -> Result<()> {
    torch::check(&site.join("torch"))?;
    for library in RUNTIME {
        if !site.join(library).is_file() {
            bail!("`{}` has no `{library}`", site.display());
        }
    }
    Ok(())
}

/// The tools of this machine, best first.
fn tools() -> Result<Vec<Tool>> {
    let pythons: Vec<_> = ["python3", "python"].into_iter().filter_map(platform::find).collect();
    let uv = platform::find("uv").map(Tool::Uv);
    let pip = pythons.iter().find(|python| has_pip(python)).cloned().map(Tool::Pip);
    let tools: Vec<_> = uv.into_iter().chain(pip).collect();
    if tools.is_empty() {
        let found = match pythons.first() {
            Some(python) => format!("`{}` has no pip", python.display()),
            None => "there is no `python3` on the PATH".to_owned(),
        };
        return Err(advise(
            format!(
                "libtorch is fetched with `uv` or with Python's pip: there is no `uv` on the \
                 PATH, and {found}"
            ),
            format!(
                "install one of them (Debian and Ubuntu: `apt-get install python3-pip`, Fedora: \
                 `dnf install python3-pip`), or set LIBTORCH to the folder of a libtorch {}",
                torch::VERSION
            ),
        ));
    }
    Ok(tools)
}

fn has_pip(python: &Path) -> bool {
    Command::new(python)
        .args(["-m", "pip", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Makes an empty folder, whatever was there.
fn renew(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(tool: &Tool) -> Vec<String> {
        tool.command(Path::new("site"))
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_package_of_torch_is_the_version_that_is_checked_for() {
        assert_eq!(PACKAGES[0], format!("torch=={}", torch::VERSION));
    }

    #[test]
    fn pip_is_told_every_platform_that_the_wheels_are_made_for() {
        let arguments = arguments(&Tool::Pip("python3".into()));
        for platform in [
            "manylinux2014_x86_64",
            "manylinux_2_17_x86_64",
            "manylinux_2_25_x86_64",
            "manylinux_2_28_x86_64",
        ] {
            let pair = ["--platform".to_owned(), platform.to_owned()];
            assert!(arguments.windows(2).any(|window| window == pair), "{platform}");
        }
    }

    #[test]
    fn both_tools_leave_the_machines_own_packages_alone() {
        for tool in [Tool::Uv("uv".into()), Tool::Pip("python3".into())] {
            let arguments = arguments(&tool);
            assert!(arguments.contains(&"--no-deps".to_owned()), "{}", tool.name());
            let target = ["--target".to_owned(), "site".to_owned()];
            assert!(arguments.windows(2).any(|window| window == target), "{}", tool.name());
        }
    }
}
