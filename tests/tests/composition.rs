//! Any regularizer with any objective: the loss and gradient that the host and its plugins compose from a recipe's parts,
//! beside the same composed here by hand from logits alone.
//!
//! SRe2L's teacher and the experts of MTT and TESLA are trained with the regularizer, the real gradients of DC and DSA are of
//! the loss with it; DM trains nothing and takes no gradient of real images: no regularizer of the training changes it.

use guard_host::{
    data::Split,
    engine::{
        HostLab, Room, Trainer, TrainingLoss, WeightedRegularizer,
        experts::{ExpertFolder, ExpertManifest, ExpertTrainer},
    },
    network::{Model, NetworkSpec, NormLayer},
    plugin::{Context, Hosted},
    random::Streams,
    recipe::{Optimizer, Schedule, Sgd, Training},
    run::Observer,
};
use guard_sdk::{
    Device, Kind, Lab, Pass, Result, Space, Synthetic, Tensor, Value,
    abi::calls::ObjectiveInstance,
    autograd::{Graph, grad},
    lab::LabInfo,
    network::{NetworkBackend, channel_values},
    objective::{Needs, Networks},
};
use guard_tests::{Bench, spec};
use serde_json::{Value as Json, json};

const CLASSES: i64 = 4;
const REAL_PER_CLASS: i64 = 5;
const PER_CLASS: i64 = 2;
const WEIGHT: f64 = 0.7;
const RADIUS: f64 = 0.5;
const EPSILON: f64 = 0.05;
const TRAINING_RATE: f64 = 0.2;
const EPOCHS: usize = 2;
const STEPS: u64 = 3;
const IMAGE_RATE: f64 = 0.1;

const REGULARIZERS: [&str; 4] = ["none", "curvature", "gradient-norm", "adversarial"];

fn options_of(regularizer: &str) -> Json {
    match regularizer {
        "curvature" => json!({ "form": "norm", "radius": RADIUS }),
        "adversarial" => json!({
            "attack": { "use": "fgsm" },
            "threat": { "norm": "linf", "epsilon": EPSILON },
            "statistics": "running",
        }),
        _ => json!({}),
    }
}

struct Unwatched;

impl Observer for Unwatched {
    fn iteration(&self, _: u64, _: u64) {}
}

/// Real images, pixels, class by class.
fn real() -> (Tensor, Tensor) {
    let count = CLASSES * REAL_PER_CLASS;
    let images = Streams::new(31).uniform("real", &[count, 3, 8, 8], Kind::Float).unwrap();
    let labels =
        Tensor::arange(count, (Kind::Int64, Device::Cpu)).divide_scalar_mode(REAL_PER_CLASS, "floor");
    (images, labels)
}

fn real_of(class: i64) -> (Tensor, Tensor) {
    let (images, labels) = real();
    let rows = |tensor: &Tensor| tensor.narrow(0, class * REAL_PER_CLASS, REAL_PER_CLASS);
    (rows(&images), rows(&labels))
}

/// Two normalised images of each class.
fn synthetic() -> (Tensor, Tensor, Vec<u64>) {
    let count = CLASSES * PER_CLASS;
    let images = Streams::new(32).normal("synthetic", &[count, 3, 8, 8], Kind::Float).unwrap();
    let labels = Tensor::arange(count, (Kind::Int64, Device::Cpu)).divide_scalar_mode(PER_CLASS, "floor");
    (images, labels, (0..count as u64).collect())
}

fn normalise(pixels: &Tensor, spec: &NetworkSpec) -> Tensor {
    (pixels - channel_values(&spec.mean, pixels)) / channel_values(&spec.std, pixels)
}

fn logits(model: &Model, images: &Tensor, space: Space) -> Tensor {
    model.pass(images, Pass::new(space)).unwrap().logits
}

