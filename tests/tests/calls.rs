//! What the host checks around each call: results, errors of libtorch, re-entry, and what a method leaves changed.

use abi_stable::std_types::RStr;
use guard_abi::Instance;
use guard_host::{network::NormLayer, plugin::Hosted};
use guard_sdk::{
    Device, Error, Kind, Network, Result, Services, Step, Tensor,
    abi::{
        calls::RegularizerInstance,
        convert::{result, take},
        host::{lend_network, lend_services, lend_step},
    },
};
use guard_tests::{Bench, Examples, Unprepared, bits, one_line, opened};
use serde_json::json;
use std::cell::{Cell, RefCell};

fn penalty(bench: &Bench, method: &mut Hosted<RegularizerInstance>, examples: &Examples) -> Result<Tensor> {
    method.penalty(&bench.context(), &Network::lend(&examples.model), &examples.batch())
}

/// The result of one call of a regularizer without options.
fn call(bench: &Bench, name: &str, examples: &Examples) -> Result<Tensor> {
    penalty(bench, &mut bench.regularizer(name, json!({})).unwrap(), examples)
}

fn message(result: Result<Tensor>) -> String {
    one_line(&result.unwrap_err()).to_string()
}

#[test]
fn a_penalty_that_is_no_scalar_is_an_error() {
    let bench = Bench::new(&["guard_misbehaving"]);
    assert_eq!(
        message(call(&bench, "not-scalar", &Examples::new(Kind::Float, 3))),
        "plugin `test.misbehaving`, regularizer `not-scalar` returned a penalty of shape [3], not a scalar"
    );
}

#[test]
fn a_penalty_without_graph_is_an_error_where_something_requires_gradients() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 3);
    assert_eq!(
        message(call(&bench, "without-graph", &examples)),
        "plugin `test.misbehaving`, regularizer `without-graph` returned a penalty without graph, which would have no effect"
    );
    assert!(call(&bench, "without-graph", &examples.frozen()).is_ok());
}

#[test]
fn an_exception_of_libtorch_is_an_error_of_one_line() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let error = call(&bench, "torch-error", &Examples::new(Kind::Float, 3)).unwrap_err();
    assert_eq!(error.code, "torch");
    assert_eq!(one_line(&error), "shape '[7, 7]' is invalid for input of size 576");
}

#[test]
fn an_exception_of_libtorch_that_tch_turns_into_a_panic_is_an_error_of_one_line() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let error = call(&bench, "torch-panic", &Examples::new(Kind::Float, 3)).unwrap_err();
    assert_eq!(error.code, "panic");
    assert!(one_line(&error).contains("shape '[7, 7]' is invalid for input of size 576"), "{error}");
}

#[test]
fn an_option_that_a_method_does_not_have_is_an_error() {
    let bench = Bench::new(&["guard_curv"]);
    let error = bench.regularizer("curvature", json!({ "radios": 1.0 })).err().unwrap();
    assert_eq!(error.code, "options");
    assert!(one_line(&error).contains("unknown field `radios`"), "{error}");
}

#[test]
fn the_place_of_a_refused_option_crosses_the_boundary() {
    let bench = Bench::new(&["guard_attacks"]);
    let error = bench.attack("pgd", json!({ "restarts": 2, "random_start": false })).err().unwrap();
    assert_eq!((error.code.as_str(), error.option_path.as_deref()), ("options", Some("/restarts")));
    assert_eq!(error.help.as_deref(), Some("set `random_start = true` or `restarts = 1`"));
}

#[test]
fn a_method_that_calls_itself_through_the_host_is_told_that_it_is_busy() {
    let bench = Bench::new(&["guard_misbehaving"]);
    // The first handle that this host gives out is 0: the inner method calls itself.
    let options = json!({ "regularizer": "calls-key", "options": { "key": 0 } });
    let mut outer = bench.regularizer("uses-regularizer", options).unwrap();
    let error = penalty(&bench, &mut outer, &Examples::new(Kind::Float, 2)).unwrap_err();
    assert_eq!(error.code, "busy");
    assert!(one_line(&error).contains("called a method that is running already"), "{error}");
}

#[test]
fn a_handle_that_the_host_never_gave_out_is_an_error() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let mut method = bench.regularizer("calls-key", json!({ "key": 99 })).unwrap();
    let error = penalty(&bench, &mut method, &Examples::new(Kind::Float, 2)).unwrap_err();
    assert_eq!((error.code.as_str(), one_line(&error)), ("interface", "there is no method with handle 99"));
}

#[test]
fn a_second_call_during_a_call_is_refused_by_the_plugin_itself() {
    // Below `Plugins`, whose own guard would be first: the tables of functions as any host could call them.
    let _bench = Bench::new(&[]);
    let table = opened("guard_misbehaving").regularizers().unwrap();
    let instance: Cell<Option<Instance>> = Cell::new(None);
    let second: RefCell<Option<Error>> = RefCell::new(None);
    let backend = Unprepared {
        logged: || {
            let saved = (table.method.save)(instance.get().expect("the method was made"));
            second.replace(result(saved).err());
        },
    };
    let services = Services::lend(&backend);
    let made =
        lend_services(&services, |host| (table.method.create)(host, RStr::from("logs"), RStr::from("{}")));
    let made = result(made).unwrap();
    instance.set(Some(made));

    let examples = Examples::new(Kind::Float, 2);
    let (images, labels, ids) = (&examples.images, &examples.labels, &examples.ids);
    let step = Step { stage: "train", iteration: 0, iterations: 1, services };
    let outcome = lend_step(&step, |step| {
        lend_network(&Network::lend(&examples.model), |network| {
            let batch = guard_abi::BatchView {
                images: guard_sdk::abi::convert::lend(images),
                labels: guard_sdk::abi::convert::lend(labels),
                soft_labels: abi_stable::std_types::RNone,
                ids: ids.as_slice().into(),
                space: 0,
            };
            (table.penalty)(made, step, network, &batch)
        })
    });
    assert!(take(result(outcome).unwrap()).requires_grad(), "the first call is not disturbed");
    let error = second.take().expect("the second call was refused");
    assert_eq!(error.code, "busy");
    assert_eq!(
        one_line(&error),
        "plugin `test.misbehaving`, regularizer `logs`: `save` was called during another call"
    );
    assert!(result((table.method.save)(made)).is_ok(), "after the call, the method is free again");
    result((table.method.release)(made)).unwrap();
}

