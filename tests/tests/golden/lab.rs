//! What matching objectives ask for, from recordings: one network, real images, snapshots of an expert.

use guard_host::network::Model;
use guard_sdk::{
    Batch, Error, Kind, Network, OwnedNetwork, Result, Tensor,
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
};

/// A lab of recordings; what is not recorded is an error.
pub struct RecordedLab {
    pub info: LabInfo,
    /// Every fresh network.
    pub model: Model,
    /// Pixels, every real batch.
    pub real: Option<Tensor>,
    /// Every expert's.
    pub snapshots: Vec<Model>,
}

impl RecordedLab {
    pub fn new(model: Model, images_per_class: i64) -> Self {
        let spec = model.spec();
        let info = LabInfo {
            classes: spec.classes,
            images_per_class,
            image: spec.input,
            real_images: vec![0; spec.classes as usize],
        };
        Self { info, model, real: None, snapshots: Vec::new() }
    }
}

fn owned(model: &Model) -> OwnedNetwork {
    OwnedNetwork::new(model.copy(model.parameters()[0].kind(), true).committing())
}

impl LabBackend for RecordedLab {
    fn info(&self) -> &LabInfo {
        &self.info
    }

    fn teacher(&self) -> Result<OwnedNetwork> {
        Err(Error::new("no teacher is recorded"))
    }

    fn fresh_network(&self, _: u64) -> Result<OwnedNetwork> {
        Ok(owned(&self.model))
    }

    fn real(&self, class: Option<i64>, count: u64, _: u64) -> Result<RealBatch> {
        let images = self.real.as_ref().ok_or_else(|| Error::new("no real images are recorded"))?;
        let found = images.size()[0];
        if found as u64 != count {
            return Err(Error::new(format!("{count} real images are asked for, {found} are recorded")));
        }
        let labels = Tensor::full([found], class.unwrap_or_default(), (Kind::Int64, images.device()));
        Ok(RealBatch { images: images.copy(), labels, ids: (0..count).collect() })
    }

    fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
        Ok(batch.cross_entropy_each(&network.logits_in(batch.space, batch.images)?)?.mean(None::<Kind>))
    }

    fn experts(&self) -> Result<ExpertsInfo> {
        Ok(ExpertsInfo { trajectories: 1, snapshots: self.snapshots.len() as u64 })
    }

    fn expert(&self, _: u64, snapshot: u64) -> Result<OwnedNetwork> {
        let found = self.snapshots.get(snapshot as usize);
        Ok(owned(found.ok_or_else(|| Error::new(format!("no snapshot {snapshot} is recorded")))?))
    }
}
