//! The objective interface carries what matching methods need: networks that live over several calls, real images, the
//! recipe's training loss, and gradients in place of a loss.

use guard_host::{
    network::{Model, NormLayer},
    random::Streams,
};
use guard_sdk::{
    Batch, Device, Error, Kind, Lab, Network, OwnedNetwork, Pass, Result, Space, Synthetic, Tensor, Value,
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
    network::NetworkBackend,
};
use guard_tests::{Bench, bits, one_line, spec};
use serde_json::json;
use std::cell::RefCell;
use tch::Reduction;

const REAL_IMAGES: u64 = 3;
const LEARNING_RATE: f64 = 0.05;

/// Networks and real images in float64.
struct SmallLab {
    info: LabInfo,
    /// What was asked for.
    asked: RefCell<Vec<String>>,
}

impl SmallLab {
    fn new() -> Self {
        Self {
            info: LabInfo { classes: 4, images_per_class: 2, image: [3, 8, 8], real_images: vec![10; 4] },
            asked: RefCell::default(),
        }
    }

    fn model(draw: u64) -> Model {
        let streams = Streams::new(21).numbered(draw);
        Model::fresh(&spec(NormLayer::Instance), &streams, Device::Cpu).unwrap().copy(Kind::Double, true)
    }

    fn images(class: i64, draw: u64) -> Tensor {
        let streams = Streams::new(22).numbered(draw).numbered(class as u64);
        streams.uniform("real", &[REAL_IMAGES as i64, 3, 8, 8], Kind::Double).unwrap()
    }
}

impl LabBackend for SmallLab {
    fn info(&self) -> &LabInfo {
        &self.info
    }

    fn teacher(&self) -> Result<OwnedNetwork> {
        Err(Error::new("this lab has no teacher"))
    }

    fn fresh_network(&self, draw: u64) -> Result<OwnedNetwork> {
        self.asked.borrow_mut().push(format!("network {draw}"));
        Ok(OwnedNetwork::new(Self::model(draw).committing()))
    }

    fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
        let class = class.ok_or_else(|| Error::new("this lab draws from one class at a time"))?;
        self.asked.borrow_mut().push(format!("{count} images of class {class}, draw {draw}"));
        let labels = Tensor::full([count as i64], class, (Kind::Int64, Device::Cpu));
        Ok(RealBatch { images: Self::images(class, draw), labels, ids: (0..count).collect() })
    }

    fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
        Ok(batch.cross_entropy_each(&network.logits_in(batch.space, batch.images)?)?.mean(None::<Kind>))
    }

    fn experts(&self) -> Result<ExpertsInfo> {
        Err(Error::new("this lab has no experts"))
    }

    fn expert(&self, _: u64, _: u64) -> Result<OwnedNetwork> {
        Err(Error::new("this lab has no experts"))
    }
}

/// Two images of each class.
fn synthetic_images() -> (Tensor, Tensor, Vec<u64>) {
    let images =
        Streams::new(23).uniform("synthetic", &[8, 3, 8, 8], Kind::Double).unwrap().set_requires_grad(true);
    (images, Tensor::from_slice(&[0i64, 0, 1, 1, 2, 2, 3, 3]), (0..8).collect())
}

fn synthetic<'a>(images: &'a Tensor, labels: &'a Tensor, ids: &'a [u64]) -> Synthetic<'a> {
    Synthetic { images, labels, soft_labels: None, learnables: &[], ids, space: Space::Pixels }
}

/// The mean cross-entropy at `parameters`, without the SDK.
fn mean_loss(model: &Model, parameters: &[Tensor], images: &Tensor, labels: &Tensor) -> Tensor {
    let bound = model.rebind(&parameters.iter().collect::<Vec<_>>()).unwrap();
    let logits = bound.pass(images, Pass::new(Space::Pixels)).unwrap().logits;
    logits.cross_entropy_loss(labels, None::<Tensor>, Reduction::None, -100, 0.0).mean(None::<Kind>)
}

/// What `small-matching` computes at `parameters`, by tch alone: the loss and its gradient to the images.
fn matching(
    model: &Model,
    parameters: &[Tensor],
    images: &Tensor,
    labels: &Tensor,
    draw: u64,
) -> (Tensor, Tensor) {
    let mut loss = Tensor::zeros([0i64; 0], (Kind::Double, Device::Cpu));
    let mut gradient = images.zeros_like();
    for class in 0..4 {
        let real_labels = Tensor::full([REAL_IMAGES as i64], class, (Kind::Int64, Device::Cpu));
        let real = mean_loss(model, parameters, &SmallLab::images(class, draw), &real_labels);
        let target = Tensor::run_backward(&[real], parameters, false, false);
        let rows = Tensor::from_slice(&[2 * class, 2 * class + 1]);
        let present =
            mean_loss(model, parameters, &images.index_select(0, &rows), &labels.index_select(0, &rows));
        let present = Tensor::run_backward(&[present], parameters, true, true);
        let pairs = present.iter().zip(&target);
        let distance: Tensor =
            pairs.map(|(present, target)| (present - target).square().sum(None::<Kind>)).sum();
        gradient += Tensor::run_backward(&[&distance], &[images], false, false).remove(0);
        loss += distance.detach();
    }
    (loss, gradient)
}

