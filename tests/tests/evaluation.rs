//! Numbers that must not be believed: attacks that cheat are refused by name, and known mistakes are flagged.

use guard_host::{
    data::{Split, View, prepare},
    engine::{EvalOnly, Evaluation, Evaluator, OptimizerState, Surrogates, count},
    network::{Architecture, Convnet, Model, NetworkSpec, NormLayer},
    plugin::Context,
    random::Streams,
    recipe::{Adam, AttackUse, Data, Optimizer},
    run::{Display, Journal},
};
use guard_sdk::attack::Knowledge;
use guard_sdk::{
    Budget, Device, Error, Kind, NetworkInfo, Norm, Output, Pass, Result, Space, Tensor,
    autograd::{Graph, grad},
    network::{NetworkBackend, Tensors},
};
use guard_tests::Bench;
use serde_json::{Value, json};
use std::{any::Any, borrow::Cow, sync::OnceLock};

/// A small network that knows the digits, and the images to judge it on.
fn trained() -> (Model, Split) {
    // The tensors are small, and threads would only wait for each other.
    tch::set_num_threads(1);
    static WEIGHTS: OnceLock<Vec<(Vec<i64>, Vec<f32>)>> = OnceLock::new();
    let data = prepare(&Data::named("digits")).unwrap().open().unwrap();
    let spec = NetworkSpec {
        architecture: Architecture::Convnet(Convnet { depth: 2, width: 16, norm: NormLayer::Instance }),
        input: data.info.image,
        classes: 10,
        mean: data.info.mean.clone(),
        std: data.info.std.clone(),
        whitening: None,
        precision: Default::default(),
    };
    let weights = WEIGHTS.get_or_init(|| {
        let model = Model::fresh(&spec, &Streams::new(1), Device::Cpu).unwrap();
        let mut optimizer =
            OptimizerState::new(&Optimizer::Adam(Adam { learning_rate: 0.01, ..Adam::default() }));
        for epoch in 0..4 {
            let order = Streams::new(2).numbered(epoch).permutation(data.train.len());
            let lists = order.chunks(64).map(<[i64]>::to_vec).collect();
            for batch in data.train.batches(lists, View::plain()) {
                let batch = batch.unwrap();
                let loss = model.train_logits(&batch.images, Space::Pixels).unwrap();
                let loss =
                    loss.cross_entropy_loss::<Tensor>(&batch.labels, None, tch::Reduction::Mean, -100, 0.0);
                let parameters: Vec<&Tensor> = model.parameters().iter().collect();
                let gradients = grad(&loss, &parameters, Graph::Free).unwrap();
                optimizer.step(model.parameters(), &gradients, 1.0).unwrap();
            }
        }
        let values = |tensor: &Tensor| Vec::<f32>::try_from(tensor.detach().flatten(0, -1)).unwrap();
        model.parameters().iter().map(|tensor| (tensor.size(), values(tensor))).collect()
    });
    let parameters =
        weights.iter().map(|(shape, values)| Tensor::from_slice(values).reshape(shape)).collect();
    let model = Model::new(&spec, spec.program().unwrap(), parameters, Vec::new()).unwrap();
    // A part of the images, for speed.
    let positions: Vec<i64> = (0..120).map(|index| 3 * index).collect();
    (model, data.test.part(&positions))
}

/// A network with something done to its images or its logits.
struct Changed {
    model: Model,
    before: fn(&Tensor) -> Tensor,
    after: fn(&Tensor) -> Tensor,
}

impl NetworkBackend for Changed {
    fn info(&self) -> &NetworkInfo {
        self.model.info()
    }

    fn pass(&self, images: &Tensor, pass: Pass) -> Result<Output> {
        let output = self.model.pass(&(self.before)(images), pass)?;
        Ok(Output { logits: (self.after)(&output.logits), ..output })
    }

    fn tensors(&self) -> Result<Tensors> {
        self.model.tensors()
    }

