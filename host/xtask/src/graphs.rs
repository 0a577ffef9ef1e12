//! `cargo xtask graphs`: compiles the library that records CUDA graphs, `host/device/graphs`, and puts it beside the host.
//!
//! It links libtorch's CUDA part, which the host does not, and takes the headers of CUDA's runtime, which `setup --cuda`
//! fetches. It needs no GPU to be built.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::error::{advise, say};
use crate::workspace::Workspace;
use crate::{platform, setup};

/// What the host looks for.
pub const LIBRARY: &str = "libguard_graphs.so";

/// Builds the library and tells where it is.
pub fn graphs(workspace: &Workspace) -> Result<PathBuf> {
    let torch = setup::setup(workspace, false)?;
    // Beside libtorch's own folder in Python's layout, fetched or the user's.
    let nvidia = torch.canonicalize().unwrap_or(torch.clone()).join("../nvidia/cu13");
    let missing: Vec<&str> =
        ["include/cuda_runtime_api.h", "include/crt/host_defines.h", "lib/libcudart.so.13"]
            .into_iter()
            .filter(|file| !nvidia.join(file).is_file())
            .collect();
    if !missing.is_empty() {
        return Err(advise(
            format!("`{}` has no {}", nvidia.display(), missing.join(", no ")),
            "run `cargo xtask setup --cuda`; with a LIBTORCH of your own, install `nvidia-cuda-crt` beside it",
        ));
    }
    let folder = workspace.root.join("target/release");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let library = folder.join(LIBRARY);
    compile(&workspace.root.join("host/device/graphs/graphs.cpp"), &torch, &nvidia, &library)?;
    say(format!("built `{}`", library.display()));
    Ok(library)
}

fn compile(source: &Path, torch: &Path, nvidia: &Path, library: &Path) -> Result<()> {
    // The variable may hold a wrapper and flags, such as `ccache g++`.
    let found = platform::compiler()?.unwrap_or("c++");
    let named = env::var("CXX").ok().filter(|value| !value.trim().is_empty());
    let words = named.as_deref().unwrap_or(found);
    let mut words = words.split_whitespace();
    let mut compiler = Command::new(words.next().unwrap_or(found));
    compiler.args(words);
    compiler.args(["-std=c++17", "-O2", "-fPIC", "-shared", "-s", "-o"]).arg(library).arg(source);
    for include in [torch.join("include"), nvidia.join("include")] {
        compiler.arg("-isystem").arg(include);
    }
    for folder in [torch.join("lib"), nvidia.join("lib")] {
        compiler.arg("-L").arg(folder);
    }
    compiler.args(["-ltorch_cuda", "-lc10_cuda", "-ltorch_cpu", "-lc10", "-l:libcudart.so.13"]);
    // What these libraries need is there where they run.
    compiler.arg("-Wl,--unresolved-symbols=ignore-in-shared-libs");
    if !compiler.status().context("cannot start the C++ compiler")?.success() {
        bail!("`{}` could not be compiled: see above", source.display());
    }
    Ok(())
}
