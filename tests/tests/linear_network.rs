//! Attacks on a linear network, whose strongest perturbations are known in closed form.
//!
//! With two classes the margin of an example is linear in its pixels, with the gradient w. The linf ball's worst point is
//! −ε · sign w, which costs ε‖w‖₁ of the margin; the l2 ball's is −ε · w/‖w‖₂, which costs ε‖w‖₂.

use guard_host::data::Split;
use guard_host::engine::{EvalOnly, Evaluator};
use guard_host::network::{Architecture, Convnet, Model, NetworkSpec, NormLayer};
use guard_host::random::Streams;
use guard_host::run::{Display, Journal};
use guard_sdk::{
    Batch, Budget, Device, Kind, Network, Norm, Tensor,
    batch::{norm_each, per_image},
};
use guard_tests::Bench;
use serde_json::{Value, json};

/// Pixels stay this far from 0 and 1, so that nothing is clamped.
const EPSILON: f64 = 0.1;

/// A host with these plugins. One thread: the tensors are small, and threads would only wait for each other.
fn bench(plugins: &[&str]) -> Bench {
    let bench = Bench::new(plugins);
    tch::set_num_threads(1);
    bench
}

/// A network without blocks is its last layer alone.
fn linear() -> Model {
    let spec = NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 0, width: 1, norm: NormLayer::None }),
        input: [2, 4, 4],
        classes: 2,
        mean: vec![0.4, 0.5],
        std: vec![0.2, 0.3],
        whitening: None,
        precision: Default::default(),
    };
    Model::fresh(&spec, &Streams::new(3), Device::Cpu)
        .expect("the specification can be met")
        .copy(Kind::Double, false)
}

/// The margin's gradient to each example's pixels.
fn margin_gradient(model: &Model, labels: &Tensor) -> Tensor {
    let weight = &model.parameters()[0];
    let std = Tensor::from_slice(&model.spec().std).reshape([1, -1, 1, 1]);
    let towards_one = (weight.get(1) - weight.get(0)).reshape([1, 2, 4, 4]) / std;
    let sign = labels.to_kind(Kind::Double) * 2.0 - 1.0;
    towards_one * sign.reshape([-1, 1, 1, 1])
}

fn margins(model: &Model, pixels: &Tensor, labels: &Tensor) -> Tensor {
    let logits = model.eval_logits(pixels).expect("images that fit");
    let sign = labels.to_kind(Kind::Double) * 2.0 - 1.0;
    (logits.select(1, 1) - logits.select(1, 0)) * sign
}

/// Attacks a batch, and compares perturbation and loss of margin with the closed form.
fn check(attack: &str, options: Value, norm: Norm) {
    let bench = bench(&["guard_attacks"]);
    let model = linear();
    let uniform =
        Streams::new(4).uniform("images", &[6, 2, 4, 4], Kind::Double).expect("a shape that libtorch takes");
    let images = uniform * (1.0 - 2.0 * EPSILON) + EPSILON;
    let labels = Tensor::from_slice(&[0i64, 1, 1, 0, 1, 0]);
    let batch = Batch::pixels(&images, &labels, &[0, 1, 2, 3, 4, 5]);
    let budget = Budget { norm, epsilon: EPSILON };
    let mut method = bench.attack(attack, options.clone()).unwrap();
    let adversarial = method.perturb(&bench.context(), &Network::lend(&model), &batch, &budget).unwrap();

    let w = margin_gradient(&model, &labels);
    let (strongest, cost) = match norm {
        Norm::Linf => {
            (w.sign() * -EPSILON, w.abs().flatten(1, -1).sum_dim_intlist(-1, false, Kind::Double) * EPSILON)
        }
        Norm::L2 => (&w / norm_each(&w).reshape([-1, 1, 1, 1]) * -EPSILON, norm_each(&w) * EPSILON),
    };
    let off = |found: &Tensor, expected: &Tensor| (found - expected).abs().max().double_value(&[]);
    let perturbation = &adversarial - &images;
    assert!(off(&perturbation, &strongest) < 1e-9, "{attack} {options}: {}", off(&perturbation, &strongest));
    let lost = margins(&model, &images, &labels) - margins(&model, &adversarial, &labels);
    assert!(off(&lost, &cost) < 1e-9, "{attack} {options}: {lost} lost, {cost} expected");
}

