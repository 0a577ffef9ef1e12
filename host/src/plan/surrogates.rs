//! Networks that attacks may ask for by name, as far as they are known before anything runs.

use crate::{
    network::{Model, NetworkSpec},
    plugin::{NetworkSource, unknown_network},
    random::Streams,
};
use guard_sdk::{Device, Error, OwnedNetwork, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A network that attacks may use beside the one under attack.
#[derive(Serialize, Deserialize)]
pub struct SurrogatePlan {
    /// What attacks call it.
    pub name: String,
    /// Where its weights are.
    pub weights: PathBuf,
    /// Their BLAKE3 sum.
    pub blake3: String,
    /// What it is.
    pub network: NetworkSpec,
    /// Whether the data's mean and standard deviation are its own.
    #[serde(skip)]
    pub statistics_of_data: bool,
}

impl SurrogatePlan {
    /// Reads the weights once, to see whether they fit.
    ///
    /// # Errors
    /// If they do not.
    pub fn new(name: &str, weights: &Path, network: NetworkSpec, statistics_of_data: bool) -> Result<Self> {
        Model::load(&with_statistics(network.clone()), weights, Device::Cpu)?;
        let bytes = std::fs::read(weights)
            .map_err(|error| Error::with_code("file", format!("`{}`: {error}", weights.display())))?;
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        Ok(Self { name: name.into(), weights: weights.into(), blake3, network, statistics_of_data })
    }
}

/// Mean 0, standard deviation 1 and no whitening where a plan was made without the data.
fn with_statistics(spec: NetworkSpec) -> NetworkSpec {
    let spec = NetworkSpec { whitening: spec.whitening.filter(|found| found.fitted.is_some()), ..spec };
    match spec.mean.is_empty() || spec.std.is_empty() {
        true => {
            let channels = spec.input[0] as usize;
            NetworkSpec { mean: vec![0.0; channels], std: vec![1.0; channels], ..spec }
        }
        false => spec,
    }
}

/// The networks that there will be, without their weights.
#[derive(Default)]
pub(super) struct Promised(pub Vec<(String, NetworkSpec)>);

impl NetworkSource for Promised {
    fn network(&self, name: &str) -> Result<OwnedNetwork> {
        let Some((_, spec)) = self.0.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = self.0.iter().map(|(known, _)| known.as_str()).collect();
            return Err(unknown_network(name, &known));
        };
        let model = Model::fresh(&with_statistics(spec.clone()), &Streams::new(0), Device::Cpu)?;
        Ok(OwnedNetwork::new(model.frozen()))
    }
}
