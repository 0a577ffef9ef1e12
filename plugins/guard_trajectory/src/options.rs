//! What MTT and TESLA can be told, and what they ask the host for.

use guard_sdk::{
    Needs, Space,
    augment::DsaOptions,
    objective::{Learnable, Networks, SoftLabelStart, SoftLabelUpdates, Start, Together, Updates},
};

/// The learnable that students take their learning rate from.
pub const LEARNING_RATE: &str = "learning-rate";

/// Options of `mtt` and `tesla`, with the published values for CIFAR-10 and one image per class.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("examples" = [{ "synthetic_steps": 5 }]))]
pub struct TrajectoryOptions {
    /// N: steps on the synthetic images.
    #[schemars(range(min = 1))]
    pub synthetic_steps: u64,
    /// M: epochs of the expert that they shall be worth.
    #[schemars(range(min = 1))]
    pub expert_epochs: u64,
    /// Trajectories are joined at one of their first so many epochs.
    #[schemars(range(min = 1))]
    pub max_start_epoch: u64,
    /// Synthetic images in a step; unless said, all.
    #[schemars(range(min = 1))]
    pub batch_size: Option<usize>,
    /// How minibatches are chosen.
    pub minibatches: Minibatches,
    /// The first value of the learning rate of the steps, which is learned and which students then use.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub learning_rate: f64,
    /// The learning rate of gradient descent on that learning rate.
    #[schemars(range(min = 0.0))]
    pub learning_rate_rate: f64,
    /// What the learned learning rate never falls below.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub smallest_learning_rate: f64,
    /// The images' augmentation before each step.
    pub augment: DsaOptions,
    /// Class probabilities in place of hard labels; left out, labels are hard.
    pub soft_labels: Option<SoftLabelOptions>,
}

impl Default for TrajectoryOptions {
    fn default() -> Self {
        Self {
            synthetic_steps: 50,
            expert_epochs: 2,
            max_start_epoch: 2,
            batch_size: None,
            minibatches: Minibatches::InTurn,
            learning_rate: 0.01,
            learning_rate_rate: 1e-7,
            smallest_learning_rate: 1e-6,
            // As in the code of MTT; DSA's own differs.
            augment: DsaOptions { align_corners: true, ..DsaOptions::default() },
            soft_labels: None,
        }
    }
}

/// How minibatches of synthetic images are chosen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Minibatches {
    /// Every image once, in random order, before any comes again.
    #[default]
    InTurn,
    /// Each from all images.
    Independent,
}

/// Class probabilities that belong to the synthetic images.
#[derive(Debug, Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SoftLabelOptions {
    /// Where they start.
    pub start: SoftLabelStart,
    /// The learning rate of gradient descent on them; 0 keeps them.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Its momentum.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
}

impl TrajectoryOptions {
    /// See [`Objective::needs`](guard_sdk::Objective::needs).
    pub fn needs(&self) -> Needs {
        let soft = self.soft_labels.clone().unwrap_or_default();
        Needs {
            networks: Networks::Experts,
            space: Space::Normalised,
            together: Together::All,
            start: Start::Real,
            iterations: 5000,
            expert_epochs: self.last_epoch(),
            updates: Updates::Sgd { learning_rate: 100.0, momentum: 0.5, cosine: false },
            learnables: vec![Learnable {
                name: LEARNING_RATE.to_string(),
                initial: self.learning_rate,
                learning_rate: self.learning_rate_rate,
                momentum: 0.5,
                minimum: Some(self.smallest_learning_rate),
            }],
            learn_soft_labels: self.soft_labels.is_some(),
            soft_label_updates: SoftLabelUpdates {
                start: soft.start,
                learning_rate: soft.learning_rate,
                momentum: soft.momentum,
            },
            ..Needs::default()
        }
    }

    /// The last epoch of a trajectory that may be asked for.
    pub fn last_epoch(&self) -> u64 {
        self.max_start_epoch - 1 + self.expert_epochs
    }
}
