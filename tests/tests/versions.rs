//! Plugins of other versions than the host: what must still load, and what must be refused.

use abi_stable::std_types::{RNone, ROption, RStr};
use guard_abi::{HostView, Interface, StepView, ids};
use guard_host::plugin::library_name;
use guard_sdk::{
    Batch, Budget, Kind, Lab, Network, Norm, Services, Tensor, Value,
    abi::{
        convert::{lend, result, take},
        host::{lend_network, lend_services},
    },
    autograd::{Graph, grad},
    lab::LabBackend,
    objective::Networks,
    testing::{SmallLab, SyntheticSet},
};
use guard_tests::{
    Bench, Examples, Other, Unprepared, altered, bits, c_plugin, one_line, opened, raw_plugins,
};
use serde_json::json;
use std::sync::OnceLock;

#[test]
fn a_plugin_built_against_an_older_boundary_loads_and_works() {
    let older = raw_plugins().older.display().to_string();
    let bench = Bench::new(&[&older, "guard_curv"]);
    let examples = Examples::new(Kind::Float, 4);
    let (context, network) = (bench.context(), Network::lend(&examples.model));

    // The penalty of `curvature`, asked for and called by the older plugin through the host's services.
    let options = json!({ "form": "cure", "radius": 0.5 });
    let mut wrapped = bench.regularizer("wrapped", options.clone()).unwrap();
    let across = wrapped.penalty(&context, &network, &examples.batch()).unwrap();
    let here = bench
        .regularizer("curvature", options)
        .unwrap()
        .penalty(&context, &network, &examples.batch())
        .unwrap();
    let gradient = |penalty: &Tensor| {
        let weight = &examples.model.parameters()[0];
        bits(&Tensor::run_backward(&[penalty], &[weight], false, false).remove(0))
    };
    assert!(here.double_value(&[]) > 0.0);
    assert_eq!((bits(&across), gradient(&across)), (bits(&here), gradient(&here)));
    assert!(wrapped.save(&context).unwrap().is_empty());
}

#[test]
fn an_older_plugin_runs_the_hosts_networks() {
    let older = raw_plugins().older.display().to_string();
    let bench = Bench::new(&[&older]);
    let examples = Examples::new(Kind::Float, 3).frozen();
    let mut logits = bench.regularizer("logits", json!({})).unwrap();
    let error =
        logits.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch()).unwrap_err();
    // Logits are no penalty; that they have come back is what their shape shows.
    assert_eq!(
        one_line(&error),
        "plugin `test.older`, regularizer `logits` returned a penalty of shape [3, 4], not a scalar"
    );
}

#[test]
fn an_attack_and_an_objective_built_against_0_1_1_load_and_work() {
    let second = raw_plugins().second.display().to_string();
    let examples = Examples::new(Kind::Float, 6).frozen();
    // The attack attacks another network of the run by the host's `pgd`, and gives its images back.
    let bench = Bench::new(&[&second, "guard_attacks"]).with_networks(Other);
    let context = bench.context();
    let options = json!({ "steps": 3, "random_start": false });
    let budget = Budget { norm: Norm::Linf, epsilon: 0.1 };
    let mut delegated = bench.attack("delegated", options.clone()).unwrap();
    assert_eq!(delegated.info(&context).unwrap().norms, [Norm::Linf]);
    let network = Network::lend(&examples.model);
    let across = delegated.perturb(&context, &network, &examples.batch(), &budget).unwrap();
    let model = Other::model(Kind::Float);
    let mut pgd = bench.attack("pgd", options).unwrap();
    let here = pgd.perturb(&context, &Network::lend(&model), &examples.batch(), &budget).unwrap();
    assert_eq!(bits(&across), bits(&here));
    assert!((&across - &examples.images).abs().max().double_value(&[]) > 0.05);

    // The objective starts from real images and returns the training loss of a fresh network, with graph to them.
    let mut objective = bench.objective("training-loss", json!({})).unwrap();
    let needs = objective.needs(&context).unwrap();
    assert!(needs.real_images && needs.networks == Networks::Fresh);
    let lab = SmallLab::new([3, 8, 8], Kind::Float, &needs);
    let initial = objective.initialise(&context, &Lab::lend(&lab)).unwrap();
    let set = SyntheticSet::new(&lab, &needs, initial).unwrap();
    let value = set.lend(|synthetic| objective.value(&context, synthetic, &Lab::lend(&lab))).unwrap();
    let Value::Loss(loss) = value else { panic!("it returns a loss") };
    let network = lab.fresh_network(0).unwrap();
    let batch = Batch {
        images: &set.images,
        labels: &set.labels,
        soft_labels: None,
        ids: &set.ids,
        space: needs.space,
    };
    let expected = lab.training_loss(&network.lend(), &batch).unwrap();
    let gradient = |loss: &Tensor| bits(&grad(loss, &[&set.images], Graph::Free).unwrap().remove(0));
    assert_eq!((bits(&loss), gradient(&loss)), (bits(&expected), gradient(&expected)));
    set.lend(|synthetic| objective.after_step(&context, synthetic, &Lab::lend(&lab))).unwrap();
}