#[test]
fn fgsm_finds_the_strongest_perturbation_in_one_step() {
    check("fgsm", json!({}), Norm::Linf);
    check("fgsm", json!({}), Norm::L2);
}

#[test]
fn pgd_finds_it_from_the_image_and_from_a_random_start() {
    for random_start in [false, true] {
        let options = json!({ "steps": 10, "relative_step_size": 0.25, "random_start": random_start });
        check("pgd", options, Norm::Linf);
    }
    check("pgd", json!({ "steps": 4, "relative_step_size": 0.25, "random_start": false }), Norm::L2);
    // From a random start the way to the l2 ball's worst point is asymptotic.
    check("pgd", json!({ "steps": 400, "relative_step_size": 0.25 }), Norm::L2);
}

/// Labels that the network decides for, so that attacks have something to do.
fn decided_rightly(model: &Model, images: &Tensor) -> Tensor {
    model.eval_logits(images).expect("images that fit").argmax(-1, false)
}

fn interior_images() -> Tensor {
    let uniform = Streams::new(4).uniform("images", &[6, 2, 4, 4], Kind::Double).expect("a shape");
    uniform * (1.0 - 2.0 * EPSILON) + EPSILON
}

/// The budget is a little smaller than the distance to the boundary, so that the attack fails everywhere and returns the
/// strongest image.
fn check_strongest(options: Value, norm: Norm) {
    let bench = bench(&["guard_attacks"]);
    let (model, images) = (linear(), interior_images());
    let labels = decided_rightly(&model, &images);
    let w = margin_gradient(&model, &labels);
    let (slope, direction) = match norm {
        Norm::Linf => (w.abs().flatten(1, -1).sum_dim_intlist(-1, false, Kind::Double), w.sign()),
        Norm::L2 => (norm_each(&w), &w / per_image(&norm_each(&w))),
    };
    let distance = margins(&model, &images, &labels) / &slope;
    let epsilon = (distance.min().double_value(&[]) * 0.99).min(EPSILON);
    let ids = [0, 1, 2, 3, 4, 5];
    let batch = Batch::pixels(&images, &labels, &ids);
    let mut apgd = bench.attack("apgd", options.clone()).unwrap();
    let budget = Budget { norm, epsilon };
    let found = apgd.perturb(&bench.context(), &Network::lend(&model), &batch, &budget).unwrap();
    let lost = margins(&model, &images, &labels) - margins(&model, &found, &labels);
    let off = (lost / (&slope * epsilon) - 1.0).abs().max().double_value(&[]);
    assert!(off < 1e-5, "{options}, {norm:?}: {off}");
    let off = (&found - &images + direction * epsilon).abs().max().double_value(&[]);
    // In l2 the margin's loss is of second order in the direction's.
    assert!(off < if norm == Norm::Linf { 1e-9 } else { 5e-3 * epsilon }, "{options}, {norm:?}: {off}");
}

#[test]
fn apgd_finds_the_strongest_perturbation_of_two_classes_with_cross_entropy() {
    for norm in [Norm::Linf, Norm::L2] {
        check_strongest(json!({ "steps": 400 }), norm);
    }
}

