//! Fetches libtorch as the Python package torch, with `uv` or pip, whichever is there.
//!
//! There is no build without CUDA among the packages, but its CPU half needs only two small
//! libraries of NVIDIA; the others, for GPUs, are fetched when they are asked for. The layout of
//! Python's site-packages is kept: libtorch finds them by a path relative to itself. Platform and Python version are fixed, so those of the machine do not
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

/// Packages that are fetched together.
pub struct Packages {
    /// What they are, in a sentence.
    pub what: &'static str,
    /// With their versions. A change of this list makes earlier fetches stale.
    pub names: &'static [&'static str],
    /// The file in the site folder that names what was fetched into it.
    pub stamp: &'static str,
    download: &'static str,
    on_disk: &'static str,
    /// Of what they bring, the libraries that libtorch is linked with, relative to the site folder.
    pub libraries: &'static [&'static str],
}

/// libtorch, and what its CPU half needs.
pub const LIBTORCH: Packages = Packages {
    what: "libtorch 2.11.0",
    names: &["torch==2.11.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"],
    stamp: "guard-fetched",
    download: "545 MB",
    on_disk: "1.2 GB",
    libraries: &["nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13"],
};

/// What its CUDA half needs: the requirements that torch 2.11.0 states for Linux, but for those of its Python side.
pub const CUDA: Packages = Packages {
    what: "NVIDIA's libraries for libtorch 2.11.0",
    names: &[
        "nvidia-cublas==13.1.0.3",
        "nvidia-cuda-nvrtc==13.0.88",
        "nvidia-cudnn-cu13==9.19.0.56",
        "nvidia-cufft==12.0.0.61",
        "nvidia-cufile==1.15.1.6",
        "nvidia-curand==10.4.0.35",
        "nvidia-cusolver==12.0.4.66",
        "nvidia-cusparse==12.6.3.3",
        "nvidia-cusparselt-cu13==0.8.0",
        "nvidia-nccl-cu13==2.28.9",
        "nvidia-nvjitlink==13.0.88",
        "nvidia-nvshmem-cu13==3.4.5",
        "nvidia-nvtx==13.0.85",
        // Headers, for `cargo xtask graphs`.
        "nvidia-cuda-crt==13.0.88",
    ],
    stamp: "guard-fetched-cuda",
    download: "2.0 GB",
    on_disk: "3.0 GB",
    libraries: &[
        "nvidia/cu13/lib/libcublas.so.13",
        "nvidia/cu13/lib/libcublasLt.so.13",
        "nvidia/cu13/lib/libcufft.so.12",
        "nvidia/cu13/lib/libcufile.so.0",
        "nvidia/cu13/lib/libcurand.so.10",
        "nvidia/cu13/lib/libcusolver.so.12",
        "nvidia/cu13/lib/libcusparse.so.12",
        "nvidia/cu13/lib/libnvJitLink.so.13",
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia/cudnn/lib/libcudnn.so.9",
        "nvidia/cusparselt/lib/libcusparseLt.so.0",
        "nvidia/nccl/lib/libnccl.so.2",
        "nvidia/nvshmem/lib/libnvshmem_host.so.3",
    ],
};

impl Packages {
    /// Makes sure that a site folder holds all that they bring.
    pub fn check(&self, site: &Path) -> Result<()> {
        for library in self.libraries {
            if !site.join(library).is_file() {
                bail!("`{}` has no `{library}`", site.display());
            }
        }
        Ok(())
    }

    /// What the stamp holds.
    pub fn stamp_text(&self) -> String {
        self.names.join("\n") + "\n"
    }
}

/// pip takes a wheel's platform literally: no name stands for the earlier ones.
const PLATFORMS: std::ops::RangeInclusive<u8> = 17..=28;

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
    fn command(&self, packages: &Packages, site: &Path) -> Command {
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
        command.arg("--target").arg(site).args(packages.names);
        command
    }
}

/// Fetches packages into `scratch/site`. `scratch` is the caller's to remove.
///
/// The tool gets the lock as its input: should xtask be killed, the tool runs on and holds it, and
/// the next xtask waits for it instead of working in the same folder.
pub fn fetch(packages: &Packages, scratch: &Path, lock: &File) -> Result<()> {
    platform::can_fetch()?;
    let Packages { what, download, on_disk, .. } = packages;
    let tools = tools()?;
    let site = scratch.join("site");
    // Beside the target, what is unpacked needs no second disk and is removed with it.
    let temporary = scratch.join("tmp");
    let mut failures = Vec::new();
    for tool in &tools {
        for folder in [&site, &temporary] {
            renew(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        }
        say(format!("fetching {what} with {} ({download} to download, {on_disk} on disk)", tool.name()));
        let start = Instant::now();
        let status = tool
            .command(packages, &site)
            .env("TMPDIR", &temporary)
            .stdin(lock.try_clone().context("cannot share the lock")?)
            .stdout(Stdio::from(io::stderr()))
            .status()
            .with_context(|| format!("cannot start {}", tool.name()))?;
        if status.success() {
            packages.check(&site).with_context(|| format!("what {} fetched is of no use", tool.name()))?;
            say(format!("fetched in {} s", start.elapsed().as_secs()));
            return Ok(());
        }
        say(format!("{} failed ({status})", tool.name()));
        failures.push(tool.name());
    }
    Err(advise(
        format!("{what} could not be fetched with {}", failures.join(" or ")),
        format!(
            "the messages above tell why; a fetch needs the package index, a Python interpreter \
             (with pip 21 or later, if there is no uv), and up to twice {on_disk} of free disk \
             space in `{}`",
            scratch.parent().unwrap_or(scratch).display()
        ),
    ))
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
        tool.command(&LIBTORCH, Path::new("site"))
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_package_of_torch_is_the_version_that_is_checked_for() {
        assert_eq!(LIBTORCH.names[0], format!("torch=={}", torch::VERSION));
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
