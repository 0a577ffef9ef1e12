//! Soft labels that were written, read one epoch at a time.

use super::{LabelPlan, Part};
use crate::run::read::unreadable;
use guard_sdk::{Error, Result, Tensor};
use std::{
    cell::RefCell,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Soft labels that were written; memory holds one epoch as it is in the file.
pub struct SoftLabels {
    plan: LabelPlan,
    path: PathBuf,
    open: RefCell<Open>,
}

struct Open {
    file: File,
    /// The epoch that is in memory, and its tensors.
    present: Option<(i64, Vec<Tensor>)>,
}

impl SoftLabels {
    /// Opens a file that was written by `plan`.
    ///
    /// # Errors
    /// If it cannot be opened, or is another plan's.
    pub fn open(path: &Path, plan: LabelPlan) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
        plan.check(path, &mut file)?;
        Ok(Self { plan, path: path.to_path_buf(), open: RefCell::new(Open { file, present: None }) })
    }

    /// Logits `[n,K]` in float32 of the images at `positions` int64 `[n]` in one epoch, both on the CPU.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn logits(&self, epoch: i64, positions: &Tensor) -> Result<Tensor> {
        let mut open = self.open.borrow_mut();
        if open.present.as_ref().is_none_or(|(present, _)| *present != epoch) {
            let tensors = self.read(&mut open.file, epoch)?;
            open.present = Some((epoch, tensors));
        }
        let Some((_, tensors)) = &open.present else { return Err(Error::new("no epoch was read")) };
        let rows: Vec<Tensor> =
            tensors.iter().map(|tensor| tensor.f_index_select(0, positions)).collect::<Result<_, _>>()?;
        self.plan.code.decode(&rows, self.plan.classes)
    }

    fn read(&self, file: &mut File, epoch: i64) -> Result<Vec<Tensor>> {
        let tensor = |(part, bytes): (Part, Vec<u8>)| {
            let shape: Vec<i64> = [&[self.plan.images][..], &part.shape].concat();
            Ok(Tensor::f_from_data_size(&bytes, &shape, part.kind)?)
        };
        self.plan.read(&self.path, file, epoch)?.into_iter().map(tensor).collect()
    }
}

impl LabelPlan {
    /// Looks whether an open file is one of this plan's.
    ///
    /// # Errors
    /// If not, or if it cannot be read.
    pub(super) fn check(&self, path: &Path, file: &mut File) -> Result<()> {
        let expected = self.header();
        let mut header = Vec::new();
        let read = file.by_ref().take(expected.len() as u64).read_to_end(&mut header);
        let length = read.and_then(|_| file.metadata()).map_err(|error| unreadable(path, error))?.len();
        if header != expected || length != self.file_bytes() {
            let message = format!("`{}` holds soft labels of another run", path.display());
            return Err(Error::with_code("file", message).help("make them anew"));
        }
        Ok(())
    }

    /// The bytes of each part of an epoch, of the first image first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn read(&self, path: &Path, file: &mut File, epoch: i64) -> Result<Vec<(Part, Vec<u8>)>> {
        let read = |(part, place): (Part, u64)| {
            let mut bytes = vec![0u8; (self.images as u64 * part.bytes()) as usize];
            file.seek(SeekFrom::Start(place)).and_then(|_| file.read_exact(&mut bytes))?;
            Ok((part, bytes))
        };
        let parts = self.places(epoch).into_iter().map(read).collect::<std::io::Result<Vec<_>>>();
        parts.map_err(|error| unreadable(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SoftLabelsWriter, tests::*};
    use super::*;
    use crate::recipe::LabelStorage;

    #[test]
    fn every_epoch_comes_back_and_other_readers_open_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for (storage, top_k) in [
            (LabelStorage::Float16, None),
            (LabelStorage::Float16, Some(2)),
            (LabelStorage::Int8, None),
            (LabelStorage::Int8, Some(4)),
        ] {
            let path = folder.path().join("x.safetensors");
            let first = five_images(storage, top_k, 1);
            let mut writer = SoftLabelsWriter::create(&folder.path().join("aside"), &first).unwrap();
            batches(0).for_each(|(epoch, rows)| writer.write(epoch, &rows, &logits(epoch, &rows)).unwrap());
            writer.finish(&path).unwrap();
            assert_eq!(path.metadata().unwrap().len(), first.file_bytes());

            let labels = SoftLabels::open(&path, five_images(storage, top_k, 1)).unwrap();
            let rows = Tensor::from_slice(&[4i64, 0]);
            for epoch in [0, 2, 1] {
                let found = labels.logits(epoch, &rows).unwrap();
                let expected = logits(epoch as u64, &[4, 0]);
                let largest = |logits: &Tensor| logits.amax([-1].as_slice(), false);
                let off = (largest(&found) - largest(&expected)).abs().max().double_value(&[]);
                assert!(off < 0.01, "{storage:?} {top_k:?}, epoch {epoch}: {off}");
            }
            let tensors = Tensor::read_safetensors(&path).unwrap();
            let shapes: Vec<_> =
                tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
            assert!(shapes.contains(&("logits", vec![3, 5, top_k.unwrap_or(4) as i64])), "{shapes:?}");
            assert_eq!(shapes.iter().any(|(name, _)| *name == "rest"), top_k.is_some());
        }
    }

    #[test]
    fn labels_of_another_seed_are_refused_and_so_is_a_shortened_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let written = five_images(LabelStorage::Float16, None, 1);
        SoftLabelsWriter::create(&folder.path().join("aside"), &written).unwrap().finish(&path).unwrap();
        let open = |seed| SoftLabels::open(&path, five_images(LabelStorage::Float16, None, seed));
        assert!(open(1).is_ok());
        assert!(open(2).err().unwrap().message.contains("soft labels of another run"));
        for length in [written.file_bytes() - 1, 9, 0] {
            File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            assert!(open(1).err().unwrap().message.contains("soft labels of another run"));
        }
    }
}
