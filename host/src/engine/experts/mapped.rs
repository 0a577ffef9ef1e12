//! A safetensors file mapped into memory: the kernel reads the pages of what is asked for and may forget them again.

use guard_sdk::{Device, Error, Kind, Result, Tensor};
use safetensors::{Dtype, tensor::Metadata};
use std::{fs::File, io::Read, path::Path};

/// The length of the header comes first.
const LENGTH_BYTES: u64 = 8;

/// A mapped file and where its tensors are.
pub struct Mapped {
    /// uint8 `[length of the file]`.
    bytes: Tensor,
    metadata: Metadata,
    /// Where the header ends.
    begin: u64,
}

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// If it cannot be read or has no header.
    pub fn open(path: &Path) -> Result<Self> {
        let refused = |error: std::io::Error| {
            Error::with_code("file", format!("`{}` cannot be read: {error}", path.display()))
        };
        let mut file = File::open(path).map_err(refused)?;
        let length = file.metadata().map_err(refused)?.len();
        let mut header_length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut header_length).map_err(refused)?;
        let header_length = u64::from_le_bytes(header_length);
        if header_length > length.saturating_sub(LENGTH_BYTES) {
            return Err(damaged(path, "it is shorter than its header says"));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(refused)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| damaged(path, &error.to_string()))?;
        let begin = LENGTH_BYTES + header_length;
        let name = path.to_str().ok_or_else(|| damaged(path, "its path is not valid Unicode"))?;
        // Private: what is written to it would stay in this process.
        let bytes = Tensor::f_from_file(name, false, length as i64, (Kind::Uint8, Device::Cpu))?;
        let mapped = Self { bytes, metadata, begin };
        let end = mapped.metadata.tensors().values().map(|tensor| tensor.data_offsets.1 as u64).max();
        if begin + end.unwrap_or(0) != length {
            return Err(damaged(path, "it is shorter or longer than its header says"));
        }
        Ok(mapped)
    }

    /// A copy of a tensor; nothing else of the file is read.
    ///
    /// # Errors
    /// If the file has no such tensor.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let found = self.metadata.info(name);
        let found =
            found.ok_or_else(|| Error::with_code("weights", format!("there is no tensor `{name}`")))?;
        let kind = match found.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            other => return Err(Error::with_code("weights", format!("tensor `{name}` is {other:?}"))),
        };
        let (from, to) = found.data_offsets;
        let shape: Vec<i64> = found.shape.iter().map(|&length| length as i64).collect();
        let bytes = self.bytes.f_narrow(0, (self.begin as usize + from) as i64, (to - from) as i64)?;
        // A copy of the bytes first, for these may lie anywhere.
        Ok(bytes.copy().f_view_dtype(kind)?.f_reshape(shape)?)
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::with_code("weights", format!("`{}` is damaged: {why}", path.display()))
        .help("delete it, and it is trained again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::weights::write_tensors;
    use std::fs;

    #[test]
    fn tensors_come_back_as_they_were_written_and_a_cut_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let (one, two) = (Tensor::from_slice(&[1.5f32, -2.0]), Tensor::from_slice(&[7i64]));
        let named = [("3/a".to_string(), one.reshape([2, 1])), ("b".to_string(), two)];
        write_tensors(&path, &named).unwrap();
        let mapped = Mapped::open(&path).unwrap();
        assert_eq!(mapped.tensor("3/a").unwrap(), named[0].1);
        assert_eq!(mapped.tensor("b").unwrap().int64_value(&[0]), 7);
        assert!(mapped.tensor("c").unwrap_err().message.contains("no tensor `c`"));

        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Mapped::open(&path).err().unwrap().message.contains("is damaged"));
        fs::write(&path, [255; 9]).unwrap();
        assert!(Mapped::open(&path).err().unwrap().message.contains("is damaged"));
    }
}
