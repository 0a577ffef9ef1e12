//! Files that take their place at once: written aside under a hidden name, then renamed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Copies a file with its permissions.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    place(to, |aside| fs::copy(from, aside).map(drop))
}

/// Makes a symbolic link at `link` that points to `target`.
pub fn link(target: &Path, link: &Path) -> Result<()> {
    place(link, |aside| symlink(target, aside))
}

/// Writes a text file.
pub fn write(text: &str, to: &Path) -> Result<()> {
    place(to, |aside| fs::write(aside, text))
}

/// Lets `make` create an entry under a hidden name, then gives it its own.
fn place(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let aside = aside(path);
    // An interrupted call may have left one.
    let _ = fs::remove_file(&aside);
    make(&aside)
        .and_then(|()| fs::rename(&aside, path))
        .inspect_err(|_| drop(fs::remove_file(&aside)))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// The hidden name beside `path`.
fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_replaces_a_link_without_touching_what_it_points_to() {
        let folder = tempfile::tempdir().unwrap();
        let (target, entry) = (folder.path().join("target"), folder.path().join("entry"));
        fs::write(&target, "old").unwrap();
        link(Path::new("target"), &entry).unwrap();
        write("new", &entry).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_to_string(&entry).unwrap(), "new");
        assert!(!entry.is_symlink());
    }

    #[test]
    fn a_failure_leaves_nothing_aside() {
        let folder = tempfile::tempdir().unwrap();
        let entry = folder.path().join("entry");
        fs::create_dir(&entry).unwrap();
        assert!(write("text", &entry).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_an_interrupted_call_left_aside_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let entry = folder.path().join("entry");
        fs::write(aside(&entry), "half").unwrap();
        link(Path::new("target"), &entry).unwrap();
        assert_eq!(fs::read_link(&entry).unwrap(), Path::new("target"));
        assert!(!aside(&entry).exists());
    }
}
