//! `cargo xtask setup`: makes libtorch ready, once; every later call sees that in milliseconds.
//!
//! A fetch happens in `.libtorch/fetch-<pid>` and takes the name `site` when it is complete, so an
//! interrupted one is never mistaken for a whole one. The lock keeps a second xtask from working
//! at the same time; whoever holds it may remove what others left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

use crate::error::{advise, say};
use crate::fetch::{self, CUDA, LIBTORCH, Packages};
use crate::workspace::Workspace;
use crate::{files, links, platform, torch};

/// Makes libtorch ready and returns its folder. `force` does so anew even if it is ready.
pub fn setup(workspace: &Workspace, force: bool) -> Result<PathBuf> {
    prepared(workspace, &[&LIBTORCH], force)
}

/// The same with what its CUDA half needs.
pub fn with_cuda(workspace: &Workspace, force: bool) -> Result<PathBuf> {
    if let Some(own) = &workspace.libtorch {
        let library = own.join("lib/libtorch_cuda.so");
        if !library.is_file() {
            return Err(advise(
                format!("LIBTORCH is a libtorch without CUDA: there is no `{}`", library.display()),
                "set LIBTORCH to the `torch` folder of a Python installation with CUDA, or unset it",
            ));
        }
        say("LIBTORCH is set: NVIDIA's libraries are those of its own installation");
        return setup(workspace, force);
    }
    prepared(workspace, &[&LIBTORCH, &CUDA], force)
}

fn prepared(workspace: &Workspace, wanted: &[&Packages], force: bool) -> Result<PathBuf> {
    platform::compiler()?;
    let folder = workspace.folder();
    let libtorch = match &workspace.libtorch {
        Some(own) => {
            check_own(own)?;
            own.clone()
        }
        None => folder.join("site/torch"),
    };
    if prepare(workspace, wanted, force)? {
        let with = if wanted.len() > 1 { ", with CUDA," } else { "" };
        say(format!("libtorch {}{with} is ready: `{}`", torch::VERSION, libtorch.display()));
    }
    Ok(libtorch)
}

/// Does what is left to do, if anything, and tells whether it was.
fn prepare(workspace: &Workspace, wanted: &[&Packages], force: bool) -> Result<bool> {
    if !force && is_ready(workspace, wanted) {
        return Ok(false);
    }
    let folder = workspace.folder();
    let lock = lock(&folder)?;
    remove_leftovers(&folder)?;
    // Another xtask may have done the work while this one waited for the lock.
    if !force && is_ready(workspace, wanted) {
        return Ok(false);
    }
    let site = folder.join("site");
    if workspace.libtorch.is_none() {
        for packages in wanted {
            if !force && is_fetched(&site, packages) {
                continue;
            }
            let by_hand = !site.join(packages.stamp).exists() && check(&site, packages).is_ok();
            match by_hand && !force {
                // Put there by hand, and whole.
                true => stamp(&site, packages)?,
                false => fetch_into(&folder, packages, &lock)?,
            }
        }
    }
    links::make(&folder, torch_link(workspace))?;
    Ok(true)
}

/// Whether there is nothing left to do.
fn is_ready(workspace: &Workspace, wanted: &[&Packages]) -> bool {
    let (folder, fetched) = (workspace.folder(), workspace.libtorch.is_none());
    (!fetched || wanted.iter().all(|packages| is_fetched(&folder.join("site"), packages)))
        && links::are_right(&folder, torch_link(workspace))
        && leftovers(&folder).is_ok_and(|left| left.is_empty())
}

/// Where `.libtorch/torch` points to.
fn torch_link(workspace: &Workspace) -> &Path {
    workspace.libtorch.as_deref().unwrap_or(Path::new("site/torch"))
}

fn check_own(libtorch: &Path) -> Result<()> {
    torch::check(libtorch).map_err(|error| {
        advise(
            format!("LIBTORCH does not fit: {error}"),
            format!(
                "set LIBTORCH to the folder of a libtorch {}, or unset it to have one fetched",
                torch::VERSION
            ),
        )
    })
}

/// Fetches aside, then puts the result in its place: libtorch takes that of an earlier one, what comes on top of it is moved in
/// file by file, and the stamp last.
fn fetch_into(folder: &Path, packages: &Packages, lock: &File) -> Result<()> {
    let scratch = folder.join(format!("fetch-{}", process::id()));
    let (fetched, site) = (scratch.join("site"), folder.join("site"));
    let done = fetch::fetch(packages, &scratch, lock).and_then(|()| {
        check(&fetched, packages)?;
        if packages.stamp != LIBTORCH.stamp {
            move_into(&fetched, &site)?;
            return stamp(&site, packages);
        }
        stamp(&fetched, packages)?;
        if site.exists() {
            rename(&site, &folder.join(format!("old-{}", process::id())))?;
        }
        rename(&fetched, &site)
    });
    // After a failure, too: what is left of it may fill the disk.
    let removed = remove_leftovers(folder);
    done.and(removed)
}

/// Moves all files in `from` to where they would be in `to`.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create `{}`", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read `{}`", from.display()))?;
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        match source.is_dir() && !source.is_symlink() {
            true => move_into(&source, &place)?,
            false => rename(&source, &place)?,
        }
    }
    Ok(())
}

fn stamp(site: &Path, packages: &Packages) -> Result<()> {
    files::write(&packages.stamp_text(), &site.join(packages.stamp))
}

/// Makes sure that a site folder holds all that the packages bring.
fn check(site: &Path, packages: &Packages) -> Result<()> {
    if packages.stamp == LIBTORCH.stamp {
        torch::check(&site.join("torch"))?;
    }
    packages.check(site)
}

