//! A method that was saved and loaded goes on as if it had never stopped.

use super::{ALL, Test, Verdict, determinism::same, room::Room, subject::Subject};
use guard_sdk::{Result, State, Tensor};
use serde_json::json;

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "state-round-trip",
        about: "saved and loaded into a fresh instance, once or twice, the method goes on with the same bits",
        kinds: ALL,
        run: round_trip,
    },
    Test {
        name: "foreign-state",
        about: "a state that is not the method's own is refused with an error",
        kinds: ALL,
        run: foreign_state,
    },
];

fn round_trip(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    let mut uninterrupted = subject.make(&room)?;
    for iteration in 0..2 {
        uninterrupted.call(iteration)?;
    }
    let saved = as_in_a_file(uninterrupted.save()?)?;
    let [again, twice] = [as_in_a_file(uninterrupted.save()?)?, as_in_a_file(uninterrupted.save()?)?];
    let expected = uninterrupted.call(2)?;

    let mut resumed = subject.make(&room)?;
    resumed.load(saved)?;
    let holds = same(&resumed.call(2)?, &expected)?;
    // A second state of the same moment, loaded into an instance that has been used.
    resumed.load(again)?;
    let repeated = same(&resumed.call(2)?, &expected)?;
    // A run that goes on may be cut before its next step.
    let (mut cut, mut last) = (subject.make(&room)?, subject.make(&room)?);
    cut.load(twice)?;
    last.load(as_in_a_file(cut.save()?)?)?;
    let kept = same(&last.call(2)?, &expected)?;
    Ok(match (holds, repeated, kept) {
        (true, true, true) => Verdict::Passed,
        (false, ..) => Verdict::Failed("the next call of the loaded instance differs".into()),
        (true, false, _) => Verdict::Failed("an instance that was used before differs after loading".into()),
        (true, true, false) => Verdict::Failed(
            "what was loaded is not saved again as it was, where no call comes between".into(),
        ),
    })
}

/// As a checkpoint holds it: copies, and JSON as text.
fn as_in_a_file(state: State) -> Result<State> {
    let tensors: Vec<(String, Tensor)> =
        state.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect();
    Ok(State { version: state.version, json: serde_json::from_str(&state.json.to_string())?, tensors })
}

fn foreign_state(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    let foreign = State {
        version: u32::MAX,
        json: json!({ "of": "another method" }),
        tensors: vec![("nothing".into(), Tensor::from(1.0))],
    };
    Ok(match subject.make(&room)?.load(foreign) {
        Ok(()) => Verdict::Failed("it was loaded without a word".into()),
        Err(error) if error.code == "panic" => Verdict::Failed(error.message),
        Err(_) => Verdict::Passed,
    })
}