fn bound(model: &Model, parameters: &[Tensor]) -> Model {
    let parameters = parameters.iter().map(Tensor::shallow_clone).collect();
    let buffers = model.buffers().iter().map(Tensor::shallow_clone).collect();
    Model::new(model.spec(), model.spec().program().unwrap(), parameters, buffers).unwrap()
}

fn leaves(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(|tensor| tensor.detach().set_requires_grad(true)).collect()
}

fn gradients(loss: &Tensor, inputs: &[Tensor], create: bool) -> Vec<Tensor> {
    Tensor::run_backward(&[loss], inputs, true, create)
}

/// Per-example norms `[N]`.
fn norms(tensor: &Tensor) -> Tensor {
    tensor.flatten(1, -1).square().sum_dim_intlist(-1, false, None::<Kind>).sqrt()
}

/// The penalty alone, in eval mode, with graph to the model's parameters.
fn penalty_by_hand(regularizer: &str, model: &Model, pixels: &Tensor, labels: &Tensor) -> Tensor {
    let gradient_at = |images: &Tensor, space: Space, create: bool| {
        let losses = logits(model, images, space).cross_entropy_loss(
            labels,
            None::<Tensor>,
            tch::Reduction::Sum,
            -100,
            0.0,
        );
        gradients(&losses, &[images.shallow_clone()], create).remove(0)
    };
    let normalised = normalise(pixels, model.spec()).detach().set_requires_grad(true);
    match regularizer {
        "gradient-norm" => norms(&gradient_at(&normalised, Space::Normalised, true)).mean(None::<Kind>),
        "curvature" => {
            let here = gradient_at(&normalised, Space::Normalised, true);
            let z = here.detach() * RADIUS / norms(&here.detach()).reshape([-1, 1, 1, 1]);
            let moved = (normalised.detach() + z).set_requires_grad(true);
            norms(&(gradient_at(&moved, Space::Normalised, true) - here)).mean(None::<Kind>)
        }
        "adversarial" => {
            let leaf = pixels.detach().set_requires_grad(true);
            let sign = gradient_at(&leaf, Space::Pixels, false).sign();
            let found = (pixels + sign * EPSILON).clamp(0.0, 1.0).detach();
            logits(model, &found, Space::Pixels).cross_entropy_for_logits(labels)
        }
        _ => Tensor::from(0f32),
    }
}

/// Cross-entropy of `clean` logits and the weighted penalty.
fn loss_by_hand(
    regularizer: &str,
    model: &Model,
    clean: &Tensor,
    pixels: &Tensor,
    labels: &Tensor,
) -> Tensor {
    clean.cross_entropy_for_logits(labels) + penalty_by_hand(regularizer, model, pixels, labels) * WEIGHT
}

/// Parameters before and after each of the epochs, of one step on all images each.
fn training_by_hand(regularizer: &str, model: &Model) -> Vec<Vec<Tensor>> {
    let (images, labels) = real();
    let mut snapshots = vec![leaves(model.parameters())];
    for _ in 0..EPOCHS {
        let now = bound(model, snapshots.last().unwrap());
        let clean = now.train_logits(&images, Space::Pixels).unwrap();
        let loss = loss_by_hand(regularizer, &now, &clean, &images, &labels);
        let steps = gradients(&loss, now.parameters(), false);
        let moved =
            now.parameters().iter().zip(&steps).map(|(was, step)| was.detach() - step * TRAINING_RATE);
        snapshots.push(leaves(&moved.collect::<Vec<_>>()));
    }
    snapshots
}

fn training() -> Training {
    Training {
        epochs: EPOCHS,
        batch_size: (CLASSES * REAL_PER_CLASS) as usize,
        optimizer: Optimizer::Sgd(Sgd {
            learning_rate: TRAINING_RATE,
            momentum: 0.0,
            weight_decay: 0.0,
            nesterov: false,
        }),
        schedule: Schedule::Constant,
        ..Training::default()
    }
}

/// One row of the product.
struct Case<'a> {
    bench: &'a Bench,
    regularizer: &'a str,
    loss: TrainingLoss,
    split: Split,
    streams: Streams,
}

