//! The folder's `index.json` and the safetensors files that it names.

use guard_sdk::{Error, Kind, Result, Space, Tensor, abi::shim::cpu_capability};
use guard_tests::device;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

/// Where the golden values are: `GUARD_GOLDEN_DIR` (from the root of the checkout, if relative), else `../shared/golden`
/// beside the checkout.
pub fn folder() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = std::env::var_os("GUARD_GOLDEN_DIR").unwrap_or_else(|| "../shared/golden".into());
    checkout.join(folder)
}

/// The folder and its index.
pub struct Golden {
    folder: PathBuf,
    pub index: Index,
}

#[derive(Deserialize)]
pub struct Index {
    versions: Versions,
    pub models: BTreeMap<String, ModelEntry>,
    pub inputs: BTreeMap<String, FileEntry>,
    pub cases: Vec<Case>,
}

/// What computed the values.
#[derive(Deserialize)]
struct Versions {
    /// The instructions that libtorch used, e.g. `AVX512`; older folders do not say.
    #[serde(default)]
    cpu_capability: Option<String>,
}

/// A network: what it is, and the file of its parameters.
#[derive(Deserialize)]
pub struct ModelEntry {
    pub arch: String,
    pub channels: i64,
    /// Height and width.
    pub im: i64,
    pub classes: i64,
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
    /// Normalisation of a ConvNet; `instance` if it is left out.
    pub norm: Option<String>,
    pub file: String,
    pub tensors: BTreeMap<String, TensorEntry>,
}

#[derive(Deserialize)]
pub struct TensorEntry {
    pub shape: Vec<i64>,
}

#[derive(Deserialize)]
pub struct FileEntry {
    pub file: String,
}

/// One computation and its recorded results.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub model: String,
    pub dtype: Dtype,
    file: String,
    space: String,
    pub params: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorEntry>,
    pub scalars: BTreeMap<String, Value>,
    /// Computed but not stored in this case's file.
    pub dropped: Vec<String>,
    #[serde(rename = "f32_vs_f64_max_rel_err")]
    pub rounding: BTreeMap<String, Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    F32,
    F64,
}

impl Dtype {
    pub fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
        }
    }
}

impl Case {
    /// The case's name in the list of tests.
    pub fn title(&self) -> String {
        let dtype = if self.dtype == Dtype::F32 { "f32" } else { "f64" };
        let parts = [self.model.as_str(), &self.name, dtype];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    /// Every key that the case computed.
    pub fn keys(&self) -> BTreeSet<String> {
        self.tensors.keys().chain(self.scalars.keys()).chain(&self.dropped).cloned().collect()
    }

    pub fn number(&self, name: &str) -> Result<f64> {
        let number = self.params.get(name).and_then(Value::as_f64);
        number.ok_or_else(|| Error::new(format!("the case has no number `{name}` in its params")))
    }

    pub fn count(&self, name: &str) -> Result<u64> {
        let count = self.params.get(name).and_then(Value::as_u64);
        count.ok_or_else(|| Error::new(format!("the case has no count `{name}` in its params")))
    }

    /// A parameter of any type.
    pub fn param<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T> {
        let value = self
            .params
            .get(name)
            .ok_or_else(|| Error::new(format!("the case has no `{name}` in its params")))?;
        serde_json::from_value(value.clone()).map_err(|error| Error::new(format!("param `{name}`: {error}")))
    }

    pub fn space(&self) -> Result<Space> {
        match self.space.as_str() {
            "pixel" => Ok(Space::Pixels),
            "normalised" => Ok(Space::Normalised),
            other => Err(Error::new(format!("there is no space `{other}`"))),
        }
    }
}

impl Golden {
    /// The instructions that the values were computed with, where libtorch uses others here: those of a GPU, or of another CPU.
    pub fn other_instructions(&self) -> Option<&str> {
        let recorded = self.index.versions.cpu_capability.as_deref();
        recorded.filter(|recorded| device().is_cuda() || *recorded != cpu_capability())
    }

    pub fn read(folder: PathBuf) -> Result<Self> {
        let path = folder.join("index.json");
        let unreadable = |error: String| Error::new(format!("`{}`: {error}", path.display()));
        let text = std::fs::read(&path).map_err(|error| unreadable(error.to_string()))?;
        let index = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { folder, index })
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn tensors(&self, file: &str) -> Result<HashMap<String, Tensor>> {
        let path = self.path(file);
        let tensors = Tensor::read_safetensors(&path);
        let tensors = tensors.map_err(|error| Error::from(error).context(path.display()))?;
        Ok(tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(device()))).collect())
    }

    /// What the case's own file holds.
    pub fn recorded(&self, case: &Case) -> Result<HashMap<String, Tensor>> {
        self.tensors(&case.file)
    }

    /// The same case in float64, from which a float32 case's dropped keys are read.
    pub fn twin(&self, case: &Case) -> Option<&Case> {
        let same =
            |other: &&Case| (&other.name, &other.model, other.dtype) == (&case.name, &case.model, Dtype::F64);
        self.index.cases.iter().find(same).filter(|_| case.dtype == Dtype::F32)
    }

    /// The inputs that a model's cases share.
    pub fn inputs(&self, model: &str) -> Result<HashMap<String, Tensor>> {
        match self.index.inputs.get(model) {
            Some(entry) => self.tensors(&entry.file),
            None => Ok(HashMap::new()),
        }
    }
}
