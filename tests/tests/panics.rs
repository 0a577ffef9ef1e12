//! A method's panic is an error that names plugin, method and message; it ends the instance and nothing else.

use guard_host::plugin::Hosted;
use guard_sdk::{
    Error, Kind, Lab, Network, OwnedNetwork, Result, Services, Space, Synthetic, Tensor, Value,
    abi::calls::*,
    lab::{ExpertsInfo, LabBackend, LabInfo, RealBatch},
};
use guard_tests::{Bench, Examples, Unprepared, one_line, opened};
use serde_json::json;

const BUDGET: guard_sdk::Budget = guard_sdk::Budget { norm: guard_sdk::Norm::Linf, epsilon: 0.1 };

/// `panics` never asks the lab for anything.
struct NoLab(LabInfo);

impl LabBackend for NoLab {
    fn info(&self) -> &LabInfo {
        &self.0
    }

    fn teacher(&self) -> Result<OwnedNetwork> {
        Err(Error::new("no teacher"))
    }

    fn fresh_network(&self, _: u64) -> Result<OwnedNetwork> {
        Err(Error::new("no networks"))
    }

    fn real(&self, _: Option<i64>, _: u64, _: u64) -> Result<RealBatch> {
        Err(Error::new("no images"))
    }

    fn training_loss(&self, _: &Network, _: &guard_sdk::Batch) -> Result<Tensor> {
        Err(Error::new("no loss"))
    }

    fn experts(&self) -> Result<ExpertsInfo> {
        Err(Error::new("no experts"))
    }

    fn expert(&self, _: u64, _: u64) -> Result<OwnedNetwork> {
        Err(Error::new("no experts"))
    }
}

/// The panic of the fixture at `when`, in a method of `kind`, during `call`.
fn assert_panic(error: &Error, kind: &str, call: &str, when: &str) {
    let start = format!("plugin `test.misbehaving`, {kind} `panics`{call} panicked: on purpose: {when} (");
    assert!(one_line(error).starts_with(&start), "{error}");
    assert!(error.message.contains("panics.rs:"), "the place is told: {error}");
    assert_eq!(error.code, "panic");
}

/// Whatever comes after a panic is refused, and tells the panic as its cause.
fn assert_poisoned(error: &Error, when: &str) {
    assert_eq!(error.code, "poisoned");
    assert!(one_line(error).ends_with("`panics` cannot be used after a panic"), "{error}");
    assert!(error.causes[0].contains(&format!("on purpose: {when}")), "{error}");
}

fn penalty(bench: &Bench, method: &mut Hosted<RegularizerInstance>) -> Result<Tensor> {
    let examples = Examples::new(Kind::Float, 2);
    method.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch())
}

fn perturb(bench: &Bench, method: &mut Hosted<AttackInstance>) -> Result<Tensor> {
    let examples = Examples::new(Kind::Float, 2);
    method.perturb(&bench.context(), &Network::lend(&examples.model), &examples.batch(), &BUDGET)
}

fn value(bench: &Bench, method: &mut Hosted<ObjectiveInstance>) -> Result<Value> {
    let examples = Examples::new(Kind::Float, 2);
    let images = examples.images.set_requires_grad(true);
    let synthetic = Synthetic {
        images: &images,
        labels: &examples.labels,
        soft_labels: None,
        learnables: &[],
        ids: &examples.ids,
        space: Space::Pixels,
    };
    let lab = NoLab(LabInfo { classes: 4, images_per_class: 1, image: [3, 8, 8], real_images: vec![0; 4] });
    method.value(&bench.context(), &synthetic, &Lab::lend(&lab))
}

#[test]
fn a_panic_while_a_method_is_made_is_an_error() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let options = json!({ "when": "new" });
    assert_panic(&bench.regularizer("panics", options.clone()).err().unwrap(), "regularizer", "", "New");
    assert_panic(&bench.attack("panics", options.clone()).err().unwrap(), "attack", "", "New");
    assert_panic(&bench.objective("panics", options).err().unwrap(), "objective", "", "New");
}

