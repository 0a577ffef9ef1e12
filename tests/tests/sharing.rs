//! The passes that the regularizers of a training step share: how many there are, and that sharing changes no result.

use guard_host::{
    engine::{TrainingLoss, WeightedRegularizer},
    network::{Model, NormLayer},
    plugin::SharedPasses,
};
use guard_sdk::{
    Batch, Clean, Kind, Mode, Network, Pass, Tensor,
    autograd::{Graph, grad},
};
use guard_tests::{Bench, Counting, Examples};
use serde_json::{Value, json};

/// The examples' network in float64, whose passes are counted.
fn counting(examples: &Examples) -> Counting<Model> {
    Counting::new(examples.model.copy(Kind::Double, true))
}

/// Regularizers with their options, and how many passes each makes of its own.
fn regularizers(statistics: &str) -> Vec<(&'static str, Value, u64)> {
    let threat = json!({ "norm": "linf", "epsilon": "1/255" });
    vec![
        ("curvature", json!({ "form": "norm", "statistics": statistics }), 1),
        ("gradient-norm", json!({ "space": "pixels", "statistics": statistics }), 0),
        ("jacobian", json!({ "projections": 2, "statistics": statistics }), 0),
        ("local-linearity", json!({ "threat": threat, "steps": 2, "statistics": statistics }), 3),
    ]
}

fn loss(bench: &Bench, cross_entropy_weight: f64, statistics: &str) -> TrainingLoss {
    let weighted = |(name, options, _): (&str, Value, u64)| WeightedRegularizer {
        weight: 0.5,
        regularizer: bench.regularizer(name, options).unwrap(),
    };
    let regularizers = regularizers(statistics).into_iter().map(weighted).collect();
    TrainingLoss::new(cross_entropy_weight, 0.0, regularizers)
}

#[test]
fn the_clean_pass_is_made_once_for_the_cross_entropy_and_all_regularizers() {
    let bench = Bench::new(&["guard_curv"]);
    let examples = Examples::with_norm(NormLayer::Batch, Kind::Double, 4);
    let network = counting(&examples);
    let own: u64 = regularizers("running").iter().map(|(.., passes)| passes).sum();
    for weight in [1.0, 0.0] {
        let _total = loss(&bench, weight, "running")
            .at(&bench.context(), &Network::lend(&network), &examples.batch())
            .unwrap();
        assert_eq!(network.counts().taken(), 1 + own, "cross-entropy of weight {weight}");
    }
}

#[test]
fn a_pass_of_the_host_is_taken_over_in_the_modes_that_it_stands_for() {
    let bench = Bench::new(&["guard_curv"]);
    let examples = Examples::new(Kind::Double, 4);
    let (network, batch) = (counting(&examples), examples.batch());
    let lent = Network::lend(&network);
    let images = Clean::leaf(&batch);
    let mut regularizer = bench.regularizer("gradient-norm", json!({})).unwrap();
    for (modes, expected) in [(&[Mode::Train, Mode::Eval][..], 0), (&[Mode::Train][..], 1)] {
        let logits = lent.logits_in(batch.space, &images).unwrap();
        let passes = SharedPasses::new(&lent, &batch).with(&batch, modes, &images, &logits).unwrap();
        network.counts().taken();
        bench.plugins.sharing().during(passes, || {
            for _ in 0..2 {
                let _penalty = regularizer.penalty(&bench.context(), &lent, &batch).unwrap();
            }
        });
        assert_eq!(network.counts().taken(), expected, "{modes:?}");
    }
    // Nobody shares any more.
    let _penalty = regularizer.penalty(&bench.context(), &lent, &batch).unwrap();
    assert_eq!(network.counts().taken(), 1);
}

#[test]
fn another_batch_is_not_taken_for_the_shared_one() {
    let bench = Bench::new(&["guard_curv"]);
    let examples = Examples::new(Kind::Double, 4);
    let (batch, images) = (examples.batch(), &examples.images * 0.5);
    let other = Batch { images: &images, ..batch };
    let network = Network::lend(&examples.model);
    let mut regularizer = bench.regularizer("gradient-norm", json!({})).unwrap();
    let mut penalty =
        |batch: &Batch| regularizer.penalty(&bench.context(), &network, batch).unwrap().double_value(&[]);
    let (first, second) = (penalty(&batch), penalty(&other));
    assert_ne!(first, second);
    let shared = bench
        .plugins
        .sharing()
        .during(SharedPasses::new(&network, &batch), || [penalty(&batch), penalty(&other)]);
    assert_eq!(shared, [first, second]);
}

#[test]
fn a_step_with_shared_passes_has_the_values_and_gradients_of_one_without() {
    let bench = Bench::new(&["guard_curv"]);
    for layer in [NormLayer::Instance, NormLayer::Batch] {
        for statistics in ["running", "batch"] {
            for weight in [1.0, 0.0] {
                let examples = Examples::with_norm(layer, Kind::Double, 4);
                let (context, model) = (bench.context(), &examples.model);
                let total =
                    loss(&bench, weight, statistics).step(&context, model, &examples.batch()).unwrap();

                // The same terms, each for itself, at the statistics that the step has left.
                let network = Network::lend(model);
                let mut expected = match weight {
                    0.0 => Tensor::from(0.0),
                    _ => {
                        let logits = model.forward(
                            &examples.images,
                            Pass::new(guard_sdk::Space::Pixels).train(),
                            false,
                        );
                        examples
                            .batch()
                            .cross_entropy_each(&logits.unwrap().logits)
                            .unwrap()
                            .mean(Kind::Double)
                    }
                };
                for (name, options, _) in regularizers(statistics) {
                    let mut alone = bench.regularizer(name, options).unwrap();
                    let penalty = alone.penalty(&context, &network, &examples.batch()).unwrap();
                    let shared = bench.recording.metric(&format!("loss/{name}"));
                    near(&shared, &penalty, &format!("{name}, {layer:?}, {statistics}"));
                    expected += penalty * 0.5;
                }
                near(&total, &expected, "total");
                let parameters: Vec<&Tensor> = model.parameters().iter().collect();
                let found = grad(&total, &parameters, Graph::Free).unwrap();
                let expected = grad(&expected, &parameters, Graph::Free).unwrap();
                let largest = expected.iter().map(|g| g.abs().max().double_value(&[])).fold(0.0, f64::max);
                for (found, expected) in found.iter().zip(&expected) {
                    let off = (found - expected).abs().max().double_value(&[]);
                    assert!(off < 1e-11 * largest, "{layer:?}, {statistics}: off by {off} of {largest}");
                }
            }
        }
    }
}

fn near(found: &Tensor, expected: &Tensor, what: &str) {
    let (found, expected) = (found.double_value(&[]), expected.double_value(&[]));
    assert!((found / expected - 1.0).abs() < 1e-11, "{what}: {found}, not {expected}");
}