/// Whether the site folder holds the packages that are fetched today.
fn is_fetched(site: &Path, packages: &Packages) -> bool {
    fs::read_to_string(site.join(packages.stamp)).is_ok_and(|text| text == packages.stamp_text())
        && check(site, packages).is_ok()
}

/// Waits until no other xtask works in `folder`. The lock ends with the last copy of the file.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let open = || {
        fs::create_dir_all(folder)?;
        File::options().create(true).truncate(false).read(true).write(true).open(&path)
    };
    let file = open().with_context(|| format!("cannot open `{}`", path.display()))?;
    let locked = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            say("waiting for another setup of libtorch to end");
            file.lock()
        }
        // Some network file systems know no locks; better without than not at all.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    locked.with_context(|| format!("cannot lock `{}`", path.display()))?;
    Ok(file)
}

/// What interrupted fetches left in `folder`.
fn leftovers(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("fetch-") || name.starts_with("old-") {
            left.push(entry.path());
        }
    }
    Ok(left)
}

/// Removes them. Only for the holder of the lock.
fn remove_leftovers(folder: &Path) -> Result<()> {
    let left = leftovers(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    for path in left {
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename `{}` to `{}`", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace in `root` with a whole site folder that has no stamp yet.
    fn workspace(root: &Path) -> Workspace {
        let site = root.join(".libtorch/site");
        for file in ["torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/include/torch.h"] {
            put(&site.join(file), "");
        }
        put(&site.join("torch/version.py"), "__version__ = '2.11.0+cu130'\n");
        put(&site.join("nvidia/cu13/lib/libcudart.so.13"), "");
        put(&site.join("nvidia/cu13/lib/libcupti.so.13"), "");
        Workspace { root: root.to_path_buf(), libtorch: None }
    }

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_whole_site_without_a_stamp_is_adopted_and_then_ready() {
        let root = tempfile::tempdir().unwrap();
        let workspace = workspace(root.path());
        assert!(!is_ready(&workspace, &[&LIBTORCH]));
        assert!(prepare(&workspace, &[&LIBTORCH], false).unwrap());
        assert!(is_ready(&workspace, &[&LIBTORCH]));
        assert!(!prepare(&workspace, &[&LIBTORCH], false).unwrap());
    }

    #[test]
    fn a_site_of_other_packages_or_without_a_library_is_not_ready() {
        let root = tempfile::tempdir().unwrap();
        let workspace = workspace(root.path());
        let site = root.path().join(".libtorch/site");
        prepare(&workspace, &[&LIBTORCH], false).unwrap();
        put(&site.join(LIBTORCH.stamp), "torch==2.10.0\n");
        assert!(!is_ready(&workspace, &[&LIBTORCH]));
        stamp(&site, &LIBTORCH).unwrap();
        assert!(is_ready(&workspace, &[&LIBTORCH]));
        fs::remove_file(site.join("torch/lib/libtorch_cpu.so")).unwrap();
        assert!(!is_ready(&workspace, &[&LIBTORCH]));
    }

    #[test]
    fn what_an_interrupted_fetch_left_is_removed_by_the_next_call() {
        let root = tempfile::tempdir().unwrap();
        let workspace = workspace(root.path());
        prepare(&workspace, &[&LIBTORCH], false).unwrap();
        let left = root.path().join(".libtorch/fetch-1");
        put(&left.join("site/torch/version.py"), "half");
        prepare(&workspace, &[&LIBTORCH], false).unwrap();
        assert!(!left.exists());
        assert!(is_ready(&workspace, &[&LIBTORCH]));
    }

    #[test]
    fn the_users_libtorch_is_linked_and_a_fetched_one_comes_back_without_it() {
        let (root, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let fetched = workspace(root.path());
        let other = workspace(own.path()).root.join(".libtorch/site/torch");
        let link = root.path().join(".libtorch/torch");
        let with_own = Workspace { root: root.path().to_path_buf(), libtorch: Some(other.clone()) };
        prepare(&with_own, &[&LIBTORCH], false).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), other);
        prepare(&fetched, &[&LIBTORCH], false).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("site/torch"));
    }

    #[test]
    fn libtorch_alone_is_not_ready_for_cuda_and_with_nvidias_libraries_it_is() {
        let root = tempfile::tempdir().unwrap();
        let workspace = workspace(root.path());
        let site = root.path().join(".libtorch/site");
        prepare(&workspace, &[&LIBTORCH], false).unwrap();
        assert!(!is_ready(&workspace, &[&LIBTORCH, &CUDA]));
        let (fetched, missing) = (tempfile::tempdir().unwrap(), "nvidia/cudnn/lib/libcudnn.so.9");
        put(&fetched.path().join(missing), "");
        let error = CUDA.check(&site).unwrap_err().to_string();
        assert!(error.contains("has no `nvidia/cu13/lib/libcublas.so.13`"), "{error}");
        for name in CUDA.libraries {
            put(&fetched.path().join(name), "");
        }
        // Beside what is in a folder of the same name.
        move_into(fetched.path(), &site).unwrap();
        assert!(site.join(missing).is_file() && site.join("nvidia/cu13/lib/libcudart.so.13").is_file());
        assert!(prepare(&workspace, &[&LIBTORCH, &CUDA], false).unwrap());
        assert!(is_ready(&workspace, &[&LIBTORCH, &CUDA]) && is_ready(&workspace, &[&LIBTORCH]));
    }

    #[test]
    fn the_users_libtorch_without_cuda_is_refused_for_cuda() {
        let (root, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let libtorch = Some(workspace(own.path()).root.join(".libtorch/site/torch"));
        let workspace = Workspace { root: root.path().to_path_buf(), libtorch };
        let error = with_cuda(&workspace, false).unwrap_err().to_string();
        assert!(error.contains("libtorch without CUDA") && error.contains("libtorch_cuda.so"), "{error}");
    }
}
