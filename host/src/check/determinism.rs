//! What an answer depends on: the seed, and the example itself.

use super::{ALL, Test, Verdict, room::Room, subject::Subject};
use guard_sdk::{Network, Result, Tensor, abi::shim::equal, manifest::Kind};

pub(super) const TESTS: &[Test<Subject>] = &[
    Test {
        name: "deterministic",
        about: "the same seed gives the same bits",
        kinds: ALL,
        run: deterministic,
    },
    Test {
        name: "batch-size",
        about: "the penalty is a mean: a batch that holds every example twice has the same one",
        kinds: &[Kind::Regularizer],
        run: batch_size,
    },
];

/// Whether all bits agree.
pub(super) fn same(found: &[Tensor], expected: &[Tensor]) -> Result<bool> {
    let mut same = found.len() == expected.len();
    for (found, expected) in found.iter().zip(expected) {
        same &= equal(&found.detach(), &expected.detach())?;
    }
    Ok(same)
}

fn deterministic(subject: &Subject) -> Result<Verdict> {
    let answer = || subject.make(&Room::usual(subject.seed)?)?.call(0);
    // libtorch's own generator has moved on in between.
    let first = answer()?;
    let _ = Tensor::f_rand([7], (guard_sdk::Kind::Float, guard_sdk::testing::device()))?;
    Ok(Verdict::from(same(&answer()?, &first)?, || "two calls with the same seed differ".into()))
}

fn batch_size(subject: &Subject) -> Result<Verdict> {
    let room = Room::usual(subject.seed)?;
    let penalty = |rows: &[i64]| -> Result<f64> {
        let examples = room.examples.at(rows);
        let network = Network::lend(&examples.model);
        let penalty = subject.make(&room)?.penalty(&network, &examples.batch(), 0)?;
        Ok(penalty.f_double_value(&[])?)
    };
    let (once, twice) = (penalty(&[0, 1, 2, 3])?, penalty(&[0, 0, 1, 1, 2, 2, 3, 3])?);
    let holds = (once - twice).abs() <= 1e-9 * once.abs().max(twice.abs());
    Ok(Verdict::from(holds, || {
        format!("it is {once:e} for four examples, and {twice:e} for each of them twice")
    }))
}
