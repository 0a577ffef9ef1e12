//! What kind of file it is, by its first bytes: extensions of weight files say little.

use super::{failure, file_error};
use guard_sdk::Result;
use std::{
    fs::File,
    io::{Read, Seek},
};

/// The kinds that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Eight bytes of length and a JSON object.
    Safetensors,
    /// PyTorch 1.6 and later.
    Zip,
    /// PyTorch before 1.6.
    Legacy,
}

/// Files that are given by mistake.
const MISTAKES: [(&[u8], &str); 8] = [
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"\xfd7zXZ", "xz-compressed"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file itself"),
    (b"<", "an HTML or XML page: a download that failed?"),
    (b"GGUF", "a GGUF file"),
];

/// Looks at the beginning of a file, and goes back to it.
///
/// # Errors
/// If the file is of another kind; the message says of which.
pub(super) fn of(file: &mut File) -> Result<Format> {
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start).map_err(file_error)?;
    file.rewind().map_err(file_error)?;
    match start.as_slice() {
        // First, since the length may begin like a pickle. Its upper half is zero in any real file.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Ok(Format::Safetensors),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Ok(Format::Zip),
        [0x80, 2..=5, ..] => Ok(Format::Legacy),
        start => {
            let mistake = MISTAKES.iter().find(|(magic, _)| start.starts_with(magic));
            let found = match mistake {
                Some((_, name)) => (*name).to_string(),
                None if start.is_empty() => "empty".to_string(),
                None if start.get(257..262) == Some(b"ustar") => "a tar archive".to_string(),
                None => format!("something that begins with the bytes {:02x?}", &start[..start.len().min(8)]),
            };
            let message = format!("the file is no safetensors or PyTorch file, but {found}");
            Err(failure(message).help("name a `.safetensors`, `.pth` or `.pt` file with tensors"))
        }
    }
}