impl<'a> Case<'a> {
    fn new(bench: &'a Bench, regularizer: &'a str) -> Self {
        let regularizers = match regularizer {
            "none" => Vec::new(),
            name => {
                let regularizer = bench.regularizer(name, options_of(name)).unwrap();
                vec![WeightedRegularizer { weight: WEIGHT, regularizer }]
            }
        };
        let (images, labels) = real();
        let split = Split::in_memory(&images, Vec::try_from(labels).unwrap()).unwrap();
        let loss = TrainingLoss::new(1.0, 0.0, regularizers);
        Self { bench, regularizer, loss, split, streams: Streams::new(33) }
    }

    fn room<'b>(
        &'b self,
        needs: &'b Needs,
        spec: &'b NetworkSpec,
        teacher: Option<&'b Model>,
        experts: Option<(&'b ExpertFolder, u64)>,
    ) -> Room<'b> {
        let info = LabInfo {
            classes: CLASSES,
            images_per_class: PER_CLASS,
            image: spec.input,
            real_images: vec![REAL_PER_CLASS as u64; CLASSES as usize],
        };
        let (split, loss, streams) = (&self.split, &self.loss, self.streams.clone());
        Room { info, needs, spec, teacher, experts, split, loss, streams }
    }

    /// A few steps of `objective`, its loss and gradients each time beside those of `by_hand`, which is told the iteration and
    /// the present images; both then see images that went down the gradient by hand.
    fn compare(
        &self,
        name: &str,
        objective: &mut Hosted<ObjectiveInstance>,
        room: &Room,
        learnables: &[(&str, &Tensor)],
        mut by_hand: impl FnMut(u64, &Tensor, &Tensor) -> (Tensor, Vec<Tensor>),
        mut learn_by_hand: impl FnMut(u64, &Tensor, &Tensor),
    ) {
        let (mut images, labels, ids) = synthetic();
        for iteration in 0..STEPS {
            let what = format!("{name} with {}, step {iteration}", self.regularizer);
            images = images.detach().set_requires_grad(true);
            let context = Context { stage: "distill", ..self.bench.context().at(iteration, STEPS) };
            let lab = HostLab { room, context };
            let (expected, steps) = by_hand(iteration, &images, &labels);
            let set = Synthetic {
                images: &images,
                labels: &labels,
                soft_labels: None,
                learnables,
                ids: &ids,
                space: Space::Normalised,
            };
            let learned: Vec<&Tensor> =
                std::iter::once(&images).chain(learnables.iter().map(|(_, value)| *value)).collect();
            let value = objective.value(&context, &set, &Lab::lend(&lab)).unwrap();
            let (found, found_steps) = match value {
                Value::Gradients { loss, gradients } => (loss, gradients),
                Value::Loss(loss) => (loss.detach(), grad(&loss, &learned, Graph::Free).unwrap()),
            };
            close(&found, &expected, &format!("loss of {what}"));
            for (index, (found, expected)) in found_steps.iter().zip(&steps).enumerate() {
                close(found, expected, &format!("gradient {index} of {what}"));
            }
            assert_eq!(found_steps.len(), steps.len());
            let moved = images.detach() - &steps[0] * IMAGE_RATE;
            objective.after_step(&context, &Synthetic { images: &moved, ..set }, &Lab::lend(&lab)).unwrap();
            learn_by_hand(iteration, &moved, &labels);
            images = moved;
        }
    }
}

fn close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let off = (found - expected).abs().max().double_value(&[]);
    let largest = expected.abs().max().double_value(&[]);
    assert!(off <= 1e-3 * largest + 1e-7, "{what}: off by {off}, the largest is {largest}");
}

fn plugins() -> Bench {
    // More threads only wait for each other on images this small.
    tch::set_num_threads(1);
    Bench::new(&[
        "guard_curv",
        "guard_adversarial",
        "guard_attacks",
        "guard_sre2l",
        "guard_matching",
        "guard_trajectory",
    ])
}

