//! What every attack of `guard_attacks` keeps: its budget, the pixel range, independence of the batch, equal results for
//! equal seeds, and finite images where the network gives nothing to hold on to.

use guard_host::{
    network::{Model, NormLayer},
    plugin::{limit, verify},
};
use guard_sdk::{AttackInfo, Batch, Budget, Guarantee, Kind, Network, Norm, Result, Tensor};
use guard_tests::{Bench, Counting, Examples, Other, bits, one_line};
use serde_json::{Value, json};

const LINF: Budget = Budget { norm: Norm::Linf, epsilon: 0.03 };
/// So small that nothing is fooled.
const TINY: Budget = Budget { norm: Norm::Linf, epsilon: 1e-7 };
const L2: Budget = Budget { norm: Norm::L2, epsilon: 0.4 };

/// A host with these plugins. One thread: the tensors are small, and threads would only wait for each other.
fn bench(plugins: &[&str]) -> Bench {
    let bench = Bench::new(plugins).with_networks(Other);
    tch::set_num_threads(1);
    bench
}

/// Every attack, short.
fn attacks() -> Vec<(&'static str, Value)> {
    let members = json!([
        { "use": "pgd", "options": { "steps": 3 } },
        { "use": "square", "options": { "queries": 10 } },
        { "use": "fab", "options": { "steps": 3, "target_classes": 1 } },
    ]);
    vec![
        ("fgsm", json!({})),
        ("fgsm", json!({ "loss": "margin", "target": "runner-up" })),
        ("pgd", json!({ "steps": 6 })),
        ("pgd", json!({ "steps": 6, "restarts": 3, "early_stop": true, "loss": "dlr" })),
        ("pgd", json!({ "steps": 6, "target": "random" })),
        ("pgd", json!({ "steps": 6, "target": "least-likely", "loss": "dlr", "random_start": false })),
        ("mim", json!({ "steps": 6 })),
        ("noise", json!({ "draws": 3 })),
        ("apgd", json!({ "steps": 12 })),
        ("apgd", json!({ "steps": 12, "loss": "dlr", "restarts": 2 })),
        ("apgd", json!({ "steps": 8, "loss": "targeted-dlr" })),
        ("apgd", json!({ "steps": 4, "eot": 3 })),
        ("fab", json!({ "steps": 6, "restarts": 2 })),
        ("fab", json!({ "steps": 6, "targeted": false, "early_stop": true })),
        ("fab", json!({ "steps": 12, "early_stop": true })),
        ("square", json!({ "queries": 40, "restarts": 2 })),
        ("square", json!({ "queries": 20, "target": "random" })),
        ("cw", json!({ "steps": 30, "search_steps": 3, "constant": 1.0 })),
        ("cw", json!({ "steps": 30, "search_steps": 2, "constant": 1.0, "target": "runner-up" })),
        ("deepfool", json!({ "steps": 8 })),
        ("ensemble", json!({ "attacks": members })),
        ("transfer", json!({ "network": "other" })),
        ("transfer", json!({ "network": "other", "attack": { "use": "mim", "options": { "steps": 6 } } })),
    ]
}

/// The attacks that are defined for a norm.
fn attacks_in(norm: Norm) -> impl Iterator<Item = (&'static str, Value)> {
    attacks().into_iter().filter(move |(name, _)| *name != "cw" || norm == Norm::L2)
}

