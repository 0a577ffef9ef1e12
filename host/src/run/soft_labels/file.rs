//! Soft labels to and from disk, one epoch at a time.

use super::LabelPlan;
use guard_sdk::{Device, Error, Result, Tensor};
use std::{
    cell::RefCell,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A file of soft labels that is being written; memory holds one epoch.
pub struct SoftLabelsWriter<'a> {
    plan: &'a LabelPlan,
    file: File,
    /// Length of the header.
    begin: u64,
}

impl<'a> SoftLabelsWriter<'a> {
    /// Begins the file. It is whole once every epoch has been written.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create(path: &Path, plan: &'a LabelPlan) -> Result<Self> {
        let header = plan.header();
        let mut file = File::create(path).map_err(refused)?;
        file.write_all(&header).map_err(refused)?;
        file.set_len(plan.file_bytes()).map_err(refused)?;
        Ok(Self { plan, file, begin: header.len() as u64 })
    }

    /// Writes the labels of one epoch from logits `[N,K]` in the order of the images.
    ///
    /// # Errors
    /// If a logit does not fit into the format, or the file system refuses.
    pub fn epoch(&mut self, epoch: i64, logits: &Tensor) -> Result<()> {
        let tensors = self.plan.code.encode(&logits.f_to_device(Device::Cpu)?)?;
        for ((part, place), tensor) in self.plan.places().into_iter().zip(&tensors) {
            let length = self.plan.images as u64 * part.bytes();
            let mut bytes = vec![0u8; length as usize];
            tensor.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
            self.file.seek(SeekFrom::Start(self.begin + place + epoch as u64 * length)).map_err(refused)?;
            self.file.write_all(&bytes).map_err(refused)?;
        }
        Ok(())
    }
}

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
        let unreadable = |error: std::io::Error| {
            Error::with_code("file", format!("`{}` cannot be read: {error}", path.display()))
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let expected = plan.header();
        let mut header = vec![0u8; expected.len()];
        file.read_exact(&mut header).map_err(unreadable)?;
        if header != expected || file.metadata().map_err(unreadable)?.len() != plan.file_bytes() {
            let message = format!("`{}` holds soft labels of another run", path.display());
            return Err(Error::with_code("file", message).help("make them anew"));
        }
        Ok(Self { plan, path: path.to_path_buf(), open: RefCell::new(Open { file, present: None }) })
    }

    /// Logits `[n,K]` in float32 of the images at `positions` int64 `[n]` in one epoch.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn logits(&self, epoch: i64, positions: &Tensor) -> Result<Tensor> {
        let mut open = self.open.borrow_mut();
        if open.present.as_ref().is_none_or(|(present, _)| *present != epoch) {
            let tensors = self.read(&mut open.file, epoch).map_err(|error| {
                Error::with_code("file", format!("`{}` cannot be read: {error}", self.path.display()))
            })?;
            open.present = Some((epoch, tensors));
        }
        let Some((_, tensors)) = &open.present else { return Err(Error::new("no epoch was read")) };
        let positions = positions.f_to_device(Device::Cpu)?;
        let rows: Vec<Tensor> =
            tensors.iter().map(|tensor| tensor.f_index_select(0, &positions)).collect::<Result<_, _>>()?;
        self.plan.code.decode(&rows, self.plan.classes)
    }

    fn read(&self, file: &mut File, epoch: i64) -> Result<Vec<Tensor>> {
        let begin = self.plan.header().len() as u64;
        let part = |(part, place): (super::Part, u64)| {
            let length = self.plan.images as u64 * part.bytes();
            let mut bytes = vec![0u8; length as usize];
            file.seek(SeekFrom::Start(begin + place + epoch as u64 * length)).map_err(refused)?;
            file.read_exact(&mut bytes).map_err(refused)?;
            let shape: Vec<i64> = [&[self.plan.images][..], &part.shape].concat();
            Ok(Tensor::f_from_data_size(&bytes, &shape, part.kind)?)
        };
        self.plan.places().into_iter().map(part).collect()
    }
}

fn refused(error: std::io::Error) -> Error {
    Error::with_code("file", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{LabelStorage, Relabel, Student};
    use guard_sdk::Kind;

    fn plan(storage: LabelStorage, top_k: Option<usize>, seed: u64) -> LabelPlan {
        let relabel = Relabel { storage, top_k, ..Relabel::default() };
        let student = Student { epochs: 3, ..Student::default() };
        LabelPlan::new(&relabel, &student, seed, 5, 4)
    }

    fn logits(epoch: i64) -> Tensor {
        (Tensor::arange(20, (Kind::Float, Device::Cpu)) * 0.25 + epoch as f64).reshape([5, 4])
    }

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
            let first = plan(storage, top_k, 1);
            let mut writer = SoftLabelsWriter::create(&path, &first).unwrap();
            // In any order.
            [2, 0, 1].into_iter().for_each(|epoch| writer.epoch(epoch, &logits(epoch)).unwrap());
            assert_eq!(path.metadata().unwrap().len(), first.file_bytes());

            let labels = SoftLabels::open(&path, plan(storage, top_k, 1)).unwrap();
            let rows = Tensor::from_slice(&[4i64, 0]);
            for epoch in [0, 2, 1] {
                let found = labels.logits(epoch, &rows).unwrap();
                let expected = logits(epoch).index_select(0, &rows);
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
        let written = plan(LabelStorage::Float16, None, 1);
        let mut writer = SoftLabelsWriter::create(&path, &written).unwrap();
        (0..3).for_each(|epoch| writer.epoch(epoch, &logits(epoch)).unwrap());
        let error = SoftLabels::open(&path, plan(LabelStorage::Float16, None, 2)).err().unwrap();
        assert!(error.message.contains("soft labels of another run"), "{error}");
        File::options().write(true).open(&path).unwrap().set_len(written.file_bytes() - 1).unwrap();
        assert!(SoftLabels::open(&path, plan(LabelStorage::Float16, None, 1)).is_err());
    }
}
