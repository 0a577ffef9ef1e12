//! Attacks that are made on another network of the run.

use guard_host::{
    network::{Model, NormLayer},
    plugin::{NetworkSource, verify},
    random::Streams,
};
use guard_sdk::{Budget, Device, Kind, Network, Norm, OwnedNetwork, Result, Tensor, attack::Knowledge};
use guard_tests::{Bench, Examples, Other, bits, one_line, spec};
use serde_json::{Value, json};

const LINF: Budget = Budget { norm: Norm::Linf, epsilon: 0.03 };
const L2: Budget = Budget { norm: Norm::L2, epsilon: 0.4 };

fn bench() -> Bench {
    let bench = Bench::new(&["guard_attacks"]).with_networks(Other);
    tch::set_num_threads(1);
    bench
}

fn attacked(bench: &Bench, name: &str, options: Value, model: &Model, budget: &Budget) -> Result<Tensor> {
    let examples = Examples::new(Kind::Double, 6);
    let mut attack = bench.attack(name, options)?;
    attack.perturb(&bench.context(), &Network::lend(model), &examples.batch(), budget)
}

#[test]
fn the_images_are_those_of_the_inner_attack_on_the_other_network() {
    let (bench, network) = (bench(), Examples::new(Kind::Double, 6).frozen().model);
    let other = Other::model(Kind::Double);
    for inner in [
        json!({ "use": "pgd", "options": { "steps": 5, "random_start": false } }),
        json!({ "use": "mim", "options": { "steps": 5 } }),
    ] {
        for budget in [LINF, L2] {
            let options = json!({ "network": "other", "attack": inner });
            let found = attacked(&bench, "transfer", options, &network, &budget).unwrap();
            let name = inner["use"].as_str().unwrap();
            let direct =
                |model: &Model| attacked(&bench, name, inner["options"].clone(), model, &budget).unwrap();
            let off = (&found - direct(&other)).abs().max().double_value(&[]);
            assert!(off < 1e-12, "{inner}, {budget:?}: {off}");
            assert_ne!(bits(&found), bits(&direct(&network)), "the networks do not differ");
        }
    }
}

#[test]
fn it_sees_nothing_of_the_network_it_is_held_against() {
    let bench = bench();
    let mut attack = bench.attack("transfer", json!({ "network": "other" })).unwrap();
    assert_eq!(attack.info(&bench.context()).unwrap().knowledge, Knowledge::BlackBox);
    let on = |seed| {
        let network = Model::fresh(&spec(NormLayer::Instance), &Streams::new(seed), Device::Cpu).unwrap();
        let options = json!({ "network": "other" });
        bits(&attacked(&bench, "transfer", options, &network.copy(Kind::Double, false), &LINF).unwrap())
    };
    assert_eq!(on(1), on(2));
}

#[test]
fn an_inner_attack_that_leaves_the_budget_is_brought_into_it() {
    let (bench, network) = (bench(), Examples::new(Kind::Double, 6).frozen().model);
    let small = Budget { epsilon: 0.01, ..L2 };
    let inner = json!({ "use": "deepfool", "options": { "steps": 10 } });
    let images = Examples::new(Kind::Double, 6).images;
    let mut alone = bench.attack("deepfool", inner["options"].clone()).unwrap();
    let guarantee = alone.info(&bench.context()).unwrap().guarantee;
    let other = Other::model(Kind::Double);
    let found = attacked(&bench, "deepfool", inner["options"].clone(), &other, &small).unwrap();
    let sizes = verify(&found, &images, &small, guarantee).unwrap();
    assert!(sizes.max().double_value(&[]) > small.epsilon, "it has nothing to bring back");
    let options = json!({ "network": "other", "attack": inner });
    let found = attacked(&bench, "transfer", options, &network, &small).unwrap();
    assert!(verify(&found, &images, &small, guard_sdk::Guarantee::Bounded).is_ok());
}

#[test]
fn a_name_that_no_network_has_is_told_at_the_option_with_the_nearest() {
    let bench = bench();
    let error = bench.attack("transfer", json!({ "network": "ohter" })).err().unwrap();
    assert_eq!(one_line(&error), "there is no network `ohter` here");
    assert_eq!(error.option_path.as_deref(), Some("/network"));
    assert_eq!(error.help.as_deref(), Some("did you mean `other`?"));
    let inner = json!({ "network": "other", "attack": { "use": "pdg" } });
    let error = bench.attack("transfer", inner).err().unwrap();
    assert_eq!(error.option_path.as_deref(), Some("/attack"), "{error}");
}

/// Has a network for images of another size.
struct Larger;

impl NetworkSource for Larger {
    fn network(&self, _: &str) -> Result<OwnedNetwork> {
        let spec = guard_host::network::NetworkSpec { input: [3, 16, 16], ..spec(NormLayer::Instance) };
        Ok(OwnedNetwork::new(Model::fresh(&spec, &Streams::new(1), Device::Cpu)?.frozen()))
    }
}

#[test]
fn a_surrogate_for_other_images_is_refused() {
    let bench = bench().with_networks(Larger);
    let network = Examples::new(Kind::Float, 6).frozen().model;
    let error = attacked(&bench, "transfer", json!({ "network": "large" }), &network, &LINF).unwrap_err();
    assert_eq!(
        one_line(&error),
        "the surrogate takes [3, 16, 16] images of 4 classes, the network [3, 8, 8] of 4"
    );
}
