//! `adversarial` and `trades` against their definitions.

use guard_host::network::NormLayer;
use guard_sdk::{
    Batch, Budget, Kind, Network, Norm, Pass, Space, Tensor,
    autograd::{Graph, grad},
};
use guard_tests::{Bench, Examples, bits};
use serde_json::{Value, json};

const EPSILON: f64 = 8.0 / 255.0;

fn bench() -> Bench {
    Bench::new(&["guard_adversarial", "guard_attacks"])
}

fn penalty(bench: &Bench, name: &str, options: Value, examples: &Examples) -> Tensor {
    let mut regularizer = bench.regularizer(name, options).unwrap();
    regularizer.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch()).unwrap()
}

#[test]
fn the_penalty_is_the_cross_entropy_of_what_the_attack_finds() {
    let bench = bench();
    let examples = Examples::with_norm(NormLayer::Batch, Kind::Double, 6);
    let budget = Budget { norm: Norm::Linf, epsilon: EPSILON };
    let mut fgsm = bench.attack("fgsm", json!({})).unwrap();
    let frozen = examples.model.frozen();
    let found = fgsm.perturb(&bench.context(), &Network::lend(&frozen), &examples.batch(), &budget).unwrap();
    for (statistics, pass) in
        [("batch", Pass::new(Space::Pixels).train()), ("running", Pass::new(Space::Pixels))]
    {
        let options = json!({
            "attack": { "use": "fgsm" },
            "threat": { "norm": "linf", "epsilon": "8/255" },
            "statistics": statistics,
        });
        let before: Vec<_> = examples.model.buffers().iter().map(bits).collect();
        let penalty = penalty(&bench, "adversarial", options, &examples);
        assert_eq!(examples.model.buffers().iter().map(bits).collect::<Vec<_>>(), before);

        let logits = examples.model.forward(&found, pass, false).unwrap().logits;
        let expected = examples.batch().cross_entropy_each(&logits).unwrap().mean(Kind::Double);
        let parameters: Vec<&Tensor> = examples.model.parameters().iter().collect();
        let found = grad(&penalty, &parameters, Graph::Free).unwrap();
        let defined = grad(&expected, &parameters, Graph::Free).unwrap();
        assert!((penalty - expected).abs().double_value(&[]) < 1e-12, "{statistics}");
        for (found, expected) in found.iter().zip(&defined) {
            assert!((found - expected).abs().max().double_value(&[]) < 1e-12, "{statistics}");
        }
        let accuracy = bench.recording.metric("adversarial/accuracy").double_value(&[]);
        let right = logits.argmax(-1, false).eq_tensor(&examples.labels).to_kind(Kind::Double);
        assert!((accuracy - right.mean(Kind::Double).double_value(&[])).abs() < 1e-6);
    }
}

#[test]
fn what_an_attack_leaves_outside_the_ball_is_brought_back() {
    let bench = bench();
    let examples = Examples::new(Kind::Double, 6);
    // Without a limit of its own, DeepFool goes as far as it must.
    let options = json!({ "attack": { "use": "deepfool" }, "threat": { "norm": "linf", "epsilon": 1e-12 } });
    let found = penalty(&bench, "adversarial", options, &examples).double_value(&[]);
    let logits = examples.model.forward(&examples.images, Pass::new(Space::Pixels), false).unwrap().logits;
    let clean = examples.batch().cross_entropy_each(&logits).unwrap().mean(Kind::Double).double_value(&[]);
    assert!((found - clean).abs() < 1e-9, "{found}, clean {clean}");
}

#[test]
fn synthetic_images_get_a_gradient_too() {
    let bench = bench();
    let examples = Examples::new(Kind::Double, 4).frozen();
    let images = examples.images.copy().set_requires_grad(true);
    let batch = Batch { images: &images, ..examples.batch() };
    let threat = json!({ "norm": "linf", "epsilon": EPSILON });
    for name in ["adversarial", "trades"] {
        let mut regularizer = bench.regularizer(name, json!({ "threat": threat })).unwrap();
        let penalty = regularizer.penalty(&bench.context(), &Network::lend(&examples.model), &batch).unwrap();
        let gradient = grad(&penalty, &[&images], Graph::Free).unwrap().remove(0);
        assert!(gradient.abs().max().double_value(&[]) > 0.0, "{name}");
    }
}

#[test]
fn an_attack_that_nobody_offers_is_an_error_at_the_option() {
    let bench = bench();
    let threat = json!({ "norm": "linf", "epsilon": EPSILON });
    let error = bench
        .regularizer("adversarial", json!({ "attack": { "use": "pdg" }, "threat": threat }))
        .err()
        .unwrap();
    assert_eq!(error.option_path.as_deref(), Some("/attack"));
    assert_eq!(error.help.as_deref(), Some("did you mean `pgd`?"));
}

#[test]
fn trades_of_either_search_is_a_mean_over_examples() {
    let bench = bench();
    let whole = Examples::with_norm(NormLayer::Batch, Kind::Double, 6);
    let part = |start: i64, count: i64| Examples {
        model: whole.model.copy(Kind::Double, true),
        images: whole.images.narrow(0, start, count),
        labels: whole.labels.narrow(0, start, count),
        ids: whole.ids[start as usize..(start + count) as usize].to_vec(),
    };
    for norm in ["linf", "l2"] {
        let value = |maximise: &str, examples: &Examples| {
            let threat = json!({ "norm": norm, "epsilon": if norm == "l2" { 0.5 } else { EPSILON } });
            let options = json!({ "threat": threat, "maximise": maximise, "statistics": "running" });
            penalty(&bench, "trades", options, examples).double_value(&[])
        };
        for maximise in ["kl", "cross-entropy"] {
            let mean = (2.0 * value(maximise, &part(0, 2)) + 4.0 * value(maximise, &part(2, 4))) / 6.0;
            let all = value(maximise, &whole);
            assert!(all > 0.0 && (mean / all - 1.0).abs() < 1e-9, "{norm}, {maximise}: {mean}, {all}");
        }
        // What is searched by is what is penalised.
        assert!(value("kl", &whole) >= value("cross-entropy", &whole) * 0.999, "{norm}");
    }
}
