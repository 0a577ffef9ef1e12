//! Files that are whole or not there: written aside, fsynced, renamed.

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
/// If `write` fails or the file system refuses; `path` is then as it was.
pub fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let refused = |error: std::io::Error| {
        Error::with_code("file", format!("`{}` cannot be written: {error}", path.display()))
    };
    // The parent of a bare name is empty.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(refused)?;
    // The same name, so that writers which go by the extension see the right one.
    let aside = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(parent).map_err(refused)?;
    let temporary = aside.path().join(path.file_name().unwrap_or_default());
    write(&temporary).map_err(|error| error.context(format!("`{}` cannot be written", path.display())))?;
    File::open(&temporary).and_then(|file| file.sync_all()).map_err(refused)?;
    fs::rename(&temporary, path).map_err(refused)?;
    // The rename itself is durable once the folder is.
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(refused)
}

/// Removes what writes that were cut short have left in `folder` and below.
///
/// # Errors
/// If the file system refuses.
pub fn remove_partial(folder: &Path) -> Result<()> {
    let refused = |path: &Path, error: std::io::Error| {
        Error::with_code("file", format!("`{}` cannot be cleared: {error}", path.display()))
    };
    for entry in fs::read_dir(folder).map_err(|error| refused(folder, error))? {
        let path = entry.map_err(|error| refused(folder, error))?.path();
        let partial = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL));
        if path.is_dir() && !path.is_symlink() {
            if partial {
                fs::remove_dir_all(&path).map_err(|error| refused(&path, error))?;
            } else {
                remove_partial(&path)?;
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
    write_atomically(path, |temporary| {
        File::create(temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()))
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