/// Images of an attack, and what it promises.
fn attacked(
    bench: &Bench,
    (name, options): &(&'static str, Value),
    model: &Model,
    batch: &Batch,
    budget: &Budget,
) -> Result<(Tensor, AttackInfo)> {
    let mut attack = bench.attack(name, options.clone())?;
    let images = attack.perturb(&bench.context(), &Network::lend(model), batch, budget)?;
    Ok((images, attack.info(&bench.context())?))
}

fn wrong(model: &Model, images: &Tensor, labels: &Tensor) -> Tensor {
    model.eval_logits(images).unwrap().argmax(-1, false).ne_tensor(labels)
}

/// Examples that the network decides rightly, for classes of its own choice. An untrained network prefers one class by far;
/// here each class's mean logit is taken off, so that decisions can be changed.
fn decided_rightly(kind: Kind, count: i64) -> Examples {
    let examples = Examples::new(kind, count);
    let mean = examples.model.eval_logits(&examples.images).unwrap().mean_dim([0].as_slice(), false, None);
    let mut bias = examples.model.parameters().last().unwrap().detach();
    let _ = bias.g_sub_(&mean);
    let labels = examples.model.eval_logits(&examples.images).unwrap().argmax(-1, false);
    Examples { labels, ..examples }
}

#[test]
fn every_attack_stays_within_its_budget_and_changes_nothing_it_was_lent() {
    let bench = bench(&["guard_attacks"]).checked();
    for kind in [Kind::Float, Kind::Double] {
        let examples = decided_rightly(kind, 6);
        for budget in [LINF, L2] {
            for attack in attacks_in(budget.norm) {
                let (images, info) =
                    attacked(&bench, &attack, &examples.model, &examples.batch(), &budget).unwrap();
                let sizes = verify(&images, &examples.images, &budget, info.guarantee);
                let sizes = sizes.unwrap_or_else(|error| panic!("{attack:?}, {budget:?}: {error}"));
                assert!(!images.requires_grad(), "{attack:?} left a graph");
                assert!(sizes.max().double_value(&[]) > 0.0, "{attack:?} did nothing");
                let smallest = ["cw", "deepfool", "fab"].contains(&attack.0);
                assert_eq!(info.guarantee == Guarantee::MinimumNorm, smallest, "{attack:?}");
            }
        }
        for parameter in examples.model.parameters() {
            assert!(!parameter.grad().defined());
        }
    }
}

/// Rows of `images` and `labels` at `rows`, under the ids there.
struct Rows {
    images: Tensor,
    labels: Tensor,
    ids: Vec<u64>,
}

impl Rows {
    fn of(whole: &Batch, rows: &[i64]) -> Self {
        let positions = Tensor::from_slice(rows);
        Self {
            images: whole.images.index_select(0, &positions),
            labels: whole.labels.index_select(0, &positions),
            ids: rows.iter().map(|&row| whole.ids[row as usize]).collect(),
        }
    }

    /// Followed by images that are none: black, of class 0, under an id of their own.
    fn padded(self, count: i64) -> Self {
        let blank = |tensor: &Tensor| {
            let size = [&[count], &tensor.size()[1..]].concat();
            Tensor::cat(&[tensor, &Tensor::zeros(size, (tensor.kind(), tensor.device()))], 0)
        };
        let ids = self.ids.iter().copied().chain((0..count as u64).map(|number| u64::MAX - number));
        Self { images: blank(&self.images), labels: blank(&self.labels), ids: ids.collect() }
    }
}

#[test]
fn the_batch_an_example_is_in_changes_nothing_for_it() {
    let bench = bench(&["guard_attacks"]);
    let examples = decided_rightly(Kind::Double, 6);
    let whole = examples.batch();
    let all: &[i64] = &[0, 1, 2, 3, 4, 5];
    // In another order, in two parts, and padded: with blank images, and with the last one again and again. Blank ones are
    // decided wrongly, so that few of many are left, whose rounds are then made together.
    let blank = Tensor::zeros_like(&examples.images);
    assert!(examples.model.eval_logits(&blank).unwrap().argmax(-1, false).eq(0).any().int64_value(&[]) == 0);
    let others = [
        (&[4, 2, 5, 0, 3, 1][..], 0),
        (&[1, 3], 0),
        (&[0, 2, 4, 5], 0),
        (all, 5),
        (&[1, 3], 14),
        (&[0, 1, 2, 3, 4, 5, 5, 5, 5], 0),
    ];
    for budget in [LINF, L2] {
        for attack in attacks_in(budget.norm).chain([("autoattack", json!({}))]) {
            let (expected, _) = attacked(&bench, &attack, &examples.model, &whole, &budget).unwrap();
            for (rows, padding) in others {
                let Rows { images, labels, ids } = Rows::of(&whole, rows).padded(padding);
                let batch = Batch::pixels(&images, &labels, &ids);
                let (found, _) = attacked(&bench, &attack, &examples.model, &batch, &budget).unwrap();
                let found = found.narrow(0, 0, rows.len() as i64);
                let off = found - expected.index_select(0, &Tensor::from_slice(rows));
                let off = off.abs().max().double_value(&[]);
                let norm = budget.norm;
                assert!(off < 1e-9, "{attack:?}, {norm:?}, {rows:?} and {padding} blank images: {off}");
            }
        }
    }
}

#[test]
fn what_is_decided_wrongly_costs_nothing_more() {
    let bench = bench(&["guard_attacks"]);
    let examples = decided_rightly(Kind::Float, 20);
    let parts = json!({ "version": "custom", "attacks": ["apgd-ce", "apgd-t", "square"] });
    for (name, options) in [
        ("pgd", json!({ "steps": 40, "early_stop": true })),
        ("apgd", json!({ "steps": 40 })),
        ("apgd", json!({ "steps": 10, "loss": "targeted-dlr" })),
        ("square", json!({ "queries": 400 })),
        ("fab", json!({ "steps": 20, "early_stop": true })),
        ("autoattack", parts),
    ] {
        let passed = |budget: &Budget| {
            let network = Counting::new(examples.model.frozen());
            let counts = network.counts();
            let mut attack = bench.attack(name, options.clone()).unwrap();
            let network = Network::lend(&network);
            let _ = attack.perturb(&bench.context(), &network, &examples.batch(), budget).unwrap();
            counts.images()
        };
        let (none_fooled, all_fooled) = (passed(&TINY), passed(&Budget { epsilon: 0.2, ..LINF }));
        assert!(3 * all_fooled < none_fooled, "{name} {options}: {all_fooled} of {none_fooled} images");
    }
}

#[test]
fn every_form_that_repeats_released_code_says_so() {
    let bench = bench(&["guard_attacks"]);
    for (name, compat) in [
        ("apgd", "torchattacks"),
        ("autoattack", "torchattacks"),
        ("cw", "torchattacks"),
        ("deepfool", "torchattacks"),
        ("mim", "guard"),
        ("square", "torchattacks"),
    ] {
        let caveat = |options| bench.attack(name, options).unwrap().info(&bench.context()).unwrap().caveat;
        let said = caveat(json!({ "compat": compat })).unwrap();
        assert!(said.to_lowercase().contains(compat), "{name}: {said}");
        assert_eq!(caveat(json!({})), None, "{name}");
    }
}

#[test]
fn equal_seeds_give_equal_images() {
    let bench = bench(&["guard_attacks"]);
    let examples = decided_rightly(Kind::Float, 5);
    for attack in attacks_in(Norm::Linf) {
        let run = || bits(&attacked(&bench, &attack, &examples.model, &examples.batch(), &LINF).unwrap().0);
        assert_eq!(run(), run(), "{attack:?}");
    }
}

#[test]
fn attacks_that_search_fool_at_least_what_one_step_fools() {
    let bench = bench(&["guard_attacks"]);
    let examples = decided_rightly(Kind::Double, 40);
    for (norm, epsilon) in [(Norm::Linf, 0.01), (Norm::L2, 0.08)] {
        let budget = Budget { norm, epsilon };
        let fooled = |name, options| {
            let (images, info) =
                attacked(&bench, &(name, options), &examples.model, &examples.batch(), &budget).unwrap();
            let sizes = verify(&images, &examples.images, &budget, info.guarantee).unwrap();
            let counted = sizes.le(limit(&budget));
            wrong(&examples.model, &images, &examples.labels)
                .logical_and(&counted)
                .sum(Kind::Int64)
                .int64_value(&[])
        };
        let noise = fooled("noise", json!({}));
        let one_step = fooled("fgsm", json!({}));
        let best = fooled("pgd", json!({ "steps": 50, "restarts": 5, "early_stop": true }));
        assert!(noise < one_step && one_step <= best && best < 40, "{noise}, {one_step}, {best} of 40");
        for (name, options) in [
            ("apgd", json!({})),
            ("apgd", json!({ "loss": "dlr" })),
            ("apgd", json!({ "loss": "targeted-dlr" })),
            ("fab", json!({})),
            ("fab", json!({ "targeted": false })),
            ("autoattack", json!({ "version": "custom", "attacks": ["apgd-ce", "fab-t"] })),
        ] {
            let found = fooled(name, options.clone());
            assert!(found >= best, "{name} {options}, {norm:?}: {found} of {best}");
        }
        let square = fooled("square", json!({ "queries": 1000 }));
        // Windows of three pixels are coarse for images of eight.
        let enough = if norm == Norm::Linf { best - 4 } else { best / 2 };
        assert!(square > noise && square >= enough, "square, {norm:?}: {square} of {best}");
    }
}

#[test]
fn attacks_that_stop_early_return_images_that_are_decided_wrongly() {
    let bench = bench(&["guard_attacks"]);
    let examples = decided_rightly(Kind::Float, 20);
    let budget = Budget { norm: Norm::Linf, epsilon: 0.2 };
    for (name, options) in [
        ("pgd", json!({ "early_stop": true, "steps": 20 })),
        ("apgd", json!({})),
        ("square", json!({ "queries": 500 })),
        ("autoattack", json!({})),
    ] {
        let (images, _) =
            attacked(&bench, &(name, options), &examples.model, &examples.batch(), &budget).unwrap();
        assert!(wrong(&examples.model, &images, &examples.labels).all().int64_value(&[]) == 1, "{name}");
    }
}

#[test]
fn a_network_that_says_nothing_leaves_images_finite_and_within_the_budget() {
    let bench = bench(&["guard_attacks"]);
    let examples = Examples::new(Kind::Float, 4);
    for value in [0.0, f64::NAN, f64::INFINITY, 1e38] {
        let model = examples.model.copy(Kind::Float, false);
        for parameter in model.parameters() {
            let _ = parameter.detach().fill_(value);
        }
        let labels = Tensor::zeros([4], (Kind::Int64, guard_sdk::Device::Cpu));
        let batch = Batch { labels: &labels, ..examples.batch() };
        for budget in [LINF, L2] {
            for attack in attacks_in(budget.norm) {
                let (images, info) = attacked(&bench, &attack, &model, &batch, &budget).unwrap();
                if let Err(error) = verify(&images, &examples.images, &budget, info.guarantee) {
                    panic!("{attack:?}, parameters of {value}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_sure_network_is_attacked_as_well_as_the_same_one_in_doubt() {
    let bench = bench(&["guard_attacks"]);
    let examples = decided_rightly(Kind::Float, 30);
    let sure = examples.model.copy(Kind::Float, false);
    let last = sure.parameters().len() - 2;
    for parameter in &sure.parameters()[last..] {
        let _ = parameter.detach().g_mul_scalar_(1e5);
    }
    let budget = Budget { norm: Norm::Linf, epsilon: 0.01 };
    let pgd = ("pgd", json!({ "steps": 20, "random_start": false }));
    let fooled = |model: &Model| {
        let (images, _) = attacked(&bench, &pgd, model, &examples.batch(), &budget).unwrap();
        wrong(model, &images, &examples.labels).sum(Kind::Int64).int64_value(&[])
    };
    let (doubtful, certain) = (fooled(&examples.model), fooled(&sure));
    assert!(doubtful > 5 && certain + 1 >= doubtful, "{certain} fooled of {doubtful}");
}

#[test]
fn dlr_needs_three_classes_and_four_if_it_is_targeted() {
    let bench = bench(&["guard_attacks"]);
    let examples = Examples::new(Kind::Float, 3);
    let labels = Tensor::from_slice(&[0i64, 1, 0]);
    let batch = Batch { labels: &labels, ..examples.batch() };
    for (classes, loss, needed) in [(2, "dlr", 3), (3, "targeted-dlr", 4)] {
        let spec = guard_host::network::NetworkSpec { classes, ..guard_tests::spec(NormLayer::Instance) };
        let streams = guard_host::random::Streams::new(1);
        let model = Model::fresh(&spec, &streams, guard_sdk::Device::Cpu).unwrap();
        let labels = model.eval_logits(batch.images).unwrap().argmax(-1, false);
        let batch = Batch { labels: &labels, ..batch };
        let run = |loss: &str| {
            attacked(&bench, &("apgd", json!({ "loss": loss, "steps": 3 })), &model, &batch, &LINF)
        };
        let error = run(loss).unwrap_err();
        assert!(
            one_line(&error).contains(&format!("at least {needed} classes, the network has {classes}")),
            "{error}"
        );
        assert!(error.help.unwrap().contains("ce"));
        assert!(run("ce").is_ok());

        let attack = |options| attacked(&bench, &("autoattack", options), &model, &batch, &TINY);
        assert!(attack(json!({})).unwrap_err().help.unwrap().contains("custom"));
        assert!(attack(json!({ "version": "custom", "attacks": ["apgd-ce", "fab-t"] })).is_ok());
    }
}

#[test]
fn cw_refuses_a_norm_it_is_not_defined_for() {
    let bench = bench(&["guard_attacks"]);
    let examples = Examples::new(Kind::Float, 2);
    let attack = ("cw", json!({ "steps": 2 }));
    let error = attacked(&bench, &attack, &examples.model, &examples.batch(), &LINF).unwrap_err();
    assert!(one_line(&error).contains("l2"), "{error}");
}

#[test]
fn options_that_contradict_each_other_are_named() {
    let bench = bench(&["guard_attacks"]);
    for (name, options, path) in [
        ("autoattack", json!({ "version": "custom" }), "/attacks"),
        ("autoattack", json!({ "attacks": ["square"] }), "/attacks"),
        ("cw", json!({ "compat": "torchattacks", "search_steps": 4 }), "/search_steps"),
        ("ensemble", json!({}), "/attacks"),
        ("pgd", json!({ "restarts": 2, "random_start": false }), "/restarts"),
    ] {
        let error = bench.attack(name, options).err().unwrap();
        assert_eq!(error.option_path.as_deref(), Some(path), "{error}");
    }
}

#[test]
fn an_ensemble_takes_attacks_of_other_plugins_and_counts_nothing_beyond_the_budget() {
    let bench = bench(&["guard_attacks", "guard_misbehaving"]);
    let examples = decided_rightly(Kind::Float, 20);
    let budget = Budget { norm: Norm::Linf, epsilon: 0.01 };
    let smallest = ("fab", json!({ "steps": 10 }));
    let members = |first: &str, options: &Value| {
        let attacks = json!([{ "use": first, "options": options }, { "use": "identity" }]);
        ("ensemble", json!({ "attacks": attacks }))
    };
    let run = |attack| attacked(&bench, attack, &examples.model, &examples.batch(), &budget).unwrap();
    let (alone, info) = run(&smallest);
    let sizes = verify(&alone, &examples.images, &budget, info.guarantee).unwrap();
    assert!(sizes.max().double_value(&[]) > limit(&budget), "some perturbations are beyond the budget");
    let (together, info) = run(&members(smallest.0, &smallest.1));
    assert!(verify(&together, &examples.images, &budget, info.guarantee).is_ok());
    let counted = wrong(&examples.model, &alone, &examples.labels).logical_and(&sizes.le(limit(&budget)));
    assert_eq!(wrong(&examples.model, &together, &examples.labels), counted);
}
