//! Reading what a run has written.

use guard_sdk::{Error, Result};
use serde::de::DeserializeOwned;
use std::{fmt::Display, fs, path::Path};

/// An error with code `file` that names the file and says why it cannot be read.
pub fn unreadable(path: &Path, why: impl Display) -> Error {
    Error::with_code("file", format!("`{}` cannot be read: {why}", path.display()))
}

/// A text file.
///
/// # Errors
/// Code `file`.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| unreadable(path, error))
}

/// A JSON file.
///
/// # Errors
/// Code `file`, also if it holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?).map_err(|error| unreadable(path, error))
}

/// The BLAKE3 of a file, to be finished or to be fed with more.
///
/// # Errors
/// Code `file`.
pub(super) fn hashed(path: &Path) -> Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    feed(&mut hasher, path)?;
    Ok(hasher)
}

/// The BLAKE3 sum of files, one after the other.
///
/// # Errors
/// Code `file`.
pub fn blake3_of(files: &[impl AsRef<Path>]) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for path in files.iter().map(AsRef::as_ref) {
        feed(&mut hasher, path)?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn feed(hasher: &mut blake3::Hasher, path: &Path) -> Result<()> {
    let read = fs::File::open(path).and_then(|file| hasher.update_reader(file).map(drop));
    read.map_err(|error| unreadable(path, error))
}
