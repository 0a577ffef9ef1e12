//! Batches and images of all shapes and dtypes.

use super::{
    ALL, Test, Verdict,
    room::{INPUT, Room},
    subject::Subject,
};
use guard_sdk::{Kind, Result};

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "float32",
        about: "answers are finite, of the right shapes and in the images' dtype: four 3×8×8 images in float32",
        kinds: ALL,
        run: |subject| try_on(subject, INPUT, Kind::Float, 4),
    },
    Test {
        name: "float64",
        about: "the same in float64",
        kinds: ALL,
        run: |subject| try_on(subject, INPUT, Kind::Double, 4),
    },
    Test {
        name: "single-example",
        about: "a batch of one example works, or is refused with an error",
        kinds: ALL,
        run: |subject| try_on(subject, INPUT, Kind::Float, 1),
    },
    Test {
        name: "one-channel",
        about: "images of one channel work, or are refused with an error",
        kinds: ALL,
        run: |subject| try_on(subject, [1, 8, 8], Kind::Float, 4),
    },
    Test {
        name: "non-square",
        about: "images that are wider than high work, or are refused with an error",
        kinds: ALL,
        run: |subject| try_on(subject, [3, 8, 12], Kind::Float, 4),
    },
    Test {
        name: "bfloat16",
        about: "bfloat16 works, or is refused with an error",
        kinds: ALL,
        run: bfloat16,
    },
];

fn try_on(subject: &Subject, input: [i64; 3], kind: Kind, count: i64) -> Result<Verdict> {
    let room = Room::new(input, kind, count, subject.seed)?;
    let answer = match subject.make(&room)?.call(0) {
        Ok(answer) => answer,
        Err(error) if error.code == "unsupported" => return Ok(Verdict::Skipped(error.message)),
        Err(error) => return Err(error),
    };
    let other = answer.iter().map(|tensor| tensor.kind()).find(|found| *found != kind);
    Ok(Verdict::from(other.is_none(), || format!("the answer is {other:?} for images in {kind:?}")))
}

fn bfloat16(subject: &Subject) -> Result<Verdict> {
    match try_on(subject, INPUT, Kind::BFloat16, 4) {
        // Random numbers, for one, do not come in bfloat16.
        Err(error) if error.code != "panic" => {
            Ok(Verdict::Skipped(format!("not in bfloat16: {}", error.message)))
        }
        outcome => outcome,
    }
}
