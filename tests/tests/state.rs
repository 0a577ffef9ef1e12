//! A method's state leaves the plugin and comes back, and the state of a training with it.

use guard_host::{
    data::Split,
    engine::{Trained, Trainer, TrainingLoss, WeightedRegularizer},
    network::{Model, NormLayer},
    recipe::Training,
    run::{Checkpoint, Observer},
};
use guard_sdk::{Error, Kind, Network, Result, State, Tensor};
use guard_tests::{Bench, Examples, bits};
use serde_json::{Value, json};
use std::cell::RefCell;

/// As a checkpoint holds it: copies, and JSON as text.
fn stored(State { version, json, tensors }: State) -> State {
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
    State { version, json: serde_json::from_str(&json.to_string()).unwrap(), tensors }
}

#[test]
fn a_method_that_loads_a_saved_state_goes_on_as_if_it_had_never_stopped() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let examples = Examples::new(Kind::Double, 3).frozen();
    let (context, network) = (bench.context(), Network::lend(&examples.model));

    let mut uninterrupted = bench.regularizer("stateful", json!({})).unwrap();
    for _ in 0..2 {
        drop(uninterrupted.penalty(&context, &network, &examples.batch()).unwrap());
    }
    let state = stored(uninterrupted.save(&context).unwrap());
    assert_eq!((state.version, &state.json), (3, &json!({ "calls": 2 })));
    assert_eq!(state.tensors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["mean"]);
    let expected = uninterrupted.penalty(&context, &network, &examples.batch()).unwrap();

    let mut resumed = bench.regularizer("stateful", json!({})).unwrap();
    let fresh = resumed.penalty(&context, &network, &examples.batch()).unwrap();
    assert_ne!(bits(&fresh), bits(&expected));
    resumed.load(&context, state).unwrap();
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

/// Stops a training before the iteration `at` and keeps what it needs to go on.
struct Cut {
    at: Option<u64>,
    resumed: RefCell<Option<Checkpoint>>,
    kept: RefCell<Option<Checkpoint>>,
}

impl Observer for Cut {
    fn iteration(&self, _: u64, _: u64) {}

    fn resumed(&self) -> Option<Checkpoint> {
        self.resumed.take()
    }

    fn checkpoint(&self, iteration: u64, state: &mut dyn FnMut() -> Result<State>) -> Result<()> {
        if self.at != Some(iteration) {
            return Ok(());
        }
        *self.kept.borrow_mut() = Some(Checkpoint { iteration, state: stored(state()?) });
        Err(Error::with_code("cancelled", "on purpose"))
    }
}

/// A regularizer that remembers, which another one asks for.
fn asked_for() -> (&'static str, Value) {
    ("uses-regularizer", json!({ "regularizer": "stateful", "options": {} }))
}

/// Trains with a regularizer, averaged weights and the best of four epochs of three iterations.
fn train(
    bench: &Bench,
    (regularizer, options): (&str, Value),
    at: Option<u64>,
    resumed: Option<Checkpoint>,
) -> (Trained, Option<Checkpoint>) {
    let examples = Examples::with_norm(NormLayer::Batch, Kind::Float, 20);
    let changes = json!({
        "epochs": 4, "batch_size": 5, "augment": ["flip"], "optimizer": { "kind": "adam", "learning_rate": 0.01 },
        "ema": 0.5, "keep": "best", "validation_share": 0.25, "clip_gradient": 1.0,
    });
    let training: Training = serde_json::from_value(changes).unwrap();
    let regularizer = bench.regularizer(regularizer, options).unwrap();
    let observer = Cut { at, resumed: RefCell::new(resumed), kept: RefCell::default() };
    let trainer = Trainer {
        split: &Split::in_memory(&examples.images, Vec::try_from(&examples.labels).unwrap()).unwrap(),
        training: &training,
        loss: &TrainingLoss::new(1.0, 0.0, vec![WeightedRegularizer { weight: 0.1, regularizer }]),
        streams: bench.random.clone(),
        observer: &observer,
    };
    let trained = trainer.run(examples.model.copy(Kind::Float, true), &bench.context());
    (trained, observer.kept.take())
}

fn all_bits(model: &Model) -> Vec<(Kind, Vec<i64>, Vec<u64>)> {
    model.named_tensors().iter().map(|(_, tensor)| bits(tensor)).collect()
}

#[test]
fn a_training_that_is_cut_anywhere_ends_with_the_same_bits() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let (whole, _) = train(&bench, asked_for(), None, None);
    assert!(whole.failure.is_none(), "{:?}", whole.failure);
    let directly = || ("stateful", json!({}));
    // Before the first step, within an epoch, between two.
    for (at, regularizer) in
        [(0, asked_for()), (1, directly()), (3, asked_for()), (8, asked_for()), (11, directly())]
    {
        let (cut, checkpoint) = train(&bench, regularizer.clone(), Some(at), None);
        assert_eq!(cut.failure.unwrap().code, "cancelled");
        let (resumed, _) = train(&bench, regularizer, None, checkpoint);
        assert!(resumed.failure.is_none(), "{:?}", resumed.failure);
        assert!(all_bits(&resumed.model) == all_bits(&whole.model), "cut at {at}");
    }
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let bench = Bench::new(&["guard_misbehaving"]);
    let refused = |spoil: fn(&mut Checkpoint), regularizer| {
        let (_, checkpoint) = train(&bench, asked_for(), Some(4), None);
        let mut checkpoint = checkpoint.unwrap();
        spoil(&mut checkpoint);
        let (resumed, _) = train(&bench, regularizer, None, Some(checkpoint));
        let failure = resumed.failure.unwrap();
        assert_eq!(failure.code, "checkpoint");
        failure.message
    };
    let lost = refused(|cut| cut.state.tensors.retain(|(name, _)| !name.contains("average/")), asked_for());
    assert!(lost.contains("does not fit: it has no tensor"), "{lost}");
    let other = refused(|_| {}, ("stateful", json!({})));
    assert!(other.contains("no state of version 3, found 0"), "{other}");
}
