//! Expert trajectories: how many, how long, and where they are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The expert trajectories that some objectives follow: networks trained on real data as `training` says, with a snapshot
/// after every epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Experts {
    /// How many networks are trained, each from its own seed.
    #[schemars(range(min = 1))]
    pub count: usize,
    /// Passes over the data of each, in place of `training.epochs`.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// The folder that keeps them; those that it has already are used, and the missing ones trained. Unless said, a folder
    /// of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
}

impl Default for Experts {
    /// The published numbers.
    fn default() -> Self {
        Self { count: 100, epochs: 50, folder: None }
    }
}
