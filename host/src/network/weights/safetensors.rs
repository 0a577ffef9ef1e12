//! Hugging Face's safetensors format: a JSON header of names, dtypes, shapes and places, then the elements.

use super::{element, failure, file_error};
use guard_sdk::{Error, Result, Tensor};
use safetensors::{
    SafeTensorError, SafeTensors,
    tensor::{TensorView, serialize_to_file},
};
use std::{collections::HashMap, fs::File, io::Read, path::Path};

/// All tensors, sorted by name.
///
/// # Errors
/// If the file is damaged, or has elements of a kind that is not read.
pub(super) fn read(file: &mut File) -> Result<Vec<(String, Tensor)>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(file_error)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&error))?;
    let mut tensors = file
        .iter()
        .map(|(name, view)| {
            let shape: Vec<i64> = view.shape().iter().map(|&length| length as i64).collect();
            let tensor = element::of_safetensors(view.dtype())
                .and_then(|kind| element::tensor(view.data().to_vec(), &shape, kind))
                .map_err(|error| error.context(format!("tensor `{name}`")))?;
            Ok((name.to_string(), tensor))
        })
        .collect::<Result<Vec<_>>>()?;
    tensors.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(tensors)
}

/// Writes tensors under their names.
///
/// # Errors
/// If the file system refuses, or a kind of elements has no name in the format.
pub(super) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let parts = tensors
        .iter()
        .map(|(name, tensor)| {
            let shape: Vec<usize> = tensor.size().iter().map(|&length| length as usize).collect();
            Ok((name.as_str(), element::names(tensor.kind())?.1, shape, element::bytes(tensor)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let unwritten = |error: SafeTensorError| Error::with_code("file", error.to_string());
    let views = parts
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unwritten)?;
    // Hugging Face's loaders ask for it.
    let note = HashMap::from([("format".to_string(), "pt".to_string())]);
    serialize_to_file(views, Some(note), path).map_err(unwritten)
}

fn damaged(error: &SafeTensorError) -> Error {
    let why = match error {
        SafeTensorError::InvalidHeaderLength | SafeTensorError::MetadataIncompleteBuffer => {
            "it is shorter or longer than its header says".to_string()
        }
        other => other.to_string(),
    };
    failure(format!("the safetensors file is damaged: {why}"))
        .help("it may not have been copied completely: compare its size with the original's")
}