fn gradients(value: Value) -> (Tensor, Tensor) {
    match value {
        Value::Gradients { loss, mut gradients } => (loss, gradients.remove(0)),
        Value::Loss(_) => panic!("a matching objective returns gradients"),
    }
}

#[test]
fn gradient_matching_across_the_boundary_is_bit_equal_to_the_same_in_the_host() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let lab = SmallLab::new();
    let options = json!({ "real_images": REAL_IMAGES, "learning_rate": LEARNING_RATE });
    let mut method = bench.objective("small-matching", options).unwrap();
    assert!(method.needs(&bench.context()).unwrap().real_images);
    let (images, labels, ids) = synthetic_images();
    let set = synthetic(&images, &labels, &ids);

    let model = SmallLab::model(0);
    let mut parameters: Vec<Tensor> = model.parameters().iter().map(Tensor::shallow_clone).collect();
    let mut losses = Vec::new();
    for iteration in 0..2 {
        let context = bench.context().at(iteration, 2);
        let across = gradients(method.value(&context, &set, &Lab::lend(&lab)).unwrap());
        let here = matching(&model, &parameters, &images, &labels, iteration);
        assert_eq!(
            (bits(&across.0), bits(&across.1)),
            (bits(&here.0), bits(&here.1)),
            "iteration {iteration}"
        );
        losses.push(here.0.double_value(&[]));

        // The method's own network learns from the images; it is kept in the plugin until the next call.
        method.after_step(&context, &set, &Lab::lend(&lab)).unwrap();
        let loss = mean_loss(&model, &parameters, &images.detach(), &labels);
        let steps = Tensor::run_backward(&[loss], &parameters, false, false);
        let moved = |(parameter, step): (&Tensor, &Tensor)| {
            (parameter.detach() - step * LEARNING_RATE).set_requires_grad(true)
        };
        parameters = parameters.iter().zip(&steps).map(moved).collect();
    }
    assert!(losses.iter().all(|loss| *loss > 0.0) && losses[0] != losses[1], "{losses:?}");

    let asked = lab.asked.borrow();
    assert_eq!(asked.iter().filter(|line| line.starts_with("network")).collect::<Vec<_>>(), ["network 0"]);
    assert_eq!(asked[1], "3 images of class 0, draw 0");
    assert_eq!(asked.last().map(String::as_str), Some("3 images of class 3, draw 1"));
}

#[test]
fn what_the_lab_does_not_have_is_an_error_that_crosses_to_the_method_and_back() {
    struct NoNetworks(SmallLab);
    impl LabBackend for NoNetworks {
        fn info(&self) -> &LabInfo {
            self.0.info()
        }
        fn teacher(&self) -> Result<OwnedNetwork> {
            self.0.teacher()
        }
        fn fresh_network(&self, _: u64) -> Result<OwnedNetwork> {
            Err(Error::unsupported("this objective did not ask for fresh networks")
                .help("set `networks` in `needs`"))
        }
        fn real(&self, class: Option<i64>, count: u64, draw: u64) -> Result<RealBatch> {
            self.0.real(class, count, draw)
        }
        fn training_loss(&self, network: &Network, batch: &Batch) -> Result<Tensor> {
            self.0.training_loss(network, batch)
        }
        fn experts(&self) -> Result<ExpertsInfo> {
            self.0.experts()
        }
        fn expert(&self, trajectory: u64, snapshot: u64) -> Result<OwnedNetwork> {
            self.0.expert(trajectory, snapshot)
        }
    }
    let bench = Bench::new(&["guard_misbehaving"]);
    let options = json!({ "real_images": REAL_IMAGES, "learning_rate": LEARNING_RATE });
    let mut method = bench.objective("small-matching", options).unwrap();
    let (images, labels, ids) = synthetic_images();
    let lab = NoNetworks(SmallLab::new());
    let error =
        method.value(&bench.context(), &synthetic(&images, &labels, &ids), &Lab::lend(&lab)).unwrap_err();
    assert_eq!(
        error,
        Error::unsupported("this objective did not ask for fresh networks").help("set `networks` in `needs`")
    );
}

#[test]
fn an_objective_whose_value_would_have_no_effect_is_an_error() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let lab = SmallLab::new();
    let (images, labels, ids) = synthetic_images();
    let set = synthetic(&images, &labels, &ids);
    for (name, problem) in [
        ("without-graph", "a loss without graph to the images"),
        ("not-scalar", "gradients of shapes [[3, 8, 8]], not [[8, 3, 8, 8]]"),
    ] {
        let mut method = bench.objective(name, json!({})).unwrap();
        let error = method.value(&bench.context(), &set, &Lab::lend(&lab)).unwrap_err();
        assert_eq!(
            one_line(&error),
            format!("plugin `test.misbehaving`, objective `{name}` returned {problem}")
        );
    }
}
