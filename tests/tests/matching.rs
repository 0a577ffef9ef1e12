//! Matching objectives by themselves: their gradients beside finite differences, and a run that goes on from a saved state.

use guard_host::{
    network::{Model, NormLayer},
    random::Streams,
};
use guard_sdk::{
    Batch, Device, Error, Kind, Lab, Network, OwnedNetwork, Result, Space, State, Synthetic, Tensor, Value,
    autograd::{Graph, grad},
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
};
use guard_tests::{Bench, bits, spec};
use serde_json::{Value as Json, json};

/// Networks and images in float64.
struct DoubleLab {
    info: LabInfo,
    norm: NormLayer,
}

impl DoubleLab {
    fn new(norm: NormLayer) -> Self {
        tch::set_num_threads(1);
        let info = LabInfo { classes: 4, images_per_class: 2, image: [3, 8, 8], real_images: vec![5; 4] };
        Self { info, norm }
    }

    fn network(&self, number: u64) -> Result<OwnedNetwork> {
        let streams = Streams::new(41).numbered(number);
        let model = Model::fresh(&spec(self.norm), &streams, Device::Cpu)?;
        Ok(OwnedNetwork::new(model.copy(Kind::Double, true).committing()))
    }
}

impl LabBackend for DoubleLab {
    fn info(&self) -> &LabInfo {
        &self.info
    }

    fn teacher(&self) -> Result<OwnedNetwork> {
        Err(Error::new("this lab has no teacher"))
    }

    fn fresh_network(&self, draw: u64) -> Result<OwnedNetwork> {
        self.network(draw)
    }

    fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
        let class = class.unwrap_or_default();
        let streams = Streams::new(42).numbered(class as u64).numbered(draw);
        let images = streams.uniform("real", &[count as i64, 3, 8, 8], Kind::Double)?;
        let labels = Tensor::full([count as i64], class, (Kind::Int64, Device::Cpu));
        Ok(RealBatch { images, labels, ids: (0..count).collect() })
    }

    fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
        Ok(batch.cross_entropy_each(&network.logits_in(batch.space, batch.images)?)?.mean(None::<Kind>))
    }

    fn experts(&self) -> Result<ExpertsInfo> {
        Ok(ExpertsInfo { trajectories: 1, snapshots: 2 })
    }

    fn expert(&self, _: u64, snapshot: u64) -> Result<OwnedNetwork> {
        self.network(snapshot)
    }
}

/// What is learned, and the rest of a synthetic set.
struct Set {
    /// Images `[8,3,8,8]`, then soft labels and the learning rate where there are some.
    learned: Vec<Tensor>,
    labels: Tensor,
    ids: Vec<u64>,
}

impl Set {
    fn new(with_more: bool) -> Self {
        let streams = Streams::new(43);
        let images = streams.normal("synthetic", &[8, 3, 8, 8], Kind::Double).unwrap();
        let soft = streams.uniform("soft", &[8, 4], Kind::Double).unwrap().softmax(-1, Kind::Double);
        let mut learned = vec![images];
        if with_more {
            learned.extend([soft, Tensor::from(0.05f64)]);
        }
        Self {
            learned: learned.iter().map(|tensor| tensor.set_requires_grad(true)).collect(),
            labels: Tensor::from_slice(&[0i64, 0, 1, 1, 2, 2, 3, 3]),
            ids: (0..8).collect(),
        }
    }

    fn lend<T>(&self, body: impl FnOnce(&Synthetic) -> T) -> T {
        let learnables: Vec<(&str, &Tensor)> =
            self.learned.get(2).map(|rate| ("learning-rate", rate)).into_iter().collect();
        body(&Synthetic {
            images: &self.learned[0],
            labels: &self.labels,
            soft_labels: self.learned.get(1),
            learnables: &learnables,
            ids: &self.ids,
            space: Space::Normalised,
        })
    }

    /// The set moved by `length` along `directions`.
    fn moved(&self, directions: &[Tensor], length: f64) -> Self {
        let pairs = self.learned.iter().zip(directions);
        let moved = |(tensor, direction): (&Tensor, &Tensor)| {
            (tensor.detach() + direction * length).set_requires_grad(true)
        };
        Self {
            learned: pairs.map(moved).collect(),
            labels: self.labels.shallow_clone(),
            ids: self.ids.clone(),
        }
    }
}

fn value(bench: &Bench, name: &str, options: &Json, lab: &DoubleLab, set: &Set) -> (f64, Vec<Tensor>) {
    let mut objective = bench.objective(name, options.clone()).unwrap();
    let value = set.lend(|set| objective.value(&bench.context(), set, &Lab::lend(lab))).unwrap();
    match value {
        Value::Gradients { loss, gradients } => (loss.double_value(&[]), gradients),
        Value::Loss(loss) => {
            let learned: Vec<&Tensor> = set.learned.iter().collect();
            (loss.double_value(&[]), grad(&loss, &learned, Graph::Free).unwrap())
        }
    }
}

