//! NumPy's `.npz`: a zip archive of arrays.

use guard_sdk::{Error, Kind, Result, Tensor};
use npyz::{AutoSerialize, WriteOptions, WriterBuilder};
use std::{fs::File, io::Write, path::Path};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Writes float32, float64 and int64 tensors under their names.
///
/// # Errors
/// If the file system refuses.
pub(super) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let refused = |error: &dyn std::fmt::Display| Error::with_code("file", error.to_string());
    let file = File::create(path).map_err(|error| refused(&error))?;
    let mut archive = ZipWriter::new(file);
    for (name, tensor) in tensors {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(tensor.numel() > u32::MAX as usize / 8);
        archive.start_file(format!("{name}.npy"), options).map_err(|error| refused(&error))?;
        archive.write_all(&array(tensor)?).map_err(|error| refused(&error))?;
    }
    archive.finish().map(drop).map_err(|error| refused(&error))
}

/// A `.npy` file.
fn array(tensor: &Tensor) -> Result<Vec<u8>> {
    let shape: Vec<u64> = tensor.size().iter().map(|length| length.unsigned_abs()).collect();
    let values = tensor.f_flatten(0, -1)?;
    match tensor.kind() {
        Kind::Int64 => encoded(&shape, Vec::<i64>::try_from(values)?),
        Kind::Double => encoded(&shape, Vec::<f64>::try_from(values)?),
        _ => encoded(&shape, Vec::<f32>::try_from(values.to_kind(Kind::Float))?),
    }
}

fn encoded<T: AutoSerialize>(shape: &[u64], values: Vec<T>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let written = || -> std::io::Result<()> {
        let mut writer = WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd()?;
        writer.extend(values)?;
        writer.finish()
    };
    written().map_err(|error| Error::new(format!("an array cannot be encoded: {error}")))?;
    Ok(bytes)
}
