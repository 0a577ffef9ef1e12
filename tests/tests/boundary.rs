//! What crosses the boundary between host and plugins arrives as it is: tensors, graphs, random numbers, other methods.

use guard_host::network::Model;
use guard_sdk::{Batch, Budget, Kind, Level, Network, Norm, Pass, Space, Tensor, network::NetworkBackend};
use guard_tests::{Bench, Examples, bits};
use serde_json::json;
use tch::Reduction;

const KINDS: [Kind; 2] = [Kind::Float, Kind::Double];
const LINF: Budget = Budget { norm: Norm::Linf, epsilon: 0.1 };

/// The cross-entropy of each example, without the SDK.
fn losses(model: &Model, images: &Tensor, labels: &Tensor, space: Space) -> Tensor {
    let logits = model.forward(images, Pass::new(space), false).unwrap().logits;
    logits.cross_entropy_loss(labels, None::<Tensor>, Reduction::None, -100, 0.0)
}

/// ∇ₓ of the sum of losses with a graph of its own, by tch's `run_backward` rather than the SDK's `grad`.
fn input_gradient(model: &Model, images: &Tensor, labels: &Tensor, space: Space) -> Tensor {
    let images = images.detach().set_requires_grad(true);
    let total = losses(model, &images, labels, space).sum(None::<Kind>);
    Tensor::run_backward(&[total], &[&images], true, true).remove(0)
}

/// A penalty's value and its gradients to all parameters it depends on, as bits.
fn value_and_gradients(penalty: &Tensor, model: &Model) -> Vec<(Kind, Vec<i64>, Vec<u64>)> {
    let parameters: Vec<&Tensor> = model.parameters().iter().collect();
    let gradients =
        guard_sdk::autograd::grad_if_used(penalty, &parameters, guard_sdk::autograd::Graph::Free).unwrap();
    let used: Vec<Tensor> = gradients.into_iter().flatten().collect();
    assert!(used.len() >= parameters.len() - 1, "all but the last bias enter an input gradient");
    std::iter::once(penalty).chain(&used).map(bits).collect()
}

#[test]
fn two_plugins_in_one_process_give_each_their_own_methods() {
    let bench = Bench::new(&["guard_curv", "guard_attacks"]);
    let ids: Vec<_> = bench.plugins.loaded().iter().map(|loaded| loaded.manifest.id.as_str()).collect();
    assert_eq!(ids, ["guard.curv", "guard.attacks"]);

    let examples = Examples::new(Kind::Float, 4);
    let network = Network::lend(&examples.model);
    let mut curvature = bench.regularizer("curvature", json!({})).unwrap();
    let penalty = curvature.penalty(&bench.context(), &network, &examples.batch()).unwrap();
    assert!(penalty.double_value(&[]) > 0.0);
    let mut fgsm = bench.attack("fgsm", json!({})).unwrap();
    let adversarial = fgsm.perturb(&bench.context(), &network, &examples.batch(), &LINF).unwrap();
    let largest = (adversarial - &examples.images).abs().max().double_value(&[]);
    assert!((largest - LINF.epsilon).abs() < 1e-6, "{largest}");

    assert_eq!(bench.attack("curvature", json!({})).err().unwrap().code, "unknown-method");
    assert_eq!(bench.regularizer("fgsm", json!({})).err().unwrap().code, "unknown-method");
}

#[test]
fn both_sides_see_the_same_storage() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 3);
    let network = Network::lend(&examples.model);
    let mut reporter = bench.regularizer("reports-data-pointer", json!({})).unwrap();
    drop(reporter.penalty(&bench.context(), &network, &examples.batch()).unwrap());
    let address = |name: &str| bench.recording.metric(name).int64_value(&[]);
    assert_eq!(address("reports-data-pointer/images"), examples.images.data_ptr() as i64);
    assert_eq!(address("reports-data-pointer/parameter"), examples.model.parameters()[0].data_ptr() as i64);

    let mut identity = bench.attack("identity", json!({})).unwrap();
    let returned = identity.perturb(&bench.context(), &network, &examples.batch(), &LINF).unwrap();
    assert_eq!(returned.data_ptr(), examples.images.data_ptr());
}

#[test]
fn second_derivatives_through_the_boundary_are_bit_equal_to_those_computed_in_the_host() {
    let bench = Bench::new(&["guard_misbehaving"]);
    for kind in KINDS {
        let examples = Examples::new(kind, 5);
        let mut method = bench.regularizer("double-backward", json!({})).unwrap();
        let network = Network::lend(&examples.model);
        let across = method.penalty(&bench.context(), &network, &examples.batch()).unwrap();

        let gradient = input_gradient(&examples.model, &examples.images, &examples.labels, Space::Pixels);
        let here = gradient.square().sum(None::<Kind>);
        assert!(here.double_value(&[]) > 0.0);
        assert_eq!(
            value_and_gradients(&across, &examples.model),
            value_and_gradients(&here, &examples.model),
            "{kind:?}"
        );
    }
}

#[test]
fn a_bundled_penalty_is_bit_equal_to_its_formula_computed_in_the_host() {
    let bench = Bench::new(&["guard_curv"]);
    for kind in KINDS {
        let examples = Examples::new(kind, 5);
        let mut method = bench.regularizer("gradient-norm", json!({ "space": "pixels" })).unwrap();
        let network = Network::lend(&examples.model);
        let across = method.penalty(&bench.context(), &network, &examples.batch()).unwrap();

        let gradient = input_gradient(&examples.model, &examples.images, &examples.labels, Space::Pixels);
        let here = gradient.flatten(1, -1).norm_scalaropt_dim(2.0, -1, false).mean(None::<Kind>);
        assert_eq!(
            value_and_gradients(&across, &examples.model),
            value_and_gradients(&here, &examples.model),
            "{kind:?}"
        );
    }
}

