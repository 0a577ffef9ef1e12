//! What the trajectories of a folder have in common.

use crate::{network::NetworkSpec, recipe::Training};
use guard_sdk::{Error, Result};
use serde::{Deserialize, Serialize};

/// What the trajectories of a folder have in common: `experts.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpertManifest {
    /// The data set.
    pub dataset: String,
    /// Number of training images.
    pub images: u64,
    /// The network.
    pub network: NetworkSpec,
    /// How it was trained, with its regularizers and the experts' own number of epochs.
    pub training: Training,
}

impl ExpertManifest {
    /// An error that names what differs, if these are not experts of the same kind.
    ///
    /// # Errors
    /// See above.
    pub fn check(&self, wanted: &Self) -> Result<()> {
        let (found, wanted) = (serde_json::to_value(self)?, serde_json::to_value(wanted)?);
        let Some((place, found, wanted)) = difference("", &found, &wanted) else { return Ok(()) };
        Err(Error::new(format!("its experts have `{place}` = {found}, the recipe has {wanted}"))
            .help("give these experts another folder, or make the recipe theirs"))
    }
}

/// The first place where two values differ, and what is there.
fn difference(
    place: &str,
    one: &serde_json::Value,
    other: &serde_json::Value,
) -> Option<(String, String, String)> {
    use serde_json::Value::Object;
    match (one, other) {
        (Object(left), Object(right)) => {
            left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))).find_map(|key| {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                difference(&place, &one[key], &other[key])
            })
        }
        _ => (one != other).then(|| (place.to_string(), one.to_string(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Architecture, Convnet};
    use crate::recipe::RegularizerUse;

    #[test]
    fn the_first_difference_is_named_with_both_values() {
        let network = NetworkSpec {
            architecture: Architecture::Convnet(Convnet::default()),
            input: [1, 8, 8],
            classes: 10,
            mean: vec![0.0],
            std: vec![1.0],
            whitening: None,
            precision: Default::default(),
        };
        let found =
            ExpertManifest { dataset: "digits".into(), images: 9, network, training: Training::default() };
        assert!(found.check(&found).is_ok());
        let mut wanted = found.clone();
        wanted.training.batch_size = 7;
        let error = found.check(&wanted).unwrap_err();
        assert_eq!(error.message, "its experts have `training.batch_size` = 128, the recipe has 7");
        let mut wanted = found.clone();
        wanted.training.regularizers.push(RegularizerUse {
            method: "curvature".into(),
            weight: 1.0,
            warmup: 0.0,
            initial_weight: 0.0,
            options: serde_json::Map::new(),
        });
        assert!(found.check(&wanted).unwrap_err().message.contains("`training.regularizers` = []"));
    }
}
