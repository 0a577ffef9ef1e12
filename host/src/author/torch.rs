//! The libtorch that this process runs on, as something to compile against.

use super::put;
use guard_sdk::{Error, Result};
use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A file that only a libtorch with headers has.
const HEADER: &str = "include/torch/csrc/api/include/torch/torch.h";

/// The folder with `lib` and `include` of this process's libtorch, or of the one that `LIBTORCH` names.
///
/// # Errors
/// If neither has headers.
pub fn with_headers() -> Result<PathBuf> {
    let loaded = loaded("libtorch_cpu.so");
    let from_library = loaded.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_path_buf);
    let from_variable = env::var_os("LIBTORCH").map(PathBuf::from).and_then(|path| path.canonicalize().ok());
    let found =
        [from_library, from_variable].into_iter().flatten().find(|torch| torch.join(HEADER).is_file());
    found.ok_or_else(|| {
        let place = loaded.map_or("libtorch".into(), |path| format!("`{}`", path.display()));
        Error::with_code("torch-version", format!("{place} has no headers beside it to compile against"))
            .help(format!("set LIBTORCH to a libtorch {} with `include` and `lib`", guard_sdk::TORCH_VERSION))
    })
}

/// The file of a shared library of this process.
fn loaded(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    paths
        .filter(|path| path.file_name().is_some_and(|file| file == name))
        .find_map(|path| path.canonicalize().ok())
}

/// Makes `folder` hold what a plugin links of `torch`: all but the CUDA part.
///
/// # Errors
/// If the folder cannot be written.
pub fn links(torch: &Path, folder: &Path) -> Result<()> {
    put(&folder.join("libtorch.so"), "INPUT(libtorch_cpu.so)\n")?;
    let libraries = torch.join("lib");
    let openmp = libraries
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libgomp")));
    let wanted = [
        ("libtorch_cpu.so", Some(libraries.join("libtorch_cpu.so"))),
        ("libc10.so", Some(libraries.join("libc10.so"))),
        ("libgomp.so", openmp),
    ];
    for (name, target) in wanted {
        if let Some(target) = target {
            let link = folder.join(name);
            symlink(&target, &link).map_err(|error| {
                Error::with_code("file", format!("`{}` cannot be made: {error}", link.display()))
            })?;
        }
    }
    Ok(())
}
