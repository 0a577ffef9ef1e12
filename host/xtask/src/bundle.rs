//! `cargo xtask bundle`: everything that `tests/cuda.sh` takes to a machine that has a GPU and Python's torch, but no Rust.
//!
//! ```text
//! guard-bundle/cuda.sh
//! guard-bundle/bin/guard-host
//! guard-bundle/lib/libguard_host.so
//! guard-bundle/lib/guard-host/lib*.so      the bundled plugins, and the library that records CUDA graphs
//! guard-bundle/tests/                      golden tests and benchmarks, links to the libraries
//! guard-bundle/benches/                    the peers' side of the benchmarks
//! guard-bundle/golden/, guard-bundle/peers/  what they compare with, where the checkout has it
//! guard-bundle/configs/                    the recipes
//! ```
//!
//! libtorch is not in it. The digits, on which the short run trains, are part of the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::{self, HOST};
use crate::error::say;
use crate::workspace::Workspace;
use crate::{files, graphs, setup};

/// The folder in the archive.
const NAME: &str = "guard-bundle";

/// What may be sent to other machines.
const LARGEST: u64 = 64 << 20;

/// What `bundle` takes.
#[derive(Args)]
pub struct BundleArguments {
    /// The archive
    #[arg(long, value_name = "FILE", default_value = "target/guard-bundle.tar.gz")]
    out: PathBuf,
    /// The folder of the golden values
    #[arg(long, value_name = "DIR", env = "GUARD_GOLDEN_DIR", default_value = "../shared/golden")]
    golden: PathBuf,
    /// The folder of the peers' scripts
    #[arg(long, value_name = "DIR", default_value = "../shared/bench")]
    peers: PathBuf,
}

/// Builds, and packs what was built.
pub fn bundle(workspace: &Workspace, arguments: &BundleArguments) -> Result<()> {
    setup::setup(workspace, false)?;
    let built = build::build(workspace)?;
    let program = |kind: &str, name: &str| {
        build::executable(workspace, &["--package", "guard-tests", kind, name], name)
    };
    let tests = [program("--test", "golden")?, program("--bench", "steps")?, program("--bench", "matching")?];

    let parent = workspace.root.join("target/bundle");
    let folder = parent.join(NAME);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    let root = &workspace.root;
    put(&built.host, &folder.join("bin").join(HOST))?;
    let library = built.library.file_name().context("a library has a name")?;
    put(&built.library, &folder.join("lib").join(library))?;
    let mut libraries = built.plugins;
    match graphs::graphs(workspace) {
        Ok(library) => libraries.push(library),
        Err(error) => say(format!("the bundle goes without CUDA graphs: {error}")),
    }
    for library in &libraries {
        let name = library.file_name().context("a library has a name")?;
        put(library, &folder.join("lib").join(HOST).join(name))?;
        let link = folder.join("tests").join(name);
        make_parent(&link)?;
        symlink(Path::new("../lib").join(HOST).join(name), &link)
            .with_context(|| format!("cannot write `{}`", link.display()))?;
    }
    for (program, name) in tests.iter().zip(["golden", "steps", "matching"]) {
        put(program, &folder.join("tests").join(name))?;
    }
    strip(&folder)?;
    copy_all(&root.join("tests/benches"), &folder.join("benches"), "py")?;
    copy_all(&root.join("configs"), &folder.join("configs"), "toml")?;
    for (from, to) in [(&arguments.golden, "golden"), (&arguments.peers, "peers")] {
        match root.join(from) {
            from if from.is_dir() => copy_all(&from, &folder.join(to), "")?,
            from => say(format!("no `{}`: the bundle goes without {to}", from.display())),
        }
    }
    put(&root.join("tests/cuda.sh"), &folder.join("cuda.sh"))?;

    let out = root.join(&arguments.out);
    make_parent(&out)?;
    let packed = Command::new("tar").arg("-czf").arg(&out).arg("-C").arg(&parent).arg(NAME).status();
    if !packed.context("cannot start `tar`")?.success() {
        bail!("`tar` failed: see above");
    }
    let size = fs::metadata(&out).with_context(|| format!("cannot read `{}`", out.display()))?.len();
    if size > LARGEST {
        bail!("`{}` has {} MiB, more than {}", out.display(), size >> 20, LARGEST >> 20);
    }
    say(format!("packed `{}`, {} MiB", out.display(), size >> 20));
    say(format!("on the machine with the GPU: tar xf FILE && {NAME}/cuda.sh --python PYTHON"));
    Ok(())
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))
}

fn put(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    files::copy(from, to)
}

/// Copies all files in `from`, or those with an extension.
fn copy_all(from: &Path, to: &Path, extension: &str) -> Result<()> {
    let unreadable = || format!("cannot read `{}`", from.display());
    for entry in fs::read_dir(from).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let name = path.file_name().context("an entry has a name")?;
        match path.is_dir() {
            true if name != "__pycache__" => copy_all(&path, &to.join(name), extension)?,
            false if extension.is_empty() || path.extension().is_some_and(|found| found == extension) => {
                put(&path, &to.join(name))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the symbols out of the programs and libraries, which no loader needs.
fn strip(folder: &Path) -> Result<()> {
    let mut all = Vec::new();
    for part in ["bin", "tests", "lib", "lib/guard-host"] {
        let part = folder.join(part);
        let entries = fs::read_dir(&part).with_context(|| format!("cannot read `{}`", part.display()))?;
        for entry in entries {
            all.push(entry.with_context(|| format!("cannot read `{}`", part.display()))?.path());
        }
    }
    all.retain(|path| path.is_file() && !path.is_symlink());
    match Command::new("strip").args(&all).status() {
        Ok(status) if status.success() => Ok(()),
        // Larger, but whole.
        _ => {
            say("`strip` failed: the bundle is larger than it need be");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_copied_with_what_is_in_them_and_by_extension() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["a.py", "b.txt", "deep/c.py", "__pycache__/d.py"] {
            let path = from.path().join(name);
            make_parent(&path).unwrap();
            fs::write(path, name).unwrap();
        }
        copy_all(from.path(), to.path(), "py").unwrap();
        assert!(to.path().join("a.py").is_file() && to.path().join("deep/c.py").is_file());
        assert!(!to.path().join("b.txt").exists() && !to.path().join("__pycache__").exists());
        copy_all(from.path(), to.path(), "").unwrap();
        assert!(to.path().join("b.txt").is_file());
        let error = copy_all(&from.path().join("none"), to.path(), "").unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
