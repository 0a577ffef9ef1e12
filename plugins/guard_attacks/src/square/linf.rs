//! Square Attack in the linf ball (algorithm 2): squares of ±2ε per channel on top of stripes of ±ε.

use super::{sign, whole};
use guard_sdk::{Batch, Budget, Kind, Result, Step, Tensor};

/// Vertical stripes of ±ε, one pixel wide.
pub fn stripes(step: &Step, batch: &Batch, budget: &Budget, restart: u64) -> Result<Tensor> {
    let size = batch.images.size();
    let stripes = sign(&step.uniform("square.stripes", restart, batch, &[size[1], 1, size[3]])?);
    Ok((batch.images + stripes * budget.epsilon).clamp(0.0, 1.0))
}

/// How many numbers a query draws: row, column and one sign per channel.
pub fn numbers(batch: &Batch) -> i64 {
    2 + batch.images.size()[1]
}

/// `best` with one square changed in each image, by what was drawn, `[N, numbers]`; `slip` is 1 where the square may touch the
/// last row and column.
pub fn change(
    batch: &Batch,
    budget: &Budget,
    best: &Tensor,
    drawn: &Tensor,
    side: f64,
    slip: i64,
) -> Result<Tensor> {
    let size = best.size();
    let (channels, height, width) = (size[1], size[2], size[3]);
    let side = (side.round_ties_even() as i64).clamp(1, height.min(width));
    let rows = covered(&drawn.select(1, 0), height, side, slip).unsqueeze(-1);
    let columns = covered(&drawn.select(1, 1), width, side, slip).unsqueeze(1);
    let square = rows.logical_and(&columns).unsqueeze(1).to_kind(best.kind());
    let colours = sign(&drawn.narrow(1, 2, channels)).reshape([-1, channels, 1, 1]);
    let changed = best + square * colours * (2.0 * budget.epsilon);
    Ok(budget.project(&changed, batch.images))
}

/// Which of `length` positions the square covers, `[N,length]`.
fn covered(uniform: &Tensor, length: i64, side: i64, slip: i64) -> Tensor {
    let first = whole(uniform, length - side + slip).unsqueeze(1);
    let positions = Tensor::arange(length, (Kind::Int64, uniform.device())).unsqueeze(0);
    positions.ge_tensor(&first).logical_and(&positions.lt_tensor(&(first + side)))
}
