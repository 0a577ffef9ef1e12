//! What the host prepares for an objective: networks, real images, experts, the recipe's training loss.

use crate::{Batch, Network, OwnedNetwork, Result, Space};
use tch::Tensor;

/// The task at hand.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct LabInfo {
    /// Number of classes, K.
    pub classes: i64,
    /// Synthetic images per class.
    pub images_per_class: i64,
    /// Channels, height and width.
    pub image: [i64; 3],
    /// Number of real training images of each class.
    pub real_images: Vec<u64>,
}

/// The expert trajectories that the host trained.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ExpertsInfo {
    /// How many there are.
    pub trajectories: u64,
    /// Snapshots in each; 0 is the initialisation.
    pub snapshots: u64,
}

/// Real examples that the method owns; pixels in [0,1].
#[derive(Debug)]
pub struct RealBatch {
    /// `[N,C,H,W]`, pixels in [0,1].
    pub images: Tensor,
    /// int64 `[N]`.
    pub labels: Tensor,
    /// Each example's position in the training split.
    pub ids: Vec<u64>,
}

impl RealBatch {
    /// As a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            images: &self.images,
            labels: &self.labels,
            soft_labels: None,
            ids: &self.ids,
            space: Space::Pixels,
        }
    }
}

/// What stands behind a [`Lab`]; the host implements it, and the boundary.
pub trait LabBackend {
    /// See [`LabInfo`].
    fn info(&self) -> &LabInfo;
    /// See [`Lab::teacher`].
    fn teacher(&self) -> Result<OwnedNetwork>;
    /// See [`Lab::fresh_network`].
    fn fresh_network(&self, draw: u64) -> Result<OwnedNetwork>;
    /// See [`Lab::real`].
    fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch>;
    /// See [`Lab::training_loss`].
    fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor>;
    /// See [`Lab::experts`].
    fn experts(&self) -> Result<ExpertsInfo>;
    /// See [`Lab::expert`].
    fn expert(&self, trajectory: u64, snapshot: u64) -> Result<OwnedNetwork>;
}

/// The lab, lent for a call. What is not in [`Needs`](crate::Needs) is not prepared, and asking for it is an error.
#[derive(Clone, Copy)]
pub struct Lab<'a>(&'a dyn LabBackend);

impl<'a> Lab<'a> {
    /// Lends a backend.
    pub fn lend(backend: &'a dyn LabBackend) -> Self {
        Self(backend)
    }

    /// What stands behind.
    pub fn backend(&self) -> &'a dyn LabBackend {
        self.0
    }

    /// The task at hand.
    pub fn info(&self) -> &LabInfo {
        self.0.info()
    }

    /// A copy of the network trained on real data with the recipe's regularizers; keep it rather than ask again. Its
    /// parameters need no gradients.
    ///
    /// # Errors
    /// If `needs` did not ask for it.
    pub fn teacher(&self) -> Result<OwnedNetwork> {
        self.0.teacher()
    }

    /// A freshly initialised network whose parameters require gradients; the same `draw` gives the same network.
    ///
    /// # Errors
    /// If `needs` did not ask for it.
    pub fn fresh_network(&self, draw: u64) -> Result<OwnedNetwork> {
        self.0.fresh_network(draw)
    }

    /// `count` real training examples, of one class or of all, without repetition while there are enough.
    ///
    /// # Errors
    /// If `needs` did not ask for real images, or there is no such class.
    pub fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
        self.0.real(class, count, draw)
    }

    /// The recipe's training loss, a scalar with graph to the network's parameters: cross-entropy and every regularizer
    /// of `[training]`. Whoever takes the real side's gradient or trains a network uses this, so that any regularizer
    /// composes with any objective.
    ///
    /// # Errors
    /// Those of the regularizers.
    pub fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
        self.0.training_loss(network, batch)
    }

    /// How many expert trajectories there are.
    ///
    /// # Errors
    /// If `needs` did not ask for experts.
    pub fn experts(&self) -> Result<ExpertsInfo> {
        self.0.experts()
    }

    /// The network at one snapshot of one expert trajectory.
    ///
    /// # Errors
    /// If `needs` did not ask for experts, or there is no such snapshot.
    pub fn expert(&self, trajectory: u64, snapshot: u64) -> Result<OwnedNetwork> {
        self.0.expert(trajectory, snapshot)
    }
}
