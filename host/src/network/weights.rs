//! Networks in safetensors files, with torchvision's names.

use super::{architecture::NetworkSpec, model::Model};
use crate::run::write_atomically;
use guard_sdk::{Device, Error, Kind, Result, Tensor};
use std::{collections::HashMap, path::Path};

impl Model {
    /// Reads the tensors of `spec` from a safetensors file; parameters require gradients.
    ///
    /// # Errors
    /// If the file cannot be read, or a tensor is missing, superfluous or of another shape.
    pub fn load(spec: &NetworkSpec, path: &Path, device: Device) -> Result<Self> {
        let program = spec.program()?;
        let in_file = |error: Error| error.context(format!("weights `{}`", path.display()));
        let tensors = Tensor::read_safetensors(path).map_err(|error| in_file(error.into()))?;
        let mut tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
        let mut take = |name: &str, shape: &[i64]| {
            let tensor =
                tensors.remove(name).ok_or_else(|| Error::new(format!("tensor `{name}` is missing")))?;
            match tensor.size() == shape {
                true => Ok(tensor.to_device(device)),
                false => Err(Error::new(format!(
                    "tensor `{name}` must have shape {shape:?}, found {:?}",
                    tensor.size()
                ))),
            }
        };
        let parameters: Vec<_> = program
            .parameters
            .iter()
            .map(|parameter| {
                Ok(take(&parameter.name, &parameter.shape)?.to_kind(Kind::Float).set_requires_grad(true))
            })
            .collect::<Result<_>>()
            .map_err(in_file)?;
        let buffers: Vec<_> = program
            .buffers
            .iter()
            .map(|buffer| take(&buffer.name, &buffer.shape))
            .collect::<Result<_>>()
            .map_err(in_file)?;
        if let Some(name) = tensors.keys().min() {
            return Err(in_file(
                Error::new(format!("tensor `{name}` belongs to another architecture"))
                    .help("check the recipe's `[network]`"),
            ));
        }
        Self::new(spec, program, parameters, buffers)
    }

    /// Writes all tensors to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let parameters = self.program().parameters.iter().map(|p| p.name.as_str()).zip(self.parameters());
        let buffers = self.program().buffers.iter().map(|b| b.name.as_str()).zip(self.buffers());
        // Detached copies: the file holds values, and the writer wants them contiguous.
        let named: Vec<_> =
            parameters.chain(buffers).map(|(name, tensor)| (name, tensor.detach().contiguous())).collect();
        write_atomically(path, |temporary| Ok(Tensor::write_safetensors(&named, temporary)?))
    }
}
