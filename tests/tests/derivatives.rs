//! The regularizers' own, per-example forms against their definitions: values, derivatives by central finite differences
//! in float64, and independence of the batch size.
//!
//! The perturbation z is a constant of the definition: it is held fixed while parameters move.

use guard_curv::perturbation::{self, Direction};
use guard_host::network::{Model, NormLayer};
use guard_sdk::{
    Kind, Network, Pass, Result, Space, Tensor,
    autograd::{Graph, grad, no_grad},
    batch::norm_each,
};
use guard_tests::{Bench, Examples};
use serde_json::{Value, json};

const RADIUS: f64 = 1.5;
/// Small enough that no ReLU changes its side, large enough for ten digits.
const STEP: f64 = 1e-6;

/// Losses `[N]` and their gradients to the images, which lie in normalised space.
fn losses(examples: &Examples, images: &Tensor) -> (Tensor, Tensor) {
    let images = images.detach().set_requires_grad(true);
    let logits =
        examples.model.forward(&images, Pass::new(Space::Normalised), false).expect("images that fit").logits;
    let losses = examples.batch().cross_entropy_each(&logits).expect("labels that fit");
    let gradient = grad(&losses.sum(Kind::Double), &[&images], Graph::Free).expect("a graph").remove(0);
    (losses.detach(), gradient)
}

fn normalised(examples: &Examples) -> Tensor {
    Network::lend(&examples.model).normalise(&examples.images)
}

/// z at the model's present parameters.
fn perturbation(examples: &Examples, direction: Direction) -> Tensor {
    let (_, gradient) = losses(examples, &normalised(examples));
    perturbation::step(&gradient, RADIUS, direction)
}

/// The penalty that the paper defines, for any z.
type Definition = fn(&Examples, &Tensor) -> Tensor;

fn cure(examples: &Examples, z: &Tensor) -> Tensor {
    gradient_change(examples, z).square().mean(Kind::Double)
}

fn norm(examples: &Examples, z: &Tensor) -> Tensor {
    gradient_change(examples, z).mean(Kind::Double)
}

fn gradient_change(examples: &Examples, z: &Tensor) -> Tensor {
    let images = normalised(examples);
    let (_, clean) = losses(examples, &images);
    let (_, moved) = losses(examples, &(images + z));
    norm_each(&(moved - clean))
}

fn loss_difference(examples: &Examples, z: &Tensor) -> Tensor {
    let images = normalised(examples);
    let (clean, _) = losses(examples, &images);
    let (moved, _) = losses(examples, &(images + z));
    (moved - clean).abs().mean(Kind::Double)
}

fn gradient_norm(examples: &Examples, _: &Tensor) -> Tensor {
    let (_, gradient) = losses(examples, &normalised(examples));
    norm_each(&gradient).mean(Kind::Double)
}

/// A regularizer, its options, the direction of its z, and what it is to compute.
fn definitions() -> Vec<(&'static str, Value, Direction, Definition)> {
    let gradient = Direction::Gradient;
    vec![
        ("curvature", json!({ "form": "cure", "radius": RADIUS }), gradient, cure as Definition),
        ("curvature", json!({ "form": "norm", "radius": RADIUS }), gradient, norm),
        (
            "curvature",
            json!({ "form": "norm", "radius": RADIUS, "direction": "sign" }),
            Direction::Sign,
            norm,
        ),
        ("curvature", json!({ "form": "loss-difference", "radius": RADIUS }), gradient, loss_difference),
        ("gradient-norm", json!({}), gradient, gradient_norm),
    ]
}

fn penalty(bench: &Bench, name: &str, options: &Value, examples: &Examples) -> Result<Tensor> {
    let mut regularizer = bench.regularizer(name, options.clone())?;
    regularizer.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch())
}

/// The examples with the network's parameters moved by `distance` times `directions`.
fn moved(examples: &Examples, directions: &[Tensor], distance: f64) -> Examples {
    let moved = part(examples, 0, examples.ids.len());
    no_grad(|| {
        for (parameter, direction) in moved.model.parameters().iter().zip(directions) {
            let _ = parameter.shallow_clone().f_add_(&(direction * distance)).expect("the parameter's shape");
        }
    });
    moved
}

/// `count` of the examples, and a copy of the network.
fn part(examples: &Examples, start: usize, count: usize) -> Examples {
    Examples {
        model: examples.model.copy(Kind::Double, true),
        images: examples.images.narrow(0, start as i64, count as i64),
        labels: examples.labels.narrow(0, start as i64, count as i64),
        ids: examples.ids[start..start + count].to_vec(),
    }
}