#[test]
fn the_recording_of_graphs_goes_on_after_a_method_switched_it_off() {
    let bench = Bench::new(&["guard_misbehaving"]);
    assert!(call(&bench, "leaks-no-grad", &Examples::new(Kind::Float, 2)).is_ok());
    let leaf = Tensor::from(1.0).set_requires_grad(true);
    assert!((leaf * 2.0).requires_grad());
}

#[test]
fn a_changed_number_of_threads_is_an_error_and_is_put_back() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let before = tch::get_num_threads();
    let error = call(&bench, "changes-threads", &Examples::new(Kind::Float, 2)).unwrap_err();
    assert_eq!(error.code, "state");
    assert_eq!(
        one_line(&error),
        "plugin `test.misbehaving`, regularizer `changes-threads` changed the number of threads of the whole process"
    );
    assert_eq!(tch::get_num_threads(), before);
}

#[test]
fn the_hosts_own_random_numbers_do_not_change_when_a_method_draws_or_seeds() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2);
    let draw = || Tensor::rand([4], (Kind::Double, Device::Cpu));
    tch::manual_seed(7);
    let alone = (draw(), draw());
    for name in ["seeds-torch", "draws-from-torch"] {
        tch::manual_seed(7);
        let first = draw();
        assert!(call(&bench, name, &examples).is_ok());
        assert_eq!((bits(&first), bits(&draw())), (bits(&alone.0), bits(&alone.1)), "{name}");
    }
}

#[test]
fn what_a_method_draws_from_libtorch_depends_on_run_and_iteration_alone() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2);
    let mut method = bench.regularizer("draws-from-torch", json!({})).unwrap();
    let mut draws = |iteration| {
        let context = bench.context().at(iteration, 10);
        drop(method.penalty(&context, &Network::lend(&examples.model), &examples.batch()).unwrap());
        let number =
            |name: &str| bench.recording.metric(&format!("draws-from-torch/{name}")).double_value(&[]);
        [number("first"), number("second")]
    };
    let first = draws(0);
    tch::manual_seed(8);
    assert_eq!(draws(0), first);
    assert_ne!(draws(1), first);
}

#[test]
fn a_methods_random_numbers_go_on_where_they_were_after_it_called_another_method() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2);
    let second = |options| {
        let mut method = bench.regularizer("draws-from-torch", options).unwrap();
        drop(penalty(&bench, &mut method, &examples).unwrap());
        bench.recording.metric("draws-from-torch/second").double_value(&[])
    };
    assert_eq!(second(json!({})), second(json!({ "between": "seeds-torch" })));
}

#[test]
fn what_a_method_was_lent_and_changed_in_place_is_named() {
    let bench = Bench::new(&["guard_misbehaving"]);
    for (name, what) in [
        ("writes-images", "images"),
        ("writes-parameters", "parameter `features.0.bias`"),
        ("writes-buffers", "buffer `features.1.running_mean`"),
    ] {
        let examples = Examples::with_norm(NormLayer::Batch, Kind::Float, 2);
        let error = call(&bench, name, &examples).unwrap_err();
        assert_eq!(error.code, "in-place");
        assert_eq!(
            one_line(&error),
            format!(
                "plugin `test.misbehaving`, regularizer `{name}` changed the {what} it was lent, in place"
            )
        );
    }
}

#[test]
fn gradients_that_a_method_asks_for_or_leaves_on_what_it_was_lent_are_named_and_undone() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2);
    let error = call(&bench, "requires-gradients", &examples).unwrap_err();
    assert!(
        one_line(&error).contains("changed which gradients are taken of the images it was lent"),
        "{error}"
    );
    assert!(!examples.images.requires_grad());
    let error = call(&bench, "leaves-gradients", &examples).unwrap_err();
    assert!(one_line(&error).contains("left a gradient on the parameter `features.0.weight`"), "{error}");
}

#[test]
fn a_write_that_goes_round_autograd_is_found_in_checked_mode() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Float, 2);
    assert!(call(&bench, "writes-unwatched", &examples).is_ok());
    let bench = bench.checked();
    let error = call(&bench, "writes-unwatched", &examples).unwrap_err();
    assert_eq!(error.code, "in-place");
    assert!(one_line(&error).contains("changed the images it was lent"), "{error}");
}

#[test]
fn an_in_place_change_is_blamed_on_the_method_that_made_it_and_not_on_its_caller() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let options = json!({ "regularizer": "writes-parameters", "options": {} });
    let mut outer = bench.regularizer("uses-regularizer", options).unwrap();
    let error = penalty(&bench, &mut outer, &Examples::new(Kind::Float, 2)).unwrap_err();
    assert_eq!(error.code, "in-place");
    assert!(
        one_line(&error).starts_with("plugin `test.misbehaving`, regularizer `writes-parameters` changed"),
        "{error}"
    );
}
