//! Soft labels that are being written: each batch at its place, in a file that lies aside until it is whole.
//!
//! The file may be many gigabytes long, so that no checkpoint can hold it. A checkpoint has the sums of what the file holds by
//! then: for each epoch the BLAKE3 of its labels, batch by batch as they were written. Where a stage goes on, it looks how far
//! the file is what was written.

use super::{LabelPlan, Part};
use crate::run::{
    atomic::{link_atomically, make_folder, parent, remove, unwritten},
    failpoint::at,
    read::unreadable,
};
use blake3::Hasher;
use guard_sdk::{Device, Result, Tensor};
use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A file of soft labels that is being written; memory holds one batch.
pub struct SoftLabelsWriter<'a> {
    plan: &'a LabelPlan,
    /// Where it lies until it is whole.
    path: PathBuf,
    file: File,
    /// Of each epoch that was begun.
    sums: Vec<Hasher>,
}

impl<'a> SoftLabelsWriter<'a> {
    /// Begins the file at `path`, where it lies until it is whole.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create(path: &Path, plan: &'a LabelPlan) -> Result<Self> {
        make_folder(parent(path))?;
        // Another name of what is there may be in use.
        remove(path)?;
        let begin = || {
            let mut file = at("create", path, || File::create_new(path))?;
            at("write", path, || file.write_all(&plan.header()))?;
            at("lengthen", path, || file.set_len(plan.file_bytes()))?;
            Ok(file)
        };
        let file = begin().map_err(|error| unwritten(path, &error))?;
        Ok(Self { plan, path: path.to_path_buf(), file, sums: Vec::new() })
    }

    /// Goes on with the file at `path` of which `iterations` batches were written and had the `sums`; `order` tells the images of
    /// each batch of an epoch. Tells the iteration to go on at: an earlier one if the file is not what was written.
    ///
    /// # Errors
    /// If the file cannot be opened, or is another plan's.
    pub fn resume(
        path: &Path,
        plan: &'a LabelPlan,
        iterations: u64,
        sums: &[String],
        order: impl Fn(u64) -> Vec<Vec<i64>>,
    ) -> Result<(Self, u64)> {
        let opened = File::options().read(true).write(true).open(path);
        let mut file = opened.map_err(|error| unreadable(path, error))?;
        plan.check(path, &mut file)?;
        let mut writer = Self { plan, path: path.to_path_buf(), file, sums: Vec::new() };
        let mut good = 0;
        for (epoch, expected) in sums.iter().enumerate() {
            let parts = plan.read(path, &mut writer.file, epoch as i64)?;
            let (mut sum, mut batches) = (Hasher::new(), 0);
            for positions in order(epoch as u64).iter().take((iterations - good) as usize) {
                for (part, bytes) in &parts {
                    let length = part.bytes() as usize;
                    for row in positions.iter().map(|&position| position as usize * length) {
                        sum.update(&bytes[row..row + length]);
                    }
                }
                batches += 1;
            }
            if sum.finalize().to_hex().as_str() != expected {
                break;
            }
            good += batches;
            writer.sums.push(sum);
        }
        Ok((writer, good))
    }

    /// Writes what a batch of an epoch is labelled with: logits `[n,K]` of the images at `positions`.
    ///
    /// # Errors
    /// If a logit does not fit into the format, or the file system refuses.
    pub fn write(&mut self, epoch: u64, positions: &[i64], logits: &Tensor) -> Result<()> {
        let Self { plan, path, file, sums } = self;
        let tensors = plan.code.encode(&logits.f_to_device(Device::Cpu)?)?;
        sums.resize_with(epoch as usize + 1, Hasher::new);
        let mut all = Vec::new();
        for ((part, place), tensor) in plan.places(epoch as i64).into_iter().zip(&tensors) {
            let mut bytes = vec![0u8; positions.len() * part.bytes() as usize];
            tensor.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
            sums[epoch as usize].update(&bytes);
            all.push((part, place, bytes));
        }
        let written = at("write", path, || {
            all.iter().try_for_each(|(part, place, bytes)| write_rows(file, part, *place, positions, bytes))
        });
        written.map_err(|error| unwritten(path, &error))
    }

    /// Lets what was written outlast a failure of the machine; its sums.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn sync(&self) -> Result<Vec<String>> {
        let synced = at("sync", &self.path, || self.file.sync_all());
        synced.map_err(|error| unwritten(&self.path, &error))?;
        Ok(self.sums.iter().map(|sum| sum.finalize().to_hex().to_string()).collect())
    }

    /// Gives the file, which is whole, its name. It can be found where it lies as well, until that is cleared.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn finish(self, path: &Path) -> Result<()> {
        link_atomically(&self.path, path)
    }
}

