//! Images in files of their own, read when asked for.

use crate::data::{
    archive::read_file,
    decode::dimensions,
    source::{EncodedImages, Limits, Records},
};
use guard_sdk::Result;
use rayon::prelude::*;
use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Paths of images.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    limits: Limits,
}

impl Files {
    /// The images at `paths` with their labels. If records may be left out, every file's header is read (in parallel), and
    /// those that are not images or too large are.
    pub(super) fn open(
        images: Vec<(PathBuf, i64)>,
        records: &mut Records,
        limits: &Limits,
    ) -> Result<(Self, Vec<i64>)> {
        let mut kept = images;
        if records.skips() {
            let faults: Vec<_> = kept.par_iter().map(|(path, _)| fault(path, limits)).collect();
            let mut usable = Vec::with_capacity(kept.len());
            for (image, fault) in kept.into_iter().zip(faults) {
                match fault {
                    Some(why) => records.unusable(image.0.display().to_string(), why)?,
                    None => usable.push(image),
                }
            }
            kept = usable;
        }
        let (paths, labels) = kept.into_iter().unzip();
        Ok((Self { paths, limits: limits.clone() }, labels))
    }
}

impl EncodedImages for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }

    fn bytes(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        read_file(&self.paths[index], &self.limits).map(Cow::Owned)
    }
}

/// What is wrong with an image, as far as its header tells.
fn fault(path: &Path, limits: &Limits) -> Option<String> {
    let name = path.display().to_string();
    // Nearly every header fits; a long one (a thumbnail, a colour profile) needs the whole file.
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1 << 14).read_to_end(&mut start));
    if read.is_ok() && dimensions(&start, &name, limits).is_ok() {
        return None;
    }
    let error = read_file(path, limits).and_then(|bytes| dimensions(&bytes, &name, limits)).err()?;
    Some(error.message.trim_start_matches(&format!("`{name}` ")).to_owned())
}
