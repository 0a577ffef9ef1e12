//! `cargo xtask install`: puts a built host where it works without cargo.
//!
//! ```text
//! DIR/bin/guard-host            small: it loads the host, which is a library
//! DIR/lib/libguard_host.so
//! DIR/lib/guard-host/lib*.so     the bundled plugins, and what `cargo xtask graphs` has built; the host looks there
//! DIR/lib/*.so*                  libtorch and what it needs; the RUNPATH of the host looks there first
//! ```
//!
//! `reference` fills `DIR/lib` with links to where libtorch is now: quick and small, but the
//! installed host stops working when that folder (`.libtorch` of the checkout, or LIBTORCH) goes
//! away. `copy` copies 0.5 GB and is then independent of both; it has no CUDA, whose libraries
//! stay where they are. DIR is best a folder of its own: `lib` gets libraries with common names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;

use crate::build::{self, Built};
use crate::error::{advise, say};
use crate::workspace::Workspace;
use crate::{elf, files, graphs, setup};

/// How the installed host gets at libtorch.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Libtorch {
    /// Copy the libraries (0.5 GB, CPU only); the checkout may then be moved or removed
    Copy,
    /// Link to the libraries where they are; they must stay there
    Reference,
}

/// Builds the host and the plugins and installs them under `prefix`.
pub fn install(workspace: &Workspace, prefix: &Path, libtorch: Libtorch) -> Result<()> {
    let folders = Folders::new(prefix);
    // Before the build, which takes minutes.
    folders.make()?;
    let torch = setup::setup(workspace, false)?;
    let built = build::build(workspace)?;
    put(&built, &torch.join("lib"), &folders, libtorch)?;
    let host = folders.programs.join(build::HOST);
    say(format!("installed `{}`", host.display()));
    if libtorch == Libtorch::Reference {
        say(format!("it uses libtorch in `{}`", torch.display()));
    }
    Ok(())
}

/// The folders of an installation.
struct Folders {
    programs: PathBuf,
    libraries: PathBuf,
    plugins: PathBuf,
}

impl Folders {
    fn new(prefix: &Path) -> Folders {
        Folders {
            programs: prefix.join("bin"),
            libraries: prefix.join("lib"),
            plugins: prefix.join("lib").join(build::HOST),
        }
    }

    /// Creates the folders and makes sure that files can be written into them.
    fn make(&self) -> Result<()> {
        for folder in [&self.programs, &self.libraries, &self.plugins] {
            let probe = folder.join(".guard-probe");
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&probe, ""))
                .and_then(|()| fs::remove_file(&probe))
                .map_err(|error| {
                    advise(
                        format!("cannot write into `{}`: {error}", folder.display()),
                        "choose a `--prefix` that you may write to",
                    )
                })?;
        }
        Ok(())
    }
}

/// Puts everything in its place; the program last, when all it needs is there.
fn put(built: &Built, torch: &Path, folders: &Folders, libtorch: Libtorch) -> Result<()> {
    let mut linked = built.plugins.clone();
    linked.push(built.library.clone());
    for (name, file) in elf::closure(&linked, torch, elf::needs)? {
        let place = folders.libraries.join(&name);
        // The file itself: links on the way to it may lead elsewhere tomorrow.
        let file =
            file.canonicalize().with_context(|| format!("cannot resolve the path `{}`", file.display()))?;
        // Installed beside libtorch itself: it is there already.
        if place.canonicalize().is_ok_and(|found| found == file) && !place.is_symlink() {
            continue;
        }
        match libtorch {
            Libtorch::Copy => files::copy(&file, &place)?,
            Libtorch::Reference => files::link(&file, &place)?,
        }
    }
    let graphs = built.host.with_file_name(graphs::LIBRARY);
    for library in built.plugins.iter().chain(graphs.is_file().then_some(&graphs)) {
        files::copy(library, &folders.plugins.join(name(library)?))?;
    }
    files::copy(&built.library, &folders.libraries.join(name(&built.library)?))?;
    files::copy(&built.host, &folders.programs.join(name(&built.host)?))
}

fn name(file: &Path) -> Result<&Path> {
    let name = file.file_name().map(Path::new);
    name.ok_or_else(|| anyhow!("`{}` is not a file", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Installs this test program as host and plugin, with a libtorch that is its C library.
    fn installed(libtorch: Libtorch) -> (tempfile::TempDir, PathBuf) {
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let torch = folder.path().canonicalize().unwrap().join("torch");
        fs::create_dir(&torch).unwrap();
        fs::copy(&program, torch.join("libc.so.6")).unwrap();
        let built = Built { plugins: vec![program.clone()], library: program.clone(), host: program };
        let folders = Folders::new(&folder.path().join("prefix"));
        folders.make().unwrap();
        put(&built, &torch, &folders, libtorch).unwrap();
        let name = name(&built.host).unwrap();
        assert!(folders.programs.join(name).is_file());
        assert!(folders.libraries.join(name).is_file());
        assert!(folders.plugins.join(name).is_file());
        let library = folders.libraries.join("libc.so.6");
        (folder, library)
    }

    #[test]
    fn a_copied_library_outlives_the_original() {
        let (folder, library) = installed(Libtorch::Copy);
        fs::remove_dir_all(folder.path().join("torch")).unwrap();
        assert!(library.is_file());
    }

    #[test]
    fn a_referenced_library_is_a_link_to_the_original() {
        let (folder, library) = installed(Libtorch::Reference);
        let original = folder.path().canonicalize().unwrap().join("torch/libc.so.6");
        assert_eq!(fs::read_link(library).unwrap(), original);
    }

    #[test]
    fn a_prefix_that_is_a_file_is_an_error_that_names_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("file");
        fs::write(&prefix, "").unwrap();
        let error = Folders::new(&prefix).make().unwrap_err().to_string();
        let start = format!("cannot write into `{}`: ", prefix.join("bin").display());
        assert!(error.starts_with(&start), "{error}");
    }
}
