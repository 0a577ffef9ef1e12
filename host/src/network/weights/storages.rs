//! The raw arrays of a PyTorch file, read when a tensor needs them, and tensors as views of them.

use super::{
    element, failure, file_error,
    record::{StorageRecord, TensorRecord},
};
use guard_sdk::{Error, Result, Tensor};
use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
};

/// Where in the file a storage lies.
pub(super) struct Place {
    pub start: u64,
    pub bytes: u64,
    /// The checksum that the file has of it.
    pub crc32: Option<u32>,
}

impl Place {
    /// Its bytes, which the file must be long enough for.
    ///
    /// # Errors
    /// If the file cannot be read, or the checksum is another.
    pub fn read(&self, file: &mut File) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes as usize];
        file.seek(SeekFrom::Start(self.start)).map_err(file_error)?;
        file.read_exact(&mut bytes).map_err(file_error)?;
        match self.crc32 {
            Some(crc32) if crc32 != crc32fast::hash(&bytes) => {
                Err(failure("the checksum is wrong").help("the file is damaged: copy or save it again"))
            }
            _ => Ok(bytes),
        }
    }
}

/// The storages of one file. No two places overlap, so that all together are not larger than the file.
pub(super) struct Storages {
    file: File,
    places: HashMap<String, Place>,
    read: HashMap<String, Tensor>,
}

impl Storages {
    /// # Errors
    /// If the file is too short for a place.
    pub fn new(file: File, places: HashMap<String, Place>) -> Result<Self> {
        let length = file.metadata().map_err(file_error)?.len();
        for (key, place) in &places {
            if place.start.checked_add(place.bytes).is_none_or(|end| end > length) {
                return Err(failure(format!("the file ends before storage `{key}` does"))
                    .help("it is damaged or was not copied completely"));
            }
        }
        Ok(Self { file, places, read: HashMap::new() })
    }

    /// The tensor of a record; tensors of one storage share memory, as when they were saved.
    ///
    /// # Errors
    /// If it reaches beyond its storage, or the storage is missing or damaged.
    pub fn tensor(&mut self, record: &TensorRecord<'_>) -> Result<Tensor> {
        let storage = self.storage(record.storage)?;
        let reach = record.reach()?;
        if reach > storage.numel() as u64 {
            return Err(failure(format!(
                "a tensor of size {:?} reaches element {reach} of storage `{}`, which has {}",
                record.size,
                record.storage.key,
                storage.numel()
            )));
        }
        // libtorch checks the offset of empty tensors too.
        let offset = if reach == 0 { 0 } else { record.offset };
        Ok(storage.f_as_strided(&record.size, &record.stride, offset)?)
    }

    /// All elements of a storage `[length]`.
    fn storage(&mut self, record: StorageRecord<'_>) -> Result<Tensor> {
        let StorageRecord { key, kind, length } = record;
        if let Some(tensor) = self.read.get(key) {
            return match tensor.kind() == kind && tensor.numel() as u64 == length {
                true => Ok(tensor.shallow_clone()),
                false => Err(failure(format!("storage `{key}` has two kinds or lengths"))),
            };
        }
        let place = self.places.get(key).ok_or_else(|| failure(format!("storage `{key}` is missing")))?;
        if length.checked_mul(kind.elt_size_in_bytes() as u64) != Some(place.bytes) {
            return Err(failure(format!(
                "storage `{key}` should have {length} elements of kind {kind:?}, found {} bytes",
                place.bytes
            )));
        }
        let damaged = |error: Error| error.context(format!("storage `{key}`"));
        let bytes = place.read(&mut self.file).map_err(damaged)?;
        let tensor = element::tensor(bytes, &[length as i64], kind)?;
        self.read.insert(key.to_string(), tensor.shallow_clone());
        Ok(tensor)
    }
}