/// 1 − cosine of each output row, over weights of two dimensions and more.
fn distance_by_hand(real: &[Tensor], synthetic: &[Tensor]) -> Tensor {
    let rows = real.iter().zip(synthetic).filter(|(real, _)| real.dim() > 1).map(|(real, synthetic)| {
        let (real, synthetic) = (real.detach().flatten(1, -1), synthetic.flatten(1, -1));
        let product = (&real * &synthetic).sum_dim_intlist(-1, false, None::<Kind>);
        let norms = norms(&real) * norms(&synthetic);
        let cosines = product / (norms + 1e-6);
        real.size()[0] as f64 - cosines.sum(None::<Kind>)
    });
    rows.sum()
}

#[test]
fn sre2l_recovers_from_a_teacher_trained_with_any_regularizer() {
    let bench = plugins();
    let spec = spec(NormLayer::Batch);
    for regularizer in REGULARIZERS {
        let case = Case::new(&bench, regularizer);
        let fresh = || Model::fresh(&spec, &case.streams.named("teacher"), Device::Cpu).unwrap();
        let trainer = Trainer {
            split: &case.split,
            training: &training(),
            loss: &case.loss,
            streams: case.streams.clone(),
            observer: &Unwatched,
        };
        let trained = trainer.run(fresh(), &bench.context());
        assert!(trained.failure.is_none());
        let start = fresh();
        let by_hand = bound(&start, training_by_hand(regularizer, &start).last().unwrap()).frozen();

        let options = json!({ "augment": "none", "batch_norm_weight": 0.3 });
        let mut objective = bench.objective("sre2l", options).unwrap();
        let needs = objective.needs(&bench.context()).unwrap();
        let room = case.room(&needs, &spec, Some(&trained.model), None);
        let value = |_: u64, images: &Tensor, labels: &Tensor| {
            let output = by_hand.pass(images, Pass::new(Space::Normalised).with_statistics()).unwrap();
            let mut loss = output.logits.cross_entropy_for_logits(labels);
            for (index, layer) in output.statistics.iter().enumerate() {
                let apart = (&layer.running_variance - &layer.variance).norm()
                    + (&layer.running_mean - &layer.mean).norm();
                loss += apart * if index == 0 { 3.0 } else { 0.3 };
            }
            let steps = gradients(&loss, &[images.shallow_clone()], false);
            (loss.detach(), steps)
        };
        case.compare("sre2l", &mut objective, &room, &[], value, |_, _, _| ());
    }
}

