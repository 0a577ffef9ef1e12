//! Mean and standard deviation of a split's pixels.

use super::split::Split;
use guard_sdk::{Kind, Result, Tensor};

const BATCH: usize = 256;

/// Mean and (population) standard deviation of each channel, over all images and positions.
///
/// # Errors
/// If an image cannot be read.
pub(super) fn mean_and_std(split: &Split) -> Result<(Vec<f64>, Vec<f64>)> {
    let [channels, height, width] = split.shape();
    let (mut sum, mut squares) = (vec![0.0; channels as usize], vec![0.0; channels as usize]);
    for batch in split.in_order(BATCH) {
        let images = batch?.images.to_kind(Kind::Double);
        let add = |total: &mut Vec<f64>, values: Tensor| -> Result<()> {
            let values =
                Vec::<f64>::try_from(values.sum_dim_intlist([0, 2, 3].as_slice(), false, Kind::Double))?;
            total.iter_mut().zip(values).for_each(|(total, value)| *total += value);
            Ok(())
        };
        add(&mut squares, &images * &images)?;
        add(&mut sum, images)?;
    }
    let count = (split.len() as i64 * height * width).max(1) as f64;
    let mean: Vec<f64> = sum.iter().map(|sum| sum / count).collect();
    let std =
        squares.iter().zip(&mean).map(|(squares, mean)| (squares / count - mean * mean).max(0.0).sqrt());
    Ok((mean.clone(), std.collect()))
}