#[test]
fn a_plugin_in_c_built_against_the_published_header_loads_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let in_c = c_plugin(folder.path()).display().to_string();
    let bench = Bench::new(&[&in_c, "guard_attacks", "guard_curv"]);
    let (context, examples) = (bench.context(), Examples::new(Kind::Float, 4));
    let (network, batch) = (Network::lend(&examples.model), examples.batch());

    let options = json!({ "form": "cure", "radius": 0.5 });
    let penalty =
        |name| bench.regularizer(name, options.clone()).unwrap().penalty(&context, &network, &batch);
    let (across, here) = (penalty("wrapped-in-c").unwrap(), penalty("curvature").unwrap());
    let weight = &examples.model.parameters()[0];
    let gradient = |penalty: &Tensor| bits(&grad(penalty, &[weight], Graph::Free).unwrap().remove(0));
    assert!(here.double_value(&[]) > 0.0);
    assert_eq!((bits(&across), gradient(&across)), (bits(&here), gradient(&here)));

    let (options, budget) =
        (json!({ "steps": 3, "random_start": false }), Budget { norm: Norm::Linf, epsilon: 0.1 });
    let frozen = examples.model.frozen();
    let images = |name| {
        let mut attack = bench.attack(name, options.clone()).unwrap();
        bits(&attack.perturb(&context, &Network::lend(&frozen), &batch, &budget).unwrap())
    };
    assert_eq!(images("delegated-in-c"), images("pgd"));
    let refused = bench.attack("delegated-in-c", json!({ "stepps": 3 })).err().unwrap();
    assert!(one_line(&refused).contains("stepps"), "{refused}");
}

/// This host's interfaces, for [`without_clean`].
static INTERFACE: OnceLock<extern "C" fn(RStr<'_>) -> ROption<Interface>> = OnceLock::new();

/// A host from before `guard.clean/0.1`.
extern "C" fn without_clean(id: RStr<'_>) -> ROption<Interface> {
    match INTERFACE.get() {
        Some(interface) if id.as_str() != ids::CLEAN => interface(id),
        _ => RNone,
    }
}

#[test]
fn a_plugin_computes_for_itself_what_an_older_host_does_not_share() {
    let bench = Bench::new(&["guard_curv"]);
    let examples = Examples::new(Kind::Double, 3);
    let (context, network) = (bench.context(), Network::lend(&examples.model));
    let mut here = bench.regularizer("gradient-norm", json!({})).unwrap();
    let expected = here.penalty(&context, &network, &examples.batch()).unwrap();

    let table = opened("guard_curv").regularizers().unwrap();
    let backend = Unprepared { logged: || () };
    let found = lend_services(&Services::lend(&backend), |host| {
        INTERFACE.get_or_init(|| host.interface);
        let host = HostView { interface: without_clean, ..host };
        let method =
            result((table.method.create)(host, RStr::from("gradient-norm"), RStr::from("{}"))).unwrap();
        let step = StepView { stage: RStr::from("train"), iteration: 0, iterations: 1, host };
        let batch = guard_abi::BatchView {
            images: lend(&examples.images),
            labels: lend(&examples.labels),
            soft_labels: RNone,
            ids: examples.ids.as_slice().into(),
            space: 0,
        };
        let penalty = lend_network(&network, |network| (table.penalty)(method, &step, network, &batch));
        result((table.method.release)(method)).unwrap();
        take(result(penalty).unwrap())
    });
    assert_eq!(bits(&found), bits(&expected));
}

#[test]
fn a_changed_table_under_a_published_id_is_refused_with_one_line() {
    let changed = raw_plugins().changed.display().to_string();
    let bench = Bench::new(&[&changed]);
    let path = bench.plugins.loaded()[0].path.display();
    let error = bench.regularizer("changed", json!({})).err().unwrap();
    assert_eq!(error.code, "interface");
    let rest = "has another `guard.regularizer/0.1` than this host; rebuild it against this host's SDK";
    assert_eq!(one_line(&error), format!("plugin `{path}` {rest}"));
    assert!(error.causes[0].contains("RegularizerTable"), "the details are there for who asks");

    let schema = bench.plugins.schema(guard_sdk::manifest::Kind::Regularizer, "changed").unwrap_err();
    assert_eq!(schema.message, error.message);
}

#[test]
fn a_plugin_that_talks_to_another_libtorch_than_the_hosts_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join(library_name("elsewhere"));
    // The plugin looks for its libtorch by this symbol, and now finds another one or none.
    altered(
        &raw_plugins().older,
        &copy,
        "UndefinedTensorImpl10_singletonE",
        "UndefinedTensorImpl10_elsewhereE",
    );
    let error = guard_host::plugin::Loaded::open(&copy).err().unwrap();
    let start = format!("plugin `{}` brought a second libtorch into the process; ", copy.display());
    assert!(one_line(&error).starts_with(&start), "{error}");
    assert_eq!(error.code, "interface");
}