#[test]
fn a_method_calls_an_attack_of_another_plugin_through_the_host() {
    let bench = Bench::new(&["guard_attacks", "guard_misbehaving"]);
    let pgd = json!({ "steps": 3 });
    let options = json!({ "attack": "pgd", "options": pgd, "epsilon": LINF.epsilon });
    for kind in KINDS {
        let examples = Examples::new(kind, 4);
        let network = Network::lend(&examples.model);
        let mut adversarial_training = bench.regularizer("uses-attack", options.clone()).unwrap();
        let across = adversarial_training.penalty(&bench.context(), &network, &examples.batch()).unwrap();

        // The label names the random stream of the start.
        let mut attack = bench.plugins.attack(&bench.context(), "pgd", "uses-attack/pgd", &pgd).unwrap();
        let images = attack.perturb(&bench.context(), &network, &examples.batch(), &LINF).unwrap();
        assert_ne!(bits(&images), bits(&examples.images));
        let here = losses(&examples.model, &images, &examples.labels, Space::Pixels).mean(None::<Kind>);
        assert_eq!(
            value_and_gradients(&across, &examples.model),
            value_and_gradients(&here, &examples.model),
            "{kind:?}"
        );
    }
}

#[test]
fn an_attack_that_a_method_asks_for_is_looked_up_and_its_options_are_held_against_its_schema() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let asks = |attack: &str, options: serde_json::Value| {
        bench.regularizer("uses-attack", json!({ "attack": attack, "options": options, "epsilon": 0.1 }))
    };
    assert!(asks("pgd", json!({})).is_ok(), "the plugin beside the others is found by its manifest");
    let error = asks("pgf", json!({})).err().unwrap();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("unknown-method", "no plugin offers the attack `pgf`")
    );
    let error = asks("pgd", json!({ "steps": 0 })).err().unwrap();
    assert_eq!(error.code, "options");
    assert!(error.message.contains("`pgd`") && error.message.contains("/steps"), "{error}");
}

#[test]
fn an_attack_behind_a_handle_is_checked_like_one_of_the_evaluation() {
    let bench = Bench::new(&["guard_misbehaving"]);
    // Draws on [0,1) are no perturbation of size 0.01.
    let options = json!({ "attack": "returns-draws", "options": {}, "epsilon": 0.01 });
    let mut method = bench.regularizer("uses-attack", options).unwrap();
    let examples = Examples::new(Kind::Float, 3);
    let error =
        method.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch()).err().unwrap();
    assert_eq!(error.code, "attack-invalid");
    assert!(error.message.contains("attack `returns-draws`"), "{error}");
}

#[test]
fn methods_behind_handles_end_with_the_method_that_asked_for_them() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2);
    let call = |key: u64| {
        let mut method = bench.regularizer("calls-key", json!({ "key": key })).unwrap();
        method.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch())
    };
    // The first handle of this host is 0.
    let outer = bench
        .regularizer("uses-regularizer", json!({ "regularizer": "double-backward", "options": {} }))
        .unwrap();
    assert!(call(0).is_ok());
    drop(outer);
    assert!(call(0).err().unwrap().message.contains("there is no method with handle 0"));
}

#[test]
fn uniform_draws_depend_on_the_ids_alone_and_not_on_batch_mates() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let budget = Budget { norm: Norm::Linf, epsilon: 1.0 };
    let draws = |batch: &Batch, iteration| {
        let examples = Examples::new(Kind::Double, 1);
        let mut method = bench.attack("returns-draws", json!({})).unwrap();
        let context = bench.context().at(iteration, 10);
        method.perturb(&context, &Network::lend(&examples.model), batch, &budget).unwrap()
    };
    let all = Examples::new(Kind::Double, 5);
    let drawn = draws(&all.batch(), 0);
    assert!(drawn.min().double_value(&[]) >= 0.0 && drawn.max().double_value(&[]) < 1.0);
    assert_ne!(bits(&drawn.get(0)), bits(&drawn.get(1)));

    let rows = [3i64, 0];
    let (images, labels) =
        (all.images.index_select(0, &Tensor::from_slice(&rows)), Tensor::from_slice(&[0i64, 0]));
    let ids = rows.map(|row| all.ids[row as usize]);
    let part = draws(&Batch::pixels(&images, &labels, &ids), 0);
    assert_eq!(bits(&part.get(0)), bits(&drawn.get(3)));
    assert_eq!(bits(&part.get(1)), bits(&drawn.get(0)));

    assert_ne!(bits(&draws(&all.batch(), 1)), bits(&drawn));
}

#[test]
fn lines_for_the_log_carry_the_methods_label() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2);
    let mut method = bench.plugins.regularizer(&bench.context(), "logs", "my label", &json!({})).unwrap();
    drop(method.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch()).unwrap());
    assert_eq!(
        bench.recording.lines(),
        [(Level::Information, "my label: in the middle of a call".to_string())]
    );
}

#[test]
fn a_network_with_other_parameters_keeps_their_graph() {
    let examples = Examples::new(Kind::Double, 2);
    let scale = Tensor::from(2.0f64).set_requires_grad(true);
    let scaled: Vec<Tensor> =
        examples.model.parameters().iter().map(|parameter| parameter.detach() * &scale).collect();
    let bound = examples.model.rebind(&scaled.iter().collect::<Vec<_>>()).unwrap();
    let logits = bound.pass(&examples.images, Pass::new(Space::Pixels)).unwrap().logits;
    let gradient = Tensor::run_backward(&[logits.sum(Kind::Double)], &[&scale], false, false).remove(0);
    assert_ne!(gradient.double_value(&[]), 0.0);
}
