//! Tensors of images and labels in a `.safetensors` file, among them the sets that this host distils.

use super::{
    Found,
    arrays::{self, Array, Arrays, Element, RawSet},
};
use crate::data::{
    archive::{read_file, unreadable},
    source::{Limits, Records, damaged},
};
use ::safetensors::{Dtype, SafeTensors};
use guard_sdk::Result;
use std::{borrow::Cow, path::Path};

pub(super) fn read(root: &Path, records: &mut Records, limits: &Limits) -> Result<Found> {
    arrays::read(&File::of(root, &read_file(root, limits)?)?, records, limits)
}

/// See [`arrays::read_raw`].
pub(super) fn read_raw(path: &Path, limits: &Limits) -> Result<RawSet> {
    arrays::read_raw(&File::of(path, &read_file(path, limits)?)?, limits)
}

struct File<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl<'a> File<'a> {
    fn of(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| unreadable(path, format!("is not a safetensors file: {error}")))?;
        Ok(Self { path, tensors })
    }
}

impl Arrays for File<'_> {
    fn title(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.names().into_iter().map(str::to_owned).collect()
    }

    fn array(&self, name: &str, _: &Limits) -> Result<Array<'_>> {
        let title = format!("{}/{name}", self.path.display());
        let tensor =
            self.tensors.tensor(name).map_err(|error| damaged(&title, format!("is damaged: {error}")))?;
        let element = match tensor.dtype() {
            Dtype::U8 => Element::U8,
            Dtype::U16 => Element::U16,
            Dtype::U32 => Element::U32,
            Dtype::U64 => Element::U64,
            Dtype::I8 => Element::I8,
            Dtype::I16 => Element::I16,
            Dtype::I32 => Element::I32,
            Dtype::I64 => Element::I64,
            Dtype::F32 => Element::F32,
            Dtype::F64 => Element::F64,
            other => {
                return Err(damaged(title, format!("has dtype {other:?}"))
                    .help("images are uint8, float32 or float64, labels integers"));
            }
        };
        Ok(Array {
            title,
            element,
            shape: tensor.shape().to_vec(),
            bytes: Cow::Borrowed(tensor.data()),
            big_endian: false,
        })
    }
}
