//! What a method must leave alone.

use super::{ALL, Test, Verdict, room::Room, subject::Subject};
use guard_sdk::Result;

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "side-effects",
        about: "nothing that was lent is changed or left with a gradient, nor libtorch's state of the whole process",
        kinds: ALL,
        run: side_effects,
    },
    Test {
        name: "thread-state",
        about: "the recording of graphs and libtorch's own random numbers are left alone: draws come from the step",
        kinds: ALL,
        run: thread_state,
    },
];

/// The host compares all of it by value around every call, and says who changed what.
fn side_effects(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    let mut made = subject.make(&room)?;
    for iteration in 0..2 {
        made.call(iteration)?;
    }
    Ok(Verdict::Passed)
}

fn thread_state(subject: &Subject) -> Result<Verdict> {
    let before = subject.plugins.traces().len();
    subject.make(&Room::usual(subject.seed)?)?.call(0)?;
    let traces = subject.plugins.traces().split_off(before);
    Ok(traces.into_iter().next().map_or(Verdict::Passed, Verdict::Failed))
}