    fn rebind(&self, parameters: &[&Tensor]) -> Result<Box<dyn NetworkBackend>> {
        self.model.rebind(parameters)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn as_it_is(tensor: &Tensor) -> Tensor {
    tensor.shallow_clone()
}

fn attack(method: &str, options: Value) -> AttackUse {
    AttackUse { method: method.into(), name: None, options: options.as_object().cloned().unwrap() }
}

fn pgd() -> AttackUse {
    attack("pgd", json!({ "steps": 40, "relative_step_size": 0.1 }))
}

fn evaluate(
    network: impl NetworkBackend + 'static,
    split: &Split,
    attacks: &[AttackUse],
) -> Result<Evaluation> {
    let within = [Budget { norm: Norm::Linf, epsilon: 0.1 }];
    evaluate_among(Surrogates::default(), None, network, split, attacks, &within)
}

/// With networks that attacks may ask for, the one under attack maybe among them under the name `called`.
fn evaluate_among(
    networks: Surrogates,
    called: Option<&str>,
    network: impl NetworkBackend + 'static,
    split: &Split,
    attacks: &[AttackUse],
    budgets: &[Budget],
) -> Result<Evaluation> {
    let bench = Bench::new(&["guard_attacks", "guard_misbehaving"]).with_networks(networks);
    let journal = Journal::without_file(Display::Quiet);
    let log = journal.stage("test", "evaluate");
    let evaluator = Evaluator {
        network: EvalOnly::new(network),
        called,
        split,
        batch_size: 100,
        probe_images: 80,
        curvature_images: 0,
        observer: &log,
        keep: None,
    };
    let context = Context { stage: "evaluate", recorder: &log, ..bench.context() };
    evaluator.run(attacks, budgets, &context)
}

fn codes(evaluation: &Evaluation) -> Vec<Cow<'static, str>> {
    evaluation.flags.iter().map(|flag| flag.code.clone()).collect()
}

fn flags(
    before: fn(&Tensor) -> Tensor,
    after: fn(&Tensor) -> Tensor,
    attacks: &[AttackUse],
) -> Vec<Cow<'static, str>> {
    let (model, split) = trained();
    let evaluation = evaluate(Changed { model, before, after }, &split, attacks).unwrap();
    codes(&evaluation)
}

#[test]
fn an_honest_attack_on_an_honest_network_is_not_flagged() {
    let (model, split) = trained();
    let parts = json!({ "version": "custom", "attacks": ["apgd-ce", "apgd-t"] });
    let evaluation = evaluate(model, &split, &[attack("autoattack", parts)]).unwrap();
    assert_eq!(evaluation.flags, []);
    let result = &evaluation.threats[0].attacks[0];
    let names: Vec<&str> = result.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["apgd-ce", "apgd-t"]);
    let left: Vec<u64> = result.members.iter().map(|member| member.correct).collect();
    assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
    let right = result.correct.iter().filter(|&&correct| correct).count() as u64;
    assert_eq!(left.last(), Some(&right));
    let clean = evaluation.clean.iter().filter(|&&correct| correct).count();
    assert!(clean > 100 && right < clean as u64, "{clean} clean, {right} robust");
}

#[test]
fn attacks_that_cheat_are_refused_with_their_name_and_what_they_did() {
    for (how, what) in [
        ("exceed-epsilon", "exceeded its budget"),
        ("leave-the-range", "left the pixel range"),
        ("not-a-number", "not finite"),
        ("wrong-shape", "shape"),
        ("train-mode", "ran the network in train mode"),
        ("change-weights", "classifier.weight"),
        ("normalised-inputs", "exceeded its budget"),
    ] {
        let (model, split) = trained();
        let error: Error = evaluate(model, &split, &[attack("cheats", json!({ "how": how }))]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(what), "{how}: {message}");
        assert!(message.contains("test.misbehaving") && message.contains("cheats"), "{how}: {message}");
    }
}

#[test]
fn attacks_that_look_at_batch_mates_are_flagged() {
    for how in ["look-at-the-batch", "batch-wide-norm"] {
        let found = flags(as_it_is, as_it_is, &[attack("cheats", json!({ "how": how }))]);
        assert!(found.contains(&"depends-on-the-batch".into()), "{how}: {found:?}");
    }
}

#[test]
fn an_attack_whose_budget_is_of_normalised_images_is_flagged_as_weaker_than_a_single_step() {
    let found = flags(as_it_is, as_it_is, &[attack("cheats", json!({ "how": "normalised-budget" }))]);
    assert!(found.contains(&"single-step-beats-iterative".into()), "{found:?}");
}

#[test]
fn images_of_a_surrogate_are_a_weak_black_box_attack_unless_it_is_the_network_itself() {
    let (model, split) = trained();
    let other = Model::fresh(model.spec(), &Streams::new(9), Device::Cpu).unwrap();
    let networks = || Surrogates::default().with("other", &other).with("itself", &trained().0);
    let within = [Budget { norm: Norm::Linf, epsilon: 0.1 }];
    let run = |name: &str| {
        let attacks = [attack("transfer", json!({ "network": name })), pgd()];
        let network = trained().0;
        evaluate_among(networks(), Some("itself"), network, &split, &attacks, &within).unwrap()
    };
    let (across, within_itself) = (run("other"), run("itself"));
    let left = |evaluation: &Evaluation, index: usize| count(&evaluation.threats[0].attacks[index].correct);
    assert!(left(&across, 0) > left(&across, 1) + 20, "{} {}", left(&across, 0), left(&across, 1));
    assert_eq!(across.threats[0].attacks[0].knowledge, Knowledge::BlackBox);
    assert!(!codes(&across).contains(&"attack-caveat".into()), "{:?}", across.flags);
    assert!(left(&within_itself, 0) <= left(&within_itself, 1) + 5);
    assert_eq!(within_itself.threats[0].attacks[0].knowledge, Knowledge::WhiteBox);
    assert!(codes(&within_itself).contains(&"attack-caveat".into()), "{:?}", within_itself.flags);
}

