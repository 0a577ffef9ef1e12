//! What students learn by: the divergence from labels, and any regularizer beside it.

use guard_host::{
    engine::{LabelSource, StudentTrainer, TrainingLoss, Views, WeightedRegularizer},
    network::{Model, NormLayer},
    plugin::Context,
    random::Streams,
    recipe::{Optimizer, Sgd, Student},
    run::Observer,
};
use guard_sdk::{
    Batch, Device, Kind, Network, Tensor,
    autograd::{Graph, grad},
};
use guard_tests::{Bench, Examples, spec};
use serde_json::json;

struct Unobserved;

impl Observer for Unobserved {
    fn iteration(&self, _: u64, _: u64) {}
}

const RATE: f64 = 0.1;
const WEIGHT: f64 = 0.5;

#[test]
fn a_step_is_the_one_composed_by_hand() {
    let bench = Bench::new(&["guard_curv"]);
    let context = Context { stage: "student", ..bench.context() };
    let examples = Examples::with_norm(NormLayer::Instance, Kind::Float, 6).frozen();
    let penalty = || bench.regularizer("gradient-norm", json!({})).unwrap();
    let fresh = || Model::fresh(&spec(NormLayer::Instance), &Streams::new(5), Device::Cpu).unwrap();

    let sgd = Sgd { learning_rate: RATE, momentum: 0.0, weight_decay: 0.0, nesterov: false };
    let student = Student {
        epochs: 1,
        batch_size: 6,
        optimizer: Optimizer::Sgd(sgd),
        mixup: 0.0,
        ..Student::default()
    };
    let weighted = WeightedRegularizer { weight: WEIGHT, regularizer: penalty() };
    let trainer = StudentTrainer {
        views: Views { images: &examples.images, student: &student, streams: Streams::new(1) },
        labels: &examples.labels,
        classes: 4,
        source: &LabelSource::Hard,
        temperature: 1.0,
        penalties: &TrainingLoss::new(0.0, 0.0, vec![weighted]),
        streams: Streams::new(9),
        observer: &Unobserved,
    };
    let trained = trainer.run(fresh(), &context);
    assert!(trained.failure.is_none(), "{:?}", trained.failure);

    let by_hand = fresh();
    let ids: Vec<u64> = (0..6).collect();
    let batch = Batch::pixels(&examples.images, &examples.labels, &ids);
    let network = Network::lend(&by_hand);
    let losses = batch.cross_entropy_each(&network.logits(&examples.images).unwrap()).unwrap();
    let loss = losses.mean(None::<Kind>) + penalty().penalty(&context, &network, &batch).unwrap() * WEIGHT;
    let parameters: Vec<&Tensor> = by_hand.parameters().iter().collect();
    let gradients = grad(&loss, &parameters, Graph::Free).unwrap();
    for ((before, gradient), after) in parameters.iter().zip(&gradients).zip(trained.model.parameters()) {
        let expected = before.detach() - gradient * RATE;
        let off = (after.detach() - expected).abs().max().double_value(&[]);
        assert!(off < 1e-6, "{off}");
    }
}