/// Writes the rows at `positions` of a part that begins at `place`.
fn write_rows(
    file: &mut File,
    part: &Part,
    place: u64,
    positions: &[i64],
    bytes: &[u8],
) -> std::io::Result<()> {
    let length = part.bytes();
    for (&position, row) in positions.iter().zip(bytes.chunks(length as usize)) {
        file.seek(SeekFrom::Start(place + position as u64 * length))?;
        file.write_all(row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use crate::recipe::LabelStorage;
    use std::fs;

    fn write(writer: &mut SoftLabelsWriter, from: usize, count: usize) {
        batches(from).take(count).for_each(|(epoch, rows)| {
            writer.write(epoch, &rows, &logits(epoch, &rows)).unwrap();
        });
    }

    #[test]
    fn a_file_that_is_cut_after_any_batch_goes_on_there_and_ends_with_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for (storage, top_k) in [(LabelStorage::Float16, None), (LabelStorage::Int8, Some(2))] {
            let plan = five_images(storage, top_k, 1);
            let (aside, path) = (folder.path().join("aside"), folder.path().join("x"));
            let mut writer = SoftLabelsWriter::create(&aside, &plan).unwrap();
            write(&mut writer, 0, 9);
            writer.finish(&path).unwrap();
            let whole = fs::read(&path).unwrap();
            for cut in 0..=9 {
                let mut writer = SoftLabelsWriter::create(&aside, &plan).unwrap();
                write(&mut writer, 0, cut);
                let sums = writer.sync().unwrap();
                // What came after the checkpoint is of no account, and neither is that the file was moved already.
                write(&mut writer, cut, 2);
                writer.finish(&path).unwrap();
                let resumed = SoftLabelsWriter::resume(&aside, &plan, cut as u64, &sums, order);
                let (mut writer, good) = resumed.unwrap();
                assert_eq!(good, cut as u64);
                write(&mut writer, cut, 9);
                writer.finish(&path).unwrap();
                assert!(fs::read(&path).unwrap() == whole, "cut after {cut}");
            }
        }
    }

    #[test]
    fn labels_that_are_not_what_was_written_are_made_again_from_their_epoch_on() {
        let folder = tempfile::tempdir().unwrap();
        let (plan, path) = (five_images(LabelStorage::Float16, None, 1), folder.path().join("x"));
        let mut writer = SoftLabelsWriter::create(&path, &plan).unwrap();
        write(&mut writer, 0, 8);
        let sums = writer.sync().unwrap();
        let bytes = fs::read(&path).unwrap();
        // An epoch is 5 images of 4 classes of 2 bytes.
        for (damaged, expected) in [(0, 0), (39, 0), (40, 3), (79, 3), (80, 6)] {
            let mut other = bytes.clone();
            other[plan.header().len() + damaged] ^= 1;
            fs::write(&path, other).unwrap();
            let (_, good) = SoftLabelsWriter::resume(&path, &plan, 8, &sums, order).unwrap();
            assert_eq!(good, expected, "byte {damaged}");
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(SoftLabelsWriter::resume(&path, &plan, 8, &sums, order).is_err());
    }

    #[test]
    fn a_file_that_begins_anew_leaves_another_name_of_the_old_one_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (aside, path) = (folder.path().join("aside"), folder.path().join("x"));
        let plan = five_images(LabelStorage::Float16, None, 1);
        let mut writer = SoftLabelsWriter::create(&aside, &plan).unwrap();
        write(&mut writer, 0, 9);
        writer.finish(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        SoftLabelsWriter::create(&aside, &plan).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
