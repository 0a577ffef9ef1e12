//! The two stable paths that `.cargo/config.toml` names, whichever libtorch is behind them.
//!
//! ```text
//! .libtorch/torch                        -> site/torch, or the user's LIBTORCH
//! .libtorch/link/lib/libtorch_cpu.so     -> ../../torch/lib/libtorch_cpu.so
//! .libtorch/link/lib/libc10.so           -> ../../torch/lib/libc10.so
//! .libtorch/link/lib/libgomp.so          -> ../../torch/lib/libgomp.so.1 or similar, if there
//! .libtorch/link/lib/libtorch.so         a linker script that stands for libtorch_cpu.so
//! ```
//!
//! torch-sys links whatever it finds in `link/lib`. With no `libtorch_cuda.so` in there, the
//! programs start on machines without CUDA; the host loads it at run time. What is right is left
//! untouched, its time stamp included, so that cargo rebuilds nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::files;

/// What a path should hold.
enum Entry {
    Link(PathBuf),
    Text(&'static str),
    Nothing,
}

impl Entry {
    fn is_at(&self, path: &Path) -> bool {
        match self {
            Entry::Link(target) => fs::read_link(path).is_ok_and(|found| found == *target),
            Entry::Text(text) => {
                !path.is_symlink() && fs::read(path).is_ok_and(|found| found == text.as_bytes())
            }
            Entry::Nothing => fs::symlink_metadata(path).is_err(),
        }
    }

    fn put(&self, path: &Path) -> Result<()> {
        match self {
            Entry::Link(target) => files::link(target, path),
            Entry::Text(text) => files::write(text, path),
            Entry::Nothing => {
                fs::remove_file(path).with_context(|| format!("cannot remove `{}`", path.display()))
            }
        }
    }
}

/// Whether all links in `folder` are right for the libtorch at `torch` (relative to `folder`).
pub fn are_right(folder: &Path, torch: &Path) -> bool {
    entries(folder, torch).iter().all(|(path, entry)| entry.is_at(path))
}

/// Makes all links in `folder` right for the libtorch at `torch` (relative to `folder`).
pub fn make(folder: &Path, torch: &Path) -> Result<()> {
    let libraries = folder.join("link/lib");
    fs::create_dir_all(&libraries).with_context(|| format!("cannot create `{}`", libraries.display()))?;
    for (path, entry) in entries(folder, torch) {
        if !entry.is_at(&path) {
            entry.put(&path)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path, torch: &Path) -> Vec<(PathBuf, Entry)> {
    let beside = |name: &str| Entry::Link(Path::new("../../torch/lib").join(name));
    let libraries = folder.join("link/lib");
    let openmp = openmp(&folder.join(torch).join("lib"));
    vec![
        (folder.join("torch"), Entry::Link(torch.to_path_buf())),
        (libraries.join("libtorch_cpu.so"), beside("libtorch_cpu.so")),
        (libraries.join("libc10.so"), beside("libc10.so")),
        // Without one of libtorch's own, the linker takes the system's.
        (libraries.join("libgomp.so"), openmp.map_or(Entry::Nothing, |name| beside(&name))),
        (libraries.join("libtorch.so"), Entry::Text("INPUT(libtorch_cpu.so)\n")),
    ]
}

/// The OpenMP library that comes with libtorch: `libgomp.so.1`, or `libgomp-<hash>.so.1`.
fn openmp(libraries: &Path) -> Option<String> {
    fs::read_dir(libraries)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("libgomp") && name.contains(".so"))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a libtorch in `site/torch` that holds the given libraries.
    fn folder(libraries: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("site/torch/lib");
        fs::create_dir_all(&lib).unwrap();
        for name in libraries {
            fs::write(lib.join(name), "").unwrap();
        }
        folder
    }

    #[test]
    fn links_lead_to_the_libraries_and_are_then_right() {
        let folder = folder(&["libtorch_cpu.so", "libc10.so", "libgomp-24e2ab19.so.1"]);
        let torch = Path::new("site/torch");
        assert!(!are_right(folder.path(), torch));
        make(folder.path(), torch).unwrap();
        assert!(are_right(folder.path(), torch));
        for name in ["libtorch_cpu.so", "libc10.so", "libgomp.so"] {
            assert!(folder.path().join("link/lib").join(name).is_file(), "{name}");
        }
    }

    #[test]
    fn a_right_entry_is_not_written_again() {
        let folder = folder(&["libtorch_cpu.so", "libc10.so"]);
        let script = folder.path().join("link/lib/libtorch.so");
        make(folder.path(), Path::new("site/torch")).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&script).and_then(|file| file.set_modified(long_ago)).unwrap();
        make(folder.path(), Path::new("site/torch")).unwrap();
        assert_eq!(fs::metadata(&script).unwrap().modified().unwrap(), long_ago);
    }

    #[test]
    fn a_libtorch_without_openmp_takes_the_link_of_an_earlier_one_away() {
        let folder = folder(&["libgomp.so.1"]);
        let bare = tempfile::tempdir().unwrap();
        make(folder.path(), Path::new("site/torch")).unwrap();
        make(folder.path(), bare.path()).unwrap();
        assert!(are_right(folder.path(), bare.path()));
        assert!(!folder.path().join("link/lib/libgomp.so").is_symlink());
        assert_eq!(fs::read_link(folder.path().join("torch")).unwrap(), bare.path());
    }
}
