//! Networks and other tensors in files: safetensors, and PyTorch's `.pth` and `.pt` in both of its formats.
//!
//! A PyTorch file is a pickle, which is a program. It is read as data ([`pickle`]): nothing in a file is ever called, and
//! what is not a tensor is passed over unless a tensor depends on it. Sizes are believed only as far as the file goes.
//!
//! | step | where |
//! |---|---|
//! | kind of file, by its first bytes | `format` |
//! | pickle → values | `pickle` |
//! | file → pickle and places of storages | `zip`, `legacy` |
//! | value → record of a tensor → tensor | `record`, `storages`, `element` |
//! | values → state dict | `state_dict` |
//! | state dict → the program's tensors | `matching` |

mod element;
mod format;
mod legacy;
mod matching;
mod pickle;
mod record;
mod safetensors;
mod state_dict;
mod storages;
mod torch_file;
mod zip;

#[cfg(test)]
mod tests;

pub use pickle::{Call, Value};
pub use torch_file::TorchFile;

use super::{
    architecture::NetworkSpec,
    model::Model,
    whitening::{WHITENING_TENSORS, Whitening, WhiteningMap},
};
use crate::run::write_atomically;
use format::Format;
use guard_sdk::{Device, Error, Result, Tensor};
use std::{fs::File, path::Path};

impl Model {
    /// Reads the tensors of `spec` from a file; parameters are float32 (converted from float64, float16 and bfloat16
    /// where the file holds these) and require gradients.
    ///
    /// Names must be the program's; `module.`, `_orig_mod.` and `model.` before them do not count. A state dict may lie
    /// under the usual keys of checkpoints (`state_dict`, `model`, ...), beside anything else. BatchNorm's
    /// `num_batches_tracked` may be missing, as in files of old versions, and starts at 0 then; `n_averaged`, the counter
    /// of averaged models, is passed over. A network whitens its input if, and as, its file says.
    ///
    /// # Errors
    /// Code `file` if the file cannot be read; `weights` if it is damaged or of another kind, or if tensors are missing,
    /// superfluous, of another shape or not floating-point: all of them are listed in the causes.
    pub fn load(spec: &NetworkSpec, path: &Path, device: Device) -> Result<Self> {
        let program = spec.program()?;
        let fitted = read(path).and_then(|mut contents| {
            let whitening = contents.whitening(spec)?;
            Ok((whitening, matching::fit(&program, contents, device)?))
        });
        let (whitening, fitted) = fitted.map_err(|error| in_file(error, path))?;
        let matching::Fitted { parameters, buffers } = fitted;
        let spec = NetworkSpec { whitening, ..spec.clone() };
        let model = Self::new(&spec, program, parameters, buffers).map_err(|error| in_file(error, path))?;
        Ok(model.stored_as_computed())
    }

    /// Writes all tensors, whole or not at all, as [`write_tensors`] does.
    ///
    /// # Errors
    /// If the file cannot be written, or its extension is unknown.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_tensors(path, &self.named_tensors())
    }

    /// All tensors under their names, detached: who writes into them changes the network.
    pub fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let names = self.program().parameters.iter().map(|p| &p.name);
        let names = names.chain(self.program().buffers.iter().map(|b| &b.name));
        let tensors = self.parameters().iter().chain(self.buffers());
        let whitening = self.whitening().map(WhiteningMap::named).into_iter().flatten();
        names.cloned().zip(tensors.map(Tensor::detach)).chain(whitening).collect()
    }
}

/// The named tensors of a safetensors file, sorted, or of the state dict in a PyTorch file, in its order. Names, kinds and
/// shapes are the file's. For files of other structures there is [`TorchFile`].
///
/// # Errors
/// As [`Model::load`], and if something in the state dict is no tensor.
pub fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let contents = read(path).map_err(|error| in_file(error, path))?;
    match contents.others.is_empty() {
        true => Ok(contents.tensors),
        false => {
            let others = contents.others.iter().map(|(name, what)| format!("`{name}` is {what}"));
            let error = failure("the state dict does not hold tensors only");
            Err(in_file(error.cause(others.collect::<Vec<_>>().join(", ")), path))
        }
    }
}

/// Writes named tensors, whole or not at all: `.safetensors`, or `.pth` and `.pt` in PyTorch's zip format, as
/// `torch.load(path, weights_only=True)` reads it. Views are written as the elements that they show.
///
/// # Errors
/// If the file cannot be written, a kind of elements has no name in the format, or the extension is another.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => write_atomically(path, |temporary| safetensors::write(temporary, tensors)),
        Some("pth" | "pt") => write_atomically(path, |temporary| zip::write(temporary, tensors)),
        _ => Err(in_file(failure("the name says no format to write"), path)
            .help("end it in `.safetensors`, `.pth` or `.pt`")),
    }
}

/// What a file says under the names of a network's tensors.
#[derive(Default)]
struct Contents {
    tensors: Vec<(String, Tensor)>,
    /// What is no tensor, and what it is instead.
    others: Vec<(String, String)>,
}

impl Contents {
    /// The whitening, taken out; its ε is that of `spec`, where there is one.
    fn whitening(&mut self, spec: &NetworkSpec) -> Result<Option<Whitening>> {
        let found = WHITENING_TENSORS.map(|name| {
            let position = self.tensors.iter().position(|(found, _)| found == name);
            position.map(|position| self.tensors.remove(position).1)
        });
        let epsilon = spec.whitening.as_ref().and_then(|whitening| whitening.epsilon);
        match found {
            [Some(mean), Some(matrix)] => Ok(Some(Whitening::of_tensors(epsilon, &mean, &matrix)?)),
            [None, None] if spec.whitening.is_none() => Ok(None),
            _ => {
                let [mean, matrix] = WHITENING_TENSORS;
                let error = failure(format!("a network with whitening needs `{mean}` and `{matrix}`"));
                Err(error.help("the file is of a network without: leave `data.zca` out"))
            }
        }
    }
}

fn read(path: &Path) -> Result<Contents> {
    let mut file = File::open(path).map_err(file_error)?;
    match format::of(&mut file)? {
        Format::Safetensors => Ok(Contents { tensors: safetensors::read(&mut file)?, ..Contents::default() }),
        format => TorchFile::read(file, format)?.state_dict(),
    }
}

/// A file that does not hold what it should.
fn failure(message: impl Into<String>) -> Error {
    Error::with_code("weights", message)
}

fn file_error(error: std::io::Error) -> Error {
    Error::with_code("file", format!("cannot be read or written: {error}"))
}

fn in_file(error: Error, path: &Path) -> Error {
    error.context(format!("weights `{}`", path.display()))
}
