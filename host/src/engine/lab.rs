//! What objectives ask the host for.

use super::{experts::ExpertFolder, training_loss::TrainingLoss};
use crate::{
    data::{Loaded, Split, View},
    network::{Model, NetworkSpec},
    plugin::Context,
    random::Streams,
};
use guard_sdk::{
    Batch, Error, Network, OwnedNetwork, Result, Tensor,
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
    objective::{Needs, Networks},
};

/// What was prepared for an objective, for the whole stage.
pub struct Room<'a> {
    /// The task at hand.
    pub info: LabInfo,
    /// What the objective asked for.
    pub needs: &'a Needs,
    /// The network that [`LabBackend::fresh_network`] makes.
    pub spec: &'a NetworkSpec,
    /// The trained teacher.
    pub teacher: Option<&'a Model>,
    /// Expert trajectories, and how many of them are used.
    pub experts: Option<(&'a ExpertFolder, u64)>,
    /// Real images.
    pub split: &'a Split,
    /// The recipe's training loss.
    pub loss: &'a TrainingLoss,
    /// Fresh networks and choice of real images.
    pub streams: Streams,
}

/// The room during one call.
pub struct HostLab<'a> {
    /// What was prepared.
    pub room: &'a Room<'a>,
    /// Where the run stands.
    pub context: Context<'a>,
}

impl HostLab<'_> {
    /// Real images, whether or not the objective asked for them.
    pub(super) fn real_images(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
        let split = self.room.split;
        let candidates = match class {
            Some(class) => split.of_class(class),
            None => (0..split.len() as i64).collect(),
        };
        if candidates.is_empty() {
            return Err(Error::new(format!("there are no real images of class {}", class.unwrap_or(-1))));
        }
        let streams = self
            .room
            .streams
            .named("real")
            .numbered(class.map_or(u64::MAX, |class| class as u64))
            .numbered(draw);
        // Every candidate once, in random order, before any comes again.
        let positions: Vec<i64> = (0..)
            .flat_map(|round| streams.numbered(round).permutation(candidates.len()))
            .take(count as usize)
            .map(|choice| candidates[choice as usize])
            .collect();
        let Loaded { images, labels, ids } =
            split.batch(&positions, &View::plain())?.to_device(self.context.device)?;
        Ok(RealBatch { images, labels, ids })
    }

    fn experts(&self) -> Result<(&ExpertFolder, u64)> {
        let wanted = self.room.needs.networks == Networks::Experts;
        self.room.experts.filter(|_| wanted).ok_or_else(|| not_prepared("expert trajectories"))
    }
}

impl LabBackend for HostLab<'_> {
    fn info(&self) -> &LabInfo {
        &self.room.info
    }

    fn teacher(&self) -> Result<OwnedNetwork> {
        let wanted = self.room.needs.networks == Networks::Teacher;
        let teacher = self.room.teacher.filter(|_| wanted).ok_or_else(|| not_prepared("a teacher"))?;
        // A copy: what the objective does to it stays with the objective.
        let kind = teacher.parameters()[0].kind();
        Ok(OwnedNetwork::new(teacher.copy(kind, false).committing()))
    }

    fn fresh_network(&self, draw: u64) -> Result<OwnedNetwork> {
        if self.room.needs.networks != Networks::Fresh {
            return Err(not_prepared("fresh networks"));
        }
        let streams = self.room.streams.named("fresh").numbered(draw);
        Ok(OwnedNetwork::new(Model::fresh(self.room.spec, &streams, self.context.device)?.committing()))
    }

    fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
        if !self.room.needs.real_images {
            return Err(not_prepared("real images"));
        }
        self.real_images(class, count, draw)
    }

    fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
        self.room.loss.at(&self.context, network, batch)
    }

    fn experts(&self) -> Result<ExpertsInfo> {
        let (folder, count) = HostLab::experts(self)?;
        Ok(folder.info(count))
    }

    fn expert(&self, trajectory: u64, snapshot: u64) -> Result<OwnedNetwork> {
        let (folder, count) = HostLab::experts(self)?;
        if trajectory >= count || snapshot >= folder.snapshots() {
            let has = folder.snapshots();
            return Err(Error::new(format!(
                "there is no snapshot {snapshot} of expert {trajectory}: {count} experts have {has} each"
            )));
        }
        let network = folder.network(trajectory, snapshot, self.context.device)?;
        Ok(OwnedNetwork::new(network.committing()))
    }
}

fn not_prepared(what: &str) -> Error {
    Error::with_code(
        "not-prepared",
        format!("{what}: not prepared, because the objective's `needs` did not ask for it"),
    )
}
