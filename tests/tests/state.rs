//! A method's state leaves the plugin and comes back.

use guard_sdk::{Kind, Network, State, Tensor};
use guard_tests::{Bench, Examples, bits};
use serde_json::json;

#[test]
fn a_method_that_loads_a_saved_state_goes_on_as_if_it_had_never_stopped() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Double, 3).frozen();
    let (context, network) = (bench.context(), Network::lend(&examples.model));

    let mut uninterrupted = bench.regularizer("stateful", json!({})).unwrap();
    for _ in 0..2 {
        drop(uninterrupted.penalty(&context, &network, &examples.batch()).unwrap());
    }
    let State { version, json, tensors } = uninterrupted.save(&context).unwrap();
    assert_eq!((version, &json), (3, &json!({ "calls": 2 })));
    assert_eq!(tensors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["mean"]);
    // As a checkpoint would hold it: a copy, and JSON as text.
    let tensors: Vec<(String, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
    let json = serde_json::from_str(&json.to_string()).unwrap();
    let expected = uninterrupted.penalty(&context, &network, &examples.batch()).unwrap();

    let mut resumed = bench.regularizer("stateful", json!({})).unwrap();
    let fresh = resumed.penalty(&context, &network, &examples.batch()).unwrap();
    assert_ne!(bits(&fresh), bits(&expected));
    resumed.load(&context, State { version, json, tensors }).unwrap();
    assert_eq!(bits(&resumed.penalty(&context, &network, &examples.batch()).unwrap()), bits(&expected));
}

#[test]
fn a_state_of_another_version_is_refused_by_the_method() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let mut method = bench.regularizer("stateful", json!({})).unwrap();
    let state = State {
        version: 2,
        json: json!({ "calls": 1 }),
        tensors: vec![("mean".to_string(), Tensor::from(1.0))],
    };
    assert_eq!(method.load(&bench.context(), state).unwrap_err().message, "no state of version 3, found 2");
}

#[test]
fn a_method_without_state_saves_nothing_and_refuses_what_it_cannot_load() {
    let bench = Bench::new(&["guard_curv"]);
    let mut method = bench.regularizer("curvature", json!({})).unwrap();
    let empty = method.save(&bench.context()).unwrap();
    assert!(empty.is_empty());
    method.load(&bench.context(), empty).unwrap();
    let state = State { version: 0, json: json!({ "calls": 1 }), tensors: Vec::new() };
    assert_eq!(method.load(&bench.context(), state).unwrap_err().message, "this method has no state to load");
}