#[test]
fn a_panic_during_a_call_is_an_error_and_poisons_the_instance() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let options = json!({ "when": "call" });

    let mut regularizer = bench.regularizer("panics", options.clone()).unwrap();
    assert_panic(&penalty(&bench, &mut regularizer).unwrap_err(), "regularizer", ", `penalty`", "Call");
    assert_poisoned(&penalty(&bench, &mut regularizer).unwrap_err(), "Call");
    assert_poisoned(&regularizer.save(&bench.context()).unwrap_err(), "Call");

    let mut attack = bench.attack("panics", options.clone()).unwrap();
    assert!(attack.info(&bench.context()).is_ok());
    assert_panic(&perturb(&bench, &mut attack).unwrap_err(), "attack", ", `perturb`", "Call");
    assert_poisoned(&perturb(&bench, &mut attack).unwrap_err(), "Call");
    assert_poisoned(&attack.info(&bench.context()).unwrap_err(), "Call");

    let mut objective = bench.objective("panics", options).unwrap();
    assert!(objective.needs(&bench.context()).is_ok());
    assert_panic(&value(&bench, &mut objective).unwrap_err(), "objective", ", `value`", "Call");
    assert_poisoned(&value(&bench, &mut objective).unwrap_err(), "Call");
    assert_poisoned(&objective.needs(&bench.context()).unwrap_err(), "Call");
}

#[test]
fn a_panic_while_a_method_describes_itself_is_an_error() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let options = json!({ "when": "describe" });
    let mut attack = bench.attack("panics", options.clone()).unwrap();
    assert_panic(&attack.info(&bench.context()).unwrap_err(), "attack", ", `info`", "Describe");
    let mut objective = bench.objective("panics", options).unwrap();
    assert_panic(&objective.needs(&bench.context()).unwrap_err(), "objective", ", `needs`", "Describe");
}

/// Each kind's own instance below the level of `Plugins`, where saving, loading and freeing are the same for all kinds.
macro_rules! for_each_kind {
    ($when:literal, |$instance:ident, $kind:ident| $body:block) => {{
        // Alone in the process, as every test that calls a plugin.
        let _bench = Bench::new(&[]);
        let library = opened("guard_misbehaving");
        let backend = Unprepared { logged: || {} };
        let (services, options) = (Services::lend(&backend), json!({ "when": $when }));
        {
            let ($instance, $kind) = (library.regularizer(&services, "panics", &options).unwrap(), "regularizer");
            $body
        }
        {
            let ($instance, $kind) = (library.attack(&services, "panics", &options).unwrap(), "attack");
            $body
        }
        {
            let ($instance, $kind) = (library.objective(&services, "panics", &options).unwrap(), "objective");
            $body
        }
    }};
}

#[test]
fn a_panic_while_state_is_saved_is_an_error_and_poisons_the_instance() {
    for_each_kind!("save", |instance, kind| {
        assert_panic(&instance.save().unwrap_err(), kind, ", `save`", "Save");
        assert_poisoned(&instance.save().unwrap_err(), "Save");
        instance.release().unwrap();
    });
}

#[test]
fn a_panic_while_state_is_loaded_is_an_error_and_poisons_the_instance() {
    for_each_kind!("load", |instance, kind| {
        let mut instance = instance;
        let state = instance.save().unwrap();
        assert_panic(&instance.load(state).unwrap_err(), kind, ", `load`", "Load");
        assert_poisoned(&instance.save().unwrap_err(), "Load");
    });
}

#[test]
fn a_panic_while_a_method_is_freed_is_an_error() {
    for_each_kind!("drop", |instance, kind| {
        assert_panic(&instance.release().unwrap_err(), kind, ", drop", "Drop");
    });
}

#[test]
fn other_instances_work_after_a_panic() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let mut broken = bench.regularizer("panics", json!({ "when": "call" })).unwrap();
    let mut sound = bench.regularizer("panics", json!({ "when": "drop" })).unwrap();
    assert_eq!(penalty(&bench, &mut broken).unwrap_err().code, "panic");
    assert!(penalty(&bench, &mut sound).is_ok());
    // Its panic has nobody to go to, and must not reach the host.
    drop(sound);
    assert!(penalty(&bench, &mut bench.regularizer("double-backward", json!({})).unwrap()).is_ok());
}

#[test]
fn a_panic_of_a_method_that_another_method_called_reaches_the_host_as_an_error() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let options = json!({ "regularizer": "panics", "options": { "when": "call" } });
    let mut outer = bench.regularizer("uses-regularizer", options).unwrap();
    assert_panic(&penalty(&bench, &mut outer).unwrap_err(), "regularizer", ", `penalty`", "Call");
    // The inner instance is the broken one; the outer one passes its error on.
    assert_poisoned(&penalty(&bench, &mut outer).unwrap_err(), "Call");
}
