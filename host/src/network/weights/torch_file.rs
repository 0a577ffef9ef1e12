//! A file of `torch.save` in either format: a pickle, and the storages that it refers to.

use super::{
    Contents, failure, file_error,
    format::{self, Format},
    in_file, legacy,
    pickle::{Pickle, Value},
    record::TensorRecord,
    state_dict,
    storages::Storages,
    zip,
};
use guard_sdk::{Result, Tensor};
use std::{cell::RefCell, fs::File, path::Path};

/// A file that `torch.save` wrote, of any structure: what a state dict is made of, and what sets of images are.
///
/// Opening reads the pickle as data; storages are read when [`TorchFile::tensor`] needs them.
pub struct TorchFile {
    pickle: Pickle,
    storages: RefCell<Storages>,
}

impl TorchFile {
    /// # Errors
    /// Code `file` if it cannot be read, `weights` if it is damaged or another kind of file.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            let mut file = File::open(path).map_err(file_error)?;
            let format = format::of(&mut file)?;
            Self::read(file, format)
        };
        open().map_err(|error| in_file(error, path))
    }

    pub(super) fn read(mut file: File, format: Format) -> Result<Self> {
        let (pickle, places) = match format {
            Format::Zip => zip::open(&mut file)?,
            Format::Legacy => legacy::open(&mut file)?,
            Format::Safetensors => return Err(failure("the file is a safetensors file")),
        };
        Ok(Self { pickle, storages: RefCell::new(Storages::new(file, places)?) })
    }

    /// The object that was saved.
    pub fn root(&self) -> Value<'_> {
        self.pickle.root()
    }

    /// The tensor that a value of this file stands for, on the CPU; `None` where the value is something else. It may be
    /// a view that shares memory with others, with strides of 0 too.
    ///
    /// # Errors
    /// If it reaches beyond its storage, the storage is damaged, or its elements are of a kind that is not read.
    pub fn tensor(&self, value: Value<'_>) -> Result<Option<Tensor>> {
        let record = TensorRecord::read(value)?;
        record.map(|record| self.storages.borrow_mut().tensor(&record)).transpose()
    }

    /// The tensors of the state dict, and what lies beside them in it.
    pub(super) fn state_dict(&self) -> Result<Contents> {
        let mut contents = Contents::default();
        for (key, value) in state_dict::find(self.root())? {
            let name = key.text().map_or_else(|| key.describe(), str::to_string);
            match self.tensor(value).map_err(|error| error.context(format!("tensor `{name}`")))? {
                Some(tensor) => contents.tensors.push((name, tensor)),
                None => contents.others.push((name, value.describe())),
            }
        }
        Ok(contents)
    }
}