/// The gradient along a random direction beside a central difference of the loss.
fn compare_with_differences(plugin: &str, name: &str, options: &Json, norm: NormLayer, with_more: bool) {
    const LENGTH: f64 = 1e-6;
    let bench = Bench::new(&[plugin]);
    let lab = DoubleLab::new(norm);
    let set = Set::new(with_more);
    let (_, gradients) = value(&bench, name, options, &lab, &set);
    assert_eq!(gradients.len(), set.learned.len());
    for part in 0..gradients.len() {
        let directions: Vec<Tensor> = (set.learned.iter().enumerate())
            .map(|(index, tensor)| match index == part {
                true => Streams::new(44).normal("direction", &tensor.size(), Kind::Double).unwrap(),
                false => tensor.zeros_like(),
            })
            .collect();
        let at = |length: f64| value(&bench, name, options, &lab, &set.moved(&directions, length)).0;
        let difference = (at(LENGTH) - at(-LENGTH)) / (2.0 * LENGTH);
        let slope = (&gradients[part] * &directions[part]).sum(Kind::Double).double_value(&[]);
        let off = (difference - slope).abs() / slope.abs();
        assert!(off < 1e-5, "{name}, part {part}: slope {slope}, difference {difference}");
    }
}

#[test]
fn gradients_of_dc_and_dsa_are_those_of_finite_differences() {
    for metric in ["layer-wise", "squared-error", "cosine"] {
        let options = json!({ "real_images": 5, "metric": metric });
        compare_with_differences("guard_matching", "dc", &options, NormLayer::Instance, false);
    }
    let options = json!({ "real_images": 5, "batch_norm_images": 3 });
    compare_with_differences("guard_matching", "dc", &options, NormLayer::Batch, false);
    for strategy in ["color", "crop", "cutout", "scale", "rotate"] {
        let options = json!({ "real_images": 5, "augment": { "strategy": strategy } });
        compare_with_differences("guard_matching", "dsa", &options, NormLayer::Instance, false);
    }
}

#[test]
fn gradients_of_dm_are_those_of_finite_differences() {
    let options = json!({ "real_images": 5 });
    for norm in [NormLayer::Instance, NormLayer::Batch] {
        compare_with_differences("guard_matching", "dm", &options, norm, false);
    }
}

#[test]
fn mtts_gradients_to_images_soft_labels_and_learning_rate_are_those_of_finite_differences() {
    let options = json!({
        "synthetic_steps": 3, "expert_epochs": 1, "max_start_epoch": 1, "batch_size": 5,
        "augment": { "strategy": "scale" }, "soft_labels": {},
    });
    compare_with_differences("guard_trajectory", "mtt", &options, NormLayer::Instance, true);
}

#[test]
fn tesla_is_mtt_where_there_is_one_step() {
    let bench = Bench::new(&["guard_trajectory"]);
    let (lab, set) = (DoubleLab::new(NormLayer::Instance), Set::new(true));
    let options = |steps: u64| {
        json!({
            "synthetic_steps": steps, "expert_epochs": 1, "max_start_epoch": 1,
            "augment": { "strategy": "none" }, "soft_labels": {},
        })
    };
    let largest = |steps| {
        let (mtt, full) = value(&bench, "mtt", &options(steps), &lab, &set);
        let (tesla, constant) = value(&bench, "tesla", &options(steps), &lab, &set);
        assert!((mtt - tesla).abs() < 1e-12, "{mtt} {tesla}");
        let off = full
            .iter()
            .zip(&constant)
            .map(|(full, constant)| ((full - constant).norm() / full.norm()).double_value(&[]));
        off.fold(0.0, f64::max)
    };
    assert!(largest(1) < 1e-10);
    assert!(largest(3) > 1e-6, "TESLA drops what earlier gradients contribute");
}

#[test]
fn dc_goes_on_from_a_saved_state_as_if_it_had_never_stopped() {
    let bench = Bench::new(&["guard_matching"]);
    let (lab, set) = (DoubleLab::new(NormLayer::Batch), Set::new(false));
    let options = json!({ "real_images": 5, "outer_loops": 3, "inner_epochs": 2, "network_batch_size": 5 });
    let first = bench.context().at(3, 9);
    let second = bench.context().at(4, 9);
    let value = |objective: &mut guard_host::plugin::Hosted<guard_sdk::abi::calls::ObjectiveInstance>| {
        let value = set.lend(|set| objective.value(&second, set, &Lab::lend(&lab))).unwrap();
        match value {
            Value::Gradients { loss, gradients } => (bits(&loss), bits(&gradients[0])),
            Value::Loss(_) => panic!("dc returns gradients"),
        }
    };
    let mut uninterrupted = bench.objective("dc", options.clone()).unwrap();
    set.lend(|set| uninterrupted.value(&first, set, &Lab::lend(&lab))).unwrap();
    set.lend(|set| uninterrupted.after_step(&first, set, &Lab::lend(&lab))).unwrap();
    let State { version, json, tensors } = uninterrupted.save(&second).unwrap();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
    let expected = value(&mut uninterrupted);

    let mut fresh = bench.objective("dc", options.clone()).unwrap();
    assert_ne!(value(&mut fresh), expected);
    let mut resumed = bench.objective("dc", options).unwrap();
    resumed.load(&second, State { version, json: json.clone(), tensors }).unwrap();
    assert_eq!(value(&mut resumed), expected);

    let other = State { version: 9, json, tensors: Vec::new() };
    assert!(resumed.load(&second, other).unwrap_err().message.contains("no state of version 1"));
}