/// DC and DSA: two steps with each network, which learns for an epoch in between; DSA's augmentation mirrors all images.
fn gradient_matching(name: &str, mirrored: bool) {
    let bench = plugins();
    let spec = spec(NormLayer::Instance);
    let seen = |images: &Tensor| if mirrored { images.flip([3]) } else { images.shallow_clone() };
    for regularizer in REGULARIZERS {
        let case = Case::new(&bench, regularizer);
        let mut options = json!({ "real_images": REAL_PER_CLASS, "outer_loops": 2, "inner_epochs": 1 });
        if mirrored {
            options["augment"] = json!({ "strategy": "flip", "prob_flip": 1.0 });
        }
        let mut objective = bench.objective(name, options).unwrap();
        let needs = objective.needs(&bench.context()).unwrap();
        assert_eq!(needs.networks, Networks::Fresh);
        let room = case.room(&needs, &spec, None, None);
        let network = std::cell::RefCell::new(Vec::new());
        let model = Model::fresh(&spec, &case.streams, Device::Cpu).unwrap();
        let value = |iteration: u64, images: &Tensor, labels: &Tensor| {
            if iteration.is_multiple_of(2) {
                let streams = case.streams.named("fresh").numbered(iteration / 2);
                let fresh = Model::fresh(&spec, &streams, Device::Cpu).unwrap();
                *network.borrow_mut() = leaves(fresh.parameters());
            }
            let now = bound(&model, &network.borrow());
            let mut total = Tensor::from(0f32);
            for class in 0..CLASSES {
                let (pixels, real_labels) = real_of(class);
                let pixels = seen(&pixels);
                let clean = logits(&now, &pixels, Space::Pixels);
                let loss = loss_by_hand(regularizer, &now, &clean, &pixels, &real_labels);
                let target = gradients(&loss, now.parameters(), false);
                let part = |tensor: &Tensor| tensor.narrow(0, class * PER_CLASS, PER_CLASS);
                let present = logits(&now, &seen(&part(images)), Space::Normalised);
                let present =
                    gradients(&present.cross_entropy_for_logits(&part(labels)), now.parameters(), true);
                total += distance_by_hand(&target, &present);
            }
            let steps = gradients(&total, &[images.shallow_clone()], false);
            (total.detach(), steps)
        };
        let learn = |iteration: u64, images: &Tensor, labels: &Tensor| {
            if iteration.is_multiple_of(2) {
                let now = bound(&model, &network.borrow());
                let loss = logits(&now, &seen(images), Space::Normalised).cross_entropy_for_logits(labels);
                let steps = gradients(&loss, now.parameters(), false);
                let moved = now.parameters().iter().zip(&steps).map(|(was, step)| was.detach() - step * 0.01);
                *network.borrow_mut() = leaves(&moved.collect::<Vec<_>>());
            }
        };
        case.compare(name, &mut objective, &room, &[], value, learn);
    }
}

#[test]
fn dc_matches_gradients_of_the_loss_with_any_regularizer() {
    gradient_matching("dc", false);
}

#[test]
fn dsa_matches_gradients_of_the_loss_with_any_regularizer_on_images_augmented_alike() {
    gradient_matching("dsa", true);
}

#[test]
fn dm_is_the_same_whatever_the_regularizer_of_the_training() {
    let bench = plugins();
    let spec = spec(NormLayer::Instance);
    for regularizer in REGULARIZERS {
        let case = Case::new(&bench, regularizer);
        let options = json!({ "real_images": REAL_PER_CLASS, "augment": { "strategy": "none" } });
        let mut objective = bench.objective("dm", options).unwrap();
        let needs = objective.needs(&bench.context()).unwrap();
        let room = case.room(&needs, &spec, None, None);
        let value = |iteration: u64, images: &Tensor, _: &Tensor| {
            let streams = case.streams.named("fresh").numbered(iteration);
            let fresh = Model::fresh(&spec, &streams, Device::Cpu).unwrap().frozen();
            let mean = |images: &Tensor, space: Space| {
                let embedding = fresh.pass(images, Pass::new(space).with_embedding()).unwrap().embedding;
                embedding.unwrap().mean_dim([0].as_slice(), false, None::<Kind>)
            };
            let mut total = Tensor::from(0f32);
            for class in 0..CLASSES {
                let part = images.narrow(0, class * PER_CLASS, PER_CLASS);
                let apart = mean(&real_of(class).0, Space::Pixels) - mean(&part, Space::Normalised);
                total += apart.square().sum(None::<Kind>);
            }
            let steps = gradients(&total, &[images.shallow_clone()], false);
            (total.detach(), steps)
        };
        case.compare("dm", &mut objective, &room, &[], value, |_, _, _| ());
    }
}