/// The central difference of `value` along `directions`.
fn difference(examples: &Examples, directions: &[Tensor], value: impl Fn(&Examples) -> f64) -> f64 {
    let at = |distance: f64| value(&moved(examples, directions, distance));
    (at(STEP) - at(-STEP)) / (2.0 * STEP)
}

/// A direction that changes a single parameter tensor, for each of them.
fn directions(model: &Model) -> Vec<Vec<Tensor>> {
    let parameters = model.parameters();
    let one = |changed: usize| {
        let direction = |(position, parameter): (usize, &Tensor)| match position == changed {
            // Fixed, but without any relation to the parameters.
            true => Tensor::arange(parameter.numel() as i64, (Kind::Double, parameter.device()))
                .cos()
                .view_as(parameter),
            false => parameter.detach().zeros_like(),
        };
        parameters.iter().enumerate().map(direction).collect()
    };
    (0..parameters.len()).map(one).collect()
}

#[test]
fn values_and_derivatives_are_those_of_the_definitions() {
    let bench = Bench::new(&["guard_curv"]);
    for layer in [NormLayer::Instance, NormLayer::Batch] {
        let examples = Examples::with_norm(layer, Kind::Double, 4);
        for (name, options, direction, definition) in definitions() {
            let z = perturbation(&examples, direction);
            let penalty = penalty(&bench, name, &options, &examples).unwrap();
            let defined = definition(&examples, &z).double_value(&[]);
            let off = (penalty.double_value(&[]) / defined - 1.0).abs();
            assert!(off < 1e-12, "{name} {options}: {penalty} is off by {off}");

            let parameters: Vec<&Tensor> = examples.model.parameters().iter().collect();
            let gradients = grad(&penalty, &parameters, Graph::Free).unwrap();
            let largest =
                gradients.iter().map(|gradient| gradient.abs().max().double_value(&[])).fold(0.0, f64::max);
            for (position, directions) in directions(&examples.model).iter().enumerate() {
                let value = |moved: &Examples| definition(moved, &z).double_value(&[]);
                let difference = difference(&examples, directions, value);
                let derivative =
                    (&gradients[position] * &directions[position]).sum(Kind::Double).double_value(&[]);
                let parameter = &examples.model.program().parameters[position].name;
                let off = (difference - derivative).abs() / largest;
                assert!(
                    off < 1e-6,
                    "{name} {options}, {layer:?}, `{parameter}`: {derivative}, by differences {difference}"
                );
            }
        }
    }
}

#[test]
fn the_perturbation_has_no_derivative() {
    let bench = Bench::new(&["guard_curv"]);
    let examples = Examples::new(Kind::Double, 4);
    let options = json!({ "form": "norm", "radius": RADIUS });
    let value = penalty(&bench, "curvature", &options, &examples).unwrap();
    let parameters: Vec<&Tensor> = examples.model.parameters().iter().collect();
    let gradients = grad(&value, &parameters, Graph::Free).unwrap();

    // The whole penalty's difference holds z's own change, which the gradient must not.
    let directions = &directions(&examples.model)[0];
    let difference = difference(&examples, directions, |moved| {
        penalty(&bench, "curvature", &options, moved).unwrap().double_value(&[])
    });
    let derivative = (&gradients[0] * &directions[0]).sum(Kind::Double).double_value(&[]);
    assert!(
        (difference - derivative).abs() > 1e-3 * derivative.abs(),
        "{derivative}, by differences {difference}"
    );
}

#[test]
fn the_mean_over_two_parts_is_the_value_of_the_whole() {
    let bench = Bench::new(&["guard_curv"]);
    for layer in [NormLayer::Instance, NormLayer::Batch] {
        let whole = Examples::with_norm(layer, Kind::Double, 6);
        for (name, options, ..) in definitions() {
            let value =
                |examples: &Examples| penalty(&bench, name, &options, examples).unwrap().double_value(&[]);
            // Of unequal size, so that a mean of means would be seen.
            let mean = (2.0 * value(&part(&whole, 0, 2)) + 4.0 * value(&part(&whole, 2, 4))) / 6.0;
            assert!((mean / value(&whole) - 1.0).abs() < 1e-12, "{name} {options}, {layer:?}: {mean}");
        }
    }
}
