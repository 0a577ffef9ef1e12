//! The regularizers' own, per-example forms against their definitions: values, derivatives by central finite differences
//! in float64, and independence of the batch size.
//!
//! The perturbation z is a constant of the definition: it is held fixed while parameters move.

use guard_curv::perturbation::{self, Direction};
use guard_host::{
    network::{Model, NormLayer},
    random::{RandomSource, Streams},
};
use guard_sdk::{
    Kind, Network, Pass, Result, Space, StatisticsFrom, Tensor,
    autograd::{Graph, grad, grad_if_used, no_grad},
    batch::{norm_each, sum_each},
    services::{Distribution, Draw},
};
use guard_tests::{Bench, Examples};
use serde_json::{Value, json};

const RADIUS: f64 = 1.5;
/// Small enough that no ReLU changes its side, large enough for ten digits.
const STEP: f64 = 1e-6;

/// Losses `[N]` and their gradients to the images, which lie in normalised space.
fn losses(examples: &Examples, images: &Tensor) -> (Tensor, Tensor) {
    losses_with(StatisticsFrom::Running, examples, images)
}

fn losses_with(statistics: StatisticsFrom, examples: &Examples, images: &Tensor) -> (Tensor, Tensor) {
    let images = images.detach().set_requires_grad(true);
    let pass = statistics.pass(Space::Normalised);
    let logits = examples.model.forward(&images, pass, false).expect("images that fit").logits;
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

/// Of the losses with the batch's statistics; z is still that of the running ones.
fn gradient_norm_of_batch(examples: &Examples, _: &Tensor) -> Tensor {
    let (_, gradient) = losses_with(StatisticsFrom::Batch, examples, &normalised(examples));
    norm_each(&gradient).mean(Kind::Double)
}

/// The Jacobian's rows one by one, weighed with the directions that the plugin draws.
fn jacobian(examples: &Examples, _: &Tensor) -> Tensor {
    let images = normalised(examples).set_requires_grad(true);
    let pass = Pass::new(Space::Normalised);
    let logits = examples.model.forward(&images, pass, false).expect("images that fit").logits;
    let classes = logits.size()[1];
    let rows: Vec<Tensor> = (0..classes)
        .map(|class| {
            grad(&logits.select(1, class).sum(Kind::Double), &[&images], Graph::Keep).expect("a graph")
        })
        .map(|mut row| row.remove(0))
        .collect();
    // [K,N,C,H,W]
    let rows = Tensor::stack(&rows, 0);
    let projected = |draw: u64| {
        let (ids, shape) = (&examples.ids[..], &[classes][..]);
        let (distribution, kind) = (Distribution::Normal, Kind::Double);
        let drawn = Draw { stream: "projection", draw, ids, shape, distribution, kind };
        let normal = Streams::new(5).random("jacobian", 0, &drawn).expect("a shape that libtorch takes");
        let unit = &normal / normal.norm_scalaropt_dim(2.0, -1, true);
        let row = (&rows * unit.transpose(0, 1).reshape([classes, -1, 1, 1, 1])).sum_dim_intlist(
            0,
            false,
            Kind::Double,
        );
        sum_each(&row.square())
    };
    (projected(0) + projected(1) + projected(2)).mean(Kind::Double) * (classes as f64 / 3.0)
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
        ("gradient-norm", json!({ "statistics": "batch" }), gradient, gradient_norm_of_batch),
        ("jacobian", json!({ "projections": 3 }), gradient, jacobian),
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
            // The Jacobian does not depend on the last bias.
            let gradients = grad_if_used(&penalty, &parameters, Graph::Free).unwrap();
            let gradients: Vec<Tensor> = gradients
                .into_iter()
                .zip(&parameters)
                .map(|(gradient, parameter)| gradient.unwrap_or_else(|| parameter.zeros_like()))
                .collect();
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
        let linearity = json!({ "threat": { "norm": "linf", "epsilon": "8/255" } });
        let of_example = |options: &Value| options["statistics"] != "batch";
        let steps = json!({ "radius": RADIUS, "steps": 3, "space": "pixels" });
        let more = [("curvature", steps), ("local-linearity", linearity)];
        let all = definitions().into_iter().map(|(name, options, ..)| (name, options)).chain(more);
        for (name, options) in all.filter(|(_, options)| of_example(options)) {
            let value =
                |examples: &Examples| penalty(&bench, name, &options, examples).unwrap().double_value(&[]);
            // Of unequal size, so that a mean of means would be seen.
            let mean = (2.0 * value(&part(&whole, 0, 2)) + 4.0 * value(&part(&whole, 2, 4))) / 6.0;
            assert!((mean / value(&whole) - 1.0).abs() < 1e-12, "{name} {options}, {layer:?}: {mean}");
        }
    }
}

