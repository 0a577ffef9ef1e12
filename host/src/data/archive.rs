//! Files as bytes: plain, gzipped, or inside a `.tar.gz`. Nothing is ever unpacked onto the disk.

use super::source::{Limits, damaged};
use flate2::bufread::MultiGzDecoder;
use guard_sdk::{Error, Result};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Component, Path, PathBuf},
};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// All of a file, decompressed if it is gzipped (by its first bytes, whatever its name says).
///
/// # Errors
/// If it cannot be read, its compression is damaged or ends early, or it is larger than `limits.file`.
pub(super) fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if !path.is_file() {
        return Err(unreadable(path, "is not a file"));
    }
    // A plain file says how large it is; a gzipped one tells at the end at best.
    let size = path.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let mut reader = open(path)?;
    if let Stream::Plain(_) = reader {
        too_large_if(size, path.display(), limits)?;
        bytes.try_reserve_exact(size as usize).map_err(|error| unreadable(path, error))?;
    }
    read_limited(&mut reader, &mut bytes, &path.display().to_string(), limits)?;
    Ok(bytes)
}

/// `path` or `path.gz`, whichever is there.
pub(super) fn plain_or_gz(path: &Path) -> Option<PathBuf> {
    let mut gz = path.as_os_str().to_owned();
    gz.push(".gz");
    [path.to_path_buf(), gz.into()].into_iter().find(|path| path.is_file())
}

/// The regular files of a tar archive (gzipped or not) whose file name is `wanted`, by that name.
///
/// # Errors
/// If the archive is damaged or ends early, holds a name that leads out of it (absolute, or with `..`) or a wanted name
/// twice, or the archive is larger than `limits.file`.
pub(super) fn tar_files(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
    limits: &Limits,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    // The whole archive too is limited, for the archive's own records (long names) are read into memory.
    let mut archive = tar::Archive::new(Limited { inner: open(path)?, limit: limits.file, read: 0 });
    let broken = |error: std::io::Error| unreadable(path, format!("is a damaged archive: {error}"));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let inside = entry.path().map_err(broken)?.into_owned();
        let title = format!("{}/{}", path.display(), inside.display());
        check_name(&inside, &title)?;
        let name = inside.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !entry.header().entry_type().is_file() || !wanted(&name) {
            continue;
        }
        let mut bytes = Vec::new();
        read_limited(&mut entry, &mut bytes, &title, limits)?;
        if bytes.len() as u64 != entry.size() {
            return Err(damaged(
                title,
                format!("is cut short: it has {} of {} bytes", bytes.len(), entry.size()),
            ));
        }
        if files.insert(name.clone(), bytes).is_some() {
            return Err(unreadable(path, format!("holds `{name}` more than once")));
        }
    }
    // To the end, where a gzip file has its checksum.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(broken)?;
    Ok(files)
}

/// Refuses a name in an archive that leads out of it.
pub(super) fn check_name(inside: &Path, title: &str) -> Result<()> {
    let within = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    match inside.components().all(within) {
        true => Ok(()),
        false => {
            Err(damaged(title, "has a name that leads out of the archive").help("do not trust this file"))
        }
    }
}

/// Appends all that `reader` has, if that is not more than `limits.file`.
pub(super) fn read_limited(
    reader: &mut impl Read,
    bytes: &mut Vec<u8>,
    title: &str,
    limits: &Limits,
) -> Result<()> {
    let read = reader.take(limits.file.saturating_add(1)).read_to_end(bytes);
    read.map_err(|error| damaged(title, format!("is damaged or cut short: {error}")))?;
    too_large_if(bytes.len() as u64, title, limits)
}

/// An error if a file of `size` bytes is over the limit.
pub(super) fn too_large_if(size: u64, title: impl std::fmt::Display, limits: &Limits) -> Result<()> {
    match size > limits.file {
        true => {
            Err(damaged(title, format!("has more than the {} bytes that one file may have", limits.file)))
        }
        false => Ok(()),
    }
}

/// A file that cannot be read as what it should be.
pub(super) fn unreadable(path: &Path, why: impl std::fmt::Display) -> Error {
    damaged(path.display(), why)
}

/// A reader that fails beyond `limit` bytes.
struct Limited<R> {
    inner: R,
    limit: u64,
    read: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        match self.read > self.limit {
            true => Err(std::io::Error::other(format!("it has more than {} bytes", self.limit))),
            false => Ok(count),
        }
    }
}

enum Stream {
    Plain(BufReader<File>),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
        }
    }
}

fn open(path: &Path) -> Result<Stream> {
    let refused = |error: std::io::Error| unreadable(path, format!("cannot be read: {error}"));
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(refused)?);
    let gzipped = reader.fill_buf().map_err(refused)?.starts_with(&GZIP);
    Ok(match gzipped {
        true => Stream::Gzip(Box::new(MultiGzDecoder::new(reader))),
        false => Stream::Plain(reader),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::{fs, io::Write};

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A tar archive with names as they are: the crate's own writer would refuse those that lead out of it.
    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn files(bytes: &[u8], limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar.gz");
        fs::write(&path, bytes).unwrap();
        tar_files(&path, |name| name.ends_with(".bin"), limits)
    }

    #[test]
    fn wanted_files_are_found_in_any_folder_of_an_archive_gzipped_or_not() {
        let plain = archive(&[("a/one.bin", b"1"), ("a/notes.txt", b"-"), ("b/two.bin", b"22")]);
        for bytes in [gzipped(&plain), plain] {
            let found = files(&bytes, &Limits::default()).unwrap();
            assert_eq!(
                found.into_iter().collect::<Vec<_>>(),
                [("one.bin".into(), b"1".to_vec()), ("two.bin".into(), b"22".to_vec())]
            );
        }
    }

    #[test]
    fn names_that_lead_out_of_the_archive_and_names_twice_are_refused() {
        for name in ["../x.bin", "/etc/x.bin", "a/../../x.bin"] {
            let error = files(&archive(&[(name, b"1")]), &Limits::default()).unwrap_err();
            assert!(error.message.ends_with("has a name that leads out of the archive"), "{error}");
        }
        let error = files(&archive(&[("a/x.bin", b"1"), ("b/x.bin", b"1")]), &Limits::default()).unwrap_err();
        assert!(error.message.ends_with("holds `x.bin` more than once"), "{error}");
    }

    #[test]
    fn an_archive_that_ends_early_is_an_error_wherever_it_ends() {
        let plain = archive(&[("a/one.bin", &[7; 2000]), ("a/two.bin", &[8; 2000])]);
        // Up to the end of the second entry; after that only padding is missing.
        for length in (1..512 + 2048 + 512 + 2000).step_by(97) {
            let kept = files(&plain[..length], &Limits::default());
            // A tar archive may end at an entry's boundary; no entry may come out shortened.
            let whole = |found: BTreeMap<String, Vec<u8>>| found.values().all(|bytes| bytes.len() == 2000);
            assert!(kept.map_or(true, whole), "{length}");
        }
        let compressed = gzipped(&plain);
        for length in 2..compressed.len() {
            assert!(files(&compressed[..length], &Limits::default()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let limits = Limits { file: 1000, ..Limits::default() };
        let error = files(&gzipped(&archive(&[("x.bin", &[0; 1001])])), &limits).unwrap_err();
        assert!(error.message.contains("has more than"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gz");
        for (size, fits) in [(1000, true), (1001, false)] {
            for bytes in [gzipped(&vec![0; size]), vec![0; size]] {
                fs::write(&path, bytes).unwrap();
                assert_eq!(read_file(&path, &limits).is_ok(), fits, "{size}");
            }
        }
    }
}