#[test]
fn an_attack_that_does_nothing_is_weaker_than_any_other() {
    let found = flags(as_it_is, as_it_is, &[attack("cheats", json!({ "how": "nothing" }))]);
    for code in ["single-step-beats-iterative", "margin-loss-beats-attacks", "huge-epsilon-fails"] {
        assert!(found.contains(&code.into()), "{code}: {found:?}");
    }
}

#[test]
fn too_few_steps_are_flagged() {
    let weak = attack("pgd", json!({ "steps": 3, "relative_step_size": 0.1, "random_start": false }));
    assert!(flags(as_it_is, as_it_is, &[weak]).contains(&"not-converged".into()));
}

#[test]
fn an_attack_that_more_steps_make_weaker_is_flagged() {
    let found = flags(as_it_is, as_it_is, &[attack("cheats", json!({ "how": "one-of-the-steps" }))]);
    assert!(found.contains(&"rises-with-steps".into()), "{found:?}");
}

#[test]
fn noise_instead_of_an_attack_is_flagged() {
    let found = flags(as_it_is, as_it_is, &[attack("noise", json!({ "draws": 3 }))]);
    assert!(found.contains(&"noise-as-strong".into()), "{found:?}");
    let within = [Budget { norm: Norm::Linf, epsilon: 0.3 }];
    let (model, split) = trained();
    let noise = [attack("noise", json!({}))];
    let evaluation = evaluate_among(Surrogates::default(), None, model, &split, &noise, &within).unwrap();
    assert!(codes(&evaluation).contains(&"noise-as-strong".into()), "{:?}", evaluation.flags);
}

#[test]
fn the_10_step_autoattack_of_torchattacks_is_named_as_such() {
    let options = json!({ "version": "custom", "attacks": ["apgd-ce"], "compat": "torchattacks" });
    let found = flags(as_it_is, as_it_is, &[attack("autoattack", options)]);
    assert!(found.contains(&"attack-caveat".into()), "{found:?}");
}

#[test]
fn attacks_that_are_cut_short_are_flagged_and_those_inside_others_too() {
    let cut = [
        (attack("apgd", json!({ "steps": 10 })), "`apgd` makes 10 steps, by default 100"),
        (attack("square", json!({ "queries": 100 })), "`square` makes 100 queries, by default 5000"),
        (
            // AutoAttack put together from its parts, with a tenth of the steps.
            attack(
                "ensemble",
                json!({ "attacks": [
                    { "use": "apgd", "options": { "steps": 10 } },
                    { "use": "guard.attacks/fab", "options": { "steps": 10, "early_stop": true } },
                ] }),
            ),
            "`guard.attacks/fab` in `ensemble` makes 10 steps, by default 100",
        ),
    ];
    for (cut, what) in cut {
        let (model, split) = trained();
        let evaluation = evaluate(model, &split, &[cut]).unwrap();
        let mut few = evaluation.flags.iter().filter(|flag| flag.code == "few-steps");
        assert!(few.any(|flag| flag.message.contains(what)), "{what}: {:?}", evaluation.flags);
    }
    assert!(!flags(as_it_is, as_it_is, &[pgd()]).contains(&"few-steps".into()));
}

#[test]
fn a_network_that_ends_in_softmax_is_flagged() {
    let found = flags(as_it_is, |logits| logits.softmax(-1, None::<Kind>), &[pgd()]);
    assert!(found.contains(&"outputs-are-probabilities".into()), "{found:?}");
}

#[test]
fn a_network_whose_gradients_are_masked_is_flagged() {
    // Eight grey levels: the gradient of rounding is 0 everywhere.
    let found = flags(|images| (images * 7.0).round() / 7.0, as_it_is, &[pgd()]);
    for code in ["zero-gradients", "huge-epsilon-fails", "black-box-beats-attacks"] {
        assert!(found.contains(&code.into()), "{code}: {found:?}");
    }
}

#[test]
fn large_logits_whose_cross_entropy_saturates_are_flagged() {
    let found = flags(as_it_is, |logits| logits * 1e4, &[pgd()]);
    assert!(found.contains(&"zero-gradients".into()), "{found:?}");
}

#[test]
fn a_stochastic_network_is_flagged() {
    let found = flags(|images| images + images.randn_like() * 0.05, as_it_is, &[pgd()]);
    assert!(found.contains(&"stochastic-network".into()), "{found:?}");
}