/// The penalty of `local-linearity` after a search of one step, in pixels.
fn local_linearity(examples: &Examples, change: Option<&Tensor>, weight: f64) -> (Tensor, Tensor) {
    let std = guard_sdk::network::channel_values(&[0.2, 0.25, 0.3], &examples.images);
    let images = &examples.images;
    let at = |pixels: &Tensor| {
        let (losses, gradient) = losses(examples, &Network::lend(&examples.model).normalise(pixels));
        (losses, gradient / &std)
    };
    let (clean, slope) = at(images);
    let change = change.map(Tensor::shallow_clone).unwrap_or_else(|| {
        let (ids, shape) = (&examples.ids[..], &images.size()[1..]);
        let (distribution, kind) = (Distribution::Uniform, Kind::Double);
        let drawn = Draw { stream: "start", draw: 0, ids, shape, distribution, kind };
        let cube = Streams::new(5).random("local-linearity", 0, &drawn).expect("a shape") * 2.0 - 1.0;
        let budget = guard_sdk::Budget { norm: guard_sdk::Norm::Linf, epsilon: 0.05 };
        let start = budget.project(&(images + cube * 0.05), images);
        let (moved, gradient) = at(&start);
        let side = (moved - &clean - sum_each(&((&start - images) * &slope))).sign();
        let ascent = (gradient - &slope) * guard_sdk::batch::per_image(&side);
        budget.project(&(&start + ascent.sign() * 0.025), images) - images
    });
    let tangent = sum_each(&(&change * &slope));
    let distance = (at(&(images + &change)).0 - clean - &tangent).abs();
    ((distance + tangent.abs() * weight).mean(Kind::Double), change)
}

#[test]
fn local_linearity_is_the_distance_from_the_tangent_where_the_search_ended() {
    let bench = Bench::new(&["guard_curv"]);
    for layer in [NormLayer::Instance, NormLayer::Batch] {
        let examples = Examples::with_norm(layer, Kind::Double, 4);
        let threat = json!({ "norm": "linf", "epsilon": 0.05 });
        let options = json!({ "threat": threat, "steps": 1, "gradient_weight": 2.0 });
        let penalty = penalty(&bench, "local-linearity", &options, &examples).unwrap();
        let (defined, change) = local_linearity(&examples, None, 2.0);
        let off = (penalty.double_value(&[]) / defined.double_value(&[]) - 1.0).abs();
        assert!(off < 1e-10, "{layer:?}: {penalty}, not {defined}");

        let parameters: Vec<&Tensor> = examples.model.parameters().iter().collect();
        let gradients = grad(&penalty, &parameters, Graph::Free).unwrap();
        let largest = gradients.iter().map(|each| each.abs().max().double_value(&[])).fold(0.0, f64::max);
        for (gradient, directions) in gradients.iter().zip(directions(&examples.model)) {
            let value = |moved: &Examples| local_linearity(moved, Some(&change), 2.0).0.double_value(&[]);
            let difference = difference(&examples, &directions, value);
            let position = directions.iter().position(|each| each.abs().max().double_value(&[]) > 0.0);
            let direction = &directions[position.expect("one direction is not 0")];
            let derivative = (gradient * direction).sum(Kind::Double).double_value(&[]);
            assert!(
                (difference - derivative).abs() / largest < 1e-6,
                "{derivative}, by differences {difference}"
            );
        }
    }
}

#[test]
fn many_projections_estimate_the_whole_jacobian() {
    let bench = Bench::new(&["guard_curv"]);
    let examples = Examples::new(Kind::Double, 8);
    let images = normalised(&examples).set_requires_grad(true);
    let logits = examples.model.forward(&images, Pass::new(Space::Normalised), false).unwrap().logits;
    let square = |class: i64| {
        let row =
            grad(&logits.select(1, class).sum(Kind::Double), &[&images], Graph::Keep).unwrap().remove(0);
        sum_each(&row.square()).mean(Kind::Double).double_value(&[])
    };
    let whole: f64 = (0..4).map(square).sum();
    let estimate = penalty(&bench, "jacobian", &json!({ "projections": 400 }), &examples).unwrap();
    let estimate = estimate.double_value(&[]);
    assert!((estimate / whole - 1.0).abs() < 0.05, "{estimate}, the whole {whole}");
}
