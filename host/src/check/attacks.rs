//! What an attack promises.

use super::{Test, Verdict, room::Room, subject::Subject};
use guard_sdk::{Budget, Kind as Dtype, Result, autograd::no_grad, manifest::Kind, testing::Examples};

const ATTACK: &[Kind] = &[Kind::Attack];
/// Differences that the order of summation explains.
const TOLERANCE: f64 = 1e-6;

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "budget",
        about: "images stay in [0,1] and within ε, small or large, in every norm that the attack names",
        kinds: ATTACK,
        run: budget,
    },
    Test {
        name: "independent-examples",
        about: "an example's result does not depend on its batch mates",
        kinds: ATTACK,
        run: independent_examples,
    },
    Test {
        name: "zero-gradient",
        about: "where the network gives no gradient, images are still finite and within the budget",
        kinds: ATTACK,
        run: zero_gradient,
    },
];

fn budget(subject: &Subject) -> Result<Verdict> {
    let float = Room::new(super::room::INPUT, Dtype::Float, 4, subject.seed)?;
    for norm in subject.make(&float)?.norms()? {
        for epsilon in [1.0 / 255.0, 0.3, 3.0] {
            let budget = Budget { norm, epsilon };
            let _images = subject
                .make(&float)?
                .attack(&budget)
                .map_err(|error| error.context(format!("{norm:?}, ε = {epsilon:.4}")))?;
        }
    }
    Ok(Verdict::Passed)
}

fn independent_examples(subject: &Subject) -> Result<Verdict> {
    let room = Room::new(super::room::INPUT, Dtype::Double, 5, subject.seed)?;
    let rows = [3i64, 1];
    let part = Room::with(room.examples.at(&rows), subject.seed);
    let together = subject.make(&room)?.call(0)?.remove(0);
    let apart = subject.make(&part)?.call(0)?.remove(0);
    let off = no_grad(|| {
        let expected =
            together.index_select(0, &guard_sdk::Tensor::from_slice(&rows).to_device(together.device()));
        (apart - expected).abs().max().double_value(&[])
    });
    Ok(Verdict::from(off <= TOLERANCE, || {
        format!("without their batch mates, images differ by up to {off:.1e}")
    }))
}

fn zero_gradient(subject: &Subject) -> Result<Verdict> {
    let Examples { model, images, labels, ids } = Examples::new(super::room::INPUT, Dtype::Double, 4)?;
    // Equal logits decide for class 0, which is then the right one: no example is out of the way.
    let examples = Examples { model: model.flat(), images, labels: labels.zeros_like(), ids };
    let room = Room::with(examples, subject.seed);
    subject.make(&room)?.call(0)?;
    Ok(Verdict::Passed)
}