/// With two classes the nearest wrongly decided image is the projection onto the boundary.
fn check_smallest(attack: &str, options: Value, norm: Norm) {
    let bench = bench(&["guard_attacks"]);
    let model = linear();
    let images = interior_images();
    let labels = decided_rightly(&model, &images);
    let w = margin_gradient(&model, &labels);
    let slope = match norm {
        Norm::Linf => w.abs().flatten(1, -1).sum_dim_intlist(-1, false, Kind::Double),
        Norm::L2 => norm_each(&w),
    };
    let nearest = margins(&model, &images, &labels) / slope;
    let step = match norm {
        Norm::Linf => w.sign() * per_image(&nearest),
        Norm::L2 => &w / per_image(&norm_each(&w)) * per_image(&nearest),
    };
    let boundary = &images - step;
    let inside = boundary.ge(0.0).logical_and(&boundary.le(1.0)).flatten(1, -1).all_dim(1, false);
    assert!(inside.any().int64_value(&[]) == 1, "no boundary point is within the pixel range");
    let ids = [0, 1, 2, 3, 4, 5];
    let batch = Batch::pixels(&images, &labels, &ids);
    let mut method = bench.attack(attack, options.clone()).unwrap();
    let budget = Budget { norm, epsilon: 1.0 };
    let found = method.perturb(&bench.context(), &Network::lend(&model), &batch, &budget).unwrap();
    let delta = &found - &images;
    let size = match norm {
        Norm::Linf => delta.abs().flatten(1, -1).amax([-1].as_slice(), false),
        Norm::L2 => norm_each(&delta),
    };
    assert!(
        margins(&model, &found, &labels).max().double_value(&[]) < 0.0,
        "{attack}: some are decided rightly"
    );
    let off = ((size / nearest - 1.0) * inside.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(off < 1e-5, "{attack} {options}, {norm:?}: {off}");
}

#[test]
fn fab_finds_the_smallest_perturbation() {
    for norm in [Norm::Linf, Norm::L2] {
        for targeted in [true, false] {
            // Ending exactly on the boundary is a tie: a millionth beyond it is not.
            check_smallest("fab", json!({ "targeted": targeted, "eta": 1.000001, "steps": 20 }), norm);
        }
    }
}

#[test]
fn deepfool_finds_the_smallest_perturbation_in_one_step() {
    for norm in [Norm::Linf, Norm::L2] {
        check_smallest("deepfool", json!({ "overshoot": 1e-6, "steps": 1 }), norm);
    }
}

#[test]
fn cw_finds_the_smallest_perturbation() {
    check_smallest_within("cw", json!({ "steps": 2000, "constant": 0.01, "learning_rate": 0.001 }), 0.02);
}

/// Adam on a penalty comes near the boundary, and not onto it.
fn check_smallest_within(attack: &str, options: Value, tolerance: f64) {
    let bench = bench(&["guard_attacks"]);
    let (model, images) = (linear(), interior_images());
    let labels = decided_rightly(&model, &images);
    let nearest = margins(&model, &images, &labels) / norm_each(&margin_gradient(&model, &labels));
    let ids = [0, 1, 2, 3, 4, 5];
    let batch = Batch::pixels(&images, &labels, &ids);
    let mut method = bench.attack(attack, options.clone()).unwrap();
    let budget = Budget { norm: Norm::L2, epsilon: 1.0 };
    let found = method.perturb(&bench.context(), &Network::lend(&model), &batch, &budget).unwrap();
    assert!(margins(&model, &found, &labels).max().double_value(&[]) < 0.0);
    let excess = norm_each(&(&found - &images)) / &nearest - 1.0;
    let median = excess.median().double_value(&[]);
    assert!((0.0..tolerance).contains(&median), "{attack} {options}: {median}");
}

/// The loss of two classes is softplus(−m) of the margin m, whose Hessian is σ(m)(1 − σ(m)) w wᵀ.
#[test]
fn the_measured_curvature_is_the_closed_form() {
    let bench = bench(&[]);
    let (model, images) = (linear().copy(Kind::Float, false), interior_images().to_kind(Kind::Float));
    let labels: Vec<i64> = (0..images.size()[0]).map(|index| index % 2).collect();
    let split = Split::in_memory(&images, labels.clone()).expect("images in memory");
    let journal = Journal::without_file(Display::Quiet);
    let log = journal.stage("test", "evaluate");
    let evaluator = Evaluator {
        network: EvalOnly::new(model.for_inference().expect("a network that runs")),
        called: None,
        split: &split,
        batch_size: 4,
        probe_images: 0,
        curvature_images: 6,
        observer: &log,
        keep: None,
    };
    let found = evaluator.run(&[], &[], &bench.context()).expect("an evaluation").curvature;
    let labels = Tensor::from_slice(&labels);
    let exact = linear();
    let sigma = margins(&exact, &images.to_kind(Kind::Double), &labels).sigmoid();
    let expected = &sigma * (1.0 - &sigma) * norm_each(&margin_gradient(&exact, &labels)).square();
    let found = Tensor::from_slice(&found).to_kind(Kind::Double);
    let off: Tensor = found / expected - 1.0;
    assert!(off.abs().max().double_value(&[]) < 1e-4, "{off}");
}
