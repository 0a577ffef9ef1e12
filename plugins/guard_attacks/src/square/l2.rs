//! Square Attack in the l2 ball (algorithm 3): bumps that take over the perturbation of another window.

use super::{sign, whole};
use guard_sdk::{
    Batch, Budget, Device, Kind, Result, Step, Tensor,
    batch::{norm_each, per_image},
};

/// Against a division by 0.
const TINY: f64 = 1e-12;

/// Five by five tiles, each a bump of a random sign per channel, together of length ε.
pub fn tiles(step: &Step, batch: &Batch, budget: &Budget, restart: u64) -> Result<Tensor> {
    let size = batch.images.size();
    let (channels, height, width) = (size[1], size[2], size[3]);
    let side = (height.min(width) / 5).max(1);
    let (down, across) = ((height / side).min(5), (width / side).min(5));
    let (top, left) = ((height - down * side) / 2, (width - across * side) / 2);
    let drawn = step.uniform("square.tiles", restart, batch, &[down * across, 1 + channels])?;
    let perturbation = batch.images.zeros_like();
    for tile in 0..down * across {
        let (row, column) = (top + tile / across * side, left + tile % across * side);
        let bump = bumps(side, &drawn.select(1, tile), batch.images);
        perturbation.narrow(2, row, side).narrow(3, column, side).copy_(&bump);
    }
    Ok((batch.images + unit(&perturbation) * budget.epsilon).clamp(0.0, 1.0))
}

/// How many numbers a query draws: row and column of two windows, the bump's direction, and one sign per channel.
pub fn numbers(batch: &Batch) -> i64 {
    5 + batch.images.size()[1]
}

/// `best` with one window changed in each image, at the cost of another, by what was drawn, `[N, numbers]`; `slip` is 1 where
/// windows may touch the last row and column.
pub fn change(
    batch: &Batch,
    budget: &Budget,
    best: &Tensor,
    drawn: &Tensor,
    side: f64,
    slip: i64,
) -> Result<Tensor> {
    let size = best.size();
    let (count, channels, height, width) = (size[0], size[1], size[2], size[3]);
    let side = (side.round_ties_even() as i64).max(3) | 1;
    let side = side.min((height.min(width) - 1) | 1);
    let window = |first: i64| {
        let row = whole(&drawn.select(1, first), height - side + slip);
        let column = whole(&drawn.select(1, first + 1), width - side + slip);
        indices(&row, &column, side, width).expand([count, channels, side * side], false)
    };
    let (here, there) = (window(0), window(2));
    let perturbation = (best - batch.images).flatten(2, -1);
    let at_here = perturbation.gather(2, &here, false);
    let outside = perturbation.scatter_value(2, &here, 0.0).scatter_value(2, &there, 0.0);
    // The squared length that the two windows held, and what is left of the ball.
    let total = norm_each(&perturbation).square();
    let windows = &total - norm_each(&outside).square();
    let spare = (total.neg() + budget.epsilon.powi(2)).clamp_min(0.0) / channels as f64;
    let length = (windows.clamp_min(0.0) + spare).sqrt().reshape([-1, 1, 1]);

    let bump = bumps(side, &drawn.narrow(1, 4, 1 + channels), best).flatten(2, -1);
    let old = &at_here / (channel_norms(&at_here) + TINY);
    let direction = bump + old;
    let new = &direction / (channel_norms(&direction) + TINY) * length;
    let changed = perturbation.scatter_value(2, &there, 0.0).scatter(2, &here, &new).reshape(&size);
    // Within the ball again, for the pixel range may have cut something off.
    let candidate = (batch.images + unit(&changed) * budget.epsilon).clamp(0.0, 1.0);
    Ok(budget.project(&candidate, batch.images))
}

/// Positions of a window's pixels in a flattened image, int64 `[N,1,side²]`.
fn indices(row: &Tensor, column: &Tensor, side: i64, width: i64) -> Tensor {
    let offsets = Tensor::arange(side, (Kind::Int64, row.device()));
    let rows = (row.unsqueeze(1) + &offsets).unsqueeze(-1) * width;
    let columns = (column.unsqueeze(1) + &offsets).unsqueeze(1);
    (rows + columns).reshape([-1, 1, side * side])
}

/// Bumps of length 1 `[N,C,side,side]`; of `drawn` `[N,1+C]` the first number says whether they lie or stand, the others
/// their signs.
fn bumps(side: i64, drawn: &Tensor, like: &Tensor) -> Tensor {
    let (lying, channels) = (bump(side).to_device(like.device()).to_kind(like.kind()), like.size()[1]);
    let stands = per_image(&drawn.select(1, 0)).gt(0.5);
    let shape = lying.transpose(0, 1).where_self(&stands, &lying);
    shape * sign(&drawn.narrow(1, 1, channels)).reshape([-1, channels, 1, 1])
}

/// η of the paper (equation 2): two rectangular pyramids side by side, the second with the other sign; length 1.
fn bump(side: i64) -> Tensor {
    let upper = pyramid(side / 2, side);
    let lower = pyramid(side - side / 2, side).neg();
    let both = Tensor::cat(&[upper, lower], 0);
    let length = both.norm().clamp_min(TINY);
    both / length
}

/// Rectangles of weight 1/k² around the middle, summed; length 1.
fn pyramid(height: i64, width: i64) -> Tensor {
    let sum = Tensor::zeros([height, width], (Kind::Double, Device::Cpu));
    let (middle_row, middle_column) = (height / 2, width / 2);
    for ring in 0..=(height / 2).max(width / 2) {
        let span = |middle: i64, length: i64| {
            let first = (middle - ring).max(0);
            (first, (middle + ring + 1).min(length) - first)
        };
        let (top, tall) = span(middle_row, height);
        let (left, wide) = span(middle_column, width);
        if tall > 0 && wide > 0 {
            let weight = 1.0 / ((ring + 1) as f64).powi(2);
            let _ = sum.narrow(0, top, tall).narrow(1, left, wide).g_add_scalar_(weight);
        }
    }
    let length = sum.norm().clamp_min(TINY);
    sum / length
}

/// The length of each channel's window, `[N,C,1]`.
fn channel_norms(windows: &Tensor) -> Tensor {
    windows.norm_scalaropt_dim(2.0, [-1].as_slice(), true)
}

fn unit(perturbation: &Tensor) -> Tensor {
    perturbation / per_image(&(norm_each(perturbation) + TINY))
}
