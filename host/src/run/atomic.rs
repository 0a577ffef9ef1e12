//! Files that are whole or not there: written aside, fsynced, renamed.

use super::{failpoint::at, read::unreadable};
use guard_sdk::{Error, Result};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

/// What the names of folders begin with that hold a file until it is whole.
const PARTIAL: &str = ".partial-";

/// Lets `write` fill a temporary file beside `path`, then moves it there.
///
/// # Errors
/// Code `file` if the file system refuses, else that of `write`; `path` is then as it was.
pub fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = parent(path);
    make_folder(parent)?;
    // The same name, so that writers which go by the extension see the right one.
    let aside = at("set aside", path, || tempfile::Builder::new().prefix(PARTIAL).tempdir_in(parent));
    let aside = aside.map_err(|error| unwritten(path, &error))?;
    let temporary = aside.path().join(path.file_name().unwrap_or_default());
    at("write", path, || Ok(())).map_err(|error| unwritten(path, &error))?;
    write(&temporary).map_err(|error| {
        // libtorch's writer does not tell what the file system refuses from what it cannot write.
        let code = if error.code == "torch" { "file".into() } else { error.code.clone() };
        Error { code, ..error.context(format!("`{}` cannot be written", path.display())) }
    })?;
    let moved = || {
        at("sync", path, || File::open(&temporary)?.sync_all())?;
        at("rename", path, || fs::rename(&temporary, path))?;
        // The rename itself is durable once the folder is.
        at("sync folder", path, || sync_folder(parent))
    };
    moved().map_err(|error| unwritten(path, &error))
}

/// Lets `path` be the same file as `file`, which is whole; a copy where the file system has no links.
///
/// # Errors
/// Code `file` if the file system refuses; `path` is then as it was.
pub(super) fn link_atomically(file: &Path, path: &Path) -> Result<()> {
    write_atomically(path, |aside| {
        let linked = fs::hard_link(file, aside).or_else(|_| fs::copy(file, aside).map(drop));
        linked.map_err(|error| Error::with_code("file", error.to_string()))
    })
}

/// Makes a folder, and those that it lies in, unless they are there.
///
/// # Errors
/// Code `file` if the file system refuses.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let outer = parent(folder);
    make_folder(outer)?;
    let made = at("make folder", folder, || match fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    });
    made.and_then(|()| sync_folder(outer)).map_err(|error| unmade(folder, &error))
}

/// The folder of a file.
pub(super) fn parent(path: &Path) -> &Path {
    // The parent of a bare name is empty.
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The error of a folder that the file system refuses.
pub(super) fn unmade(folder: &Path, error: &std::io::Error) -> Error {
    Error::with_code("file", format!("folder `{}` cannot be made: {error}", folder.display()))
}

/// The error of a file that the file system refuses.
pub(super) fn unwritten(path: &Path, error: &std::io::Error) -> Error {
    Error::with_code("file", format!("`{}` cannot be written: {error}", path.display()))
}

/// Removes a file, or a folder with all that is in it, if it is there.
///
/// # Errors
/// Code `file` if the file system refuses.
pub fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.is_dir() => at("remove", path, || fs::remove_dir_all(path)),
        Ok(_) => at("remove", path, || fs::remove_file(path)),
        Err(error) => Err(error),
    };
    removed
        .map_err(|error| Error::with_code("file", format!("`{}` cannot be removed: {error}", path.display())))
}

/// Removes what writes that were cut short have left in `folder` and below.
///
/// # Errors
/// Code `file` if the file system refuses.
pub(super) fn remove_partial(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if path.is_dir() && !path.is_symlink() {
            match path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL)) {
                true => remove(&path)?,
                false => remove_partial(&path)?,
            }
        }
    }
    Ok(())
}

/// Writes a text file, whole or not at all.
///
/// # Errors
/// If the file system refuses.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_bytes(path, text.as_bytes())
}

/// Writes a file, whole or not at all.
///
/// # Errors
/// If the file system refuses.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |temporary| {
        File::create(temporary)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| Error::with_code("file", error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_a_file_of_the_working_directory() {
        let bare = format!("{}-bare.txt", std::process::id());
        write_text(Path::new(&bare), "here").unwrap();
        assert_eq!(fs::read_to_string(&bare).unwrap(), "here");
        fs::remove_file(bare).unwrap();
    }

    #[test]
    fn a_writer_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt");
        write_text(&path, "old").unwrap();
        let error = write_atomically(&path, |temporary| {
            fs::write(temporary, "half").unwrap();
            Err(Error::new("on purpose"))
        });
        assert!(error.unwrap_err().message.contains("on purpose"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
