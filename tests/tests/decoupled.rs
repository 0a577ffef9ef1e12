//! The decoupled objectives and the penalties on images, against their definitions.

use guard_host::network::NormLayer;
use guard_sdk::{
    Batch, Kind, Lab, Network, OwnedNetwork, Result, Space, Synthetic, Tensor, Value,
    augment::CropSchedule,
    autograd::{Graph, grad},
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
};
use guard_tests::{Bench, Examples, bits};
use serde_json::{Value as Json, json};

/// A lab with a teacher and nothing else.
struct Teacher(Examples, LabInfo);

impl Teacher {
    fn new() -> Self {
        let info = LabInfo { classes: 4, images_per_class: 2, image: [3, 8, 8], real_images: vec![0; 4] };
        Self(Examples::with_norm(NormLayer::Batch, Kind::Double, 4), info)
    }
}

impl LabBackend for Teacher {
    fn info(&self) -> &LabInfo {
        &self.1
    }
    fn teacher(&self) -> Result<OwnedNetwork> {
        Ok(OwnedNetwork::new(self.0.model.copy(Kind::Double, false).committing()))
    }
    fn fresh_network(&self, _: u64) -> Result<OwnedNetwork> {
        unreachable!("no objective here asks for fresh networks")
    }
    fn real(&self, _: Option<i64>, _: u64, _: u64) -> Result<RealBatch> {
        unreachable!("no objective here asks for real images")
    }
    fn training_loss(&self, _: &Network, _: &Batch) -> Result<Tensor> {
        unreachable!("no objective here asks for the training loss")
    }
    fn experts(&self) -> Result<ExpertsInfo> {
        unreachable!("no objective here asks for experts")
    }
    fn expert(&self, _: u64, _: u64) -> Result<OwnedNetwork> {
        unreachable!("no objective here asks for experts")
    }
}

/// The gradient to the images of `objective`'s loss at one iteration of 10; all objectives draw alike, as one label does.
fn gradient(bench: &Bench, objective: &str, options: Json, iteration: u64) -> Tensor {
    let teacher = Teacher::new();
    let images = (&teacher.0.images - 0.4).set_requires_grad(true);
    let context = bench.context().at(iteration, 10);
    let mut method = bench.plugins.objective(&context, objective, "recover", &options).unwrap();
    let (labels, ids) = (&teacher.0.labels, &teacher.0.ids);
    let set = Synthetic {
        images: &images,
        labels,
        soft_labels: None,
        learnables: &[],
        ids,
        space: Space::Normalised,
    };
    match method.value(&context, &set, &Lab::lend(&teacher)).unwrap() {
        Value::Loss(loss) => grad(&loss, &[&images], Graph::Free).unwrap().remove(0),
        Value::Gradients { .. } => panic!("a loss was expected"),
    }
}

#[test]
fn cda_is_sre2l_with_the_smallest_crop_of_its_schedule() {
    let bench = Bench::new(&["guard_sre2l"]);
    let options = json!({ "schedule": "linear", "milestone": 0.8, "smallest_crop": 0.2 });
    let mut distinct = Vec::new();
    for iteration in [0, 3, 6, 9] {
        let smallest = CropSchedule::Linear.minimal_scale(iteration, 10, 0.8, 0.2);
        let of_cda = gradient(&bench, "cda", options.clone(), iteration);
        let of_sre2l = gradient(&bench, "sre2l", json!({ "smallest_crop": smallest }), iteration);
        assert_eq!(bits(&of_cda), bits(&of_sre2l), "iteration {iteration}");
        distinct.push(smallest);
    }
    assert_eq!(distinct[0], 1.0);
    assert!((distinct[3] - 0.2).abs() < 1e-12 && distinct[1] > distinct[2]);
    assert_ne!(
        bits(&gradient(&bench, "cda", options, 3)),
        bits(&gradient(&bench, "sre2l", json!({ "smallest_crop": 0.2 }), 3))
    );
}

#[test]
fn cda_without_a_milestone_is_sre2l() {
    let bench = Bench::new(&["guard_sre2l"]);
    let of_cda = gradient(&bench, "cda", json!({ "milestone": 0.0 }), 0);
    assert_eq!(bits(&of_cda), bits(&gradient(&bench, "sre2l", json!({}), 0)));
}

#[test]
fn a_layer_counts_as_its_name_is_weighted() {
    let bench = Bench::new(&["guard_sre2l"]);
    let loss = |options: Json| gradient(&bench, "sre2l", options, 0);
    let with = |weights: Json| {
        loss(json!({ "augment": "none", "batch_norm_weight": 1.0, "layer_weights": weights }))
    };
    // The gradient is linear in the weights.
    let (none, first) =
        (with(json!({ "features.1": 0.0, "features.5": 0.0 })), with(json!({ "features.5": 0.0 })));
    let (second, both) = (with(json!({ "features.1": 0.0 })), with(json!({})));
    let off = (&first + &second - &none - &both).abs().max().double_value(&[]);
    assert!(off < 1e-12 && (&second - &none).abs().max().double_value(&[]) > 1e-6, "{off}");
    let named =
        loss(json!({ "augment": "none", "batch_norm_weight": 1.0, "layer_weights": { "features.1": 3.0 } }));
    let short = loss(json!({ "augment": "none", "batch_norm_weight": 1.0, "first_layer_weight": 3.0 }));
    assert_eq!(bits(&named), bits(&short));
}

/// A penalty of a batch, and the same of its images one by one.
fn whole_and_each(options: Json) -> (f64, f64) {
    let bench = Bench::new(&["guard_sre2l"]);
    let examples = Examples::new(Kind::Double, 3).frozen();
    let network = Network::lend(&examples.model);
    let penalty = |images: &Tensor, labels: &Tensor, ids: &[u64]| {
        let batch = Batch::pixels(images, labels, ids);
        let mut method = bench.regularizer("total-variation", options.clone()).unwrap();
        method.penalty(&bench.context(), &network, &batch).unwrap().double_value(&[])
    };
    let whole = penalty(&examples.images, &examples.labels, &examples.ids);
    let one = |at: i64| (examples.images.narrow(0, at, 1), examples.labels.narrow(0, at, 1));
    let each = (0..3).map(|at| penalty(&one(at).0, &one(at).1, &[7])).sum::<f64>() / 3.0;
    (whole, each)
}

#[test]
fn total_variation_does_not_depend_on_the_batch_size_unless_the_released_code_is_asked_for() {
    for options in [json!({ "form": "l1" }), json!({ "form": "l2" }), json!({ "space": "pixels" })] {
        let (whole, each) = whole_and_each(options);
        assert!((whole - each).abs() < 1e-12, "{whole} {each}");
    }
    let (whole, each) = whole_and_each(json!({ "compat": "deep-inversion" }));
    assert!(whole > 1.5 * each, "{whole} {each}");
}

#[test]
fn one_plain_image_varies_as_counted_by_hand() {
    let bench = Bench::new(&["guard_sre2l"]);
    let examples = Examples::new(Kind::Double, 1).frozen();
    // One bright pixel in a corner differs from its right neighbour, the one below and the one across.
    let images = examples.images.zeros_like();
    let _ = images.get(0).get(0).get(0).get(0).fill_(1.0);
    let batch = Batch::pixels(&images, &examples.labels, &examples.ids);
    let mut method =
        bench.regularizer("total-variation", json!({ "form": "l2", "space": "pixels" })).unwrap();
    let network = Network::lend(&examples.model);
    let found = method.penalty(&bench.context(), &network, &batch).unwrap().double_value(&[]);
    assert!((found - 3.0).abs() < 1e-12, "{found}");
}
