//! Attacks on a linear network, whose strongest perturbations are known in closed form.
//!
//! With two classes the margin of an example is linear in its pixels, with the gradient w. The linf ball's worst point is
//! −ε · sign w, which costs ε‖w‖₁ of the margin; the l2 ball's is −ε · w/‖w‖₂, which costs ε‖w‖₂.

use guard_host::network::{Architecture, Convnet, Model, NetworkSpec, NormLayer};
use guard_host::random::Streams;
use guard_sdk::{Batch, Budget, Device, Kind, Network, Norm, Tensor, batch::norm_each};
use guard_tests::Bench;
use serde_json::{Value, json};

/// Pixels stay this far from 0 and 1, so that nothing is clamped.
const EPSILON: f64 = 0.1;

/// A network without blocks is its last layer alone.
fn linear() -> Model {
    let spec = NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 0, width: 1, norm: NormLayer::None }),
        input: [2, 4, 4],
        classes: 2,
        mean: vec![0.4, 0.5],
        std: vec![0.2, 0.3],
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
    let bench = Bench::new(&["guard_attacks"]);
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