/// θ̂ after two steps on all images; TESLA's gradient passes through Σ gₙ at constant parameters.
fn trajectory_matching(name: &str, whole: bool) {
    let bench = plugins();
    let spec = spec(NormLayer::Instance);
    for regularizer in REGULARIZERS {
        let case = Case::new(&bench, regularizer);
        let folder = tempfile::tempdir().unwrap();
        let manifest = ExpertManifest {
            dataset: "tiny".into(),
            images: case.split.len() as u64,
            network: spec.clone(),
            training: training(),
        };
        let experts = ExpertFolder::prepare(folder.path(), &manifest).unwrap();
        let trainer = ExpertTrainer {
            split: &case.split,
            held_out: &case.split,
            loss: &case.loss,
            streams: case.streams.named("experts"),
        };
        let trajectory = trainer.run(&experts, 0, 1, &Unwatched, &bench.context());
        experts.write(0, &trajectory.unwrap()).unwrap();

        let own = case.streams.named("experts").numbered(0).named("network");
        let start = Model::fresh(&spec, &own, Device::Cpu).unwrap();
        let snapshots = training_by_hand(regularizer, &start);
        for (snapshot, by_hand) in snapshots.iter().enumerate() {
            let stored = experts.network(0, snapshot as u64, Device::Cpu).unwrap();
            for (found, expected) in stored.parameters().iter().zip(by_hand) {
                close(found, &expected.detach(), &format!("snapshot {snapshot} with {regularizer}"));
            }
        }
        let target = &snapshots[EPOCHS];
        let options = json!({
            "synthetic_steps": 2,
            "expert_epochs": EPOCHS,
            "max_start_epoch": 1,
            "augment": { "strategy": "none" },
        });
        let mut objective = bench.objective(name, options).unwrap();
        let needs = objective.needs(&bench.context()).unwrap();
        let room = case.room(&needs, &spec, None, Some((&experts, 1)));
        let rate = Tensor::from(0.3f32).set_requires_grad(true);
        let squared = |one: &[Tensor], other: &[Tensor]| -> Tensor {
            one.iter().zip(other).map(|(one, other)| (one - other).square().sum(None::<Kind>)).sum()
        };
        let value = |_: u64, images: &Tensor, labels: &Tensor| {
            let mut parameters = leaves(&snapshots[0]);
            let mut reached: Vec<Tensor> = snapshots[0].iter().map(Tensor::detach).collect();
            for _ in 0..2 {
                let now = bound(&start, &parameters);
                let loss = logits(&now, images, Space::Normalised).cross_entropy_for_logits(labels);
                let steps = gradients(&loss, &parameters, true);
                reached = reached.iter().zip(&steps).map(|(was, step)| was - step * &rate).collect();
                parameters = match whole {
                    true => parameters.iter().zip(&steps).map(|(was, step)| was - step * &rate).collect(),
                    false => leaves(&reached),
                };
            }
            let target: Vec<Tensor> = target.iter().map(Tensor::detach).collect();
            let loss = squared(&reached, &target) / squared(&snapshots[0], &target).detach();
            let steps = gradients(&loss, &[images.shallow_clone(), rate.shallow_clone()], false);
            (loss.detach(), steps)
        };
        case.compare(name, &mut objective, &room, &[("learning-rate", &rate)], value, |_, _, _| ());
    }
}

#[test]
fn mtt_follows_experts_trained_with_any_regularizer() {
    trajectory_matching("mtt", true);
}

#[test]
fn tesla_follows_experts_trained_with_any_regularizer() {
    trajectory_matching("tesla", false);
}

#[test]
fn a_training_loss_of_other_weights_gives_other_gradients() -> Result<()> {
    // What the comparisons above would miss if every penalty were 0.
    let bench = plugins();
    let spec = spec(NormLayer::Instance);
    let model = Model::fresh(&spec, &Streams::new(1), Device::Cpu)?;
    let (pixels, labels) = real();
    for regularizer in &REGULARIZERS[1..] {
        let case = Case::new(&bench, regularizer);
        let penalty = penalty_by_hand(regularizer, &model, &pixels, &labels);
        let norm: Tensor = gradients(&penalty, model.parameters(), false)
            .iter()
            .map(|step| step.square().sum(Kind::Float))
            .sum();
        assert!(norm.double_value(&[]) > 1e-6, "{}", case.regularizer);
    }
    Ok(())
}
